/** SQLite as a source. Every query runs in a child process, so that it can be ended at any time. */
import { stat } from 'node:fs/promises';
import { setInterval as every } from 'node:timers/promises';
import { entry } from '../../util/entry.ts';
import type {
  Accept,
  Argument,
  Column,
  QueryOptions,
  ResultSet,
  Source,
  StatementInfo,
  Value,
} from '../database.ts';
import { DatabaseError } from '../errors.ts';
import { checkLimits } from '../meter.ts';
import { ChildTurn } from './child-turn.ts';
import { ProcessPool } from './pool.ts';
import type { SqliteProcess } from './process.ts';
import type { SourceOperations, Target } from './source-operations.ts';
import { removeStagingFile, stagingFile } from './staging-file.ts';

export interface SqliteSourceOptions {
  /** The source's name in the configuration; errors call it `db "name"`. */
  readonly name: string;
  readonly path: string;
  /** The most queries at once; more wait in line. Default 10. */
  readonly max_active?: number;
  /** Child processes kept ready for the next query. Default 2, at most `max_active`. */
  readonly warm_processes?: number;
  /** How long those beyond the warm ones are kept when idle, ms. Default 30 s. */
  readonly idle_ms?: number;
  /** Where SQLite sorts what does not fit in memory; default: TMPDIR or /tmp. */
  readonly temp_directory?: string;
}

/** How often the size of a growing staging file is looked at, ms. */
const WATCH_MS = 100;
/** How many queries with large values are remembered. */
const MOST_NOTED = 1_000;
/** How long SQLite may take to write a large value, ms: it does not say when it has. */
const LONGEST_TURN_MS = 1_000;

type SourceProcess = SqliteProcess<SourceOperations>;
type FileAccept = Extract<Accept, { readonly encoding: 'sqlite-file' }>;

/** Reads nothing yet: a database that is away is told by `ping` and by queries. */
export async function openSqliteSource(options: SqliteSourceOptions): Promise<SqliteSource> {
  return new SqliteSource(options);
}

export class SqliteSource implements Source {
  readonly engine = 'sqlite';
  readonly #target: Target;
  readonly #queries: ProcessPool<SourceOperations>;
  /** A process of its own for what is quick, so that it never waits behind long queries. */
  readonly #desk: ProcessPool<SourceOperations>;
  /** Queries in whose results there were large values: they are looked for from the beginning. */
  readonly #large = new Set<string>();

  constructor(options: SqliteSourceOptions) {
    const max = options.max_active ?? 10;
    this.#target = { path: options.path, database: `db "${options.name}"` };
    const common = {
      module: entry(import.meta.url, './source-process'),
      name: this.#target.database,
      idle_ms: options.idle_ms ?? 30_000,
      environment: options.temp_directory === undefined ? {} : { SQLITE_TMPDIR: options.temp_directory },
    };
    this.#queries = new ProcessPool({ ...common, max, warm: Math.min(max, options.warm_processes ?? 2) });
    this.#desk = new ProcessPool({ ...common, max: 1, warm: 0 });
  }

  /** The child processes there are. */
  get pids(): readonly number[] {
    return [...this.#queries.pids, ...this.#desk.pids];
  }

  prepare(sql: string, signal: AbortSignal): Promise<StatementInfo> {
    return this.#run(this.#desk, signal, (child) => child.call('prepare', { ...this.#target, sql }));
  }

  async ping(signal: AbortSignal): Promise<void> {
    await this.#run(this.#desk, signal, (child) => child.call('ping', this.#target));
  }

  async query(sql: string, args: readonly Argument[], options: QueryOptions): Promise<ResultSet> {
    const accept = options.accept.find((offer) => offer.encoding === 'sqlite-file');
    if (accept !== undefined) {
      const staged = await this.#stage(sql, args, options, accept);
      if (staged !== null) return staged;
    }
    if (options.accept.some((offer) => offer.encoding === 'rows')) return this.#rows(sql, args, options);
    throw new DatabaseError('query_failed', `${this.#target.database} has no encoding that is accepted`);
  }

  async close(): Promise<void> {
    await Promise.all([this.#queries.close(), this.#desk.close()]);
  }

  /** Runs one exchange with a process, which is ended if the signal aborts or the process is in doubt. */
  async #run<T>(
    pool: ProcessPool<SourceOperations>,
    signal: AbortSignal,
    work: (child: SourceProcess) => Promise<T>,
  ): Promise<T> {
    const child = await pool.acquire(signal);
    const stop = () => void child.kill();
    signal.addEventListener('abort', stop, { once: true });
    try {
      const result = await work(child);
      signal.throwIfAborted();
      return result;
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      signal.removeEventListener('abort', stop);
      if (signal.aborted) await pool.discard(child);
      else pool.release(child);
    }
  }

  async #stage(
    sql: string,
    args: readonly Argument[],
    { limits, signal, owner, onProgress, onColumns }: QueryOptions,
    { directory }: FileAccept,
  ): Promise<ResultSet | null> {
    const file = stagingFile(directory, owner);
    // A file that cannot be removed now is found by the sweep, once the attempt has ended: no reason to fail
    // what may have succeeded, nor to hide what has failed.
    const remove = () => removeStagingFile(file).catch(() => {});
    try {
      const staged = await this.#run(this.#queries, signal, async (child) => {
        const done = new AbortController();
        let refused: { readonly reason: unknown } | null = null;
        const offer = (columns: readonly Column[]) => {
          try {
            onColumns(columns);
          } catch (reason) {
            refused = { reason };
            void child.kill();
          }
        };
        const watched = watchSize(file, done.signal, (bytes) => {
          onProgress({ phase: 'query', rows: 0, bytes });
          // Ends the query: the error is then told below, in the words of the limit.
          if (limits.max_bytes !== null && bytes > limits.max_bytes) void child.kill();
        });
        // What cannot be looked at while it grows is measured when it is complete.
        watched.catch(() => {});
        const turn = new ChildTurn(child, signal, LONGEST_TURN_MS);
        try {
          const has_large = this.#large.has(sql);
          return await child.call('stage', { ...this.#target, sql, args, file, limits, has_large }, offer);
        } catch (error) {
          done.abort();
          throwIfRefused(refused);
          checkLimits({ rows: 0, bytes: await watched.catch(() => 0) }, limits);
          throw error;
        } finally {
          turn.close();
          done.abort();
        }
      });
      if (staged === null) return null;
      if (staged.has_large) this.#noteLarge(sql);
      checkLimits(staged, limits);
      onProgress({ phase: 'query', rows: staged.rows, bytes: staged.bytes });
      return {
        columns: staged.columns,
        body: { encoding: 'sqlite-file', path: file, rows: staged.rows, bytes: staged.bytes },
        [Symbol.asyncDispose]: remove,
      };
    } catch (error) {
      await remove();
      throw error;
    }
  }

  #noteLarge(sql: string): void {
    if (this.#large.size >= MOST_NOTED) this.#large.clear();
    this.#large.add(sql);
  }

  async #rows(sql: string, args: readonly Argument[], options: QueryOptions): Promise<ResultSet> {
    const { signal } = options;
    const child = await this.#queries.acquire(signal);
    const stop = () => void child.kill();
    const turn = new ChildTurn(child, signal, null);
    signal.addEventListener('abort', stop, { once: true });
    let returned = false;
    const giveBack = async (reusable: boolean) => {
      if (returned) return;
      returned = true;
      turn.close();
      signal.removeEventListener('abort', stop);
      if (reusable && child.alive && !signal.aborted) this.#queries.release(child);
      else await this.#queries.discard(child);
    };
    try {
      const columns = await child.call('open', { ...this.#target, sql, args, limits: options.limits });
      options.onColumns(columns);
      return {
        columns,
        body: { encoding: 'rows', batches: fetchAll(child, options, turn, giveBack) },
        [Symbol.asyncDispose]: () => giveBack(false),
      };
    } catch (error) {
      await giveBack(true);
      signal.throwIfAborted();
      throw error;
    }
  }
}

async function* fetchAll(
  child: SourceProcess,
  { limits, signal, onProgress }: QueryOptions,
  turn: ChildTurn,
  giveBack: (reusable: boolean) => Promise<void>,
): AsyncGenerator<readonly (readonly Value[])[]> {
  let rows = 0;
  let bytes = 0;
  let complete = false;
  try {
    // One batch ahead: the next is read while this one is being written.
    let ahead = child.call('fetch', null);
    while (!complete) {
      const batch = await ahead;
      signal.throwIfAborted();
      rows += batch.rows.length;
      bytes += batch.bytes;
      checkLimits({ rows, bytes }, limits);
      complete = batch.done;
      if (batch.long.length > 0) {
        const pieces = async function* (column: number) {
          for (;;) {
            const piece = await child.call('piece', { column });
            signal.throwIfAborted();
            if (piece === null) return;
            bytes += piece.length;
            checkLimits({ rows, bytes }, limits);
            yield piece;
          }
        };
        const last = batch.rows.at(-1) ?? [];
        const whole = last.map(
          (value, column): Value =>
            batch.long.includes(column)
              ? { long: value === 'text' ? 'text' : 'bytes', pieces: pieces(column) }
              : value,
        );
        yield [...batch.rows.slice(0, -1), whole];
        turn.end();
        ahead = child.call('fetch', null);
        ahead.catch(() => {});
        onProgress({ phase: 'query', rows, bytes });
        continue;
      }
      if (!complete) {
        ahead = child.call('fetch', null);
        // Awaited in the next round; if there is none, the process is ended and this is how it says so.
        ahead.catch(() => {});
      }
      onProgress({ phase: 'query', rows, bytes });
      if (batch.rows.length > 0) yield batch.rows;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    await giveBack(complete);
  }
}

/** A function, since the compiler does not see that a callback has set the variable. */
function throwIfRefused(refused: { readonly reason: unknown } | null): void {
  if (refused !== null) throw refused.reason;
}

/** Reports a file's size until the signal aborts; resolves to the last one seen. */
async function watchSize(
  file: string,
  signal: AbortSignal,
  report: (bytes: number) => void,
): Promise<number> {
  let last = 0;
  try {
    for await (const _ of every(WATCH_MS, null, { signal, ref: false })) {
      const bytes = await sizeOf(file);
      if (signal.aborted) break;
      if (bytes !== last) report(bytes);
      last = bytes;
    }
  } catch (error) {
    // How an aborted timer ends.
    if (!signal.aborted) throw error;
  }
  return last;
}

async function sizeOf(file: string): Promise<number> {
  try {
    return (await stat(file)).size;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return 0;
    throw error;
  }
}
