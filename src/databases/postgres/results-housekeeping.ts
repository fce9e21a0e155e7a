/** Dropping result tables: when somebody asks for it, when they have expired, when nobody wants them. */
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { SweepOptions, Swept } from '../database.ts';
import { DatabaseError } from '../errors.ts';
import { run } from './batch.ts';
import { type Catalog, type Expired, isTable, type Published, publishedOf } from './catalog.ts';
import { isConnectionError, sqlState } from './failure.ts';
import { foreign } from './foreign.ts';

/**
 * How long a table's readers are waited for, ms, when somebody waits for the table to be gone: the pause between two
 * tries, each as long as the session's lock_timeout, and in all.
 */
const PAUSE_MS = 300;
const READERS_MS = 10_000;
/** Expired tables listed at once. */
const EXPIRED_STEP = 100;

/** Waits for what the server owes, but not for a server that is gone. */
export type Answering = <T>(promise: Promise<T>) => Promise<T>;

type Wanted = (published: Published) => boolean;

/** What is done over one connection. Every table goes in a transaction of its own. */
export class Housekeeping {
  readonly #client: pg.Client;
  readonly #catalog: Catalog;
  readonly #answer: Answering;
  /** For messages. */
  readonly #database: string;

  constructor(client: pg.Client, catalog: Catalog, answer: Answering, database: string) {
    this.#database = database;
    this.#client = client;
    this.#catalog = catalog;
    this.#answer = answer;
  }

  /** Drops a job's table; waits a while for those who read it. */
  async drop(job_id: string, fence?: number): Promise<boolean> {
    const deadline = performance.now() + READERS_MS;
    for (;;) {
      const dropped = await this.#drop(
        job_id,
        (published) => fence === undefined || published.fence === fence,
      );
      if (dropped !== 'busy') return dropped === 'dropped';
      if (performance.now() > deadline) {
        throw new DatabaseError('unavailable', `${this.#database}: somebody is using the result table`);
      }
      await this.#answer(delay(PAUSE_MS));
    }
  }

  async sweep({ store_id, liveFences, judge }: SweepOptions): Promise<Swept> {
    const expired = await this.#sweepExpired();
    let orphans = await this.#sweepEmptied();
    await this.#answer(this.#catalog.forgetOldFences(this.#client));
    // Listed first: what an attempt publishes after it was asked about is not in the list.
    const unsettled = await this.#answer(this.#catalog.unsettled(this.#client, store_id));
    const live = await foreign(liveFences());
    for (const { job_id, fence, seq } of unsettled) {
      if (live.has(fence)) continue;
      const verdict = await foreign(judge({ job_id, fence, seq }));
      if (verdict === 'keep') await this.#answer(this.#catalog.settle(this.#client, job_id, store_id, fence));
      const its = (found: Published) => found.store_id === store_id && found.fence === fence;
      if (verdict === 'drop' && (await this.#tryDrop(job_id, its)) === 'dropped') orphans += 1;
    }
    return { expired, orphans };
  }

  async #sweepExpired(): Promise<number> {
    let dropped = 0;
    let after: Expired | null = null;
    for (;;) {
      const step: readonly Expired[] = await this.#answer(
        this.#catalog.expired(this.#client, after, EXPIRED_STEP),
      );
      for (const table of step) {
        after = table;
        if ((await this.#tryDrop(table.job_id, (found) => found.expired)) === 'dropped') dropped += 1;
      }
      if (step.length < EXPIRED_STEP) return dropped;
    }
  }

  /** A crash of the server empties unlogged tables. What is not complete must not be there. */
  async #sweepEmptied(): Promise<number> {
    if (!(await this.#answer(this.#catalog.hasCrashed(this.#client)))) return 0;
    const emptied = await this.#answer(this.#catalog.emptied(this.#client));
    let dropped = 0;
    let left = false;
    for (const { job_id, store_id, fence } of emptied) {
      const its = (found: Published) => found.store_id === store_id && found.fence === fence;
      const outcome = await this.#tryDrop(job_id, its);
      if (outcome === 'dropped') dropped += 1;
      else left ||= outcome === 'busy';
    }
    if (!left) await this.#answer(this.#catalog.noteCrash(this.#client));
    return dropped;
  }

  /** Drops a table if nothing is in the way; the next sweep tries again. */
  async #tryDrop(job_id: string, wanted: Wanted): Promise<'dropped' | 'unwanted' | 'busy'> {
    try {
      return await this.#drop(job_id, wanted);
    } catch (error) {
      // A view on it, or another owner: one table that cannot go must not keep the others.
      if (sqlState(error) === '2BP01' || sqlState(error) === '42501') return 'busy';
      throw error;
    }
  }

  /** Drops a job's table if it is the one that is wanted gone. `busy`: readers, or another process. */
  async #drop(job_id: string, wanted: Wanted): Promise<'dropped' | 'unwanted' | 'busy'> {
    const catalog = this.#catalog;
    try {
      const answers = await this.#run(['BEGIN', catalog.lock(job_id), catalog.published(job_id)]);
      const published = publishedOf(answers.at(-1));
      if (published === null || !wanted(published)) {
        await this.#run(['ROLLBACK']);
        return 'unwanted';
      }
      // What someone has put in the place of our table is not ours to remove.
      const drops = isTable(published.kind) ? [`DROP TABLE ${catalog.qualified(published.table)}`] : [];
      await this.#run([...drops, catalog.forget(job_id), 'COMMIT']);
      return 'dropped';
    } catch (error) {
      if (sqlState(error) === null || isConnectionError(error)) throw error;
      await this.#run(['ROLLBACK']);
      if (sqlState(error) !== '55P03') throw error;
      return 'busy';
    }
  }

  async #run(statements: readonly string[]) {
    return this.#answer(run(this.#client, statements));
  }
}
