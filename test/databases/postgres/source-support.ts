/** A Postgres source for a test, closed after it, and what its results read as. */

import { finished } from 'node:stream/promises';
import type { TestContext } from 'node:test';
import pg from 'pg';
import { from } from 'pg-copy-streams';
import type { Argument, Chunk, QueryOptions, ResultSet, Value } from '../../../src/databases/database.ts';
import { openPostgresSource } from '../../../src/databases/postgres/source.ts';
import { closing, queryOptions } from '../support.ts';

export async function openSource(t: TestContext, dsn: string, max_active = 4) {
  const source = await openPostgresSource({
    name: 'app',
    dsn,
    max_active,
    max_idle: 2,
    connect_timeout_ms: 5_000,
  });
  closing(t, () => source.close());
  return source;
}

type Source = Awaited<ReturnType<typeof openSource>>;

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

/** All chunks of a streamed result. */
export async function chunksOf({
  body,
}: ResultSet): Promise<{ readonly data: Buffer; readonly rows: number }> {
  const chunks: Chunk[] = [];
  for await (const chunk of streamOf(body)) chunks.push(chunk);
  return {
    data: Buffer.concat(chunks.map(({ data }) => data)),
    rows: chunks.reduce((sum, { rows }) => sum + rows, 0),
  };
}

export function streamOf(body: ResultSet['body']): AsyncIterable<Chunk> {
  if (!('chunks' in body)) throw new Error(`a stream was asked for, not ${body.encoding}`);
  return body.chunks;
}

/** Loads a file of COPY's binary format into a table. */
export async function copyIn(dsn: string, table: string, file: Buffer): Promise<void> {
  const client = new pg.Client({ connectionString: dsn });
  await client.connect();
  try {
    const stream = client.query(from(`COPY ${table} FROM STDIN (FORMAT binary)`));
    stream.end(file);
    await finished(stream);
  } finally {
    await client.end();
  }
}
