/**
 * Writes one result set by itself, all of it in one transaction: whenever it ends before its COMMIT, by whatever
 * hand, the server leaves nothing of it.
 *
 * - A small result is read to its end first. Its table is then made under its own name, filled and
 *   published in one round trip.
 * - A larger one is loaded into a staging table, which gets its name when it is published.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { ResultColumn, ResultTable, WriteOptions } from '../database.ts';
import { DatabaseError } from '../errors.ts';
import { Batch, run } from './batch.ts';
import { type Catalog, isTable, type State, stateOf } from './catalog.ts';
import { sessionOf } from './connect.ts';
import { isConnectionError, sqlState } from './failure.ts';
import { foreign } from './foreign.ts';
import type { Guard } from './guard.ts';
import { quoteName } from './quote.ts';
import { createTable } from './results-columns.ts';
import { BINARY_HEADER, BINARY_TRAILER, type Incoming } from './results-incoming.ts';
import {
  copyInto,
  type Draft,
  publishedTable,
  publishSmall,
  type Small,
  smallResult,
} from './results-small.ts';

/**
 * How long the old table's readers are waited for, ms: in steps as long as the session's lock_timeout, because
 * whoever comes to read it while we wait in line has to wait behind us; the pause after each; and in all.
 */
const PAUSE_MS = 300;
const READERS_MS = 30_000;
/** How often a name may be snatched away by another job. */
const MOST_CONFLICTS = 5;

export interface Writing {
  readonly client: pg.Client;
  readonly guard: Guard;
  readonly catalog: Catalog;
  /** What stood in the table's way when the attempt began. */
  readonly state: State;
  readonly columns: readonly ResultColumn[];
  readonly unlogged: boolean;
  /** For messages: `results "name"`. */
  readonly database: string;
}

/** The connection broke after COMMIT was sent, and nobody knows yet whether it was heard. */
export class InDoubt extends Error {
  constructor(error: unknown) {
    super('the outcome of a commit is not known', { cause: error });
    this.name = 'InDoubt';
  }
}

/** What is to become a table: complete in memory, or in a staging table. */
type Loaded = Small | { readonly draft: Draft; readonly staging: string };

export class ResultWriter {
  readonly #writing: Writing;
  readonly #incoming: Incoming;
  readonly #options: WriteOptions;
  /** What the server was given last and has perhaps not answered. */
  #copying: Batch | null = null;

  constructor(incoming: Incoming, writing: Writing, options: WriteOptions) {
    this.#incoming = incoming;
    this.#writing = writing;
    this.#options = options;
  }

  async write(): Promise<ResultTable> {
    const { guard } = this.#writing;
    const incoming = this.#incoming;
    const { complete, data } = await guard.wait(incoming.head());
    const staging = complete ? null : await this.#stage(data);
    this.#options.onProgress({ phase: 'publish', rows: incoming.rows, bytes: incoming.bytes });
    await guard.wait(foreign(this.#options.confirm()));
    const draft = draftOf(incoming, this.#writing.columns, this.#options);
    if (staging !== null) return this.#publish({ draft, staging });
    const small = smallResult(draft, incoming.format, data);
    return (await this.#publishAtOnce(small)) ?? this.#publish(small);
  }

  /** Ends what the server is doing, if it listens: afterwards the connection can be used again. */
  async abandon(): Promise<void> {
    const { client } = this.#writing;
    if (this.#copying !== null) {
      this.#copying.fail();
      await this.#copying.done.catch(() => {
        // It failed, as it was told to.
      });
    }
    // Whether it is in a transaction is known only once it has answered all that it was sent.
    await client.query('ROLLBACK');
  }

  /** Opens the transaction and loads a staging table in it; its name. */
  async #stage(head: readonly Buffer[]): Promise<string> {
    const { client, guard, catalog, columns, unlogged } = this.#writing;
    const incoming = this.#incoming;
    const { format } = incoming;
    const staging = `dungbeetle_staging_${randomBytes(8).toString('hex')}`;
    const table = catalog.qualified(staging);
    const batch = new Batch(
      client,
      ['BEGIN', createTable(table, columns, unlogged), copyInto(table, format)].join(';\n'),
    );
    this.#copying = batch;
    // The server may refuse a row while the source has none to give.
    batch.done.catch((error: unknown) => guard.raise(error));
    const send = (data: Buffer) => guard.answer(batch.send(data));
    if (format === 'binary') await send(BINARY_HEADER);
    for (const data of head) await send(data);
    for (;;) {
      const data = await guard.wait(incoming.next());
      if (data === null) break;
      await send(data);
    }
    if (format === 'binary') await send(BINARY_TRAILER);
    batch.finish();
    const answers = await guard.answer(batch.done);
    this.#copying = null;
    incoming.checkCount(Number(answers.at(-1)?.tag.replace(/^COPY /, '')));
    return staging;
  }

  /**
   * Publishes a small result in one round trip, trusting that nothing has changed since the attempt began. The
   * server refuses if something has; whatever it refuses is done again with care, which finds out what it was.
   */
  async #publishAtOnce(small: Small): Promise<ResultTable | null> {
    const { client, catalog, state } = this.#writing;
    try {
      return await this.#commit(small, state, ['BEGIN', catalog.lock(small.draft.owner.job_id)]);
    } catch (error) {
      if (sqlState(error) === null) throw error;
      await this.#answer(run(client, ['ROLLBACK']));
      return null;
    }
  }

  async #publish(loaded: Loaded): Promise<ResultTable> {
    const { client, guard, catalog } = this.#writing;
    const { job_id, store_id, fence } = loaded.draft.owner;
    const deadline = performance.now() + READERS_MS;
    const [begin, undo] =
      'data' in loaded
        ? ['BEGIN', 'ROLLBACK']
        : ['SAVEPOINT publishing', 'ROLLBACK TO publishing; RELEASE publishing'];
    for (let conflicts = 0; ; ) {
      try {
        const answers = await this.#answer(
          run(client, [begin, catalog.lock(job_id), catalog.state(job_id, store_id)]),
        );
        const state = stateOf(answers.at(-1));
        if (state.newest !== null && state.newest > fence) throw fenced(this.#writing.database);
        return await this.#commit(loaded, state, []);
      } catch (error) {
        const code = sqlState(error);
        if (code === '23502') throw fenced(this.#writing.database);
        const waits = code === '55P03' && performance.now() < deadline;
        const snatched = (code === '23505' || code === '42P07') && conflicts < MOST_CONFLICTS;
        if (!waits && !snatched) throw error;
        await this.#answer(run(client, [undo]));
        if (snatched) conflicts += 1;
        else await guard.wait(delay(PAUSE_MS));
      }
    }
  }

  /** The round trip after which the table is there. `begin`: what trust begins with; careful ones have begun. */
  async #commit(loaded: Loaded, state: State, begin: readonly string[]): Promise<ResultTable> {
    const { client, guard, catalog } = this.#writing;
    const { name, drops, replaced } = this.#nameFor(state);
    const draft = replaced ? withWarning(loaded.draft, REPLACED) : loaded.draft;
    const inline_on = begin.length > 0 ? sessionOf(client).version : null;
    const statements = [
      ...begin,
      ...drops.map((other) => `DROP TABLE ${catalog.qualified(other)}`),
      ...('data' in loaded
        ? publishSmall(catalog, name, { ...loaded, draft }, inline_on)
        : [
            `ALTER TABLE ${catalog.qualified(loaded.staging)} RENAME TO ${quoteName(name)}`,
            catalog.publish({ ...draft, table: name }),
          ]),
      'COMMIT',
    ];
    guard.check();
    const batch = new Batch(client, statements.join(';\n'), 'data' in loaded ? [loaded.data] : []);
    // From here on the server decides. What it says counts, and not that somebody gave up meanwhile.
    const answers = await this.#committed(guard.outcome(batch.done));
    const [expires = null] = answers.find(({ tag }) => tag.startsWith('INSERT'))?.rows[0] ?? [];
    return publishedTable(draft, name, expires, batch.isUnreplicated);
  }

  async #committed<T>(promise: Promise<T>): Promise<T> {
    try {
      return await promise;
    } catch (error) {
      throw isConnectionError(error) ? new InDoubt(error) : error;
    }
  }

  /** Finds the job's table a name, and what has to go from there. */
  #nameFor({ earlier, taken, there }: State): {
    readonly name: string;
    readonly drops: readonly string[];
    readonly replaced: boolean;
  } {
    const { catalog } = this.#writing;
    const { job_id } = this.#options.owner;
    if (earlier !== null) {
      const kind = there[earlier];
      // Whoever knows the name finds the new rows under it.
      if (kind === undefined || isTable(kind)) {
        return { name: earlier, drops: kind === undefined ? [] : [earlier], replaced: false };
      }
      throw this.#conflict(earlier, kind);
    }
    for (const name of catalog.namesOf(job_id)) {
      if (taken.includes(name)) continue;
      const kind = there[name];
      if (kind === undefined) return { name, drops: [], replaced: false };
      if (!isTable(kind) || !catalog.hasOwnNames) throw this.#conflict(name, kind);
      return { name, drops: [name], replaced: true };
    }
    throw new DatabaseError(
      'table_conflict',
      `${this.#writing.database}: there is no free table name for job "${job_id}"`,
    );
  }

  #conflict(name: string, kind: string): DatabaseError {
    return new DatabaseError(
      'table_conflict',
      `${this.#writing.database}: there is already a ${KINDS[kind] ?? 'relation'} "${name}", and it is not one of ours`,
    );
  }

  async #answer<T>(promise: Promise<T>): Promise<T> {
    return this.#writing.guard.answer(promise);
  }
}

export function draftOf(
  incoming: Incoming,
  columns: readonly ResultColumn[],
  { owner, ttl_ms }: WriteOptions,
): Draft {
  const { rows, bytes } = incoming;
  return { owner, columns, rows, bytes, ttl_ms, warnings: incoming.warnings() };
}

const REPLACED = '1 table of that name, not in the catalog, was replaced';

function withWarning(draft: Draft, warning: string): Draft {
  return { ...draft, warnings: [...draft.warnings, warning] };
}

export function fenced(database: string): DatabaseError {
  return new DatabaseError('fenced', `${database}: a newer attempt of the job writes the result table`);
}

/** pg_class.relkind */
const KINDS: Readonly<Record<string, string>> = {
  r: 'table',
  p: 'partitioned table',
  v: 'view',
  m: 'materialized view',
  f: 'foreign table',
  i: 'index',
  I: 'index',
  S: 'sequence',
  c: 'type',
};
