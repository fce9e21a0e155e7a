/** A MySQL source for a test, closed after it, and what its results read as. */
import type { TestContext } from 'node:test';
import type { Argument, Chunk, QueryOptions, ResultSet, Value } from '../../../src/databases/database.ts';
import { openMysqlSource } from '../../../src/databases/mysql/source.ts';
import { execute, type Service } from '../../support/services.ts';
import { closing, queryOptions } from '../support.ts';

export async function openSource(t: TestContext, dsn: string, max_active = 4) {
  const source = await openMysqlSource({
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

/** Whether it is MariaDB, which has what MySQL has not: sequences, UUID, SET STATEMENT, … */
export function isMariadb({ name }: Service): boolean {
  return name.startsWith('mariadb');
}

/** A statement for which a system variable has another value. */
export function withVariable(server: Service, name: string, value: string, sql: string): string {
  return isMariadb(server)
    ? `SET STATEMENT ${name} = '${value}' FOR ${sql}`
    : sql.replace(/^\w+/, `$& /*+ SET_VAR(${name} = '${value}') */`);
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

/** All chunks of a streamed result. */
export async function chunksOf(result: ResultSet): Promise<{ readonly data: Buffer; readonly rows: number }> {
  const chunks: Chunk[] = [];
  for await (const chunk of streamOf(result)) chunks.push(chunk);
  return {
    data: Buffer.concat(chunks.map(({ data }) => data)),
    rows: chunks.reduce((sum, { rows }) => sum + rows, 0),
  };
}

export function streamOf({ body }: ResultSet): AsyncIterable<Chunk> {
  if (!('chunks' in body)) throw new Error(`a stream was asked for, not ${body.encoding}`);
  return body.chunks;
}

/** Whether the server works on a statement that begins so, in the DSN's own database: others' tests run beside. */
export async function isRunning(dsn: string, mark: string): Promise<boolean> {
  const rows = await execute(
    dsn,
    `SELECT 1 FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND LEFT(INFO, ${mark.length}) = '${mark}'`,
  );
  return rows.length > 0;
}
