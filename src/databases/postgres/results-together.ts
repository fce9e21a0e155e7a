/**
 * Publishing small results together: those that are ready at about the same time share a transaction, a round trip
 * and a connection. Nothing waits for company: a group is what has come while the groups before it were under way.
 *
 * Each table is made under the first of its job's names, trusting that nothing is in its way. If the server refuses
 * one of them nothing of the group is done, and each is left to be published by itself, with care.
 */
import { setImmediate } from 'node:timers/promises';
import type pg from 'pg';
import type { Owner, ResultTable } from '../database.ts';
import { Batch, run } from './batch.ts';
import type { Catalog } from './catalog.ts';
import { sessionOf } from './connect.ts';
import { isConnectionError, sqlState } from './failure.ts';
import type { Guard } from './guard.ts';
import type { Pool } from './pool.ts';
import { publishedTable, publishSmall, type Small } from './results-small.ts';

/** The most tables of one transaction. */
const GROUP = 16;
/** How many groups are under way at once, and when one no longer counts because its server or its lock is slow, ms. */
const GROUPS_AT_ONCE = 1;
const SLOW_MS = 100;

export interface TogetherOptions {
  readonly pool: Pool;
  readonly closing: AbortSignal;
  openCatalog(): Promise<Catalog>;
  guard(client: pg.Client): Guard;
  /** What became of each in a commit whose answer was lost: null if nothing. Rejects if nobody can tell. */
  settle(
    catalog: Catalog,
    client: pg.Client,
    owners: readonly Owner[],
    error: unknown,
  ): Promise<readonly (ResultTable | null)[]>;
}

interface Item {
  readonly small: Small;
  readonly signal: AbortSignal;
  /** It is no longer to be given up. */
  sent(): void;
  resolve(table: ResultTable | null): void;
  reject(error: unknown): void;
}

/** With the name of its table. */
interface Named extends Item {
  readonly name: string;
}

export class Together {
  readonly #options: TogetherOptions;
  #waiting: Item[] = [];
  #free = GROUPS_AT_ONCE;
  /** How many groups have no connection yet. */
  #connecting = 0;

  constructor(options: TogetherOptions) {
    this.#options = options;
  }

  /**
   * The published table, or null: something is in its way, and it is not published. Rejects with the signal's reason
   * as long as nothing has been sent, and as connecting does.
   */
  async publish(small: Small, signal: AbortSignal): Promise<ResultTable | null> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<ResultTable | null>();
    const giveUp = () => {
      this.#waiting = this.#waiting.filter((other) => other !== item);
      reject(signal.reason);
    };
    const item = { small, signal, sent: () => signal.removeEventListener('abort', giveUp), resolve, reject };
    signal.addEventListener('abort', giveUp, { once: true });
    this.#waiting.push(item);
    this.#start();
    return promise;
  }

  #start(): void {
    // Where the pool has no connection for hours, those that wait for one must not become ever more.
    while (this.#free > 0 && this.#waiting.length > this.#connecting) {
      this.#free -= 1;
      let counts = true;
      const uncount = () => {
        if (counts) this.#free += 1;
        counts = false;
      };
      const timer = setTimeout(() => {
        uncount();
        this.#start();
      }, SLOW_MS);
      void this.#lead().then(() => {
        clearTimeout(timer);
        uncount();
        this.#start();
      });
    }
  }

  /** Publishes what waits once there is a connection. */
  async #lead(): Promise<void> {
    const { pool, closing, openCatalog } = this.#options;
    let catalog: Catalog;
    let client: pg.Client;
    const earlier = new Set(this.#waiting);
    this.#connecting += 1;
    try {
      catalog = await openCatalog();
      client = await pool.acquire(closing);
    } catch (error) {
      // What has come since is left for a connection that is begun after it: this one may have been broken before.
      const failed = this.#waiting.filter((item) => earlier.has(item)).length;
      for (const item of this.#take(failed)) item.reject(error);
      return;
    } finally {
      this.#connecting -= 1;
    }
    // Others have their rows in this turn of the event loop, too.
    await setImmediate();
    const group = this.#take(GROUP).map((item) => {
      const [name = ''] = catalog.namesOf(item.small.draft.owner.job_id);
      return { ...item, name };
    });
    // If this one has waited so long that it does not count, the rest begins at once.
    this.#start();
    const outcome = await this.#publish(catalog, client, group);
    pool.release(client, { destroy: outcome.broken, uses: group.length });
    if ('expiries' in outcome) {
      for (const [index, { small, name, resolve }] of group.entries()) {
        resolve(publishedTable(small.draft, name, outcome.expiries[index] ?? null, outcome.isUnreplicated));
      }
    } else if (outcome.doubt !== null) {
      const owners = group.map(({ small }) => small.draft.owner);
      this.#options.settle(catalog, client, owners, outcome.doubt.cause).then(
        (tables) => {
          for (const [index, { resolve }] of group.entries()) resolve(tables[index] ?? null);
        },
        (error: unknown) => {
          for (const { reject } of group) reject(error);
        },
      );
    } else {
      for (const { resolve } of group) resolve(null);
    }
  }

  /** The first of those that wait. */
  #take(most: number): readonly Item[] {
    const group = this.#waiting.splice(0, most);
    for (const { sent } of group) sent();
    return group;
  }

  async #publish(catalog: Catalog, client: pg.Client, group: readonly Named[]): Promise<GroupOutcome> {
    if (group.length === 0) return { broken: false, doubt: null };
    const guard = this.#options.guard(client);
    // Not given up any more, but nobody is to wait for long after one of them.
    const hurry = () => guard.hurry();
    for (const { signal } of group) {
      if (signal.aborted) hurry();
      signal.addEventListener('abort', hurry, { once: true });
    }
    let sent = false;
    try {
      await guard.answer(catalog.prepare(client));
      const sql = statements(catalog, sessionOf(client).version, group).join(';\n');
      sent = true;
      const batch = new Batch(
        client,
        sql,
        group.map(({ small }) => small.data),
      );
      const answers = await guard.outcome(batch.done);
      const expiries = answers
        .filter(({ tag }) => tag.startsWith('INSERT'))
        .map(({ rows }) => rows[0]?.[0] ?? null);
      return { broken: guard.isSpent, expiries, isUnreplicated: batch.isUnreplicated };
    } catch (error) {
      if (isConnectionError(error)) return { broken: true, doubt: sent ? { cause: error } : null };
      return { broken: sqlState(error) === null || !(await rolledBack(client, guard)), doubt: null };
    } finally {
      for (const { signal } of group) signal.removeEventListener('abort', hurry);
      guard.close();
    }
  }
}

function statements(catalog: Catalog, version: number, group: readonly Named[]): readonly string[] {
  return [
    'BEGIN',
    catalog.lock(...group.map(({ small }) => small.draft.owner.job_id)),
    ...group.flatMap(({ name, small }) => publishSmall(catalog, name, small, version)),
    'COMMIT',
  ];
}

type GroupOutcome =
  /** When each table expires. */
  | {
      readonly broken: boolean;
      readonly expiries: readonly (string | null)[];
      readonly isUnreplicated: boolean;
    }
  /** Nothing is published, unless it is in doubt. */
  | { readonly broken: boolean; readonly doubt: { readonly cause: unknown } | null };

async function rolledBack(client: pg.Client, guard: Guard): Promise<boolean> {
  try {
    await guard.answer(run(client, ['ROLLBACK']));
    return true;
  } catch {
    // The connection is of no use any more: it is destroyed, which rolls back too.
    return false;
  }
}
