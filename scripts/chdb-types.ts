/**
 * `node scripts/chdb-types.ts [folder]`: shows how a current ClickHouse describes and prints its types through the queries
 * that the ClickHouse source sends, and fails where that is not what is expected. Debian's server is of 2018.
 *
 * The engine is the npm package chdb (half a gigabyte), which runs in this process: no dependency, fetched into a
 * temporary folder and removed again, or taken from `folder`, where `npm install chdb` was run before.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readAnswer } from '../src/databases/clickhouse/body.ts';
import { PINNED } from '../src/databases/clickhouse/server.ts';
import { describedColumns, wrap } from '../src/databases/clickhouse/wrapper.ts';
import type { Value } from '../src/databases/database.ts';
import { decodeRows } from '../src/databases/encodings/copy-text.ts';

interface Engine {
  query(sql: string, format: string): string;
}

/** An expression, the column type it must become, and the value. */
const CASES: readonly (readonly [sql: string, type: string, value: Value])[] = [
  ['toInt64(-9223372036854775808)', 'BIGINT', -9223372036854775808n],
  ['toUInt64(18446744073709551615)', 'DECIMAL', '18446744073709551615'],
  ["toInt128('-170141183460469231731687303715884105728')", 'DECIMAL', `${-(2n ** 127n)}`],
  [
    "toUInt256('115792089237316195423570985008687907853269984665640564039457584007913129639935')",
    'DECIMAL',
    `${2n ** 256n - 1n}`,
  ],
  ['true', 'BOOLEAN', true],
  ['CAST(NULL AS Nullable(Bool))', 'BOOLEAN', null],
  ["toDecimal128('1.5', 10)", 'DECIMAL', '1.5000000000'],
  [
    "toDecimal256('99999999999999999999999999999999999999999999999999999999999999999999.50', 3)",
    'DECIMAL',
    `${'9'.repeat(68)}.500`,
  ],
  ['toFloat32(0.1)', 'DOUBLE', 0.1],
  ['toBFloat16(1.5)', 'DOUBLE', 1.5],
  ['5e-324', 'DOUBLE', 5e-324],
  ['nan', 'DOUBLE', Number.NaN],
  ['CAST(-inf AS Nullable(Float64))', 'DOUBLE', Number.NEGATIVE_INFINITY],
  ['CAST(NULL AS Nullable(Float32))', 'DOUBLE', null],
  ['toDate(0)', 'DATE', '1970-01-01'],
  ["toDate32('1900-01-01')", 'DATE', '1900-01-01'],
  ["toDateTime(1729990800, 'Europe/Berlin')", 'TIMESTAMPTZ', '2024-10-27 01:00:00+00'],
  ["toDateTime64('2024-10-27 01:00:00.123456', 6, 'UTC')", 'TIMESTAMPTZ', '2024-10-27 01:00:00.123456+00'],
  ["toDateTime64('1900-01-01 00:00:00', 0, 'UTC')", 'TIMESTAMPTZ', '1900-01-01 00:00:00+00'],
  ["toDateTime64('2024-10-27 01:00:00.123456789', 9, 'UTC')", 'TEXT', '2024-10-27 01:00:00.123456789'],
  ["'\\t\\n\\0\\\\it\\'s \\\\N'", 'TEXT', "\t\n\0\\it's \\N"],
  ["toFixedString('ab', 4)", 'TEXT', 'ab\0\0'],
  ["CAST('x' AS LowCardinality(Nullable(String)))", 'TEXT', 'x'],
  ["CAST('a' AS Enum8('a' = 1))", 'TEXT', 'a'],
  ["toIPv6('::1')", 'TEXT', '::1'],
  ["['a', 'it\\'s', 'b\\tc']", 'TEXT', "['a','it\\'s','b\\tc']"],
  ["CAST(('x', 1) AS Tuple(a String, b UInt8))", 'TEXT', "('x',1)"],
  ["map('k', [1, NULL])", 'TEXT', "{'k':[1,NULL]}"],
  ['CAST(\'{"a":1,"b":12345678901234567890}\' AS JSON)', 'JSON', '{"a":1,"b":12345678901234567890}'],
  ['CAST(1 AS Variant(UInt8, String))', 'TEXT', '1'],
  ["CAST('x' AS Dynamic)", 'TEXT', 'x'],
  ['CAST((1, 2) AS Point)', 'TEXT', '(1,2)'],
  ['CAST(1 AS SimpleAggregateFunction(sum, Float64))', 'DOUBLE', 1],
  ['toIntervalDay(3)', 'TEXT', '3'],
  ['NULL', 'TEXT', null],
];
const EXPERIMENTAL = { allow_suspicious_low_cardinality_types: '1' };

function settingsClause(settings: Readonly<Record<string, string>>): string {
  const literal = (text: string) => (/^\d+$/.test(text) ? text : quoted(text));
  const quoted = (text: string) => `'${text.replace(/[\\'\n\t]/g, (found) => ESCAPES[found] ?? found)}'`;
  return `SETTINGS ${Object.entries(settings)
    .map(([name, value]) => `${name} = ${literal(value)}`)
    .join(', ')}`;
}
const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', "'": "\\'", '\n': '\\n', '\t': '\\t' };

/** The pinned settings that the engine has; chdb serves no HTTP. */
function pinned(engine: Engine): Readonly<Record<string, string>> {
  const known = new Set(engine.query('SELECT name FROM system.settings', 'TabSeparated').split('\n'));
  const entries = Object.entries(PINNED).filter(([name]) => known.has(name));
  return { ...Object.fromEntries(entries), ...EXPERIMENTAL };
}

async function rowsOf(engine: Engine, query: string, settings: Readonly<Record<string, string>>) {
  const described = engine.query(`DESCRIBE (${query}) ${settingsClause(settings)}`, 'TabSeparated');
  const columns = describedColumns(Buffer.from(described), false);
  const wrapped = wrap(query, columns, 'endofanswer', { old: false, join_use_nulls: false });
  const sql = wrapped.sql.replace(/ FORMAT CustomSeparated$/, '');
  const answer = engine.query(
    `${sql} ${settingsClause({ ...settings, ...wrapped.settings })}`,
    'CustomSeparated',
  );
  async function* whole() {
    yield Buffer.from(answer);
  }
  const rows: (readonly Value[])[] = [];
  const chunks = readAnswer(whole(), wrapped.ending);
  for await (const batch of decodeRows(
    chunks,
    columns.map(({ column }) => column),
  ))
    for (const row of batch) rows.push(row);
  return { columns: columns.map(({ column }) => column), rows };
}

async function main(engine: Engine): Promise<number> {
  console.log(`ClickHouse ${engine.query('SELECT version()', 'TabSeparated').trim()}`);
  const settings = pinned(engine);
  let wrong = 0;
  for (const [sql, type, value] of CASES) {
    const { columns, rows } = await rowsOf(engine, `SELECT ${sql} AS x`, settings);
    const [column] = columns;
    const right = column?.type === type && rows.length === 1 && Object.is(rows[0]?.[0], value);
    if (!right) wrong += 1;
    console.log(right ? 'ok   ' : 'WRONG', column?.source_type, '→', column?.type, rows[0]?.[0]);
  }
  const ordered = await rowsOf(
    engine,
    'SELECT cityHash64(number) AS x FROM numbers_mt(1000000) ORDER BY x',
    settings,
  );
  const inOrder = ordered.rows.every(
    ([x], index) => index === 0 || BigInt(String(x)) >= BigInt(String(ordered.rows[index - 1]?.[0])),
  );
  console.log(inOrder ? 'ok   ' : 'WRONG', `the order of ${ordered.rows.length} rows`);
  return wrong + (inOrder ? 0 : 1);
}

const [given] = process.argv.slice(2);
const folder = given ?? mkdtempSync(join(tmpdir(), 'dungbeetle-chdb-'));
try {
  if (given === undefined) {
    execFileSync('npm', ['install', '--prefix', folder, '--no-save', 'chdb'], { stdio: 'inherit' });
  }
  const engine: Engine = createRequire(join(folder, 'package.json'))('chdb');
  process.exitCode = (await main(engine)) === 0 ? 0 : 1;
} finally {
  if (given === undefined) rmSync(folder, { recursive: true, force: true });
}
