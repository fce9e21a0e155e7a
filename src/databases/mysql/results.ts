/** MySQL and MariaDB as a results backend. How tables are published is told in results-publish.ts. */
import { setTimeout as delay } from 'node:timers/promises';
import { orAbort } from '../../util/abort.ts';
import type {
  Accept,
  Body,
  Chunk,
  Column,
  Owner,
  ResultSet,
  ResultsBackend,
  ResultTable,
  SweepOptions,
  Swept,
  WriteOptions,
} from '../database.ts';
import { encodeRows } from '../encodings/copy-text.ts';
import { DatabaseError } from '../errors.ts';
import { inTurns } from '../large-turn.ts';
import { Meter } from '../meter.ts';
import { failureOf } from './failure.ts';
import { quoteName } from './quote.ts';
import { isOwners, type Published, prepareSchema, type Registered, SQL, tableOf } from './results-catalog.ts';
import { checkRights } from './results-check.ts';
import { type Flavor, type PlannedColumn, planColumns, unfitColumns } from './results-columns.ts';
import { type Connector, connector } from './results-connect.ts';
import { checkLoaded, loadLines } from './results-load.ts';
import { SessionPool, type Turn } from './results-pool.ts';
import {
  begin,
  createStaging,
  discard,
  dropPublished,
  fenced,
  newToken,
  type Patience,
  type Publishing,
  publish,
  stagingName,
  trashNames,
} from './results-publish.ts';
import { fitRows } from './results-rows.ts';
import { ER, isLost, type Session, StatementError } from './results-session.ts';
import { sweepTables } from './results-sweep.ts';

export interface MysqlResultsOptions {
  /** The backend's name in the configuration; errors call it `results "name"`. */
  readonly name: string;
  readonly dsn: string;
  /** Name of result tables, with %s for the job id. Default `results_%s`. */
  readonly results_table?: string;
  /** `source`: columns keep the type of a MySQL or MariaDB source where that is safe. Default `standard`. */
  readonly column_types?: 'standard' | 'source';
  /** How many reports are written at once; beside them at most a few connections for short work. Default 10. */
  readonly max_active?: number;
  /** Connections kept open while unused. Default 2. */
  readonly max_idle?: number;
  /** Default 10,000. */
  readonly connect_timeout_ms?: number;
  /** How long a report whose rows are loaded waits for a server that went away to come back. Default 60,000. */
  readonly restart_ms?: number;
}

/** How long a report that failed waits for its leftovers to go, ms. */
const CLEANING_MS = 500;
/** How long publishing waits for readers of the old table, and cleaning for whoever holds what is cleaned, ms. */
const PUBLISHING_MS = 10 * 60_000;
const HOUSEKEEPING_MS = 15_000;
/** Once the swap may have happened, a cancelled report waits this long to hear of it, ms. */
const OUTCOME_MS = 1_500;
/** How often publishing goes on over a new connection when one was lost. */
const MOST_CONNECTIONS = 4;
/** How often a server that is away is asked for a connection meanwhile, ms. */
const RECONNECT_MS = 300;
/** How long closing waits for reports that are being cleaned up, ms. */
const CLOSE_MS = 5_000;

/** Connects when first used: a server that is down is told by `ping` and by `write`. */
export async function openMysqlResults(options: MysqlResultsOptions): Promise<MysqlResults> {
  return new MysqlResults(options);
}

export class MysqlResults implements ResultsBackend {
  readonly engine = 'mysql';
  readonly accepts: readonly Accept[] = [{ encoding: 'copy-text' }, { encoding: 'rows' }];
  readonly #database: string;
  readonly #template: string;
  readonly #column_types: 'standard' | 'source';
  readonly #pool: SessionPool;
  readonly #restart_ms: number;
  readonly #background = new Set<Promise<unknown>>();
  readonly #closing = new AbortController();
  /** What kind of server it is; what is said here holds until the first connection. */
  #flavor: Flavor = { mariadb: true, collation: 'utf8mb4_bin', keyed: false };
  #prepared = false;

  constructor(options: MysqlResultsOptions) {
    const { name, results_table = 'results_%s' } = options;
    this.#database = `results "${name}"`;
    if (!results_table.includes('%s')) {
      throw new TypeError(`results_table of ${this.#database} must hold %s, where the job id goes`);
    }
    if (/^dungbeetle_/i.test(results_table)) {
      throw new TypeError(
        `results_table of ${this.#database} must not begin with dungbeetle_: such tables are the backend's own`,
      );
    }
    this.#template = results_table;
    this.#restart_ms = options.restart_ms ?? 60_000;
    this.#column_types = options.column_types ?? 'standard';
    const connect: Connector = connector(options.dsn, options.connect_timeout_ms ?? 10_000, this.#database);
    this.#pool = new SessionPool({
      max_active: options.max_active ?? 10,
      max_idle: options.max_idle ?? 2,
      open: (signal) => connect(signal),
    });
  }

  checkColumns(columns: readonly Column[]): void {
    this.#plan(columns);
  }

  #plan(columns: readonly Column[]): readonly PlannedColumn[] {
    const planned = planColumns(columns, this.#column_types, this.#flavor.mariadb);
    const unfit = unfitColumns(planned, this.#flavor);
    if (unfit !== null) throw new DatabaseError('query_failed', `${this.#database}: ${unfit}`);
    return planned;
  }

  async write(result: ResultSet, options: WriteOptions): Promise<ResultTable> {
    const { signal } = options;
    const turn = await this.#pool.turn(signal);
    const token = newToken();
    try {
      const { table, trash } = await this.#write(result, options, turn, token);
      if (trash) void this.#later(turn, () => this.#dropTrash(turn, token));
      else turn.release();
      return table;
    } catch (error) {
      const cleaned = this.#later(turn, () => this.#takeBack(turn, token, options.owner));
      // Whoever waits for a cancel waits no longer than this; the rest is done meanwhile.
      const published = await within(CLEANING_MS, cleaned);
      // The answer to the swap was lost, not the swap.
      if (published !== null) return published;
      signal.throwIfAborted();
      throw this.#told(error);
    }
  }

  async #write(result: ResultSet, options: WriteOptions, turn: Turn, token: string): Promise<Publishing> {
    const { signal, owner, limits, onProgress, confirm, ttl_ms } = options;
    const abortable = <T>(promise: Promise<T>) => orAbort(promise, signal, () => turn.cut());
    const db = await abortable(this.#session(turn, signal));
    const columns = this.#plan(result.columns);
    await abortable(begin(db, token, owner, this.#patience(signal, HOUSEKEEPING_MS)));
    await abortable(createStaging(db, token, owner, columns));
    const meter = new Meter({ limits, onProgress });
    const lines = chunksOf(result.body, columns, this.#database);
    // An INSERT is made of whole rows. Those that come as such have had their turn.
    const whole = !db.local_infile && result.body.encoding === 'copy-text';
    const chunks = meter.chunks(whole ? inTurns(lines, signal) : lines);
    const rows = await abortable(loadLines(db, stagingName(token), columns, chunks));
    const { bytes } = meter;
    onProgress({ phase: 'publish', rows, bytes });
    await abortable(confirm());
    signal.throwIfAborted();
    const publication = {
      task: owner.task,
      attempt: owner.attempt,
      rows,
      bytes,
      columns: columns.map(({ name, type, source_type }) => ({ name, type, source_type })),
      warnings: result.warnings?.() ?? [],
      ttl_ms,
    };
    // From here on the swap may have happened: its outcome counts, not the signal.
    const patience = this.#patience(signal, PUBLISHING_MS);
    for (let connections = 1; ; connections += 1) {
      const current = await this.#reconnected(turn, signal);
      const cut = cutLater(signal, current);
      try {
        if (current !== db) await checkLoaded(current, stagingName(token), rows);
        return await publish(current, token, owner, publication, this.#template, patience);
      } catch (error) {
        if (!isLost(error) || connections === MOST_CONNECTIONS || signal.aborted) throw error;
      } finally {
        cut.cancel();
      }
    }
  }

  /** A connection in the place of one that was lost; a server that is away may be about to come back. */
  async #reconnected(turn: Turn, signal: AbortSignal): Promise<Session> {
    const either = AbortSignal.any([signal, this.#closing.signal]);
    const until = performance.now() + this.#restart_ms;
    for (;;) {
      try {
        return await turn.session(either);
      } catch (error) {
        either.throwIfAborted();
        if (!isLost(error) || performance.now() > until) throw error;
        await delay(RECONNECT_MS, null, { signal: either }).catch(() => either.throwIfAborted());
      }
    }
  }

  async #dropTrash(turn: Turn, token: string): Promise<void> {
    const db = await turn.session(this.#closing.signal);
    await db.runBriefly(`DROP TABLE IF EXISTS ${quoteName(trashNames(token)[0])}`);
  }

  /** Whatever an attempt has left; gives its table if that was published after all. */
  async #takeBack(turn: Turn, token: string, owner: Owner): Promise<ResultTable | null> {
    const db = await this.#session(turn, this.#closing.signal);
    const [registered] = await db.query<Registered>(SQL.registered, [token]);
    if (registered === undefined) {
      // Somebody has ended it for us, but knew of no table that was only made afterwards.
      await db.runBriefly(`DROP TABLE IF EXISTS ${quoteName(stagingName(token))}`);
      const [published] = await db.query<Published>(SQL.published, [owner.job_id]);
      return published !== undefined && isOwners(published, owner) ? tableOf(published) : null;
    }
    return await discard(db, registered, this.#patience(this.#closing.signal, HOUSEKEEPING_MS));
  }

  async drop(job_id: string, fence?: number): Promise<boolean> {
    return this.#aside((db, patience) =>
      dropPublished(
        db,
        job_id,
        async (published) => fence === undefined || published.fence === fence,
        patience,
      ),
    );
  }

  async sweep(options: SweepOptions): Promise<Swept> {
    // One try each: what is in use is left to the next sweep.
    return this.#aside((db, { signal }) => sweepTables(db, options, this.#patience(signal, 0)));
  }

  async check(signal: AbortSignal): Promise<void> {
    await this.#aside(checkRights, signal);
  }

  async ping(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await this.#aside((db) => db.query(SQL.is_there), signal);
  }

  async close(): Promise<void> {
    await within(CLOSE_MS, Promise.allSettled(this.#background));
    this.#closing.abort(new DatabaseError('unavailable', `${this.#database} is closed`));
    this.#pool.close();
  }

  /** Short work beside the reports. */
  async #aside<T>(work: (db: Session, patience: Patience) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const either =
      signal === undefined ? this.#closing.signal : AbortSignal.any([signal, this.#closing.signal]);
    either.throwIfAborted();
    const turn = this.#pool.aside();
    try {
      return await orAbort(
        this.#session(turn, either).then((db) => work(db, this.#patience(either, HOUSEKEEPING_MS))),
        either,
        () => turn.cut(),
      );
    } catch (error) {
      either.throwIfAborted();
      throw this.#told(error);
    } finally {
      turn.release();
    }
  }

  /** A connection to a database that has our tables. */
  async #session(turn: Turn, signal: AbortSignal): Promise<Session> {
    const db = await turn.session(signal);
    if (!this.#prepared) {
      await prepareSchema(db);
      this.#flavor = db.flavor;
      this.#prepared = true;
    }
    return db;
  }

  /** Work that nobody waits for to its end, after which the turn is over. */
  #later<T>(turn: Turn, work: () => Promise<T>): Promise<T | null> {
    const done: Promise<T | null> = work()
      // What cannot be cleaned up now (the server is away, say) is found by the next sweep.
      .catch(() => null)
      .finally(() => {
        turn.release();
        this.#background.delete(done);
      });
    this.#background.add(done);
    return done;
  }

  #patience(signal: AbortSignal, milliseconds: number): Patience {
    return { signal, until: performance.now() + milliseconds };
  }

  /** Errors of the server as errors of ours; those of the source and of `confirm` as they are. */
  #told(error: unknown): unknown {
    if (!(error instanceof StatementError)) return error;
    if (error.number === ER.NO_SUCH_TABLE) {
      // A staging table goes under its attempt's hands when a newer one has begun.
      if (error.message.includes('dungbeetle_staging_')) return fenced(this.#database);
      // Somebody has dropped our own: they are made anew next time.
      this.#prepared = false;
    }
    return failureOf(error.cause, this.#database, 'write');
  }
}

function chunksOf(body: Body, columns: readonly PlannedColumn[], database: string): AsyncIterable<Chunk> {
  switch (body.encoding) {
    case 'copy-text':
      return body.chunks;
    case 'rows':
      return encodeRows(fitRows(body.batches, columns, database));
    case 'pg-binary':
    case 'sqlite-file':
      throw new Error(`${body.encoding} is not accepted`);
  }
}

/** Cuts a connection some time after the signal aborts: what it was asked for may be answered by then. */
function cutLater(signal: AbortSignal, db: Session): { cancel(): void } {
  let timer: NodeJS.Timeout | undefined;
  const aborted = () => {
    timer = setTimeout(() => db.destroy(), OUTCOME_MS);
  };
  signal.addEventListener('abort', aborted, { once: true });
  if (signal.aborted) aborted();
  return {
    cancel() {
      signal.removeEventListener('abort', aborted);
      clearTimeout(timer);
    },
  };
}

/** What a promise gives, null if that takes longer. */
async function within<T>(milliseconds: number, promise: Promise<T>): Promise<T | null> {
  const clock = new AbortController();
  const late = delay(milliseconds, null, { signal: clock.signal }).catch(() => null);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clock.abort();
  }
}
