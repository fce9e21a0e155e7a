/** SQLite as a results backend. All writing is done by one child process per backend. */
import { resolve as absolute, basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { orAbort } from '../../util/abort.ts';
import { entry } from '../../util/entry.ts';
import type {
  Accept,
  Body,
  Column,
  ColumnType,
  ResultColumn,
  ResultSet,
  ResultsBackend,
  ResultTable,
  SweepOptions,
  Swept,
  Value,
  WholeValue,
  WriteOptions,
} from '../database.ts';
import { isLong, wholeOf } from '../encodings/long-value.ts';
import { DatabaseError } from '../errors.ts';
import { inTurns } from '../large-turn.ts';
import { checkLimits } from '../meter.ts';
import { columnNames } from '../names.ts';
import { type EventOf, SqliteProcess } from './process.ts';
import type { Piece } from './spool.ts';
import type { StagedRows } from './staging-file.ts';
import { listStagingFiles, removeStagingFile, stagingFile, storeKey } from './staging-file.ts';
import { FORGOTTEN_MS, stagingTable } from './staging-table.ts';
import { DECLARED } from './types.ts';
import type { Publication, WriterOperations, WriterSetup } from './writer-operations.ts';

export interface SqliteResultsOptions {
  /** The backend's name in the configuration; errors call it `results "name"`. */
  readonly name: string;
  /** The results file; made if there is none. Staging files go to `<path>-staging/` beside it. */
  readonly path: string;
  /** Name of result tables, with %s for the job id. Default `results_%s`. */
  readonly results_table?: string;
}

/** A result up to this size is copied in its publishing transaction. */
const SMALL_ROWS = 2_000;
const SMALL_BYTES = 512 * 1024;
/** How long a report that failed waits for its leftovers to go, ms. */
const CLEANING_MS = 500;
/** How long closing in order may take, ms. */
const CLOSE_MS = 5_000;
/** SQLite's limit (SQLITE_MAX_COLUMN). */
const MOST_COLUMNS = 2_000;

/** Touches nothing yet: a results file that cannot be written is told by `ping` and by `write`. */
export async function openSqliteResults(options: SqliteResultsOptions): Promise<SqliteResults> {
  return new SqliteResults(options);
}

export class SqliteResults implements ResultsBackend {
  readonly engine = 'sqlite';
  readonly accepts: readonly Accept[];
  readonly #setup: WriterSetup;
  readonly #directory: string;
  #writer: SqliteProcess<WriterOperations> | null = null;
  #tickets = 0;
  #closed = false;

  constructor({ name, path, results_table = 'results_%s' }: SqliteResultsOptions) {
    if (!results_table.includes('%s')) {
      throw new TypeError(`results_table of results "${name}" must hold %s, where the job id goes`);
    }
    const file = absolute(path);
    this.#setup = { path: file, database: `results "${name}"`, results_table };
    this.#directory = join(dirname(file), `${basename(file)}-staging`);
    this.accepts = [
      { encoding: 'sqlite-file', directory: this.#directory },
      { encoding: 'copy-text' },
      { encoding: 'rows' },
    ];
    // A process takes a while to start: the first report should not wait for it.
    this.#process();
  }

  /** The child process, if one is running. */
  get pids(): readonly number[] {
    const pid = this.#writer?.alive === true ? this.#writer.pid : undefined;
    return pid === undefined ? [] : [pid];
  }

  checkColumns(columns: readonly Column[]): void {
    if (columns.length === 0) {
      throw this.#error(
        'query_failed',
        'cannot hold the result: it has no columns, a SQLite table has at least one',
      );
    }
    if (columns.length <= MOST_COLUMNS) return;
    throw this.#error(
      'query_failed',
      `the result has ${columns.length} columns, a SQLite table at most ${MOST_COLUMNS}`,
    );
  }

  async write(result: ResultSet, options: WriteOptions): Promise<ResultTable> {
    const { signal, owner, limits, onProgress } = options;
    signal.throwIfAborted();
    this.checkColumns(result.columns);
    // In this order: on a full disk it takes the staging file's room to get rid of the staging table.
    const cleanups: (() => Promise<unknown>)[] = [];
    try {
      const spooled = await this.#staged(result, options, cleanups);
      const { staged, types, warnings } = spooled;
      checkLimits(staged, limits);
      const columns = resultColumns(result.columns, types);

      let staging: string | null = null;
      if (staged.rows > SMALL_ROWS || staged.bytes > SMALL_BYTES) {
        const table = stagingTable();
        staging = table;
        cleanups.push(() => this.#call('discard', { staging: table }));
        await orAbort(this.#call('begin', { owner, columns, staged, staging }), signal);
        const bytesPerRow = staged.bytes / Math.max(1, staged.rows);
        await orAbort(
          this.#call('copy', { staging, staged, width: columns.length }, (rows) => {
            if (!signal.aborted) onProgress({ phase: 'load', rows, bytes: Math.round(rows * bytesPerRow) });
          }),
          signal,
        );
      }
      onProgress({ phase: 'publish', rows: staged.rows, bytes: staged.bytes });
      await orAbort(options.confirm(), signal);
      const { ttl_ms } = options;
      const table = await this.#publish({ owner, columns, staged, staging, ttl_ms, warnings }, signal);
      cleanups.splice(1);
      return table;
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      const cleaned = cleanUp(cleanups);
      const clock = new AbortController();
      // Whoever waits for a cancel waits no longer than this; the rest is done meanwhile.
      await Promise.race([cleaned, delay(CLEANING_MS, null, { signal: clock.signal })]);
      clock.abort();
    }
  }

  async drop(job_id: string, fence?: number): Promise<boolean> {
    return this.#call('drop', { job_id, fence: fence ?? null });
  }

  async sweep({ store_id, liveFences, judge }: SweepOptions): Promise<Swept> {
    const expired = await this.#call('expire', null);
    // Listed first: what an attempt makes after it was asked about is not in the list.
    const { staging, unsettled } = await this.#call('leftovers', { store_id });
    const files = await listStagingFiles(this.#directory);
    const live = await liveFences();
    let orphans = await this.#call('forget', { store_id });
    for (const { table, fence } of staging) {
      if (live.has(fence)) continue;
      await this.#call('discard', { staging: table });
      orphans += 1;
    }
    const store = storeKey(store_id);
    for (const file of files) {
      // About another store's attempts nobody here can be asked: their files go when they are very old.
      if (file.store === store ? live.has(file.fence) : Date.now() - file.modified_at < FORGOTTEN_MS)
        continue;
      await removeStagingFile(file.path);
      orphans += 1;
    }
    for (const { job_id, fence, seq } of unsettled) {
      if (live.has(fence)) continue;
      const verdict = await judge({ job_id, fence, seq });
      if (verdict === 'keep') await this.#call('settle', { job_id, store_id, fence });
      else if (verdict === 'drop' && (await this.#call('drop', { job_id, fence }))) orphans += 1;
    }
    return { expired, orphans };
  }

  async check(signal: AbortSignal): Promise<void> {
    // Which writes to the file, in a transaction.
    await this.ping(signal);
    const file = stagingFile(this.#directory, { store_id: 'check', fence: 0 });
    try {
      const columns: readonly Column[] = [{ name: 'n', type: 'BIGINT', source_type: '' }];
      await orAbort(this.#call('spool', { file, columns }), signal);
    } catch (error) {
      if (!(error instanceof DatabaseError)) throw error;
      const { code, message, transient, refused } = error;
      const folder = `results are collected in the folder beside its file, which is named like it with "-staging"`;
      throw new DatabaseError(code, `${message}; ${folder}`, { transient, refused });
    } finally {
      await cleanUp([() => this.#call('unspool', { file }), () => removeStagingFile(file)]);
    }
  }

  async ping(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await orAbort(this.#call('ping', null), signal);
  }

  async close(): Promise<void> {
    this.#closed = true;
    const writer = this.#writer;
    if (writer === null || !writer.alive) return;
    const clock = new AbortController();
    const closed = writer.call('close', null).catch(() => {
      // It has ended by itself, or cannot close in order (the disk is full, say): the file's log is intact,
      // and whoever opens the file next goes on from there.
    });
    // Nor does anybody wait for another process that sits on the file.
    await Promise.race([closed, delay(CLOSE_MS, null, { signal: clock.signal })]);
    clock.abort();
    await writer.kill();
  }

  /** The result as a staging file: the one it came in, or one made of its rows. */
  async #staged(result: ResultSet, options: WriteOptions, cleanups: (() => Promise<unknown>)[]) {
    const { body, columns } = result;
    if (body.encoding === 'sqlite-file') {
      cleanups.push(() => removeStagingFile(body.path));
      const staged: StagedRows = { file: body.path, rows: body.rows, bytes: body.bytes };
      return { staged, types: columns.map((column) => column.type), warnings: [] };
    }
    const { signal, limits, owner, onProgress } = options;
    const file = stagingFile(this.#directory, owner);
    const unspool = () => this.#call('unspool', { file });
    cleanups.push(unspool, () => removeStagingFile(file));
    await this.#call('spool', { file, columns });
    const pieces = piecesOf(body, signal);
    try {
      for (;;) {
        const next = await orAbort(pieces.next(), signal);
        if (next.done === true) break;
        const so_far = await orAbort(this.#call('append', { file, ...next.value }), signal);
        checkLimits(so_far, limits);
        onProgress({ phase: 'load', ...so_far });
      }
    } catch (error) {
      // Not waited for: a source that has not heard of the signal may be busy with the next batch.
      pieces.return().catch(() => {});
      throw error;
    }
    signal.throwIfAborted();
    const { types, warnings, ...staged } = await this.#call('seal', { file });
    cleanups.splice(cleanups.indexOf(unspool), 1);
    return { staged, types, warnings: [...(result.warnings?.() ?? []), ...warnings] };
  }

  /** Once its transaction has begun, a publication is no longer taken back: its outcome counts. */
  async #publish(publication: Publication, signal: AbortSignal): Promise<ResultTable> {
    signal.throwIfAborted();
    const ticket = ++this.#tickets;
    const withdraw = () => {
      // A process that ended has nothing to withdraw, and says so in the answer to `publish`.
      this.#call('withdraw', { ticket }).catch(() => {});
    };
    signal.addEventListener('abort', withdraw, { once: true });
    try {
      return await this.#call('publish', { ...publication, ticket });
    } catch (error) {
      if (!(error instanceof DatabaseError) || error.code !== 'unavailable') throw error;
      // The process may have ended between the commit and its answer.
      const table = await this.#call('published', publication.owner).catch(() => null);
      if (table === null) throw error;
      return table;
    } finally {
      signal.removeEventListener('abort', withdraw);
    }
  }

  #call<K extends keyof WriterOperations & string>(
    op: K,
    request: WriterOperations[K]['request'],
    onEvent?: (event: EventOf<WriterOperations[K]>) => void,
  ): Promise<WriterOperations[K]['reply']> {
    if (this.#closed) return Promise.reject(this.#error('unavailable', 'is closed'));
    return this.#process().call(op, request, onEvent);
  }

  /** The writer, a new one if it has ended. */
  #process(): SqliteProcess<WriterOperations> {
    if (this.#writer === null || !this.#writer.alive) {
      const module = entry(import.meta.url, './writer-process');
      this.#writer = new SqliteProcess(module, this.#setup.database, {}, [JSON.stringify(this.#setup)]);
    }
    return this.#writer;
  }

  #error(code: 'query_failed' | 'unavailable', message: string): DatabaseError {
    return new DatabaseError(code, `${this.#setup.database} ${message}`);
  }
}

/** Lines are taken apart by the writer's process: there it does not keep the server from answering. */
async function* piecesOf(
  body: Exclude<Body, { readonly encoding: 'sqlite-file' }>,
  signal: AbortSignal,
): AsyncGenerator<Piece, void, void> {
  switch (body.encoding) {
    case 'rows':
      for await (const rows of body.batches) yield { rows: await wholeRows(rows) };
      break;
    case 'copy-text':
      for await (const { data } of inTurns(body.chunks, signal)) yield { lines: data };
      break;
    case 'pg-binary':
      throw new Error('pg-binary is not accepted');
  }
}

/** The source has taken the turn for them. */
async function wholeRows(rows: readonly (readonly Value[])[]): Promise<(readonly WholeValue[])[]> {
  const whole: WholeValue[][] = [];
  for (const row of rows) {
    const values: WholeValue[] = [];
    for (const value of row) values.push(isLong(value) ? await wholeOf(value) : value);
    whole.push(values);
  }
  return whole;
}

async function cleanUp(steps: readonly (() => Promise<unknown>)[]): Promise<void> {
  for (const step of steps) {
    // What cannot be cleaned up now (the disk is away, say) is found by the next sweep; the error that led
    // here is the one to tell.
    await step().catch(() => {});
  }
}

function resultColumns(columns: readonly Column[], types: readonly ColumnType[]): readonly ResultColumn[] {
  const names = columnNames(columns.map((column) => column.name));
  return columns.map(({ name, source_type }, index) => ({
    name: names[index] ?? name,
    type: DECLARED[types[index] ?? 'ANY'],
    source_type,
  }));
}
