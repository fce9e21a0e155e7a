/** Sources and results backends for tests: opened in a fresh folder, closed after the test. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { TestContext } from 'node:test';
import type {
  Accept,
  Argument,
  Column,
  Limits,
  Owner,
  QueryOptions,
  ResultSet,
  Value,
  WriteOptions,
} from '../../src/databases/database.ts';
import { openSqliteResults, type SqliteResults } from '../../src/databases/sqlite/results.ts';
import { openSqliteSource, type SqliteSource } from '../../src/databases/sqlite/source.ts';
import { tempFolder } from '../support/folder.ts';

export const NO_LIMITS: Limits = { max_rows: null, max_bytes: null, max_value_bytes: 64_000_000 };

/** Never yields a row, and never ends. */
export const ENDLESS =
  'WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c';

export interface Bench {
  readonly folder: string;
  readonly source: SqliteSource;
  readonly results: SqliteResults;
  /** The source's database, to be written to. */
  readonly ledger: DatabaseSync;
  /** A reader of the results file; opened when first asked for. */
  reader(): DatabaseSync;
}

export interface BenchOptions {
  readonly schema?: string;
  readonly max_active?: number;
  readonly results_table?: string;
}

const closers = new WeakMap<TestContext, (() => Promise<void> | void)[]>();

/** Closes something after the test: last opened, first closed, and the folder removed after all that. */
export function closing(t: TestContext, close: () => Promise<void> | void): void {
  const known = closers.get(t);
  if (known !== undefined) {
    known.push(close);
    return;
  }
  const list = [close];
  closers.set(t, list);
  t.after(async () => {
    for (const each of list.toReversed()) await each();
  });
}

export async function openBench(t: TestContext, options: BenchOptions = {}): Promise<Bench> {
  closing(t, () => {}); // before the folder's own hook: they run in order
  const folder = tempFolder(t);
  const ledger = new DatabaseSync(join(folder, 'ledger.db'));
  closing(t, () => ledger.close());
  if (options.schema !== undefined) ledger.exec(options.schema);
  const source = await openTestSource(t, join(folder, 'ledger.db'), options.max_active);
  const results = await openTestResults(t, join(folder, 'results.db'), options.results_table);
  return { folder, source, results, ledger, reader: () => openReader(t, join(folder, 'results.db')) };
}

export async function openTestSource(t: TestContext, path: string, max_active = 4): Promise<SqliteSource> {
  const source = await openSqliteSource({ name: 'ledger', path, max_active, warm_processes: 1 });
  closing(t, () => source.close());
  return source;
}

export async function openTestResults(
  t: TestContext,
  path: string,
  results_table = 'results_%s',
): Promise<SqliteResults> {
  const results = await openSqliteResults({ name: 'reports', path, results_table });
  closing(t, () => results.close());
  return results;
}

export function openReader(t: TestContext, path: string): DatabaseSync {
  const reader = new DatabaseSync(path, { readOnly: true, timeout: 30_000 });
  closing(t, () => reader.close());
  return reader;
}

let fences = 0;

/** An attempt; each has a higher fence than the one before. */
export function owner(job_id: string, fields: Partial<Owner> = {}): Owner {
  fences += 1;
  return { job_id, task: 'test', attempt: 1, store_id: 'store', fence: fences, seq: 1, ...fields };
}

export function never(): AbortSignal {
  return new AbortController().signal;
}

export function queryOptions(accept: readonly Accept[], fields: Partial<QueryOptions> = {}): QueryOptions {
  return {
    accept,
    limits: NO_LIMITS,
    signal: never(),
    owner: owner('query'),
    onProgress: () => {},
    onColumns: () => {},
    ...fields,
  };
}

export function writeOptions(job_id: string, fields: Partial<WriteOptions> = {}): WriteOptions {
  return {
    owner: owner(job_id),
    limits: NO_LIMITS,
    signal: never(),
    ttl_ms: null,
    onProgress: () => {},
    confirm: async () => {},
    ...fields,
  };
}

export type Encoding = Accept['encoding'];

/** Runs one job: from the query to the published table. */
export async function report(
  { source, results }: Pick<Bench, 'source' | 'results'>,
  job_id: string,
  sql: string,
  fields: Partial<WriteOptions> & { readonly args?: readonly Argument[]; readonly encoding?: Encoding } = {},
) {
  const { args = [], encoding, ...options } = fields;
  const write = writeOptions(job_id, options);
  const accept = results.accepts.filter((offer) => encoding === undefined || offer.encoding === encoding);
  await using result = await source.query(sql, args, {
    accept,
    limits: write.limits,
    signal: write.signal,
    owner: write.owner,
    onProgress: write.onProgress,
    onColumns: (columns) => results.checkColumns(columns),
  });
  return await results.write(result, write);
}

/** A result set made of values, as another engine's source would hand it over. */
export function rowsOf(
  columns: readonly (Column | string)[],
  rows: readonly (readonly Value[])[] | AsyncIterable<readonly (readonly Value[])[]>,
): ResultSet {
  return {
    columns: columns.map((column) =>
      typeof column === 'string' ? { name: column, type: 'ANY', source_type: '' } : column,
    ),
    body: { encoding: 'rows', batches: Symbol.asyncIterator in rows ? rows : batchesOf(rows) },
    [Symbol.asyncDispose]: async () => {},
  };
}

async function* batchesOf(rows: readonly (readonly Value[])[]) {
  for (let at = 0; at < rows.length; at += 1_000) yield rows.slice(at, at + 1_000);
}

/** The tables in a results file, but for the backend's own bookkeeping. */
export function tablesIn(reader: DatabaseSync): string[] {
  return reader
    .prepare(
      "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('dungbeetle_results', 'dungbeetle_staging', 'dungbeetle_fences', 'dungbeetle_version') ORDER BY name",
    )
    .all()
    .map((row) => String(row['name']));
}

/** What is left in the folder of staging files. */
export function stagingFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.includes('.staging'),
  );
}

/** Whether a process is there. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ESRCH') return false;
    throw error;
  }
}

/** Rows of text columns that make a table of some size. */
export function numbers(rows: number): string {
  return `WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < ${rows}) SELECT x, 'a text that goes with ' || x AS note FROM c`;
}
