/** Postgres as a results backend: a table per job, and a catalog of them, in the first schema of the search_path. */
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { orAbort } from '../../util/abort.ts';
import { clientConfig } from '../../util/postgres/dsn.ts';
import type {
  Accept,
  Column,
  Owner,
  ResultColumn,
  ResultSet,
  ResultsBackend,
  ResultTable,
  SweepOptions,
  Swept,
  WriteOptions,
} from '../database.ts';
import { DatabaseError } from '../errors.ts';
import { run } from './batch.ts';
import { Catalog, type State } from './catalog.ts';
import {
  asOurselves,
  type ConnectOptions,
  connect,
  destroy,
  MORTAL,
  type SessionId,
  sessionOf,
} from './connect.ts';
import { isConnectionError, sqlState } from './failure.ts';
import { Foreign, foreign } from './foreign.ts';
import { Guard, type Seen } from './guard.ts';
import { Pool } from './pool.ts';
import { quoteLiteral } from './quote.ts';
import { type ColumnTypes, checkColumnCount, resultColumns } from './results-columns.ts';
import { writeFailure } from './results-failure.ts';
import { type Answering, Housekeeping } from './results-housekeeping.ts';
import { Incoming } from './results-incoming.ts';
import { smallResult } from './results-small.ts';
import { Together } from './results-together.ts';
import { draftOf, fenced, InDoubt, ResultWriter } from './results-write.ts';

export interface PostgresResultsOptions {
  /** The backend's name in the configuration; errors call it `results "name"`. */
  readonly name: string;
  readonly dsn: string;
  /** Name of result tables, with %s for the job id. Default `results_%s`. */
  readonly results_table?: string;
  /** Whether large results may skip the write-ahead log: faster, and emptied when the server crashes. */
  readonly unlogged?: boolean;
  readonly column_types?: ColumnTypes;
  /** The most reports written at once; two more connections keep house. */
  readonly max_active?: number;
  readonly max_idle?: number;
  readonly connect_timeout_ms?: number;
  /** How long the server may be silent before its session is looked at, ms. */
  readonly patience_ms?: number;
  /** How long the outcome of a commit is looked for whose answer was lost, ms. */
  readonly doubt_ms?: number;
  /** How many tables are published over a connection before it is renewed. */
  readonly max_uses?: number;
}

/** How long a first attempt waits for all of a small result before it notes that it has begun, ms. */
const AT_ONCE_MS = 100;
/** How long a report that failed waits for its session to be over, ms. */
const ABANDONING_MS = 1_000;
const DOUBT_PAUSE_MS = 250;
/** The server's process keeps some 4 kB of each table that it has made. */
const TABLES_A_SESSION = 2_000;
/** Of the connections that drop tables, each time any number of them; what they do need not wait for a standby. */
const SWEEPS_A_SESSION = 50;

const QUICK: Readonly<Record<string, string>> = {
  // Whoever comes to read a table that we wait to drop waits behind us: give way soon, and try again.
  lock_timeout: '200ms',
  // Every statement of ours looks for one job. Where statistics are old, or a table is mostly dead rows, the
  // planner thinks that reading it from end to end is cheaper.
  enable_seqscan: 'off',
  plan_cache_mode: 'force_generic_plan',
  // Behind a job's lock is seen what was done before it was had; nobody is refused for what others do.
  default_transaction_isolation: 'read committed',
};
/** Touches nothing yet: a server that is not there is told by `ping` and by `write`. */
export async function openPostgresResults(options: PostgresResultsOptions): Promise<PostgresResults> {
  return new PostgresResults(options);
}

export class PostgresResults implements ResultsBackend {
  readonly engine = 'postgres';
  readonly accepts: readonly Accept[];
  readonly #database: string;
  readonly #template: string;
  readonly #unlogged: boolean;
  readonly #types: ColumnTypes;
  readonly #patience_ms: number;
  readonly #doubt_ms: number;
  readonly #connecting: ConnectOptions;
  /** For reports. */
  readonly #writers: Pool;
  /** For what must not wait behind reports. */
  readonly #keepers: Pool;
  readonly #together: Together;
  #catalog: Promise<Catalog> | null = null;
  readonly #closing = new AbortController();
  /** What goes on after its caller has gone. */
  readonly #background = new Set<Promise<void>>();

  constructor(options: PostgresResultsOptions) {
    const { name, results_table = 'results_%s', column_types = 'standard' } = options;
    this.#database = `results "${name}"`;
    if (!results_table.includes('%s')) {
      throw new TypeError(`results_table of ${this.#database} must hold %s, where the job id goes`);
    }
    this.#template = results_table;
    this.#unlogged = options.unlogged ?? false;
    this.#types = column_types;
    this.#patience_ms = options.patience_ms ?? 10_000;
    this.#doubt_ms = options.doubt_ms ?? 15_000;
    this.accepts = [
      { encoding: 'pg-binary', types: column_types },
      { encoding: 'copy-text' },
      { encoding: 'rows' },
    ];
    this.#connecting = {
      config: clientConfig(options.dsn, { writes: true }),
      connect_timeout_ms: options.connect_timeout_ms ?? 10_000,
      application_name: 'dungbeetle results',
      settings: { ...MORTAL, ...QUICK },
    };
    const { max_active = 10, max_idle = 10, max_uses = TABLES_A_SESSION } = options;
    this.#writers = new Pool({ ...this.#connecting, max_active, max_idle, max_uses });
    this.#keepers = new Pool({
      ...this.#connecting,
      settings: { ...this.#connecting.settings, synchronous_commit: 'local' },
      max_active: 2,
      max_idle: 1,
      max_uses: SWEEPS_A_SESSION,
    });
    this.#together = new Together({
      pool: this.#writers,
      closing: this.#closing.signal,
      openCatalog: () => this.#openCatalog(this.#closing.signal),
      guard: (client) => this.#guard(client, this.#closing.signal),
      settle: (catalog, client, owners, cause) =>
        this.#settleDoubt(catalog, owners, sessionOf(client), cause),
    });
  }

  checkColumns(columns: readonly Column[]): void {
    checkColumnCount(columns, this.#database);
  }

  async write(result: ResultSet, options: WriteOptions): Promise<ResultTable> {
    const { signal } = options;
    signal.throwIfAborted();
    this.checkColumns(result.columns);
    const columns = resultColumns(result.columns, this.#types);
    const incoming = new Incoming(result, options, this.#database);
    try {
      return (
        (await this.#writeTogether(incoming, columns, options)) ??
        (await this.#writeAlone(incoming, columns, options))
      );
    } catch (error) {
      incoming.abandon();
      if (signal.aborted) throw signal.reason;
      if (error instanceof Foreign) throw error.cause;
      throw writeFailure(error, this.#database, columns);
    }
  }

  /**
   * What first attempts bring is mostly small and there at once, with nothing in its way. null: this is not, and
   * nothing is published. Only a first attempt, since others have predecessors that must be kept from publishing
   * from the moment on at which they begin.
   */
  async #writeTogether(
    incoming: Incoming,
    columns: readonly ResultColumn[],
    options: WriteOptions,
  ): Promise<ResultTable | null> {
    const { signal, owner, confirm, onProgress } = options;
    if (owner.attempt > 1) return null;
    const data = await incoming.completeWithin(AT_ONCE_MS, signal);
    if (data === null) return null;
    onProgress({ phase: 'publish', rows: incoming.rows, bytes: incoming.bytes });
    await orAbort(foreign(confirm()), signal);
    const draft = draftOf(incoming, columns, options);
    return this.#together.publish(smallResult(draft, incoming.format, data), signal);
  }

  async #writeAlone(
    incoming: Incoming,
    columns: readonly ResultColumn[],
    options: WriteOptions,
  ): Promise<ResultTable> {
    const { signal, owner } = options;
    const { catalog, client, guard, state } = await this.#begin(owner, signal);
    const writing = {
      client,
      guard,
      catalog,
      state,
      columns,
      unlogged: this.#unlogged,
      database: this.#database,
    };
    const writer = new ResultWriter(incoming, writing, options);
    try {
      const table = await writer.write();
      this.#writers.release(client, { destroy: guard.isSpent });
      return table;
    } catch (error) {
      await this.#abandon(client, writer);
      if (!(error instanceof InDoubt)) throw error;
      const [table = null] = await this.#settleDoubt(catalog, [owner], sessionOf(client), error.cause);
      if (table === null) throw error.cause;
      return table;
    } finally {
      guard.close();
    }
  }

  async drop(job_id: string, fence?: number): Promise<boolean> {
    const catalog = await this.#openCatalog(this.#closing.signal);
    return this.#keep((client, answer) =>
      new Housekeeping(client, catalog, answer, this.#database).drop(job_id, fence),
    );
  }

  async sweep(options: SweepOptions): Promise<Swept> {
    const catalog = await this.#openCatalog(this.#closing.signal);
    return this.#keep((client, answer) =>
      new Housekeeping(client, catalog, answer, this.#database).sweep(options),
    );
  }

  async check(signal: AbortSignal): Promise<void> {
    const catalog = await this.#openCatalog(signal);
    await this.#keep((client, answer) => answer(catalog.check(client, this.#database)), signal);
  }

  async ping(signal: AbortSignal): Promise<void> {
    await this.#keep(async (client, answer) => {
      const { rows } = await answer(
        client.query<{ readonly: boolean }>(
          "SELECT current_setting('transaction_read_only')::boolean AS readonly",
        ),
      );
      if (rows[0]?.readonly === true) {
        throw new DatabaseError('unavailable', `${this.#database}: the server takes no writes for now`);
      }
    }, signal);
  }

  async close(): Promise<void> {
    this.#closing.abort(new DatabaseError('unavailable', `${this.#database} is closed`));
    await Promise.all([this.#writers.close(), this.#keepers.close()]);
    await Promise.all(this.#background);
  }

  /**
   * A connection on which the attempt is noted to have begun. One that died while it was idle is made anew, and so is
   * a catalog that somebody has dropped.
   */
  async #begin(
    owner: Owner,
    signal: AbortSignal,
  ): Promise<{
    readonly catalog: Catalog;
    readonly client: pg.Client;
    readonly guard: Guard;
    readonly state: State;
  }> {
    for (let recreated = false; ; ) {
      const catalog = await this.#openCatalog(signal);
      const client = await this.#writers.acquire(signal);
      const guard = this.#guard(client, signal);
      try {
        const state = await guard.answer(catalog.begin(client, owner));
        if (state !== null) return { catalog, client, guard, state };
        guard.close();
        this.#writers.release(client);
      } catch (error) {
        guard.close();
        this.#writers.release(client, { destroy: true });
        if (isConnectionError(error) && this.#writers.wasIdle(client) && !signal.aborted) continue;
        if (sqlState(error) !== '42P01' || recreated) throw error;
        this.#catalog = null;
        recreated = true;
        continue;
      }
      throw fenced(this.#database);
    }
  }

  #guard(client: pg.Client, signal: AbortSignal): Guard {
    return new Guard(client, {
      signal,
      look: (session) => this.#look(session),
      endWait: async (session) => void (await this.#askOf(session, 'pg_catalog.pg_cancel_backend(pid)')),
      patience_ms: this.#patience_ms,
    });
  }

  async #openCatalog(signal: AbortSignal): Promise<Catalog> {
    this.#catalog ??= this.#keep((client, answer) =>
      answer(Catalog.open(client, this.#template, this.#database)),
    ).catch((error: unknown) => {
      this.#catalog = null;
      throw error;
    });
    return orAbort(this.#catalog, signal);
  }

  /** Does something small over a connection that no report holds; what the server owes goes through `answer`. */
  async #keep<T>(
    work: (client: pg.Client, answer: Answering) => Promise<T>,
    signal: AbortSignal = this.#closing.signal,
  ): Promise<T> {
    try {
      for (;;) {
        const client = await this.#keepers.acquire(signal);
        const guard = this.#guard(client, signal);
        let healthy = false;
        try {
          const answer = await work(client, (promise) => guard.answer(promise));
          healthy = true;
          return answer;
        } catch (error) {
          if (!isConnectionError(error) || !this.#keepers.wasIdle(client) || signal.aborted) throw error;
        } finally {
          guard.close();
          this.#keepers.release(client, { destroy: !healthy });
        }
      }
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (error instanceof Foreign) throw error.cause;
      throw writeFailure(error, this.#database, []);
    }
  }

  /** Asks something over a connection of its own, which takes as long as connecting may. */
  async #ask<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    const client = await connect({ ...this.#connecting, signal: this.#closing.signal });
    const timer = setTimeout(() => destroy(client), this.#connecting.connect_timeout_ms);
    try {
      return await work(client);
    } finally {
      clearTimeout(timer);
      destroy(client);
    }
  }

  /** Leaves no session behind: rolls back if the server listens, else cuts the connection and has it terminated. */
  async #abandon(client: pg.Client, writer: ResultWriter): Promise<void> {
    const clock = new AbortController();
    const over = await Promise.race([
      writer.abandon().then(
        () => true,
        () => false,
      ),
      delay(ABANDONING_MS, false, { signal: clock.signal }),
    ]);
    clock.abort();
    this.#writers.release(client, { destroy: !over });
    if (over) return;
    const terminated: Promise<void> = this.#terminate(sessionOf(client))
      .catch(() => {
        // Not reachable: the session ends by itself when the server misses its client.
      })
      .finally(() => this.#background.delete(terminated));
    this.#background.add(terminated);
  }

  async #terminate(session: SessionId): Promise<void> {
    await this.#askOf(session, 'pg_catalog.pg_terminate_backend(pid)');
  }

  async #look(session: SessionId): Promise<Seen> {
    const row = await this.#askOf(
      session,
      "coalesce(wait_event_type = 'Client', false), state_change, coalesce(wait_event = 'SyncRep', false)",
    );
    if (row === null) return 'gone';
    const [waiting, since, replicating] = row;
    if (replicating === 't') return 'replicating';
    return waiting === 't' ? { waiting_since: since ?? '' } : 'working';
  }

  /** Selects something of a session's row in pg_stat_activity; null: it is over. */
  #askOf({ pid, started }: SessionId, columns: string): Promise<readonly (string | null)[] | null> {
    const sql = `SELECT ${columns} FROM pg_catalog.pg_stat_activity
      WHERE pid = ${pid} AND backend_start = ${quoteLiteral(started)}`;
    return this.#ask(async (client) => {
      const answers = await run(client, [asOurselves(sql)]);
      return answers.flatMap(({ rows }) => rows)[0] ?? null;
    });
  }

  /**
   * What a commit has published whose answer was lost, null where it was not heard. Its session holds the jobs' locks:
   * once those can be had, the transaction is over one way or the other. Rejects with what broke the connection, or
   * when nobody can tell.
   */
  async #settleDoubt(
    catalog: Catalog,
    owners: readonly Owner[],
    session: SessionId,
    cause: unknown,
  ): Promise<readonly (ResultTable | null)[]> {
    const deadline = performance.now() + this.#doubt_ms;
    for (;;) {
      try {
        await this.#terminate(session);
        return await this.#ask(async (client) => {
          const locked = catalog.lock(...owners.map(({ job_id }) => job_id));
          await run(client, ['BEGIN', 'SET LOCAL lock_timeout = 5000', locked]);
          return Promise.all(owners.map((owner) => catalog.publishedBy(client, owner)));
        });
      } catch (error) {
        if (!writeFailure(error, this.#database, []).transient) throw error;
        if (performance.now() > deadline || this.#closing.signal.aborted) break;
        await delay(DOUBT_PAUSE_MS);
      }
    }
    throw new DatabaseError(
      'unavailable',
      `${this.#database}: the connection broke while the table was published, and the server cannot be asked whether it was`,
      { cause },
    );
  }
}
