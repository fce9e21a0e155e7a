/** Results backends on MySQL and MariaDB for tests, result sets to write to them, a look at what they left. */
import type { TestContext } from 'node:test';
import { createConnection } from 'mysql2/promise';
import type { Chunk, Column, ResultSet, Value } from '../../../src/databases/database.ts';
import {
  type MysqlResults,
  type MysqlResultsOptions,
  openMysqlResults,
} from '../../../src/databases/mysql/results.ts';
import { execute } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { closing } from '../support.ts';

export async function openResults(
  t: TestContext,
  dsn: string,
  options: Partial<MysqlResultsOptions> = {},
): Promise<MysqlResults> {
  const results = await openMysqlResults({ name: 'reports', dsn, ...options });
  closing(t, () => results.close());
  return results;
}

export type Reader = (sql: string) => Promise<(string | null)[][]>;

/** A connection of the test's own, in UTC; every value comes as the text that the server prints. */
export async function openReader(t: TestContext, dsn: string): Promise<Reader> {
  const connection = await createConnection({
    uri: dsn,
    rowsAsArray: true,
    charset: 'utf8mb4',
    typeCast: (field) => field.string(),
  });
  closing(t, () => connection.destroy());
  return async (sql) => (await connection.query(sql))[0] as unknown as (string | null)[][];
}

export function column(name: string, type: Column['type'], fields: Partial<Column> = {}): Column {
  return { name, type, source_type: '', ...fields };
}

export function resultSet(
  columns: readonly Column[],
  body: ResultSet['body'],
  warnings: readonly string[] = [],
): ResultSet {
  return { columns, body, warnings: () => warnings, [Symbol.asyncDispose]: async () => {} };
}

export function rows(columns: readonly Column[], values: readonly (readonly Value[])[]): ResultSet {
  async function* batches() {
    yield values;
  }
  return resultSet(columns, { encoding: 'rows', batches: batches() });
}

/** Lines of copy-text, in pieces of so many bytes. */
export function text(columns: readonly Column[], lines: string | Buffer, size = 64 * 1024): ResultSet {
  const data = Buffer.from(lines);
  return resultSet(columns, { encoding: 'copy-text', chunks: pieces(data, size) });
}

async function* pieces(data: Buffer, size: number): AsyncGenerator<Chunk> {
  for (let at = 0; at < data.length; at += size) {
    const piece = data.subarray(at, at + size);
    yield { data: piece, rows: piece.reduce((lines, byte) => lines + (byte === 0x0a ? 1 : 0), 0) };
  }
}

export const NUMBERS = [column('n', 'BIGINT'), column('note', 'TEXT')];

/** Rows of NUMBERS, from 1; then, if given, what `last` does. */
export function numbers(count: number, last?: () => Promise<void>): ResultSet {
  async function* chunks(): AsyncGenerator<Chunk> {
    for (let from = 1; from <= count; from += 1_000) {
      const here = Math.min(1_000, count - from + 1);
      const lines = Array.from(
        { length: here },
        (_, index) => `${from + index}\ta note for row ${from + index}\n`,
      );
      yield { data: Buffer.from(lines.join('')), rows: here };
    }
    await last?.();
  }
  return resultSet(NUMBERS, { encoding: 'copy-text', chunks: chunks() });
}

/** The tables of a database but for the bookkeeping. */
export async function tables(dsn: string): Promise<string[]> {
  const found = await execute(dsn, 'SHOW TABLES');
  return found
    .map(([name]) => name ?? '')
    .filter((name) => !/^dungbeetle_(results|staging|fences)$/.test(name))
    .toSorted();
}

/** Resolves when there is nothing but these result tables, and nothing registered. */
export async function onlyTables(dsn: string, names: readonly string[]): Promise<void> {
  let seen: unknown;
  await until(`only ${names.join(', ')} is there`, async () => {
    const left = await execute(dsn, 'SELECT token FROM dungbeetle_staging');
    seen = JSON.stringify([await tables(dsn), left]);
    return seen === JSON.stringify([names.toSorted(), []]);
  }).catch((error: unknown) => {
    throw new Error(`there is ${seen}`, { cause: error });
  });
}

export async function catalogued(
  dsn: string,
  job_id: string,
): Promise<Record<string, string | null> | undefined> {
  const names = [
    'table_name',
    'task',
    'store_id',
    'fence',
    'attempt',
    'rows',
    'bytes',
    'settled',
    'seq',
    'warnings',
  ];
  const [row] = await execute(
    dsn,
    `SELECT ${names.map((name) => `\`${name}\``).join(', ')} FROM dungbeetle_results WHERE job_id = '${job_id}'`,
  );
  return row === undefined
    ? undefined
    : Object.fromEntries(names.map((name, index) => [name, row[index] ?? null]));
}
