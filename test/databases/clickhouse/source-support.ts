/** A ClickHouse source for a test, closed after it, and what its results read as. */
import type { TestContext } from 'node:test';
import { openClickhouseSource } from '../../../src/databases/clickhouse/source.ts';
import type {
  Accept,
  Argument,
  QueryOptions,
  ResultSet,
  Source,
  Value,
} from '../../../src/databases/database.ts';
import { closing, queryOptions as commonOptions, owner } from '../support.ts';

export const COPY_TEXT = [{ encoding: 'copy-text' }] as const;

/** As the common ones, of a store of this process: files that run at once share the server, and it its query ids. */
export function queryOptions(accept: readonly Accept[], fields: Partial<QueryOptions> = {}): QueryOptions {
  return commonOptions(accept, { owner: owner('query', { store_id: `store of ${process.pid}` }), ...fields });
}

export async function openSource(t: TestContext, dsn: string, max_active = 4): Promise<Source> {
  const source = await openClickhouseSource({
    name: 'app',
    dsn,
    max_active,
    max_idle: 2,
    connect_timeout_ms: 5_000,
  });
  closing(t, () => source.close());
  return source;
}

/** All rows of a query, as values. */
export async function rowsOf(
  source: Source,
  sql: string,
  args: readonly Argument[] = [],
  fields: Partial<QueryOptions> = {},
): Promise<Value[][]> {
  await using result = await source.query(sql, args, queryOptions([{ encoding: 'rows' }], fields));
  if (result.body.encoding !== 'rows') throw new Error(`asked for rows, given ${result.body.encoding}`);
  const rows: Value[][] = [];
  for await (const batch of result.body.batches) rows.push(...batch.map((row) => [...row]));
  return rows;
}

/** A query's copy-text, whole. */
export async function textOf(
  source: Source,
  sql: string,
  args: readonly Argument[] = [],
  fields: Partial<QueryOptions> = {},
): Promise<{ readonly text: string; readonly rows: number }> {
  await using result = await source.query(sql, args, queryOptions(COPY_TEXT, fields));
  const parts: Buffer[] = [];
  let rows = 0;
  for await (const chunk of chunksOf(result)) {
    parts.push(chunk.data);
    rows += chunk.rows;
  }
  return { text: Buffer.concat(parts).toString(), rows };
}

export function chunksOf({ body }: ResultSet) {
  if (!('chunks' in body)) throw new Error(`a stream was asked for, not ${body.encoding}`);
  return body.chunks;
}

/** Reads a result to its end; the rows that came. */
export async function drained(result: ResultSet): Promise<number> {
  let rows = 0;
  for await (const chunk of chunksOf(result)) rows += chunk.rows;
  return rows;
}
