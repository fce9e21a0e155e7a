/**
 * A value is the same however a query comes by it. The server sends some types in another form where they come from
 * an expression, so every type goes through every kind of expression, beside what the server itself prints of it.
 */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { Column, Value } from '../../../src/databases/database.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { queryOptions } from '../support.ts';
import { openSource, rowsOf } from './source-support.ts';

type Print = (value: string) => string;
const chars: Print = (value) => `CAST(${value} AS CHAR)`;
const number: Print = (value) => `CAST(${value} + 0 AS CHAR)`;
const bytes: Print = (value) => `HEX(${value})`;

/** Types, and three values of each: the third is NULL. Kinds of server that lack one refuse its table. */
const TYPES: readonly (readonly [declared: string, values: readonly [string, string], print: Print])[] = [
  ['BIT(1)', ["b'1'", "b'0'"], number],
  ['BIT(5)', ["b'11111'", "b'1001'"], number],
  ['BIT(8)', ['129', '49'], number],
  ['BIT(16)', ['12849', '60000'], number],
  ['BIT(63)', ['9223372036854775807', '5'], number],
  ['BIT(64)', ['18446744073709551615', '3544668469065756977'], number],
  ['TINYINT', ['-128', '127'], chars],
  ['TINYINT UNSIGNED', ['255', '0'], chars],
  ['SMALLINT', ['-32768', '32767'], chars],
  ['SMALLINT UNSIGNED', ['65535', '0'], chars],
  ['MEDIUMINT', ['-8388608', '8388607'], chars],
  ['MEDIUMINT UNSIGNED', ['16777215', '0'], chars],
  ['INT', ['-2147483648', '2147483647'], chars],
  ['INT(5) ZEROFILL', ['42', '99999'], number],
  ['INT UNSIGNED', ['4294967295', '0'], chars],
  ['BIGINT', ['-9223372036854775808', '9223372036854775807'], chars],
  ['BIGINT UNSIGNED', ['18446744073709551615', '0'], chars],
  ['DECIMAL(65,30)', [`-${'9'.repeat(35)}.${'9'.repeat(30)}`, '1e-30'], chars],
  ['DECIMAL(38,38)', ['0.1', '1e-38'], chars],
  ['DECIMAL(10,2)', ['-12345678.90', '0'], chars],
  ['FLOAT', ['-1.5', '0.125'], chars],
  ['DOUBLE', ['0.1', '-1.5'], chars],
  ['DATE', ["'2024-02-29'", "'9999-12-31'"], chars],
  ['DATETIME', ["'2024-02-29 12:34:56'", "'9999-12-31 23:59:59'"], chars],
  ['DATETIME(3)', ["'2024-02-29 12:34:56.7'", "'0001-01-01'"], chars],
  ['TIMESTAMP NULL', ["'2024-02-29 12:34:56'", "'1970-01-01 00:00:01'"], chars],
  ['TIMESTAMP(6) NULL', ["'2024-02-29 12:34:56.789012'", "'1970-01-01 00:00:01'"], chars],
  ['TIME', ["'-838:59:59'", "'00:00:01'"], chars],
  ['TIME(6)', ["'-00:00:00.000001'", "'101:02:03.4'"], chars],
  ['YEAR', ['2155', '1901'], chars],
  ["ENUM('', 'a,b', 'ü')", ["'a,b'", "'ü'"], chars],
  ["SET('a', 'b', 'ü')", ["'a,ü'", "''"], chars],
  ['CHAR(5)', ["'x'", "'é '"], chars],
  ['VARCHAR(20)', ["'12 '", "'😀'"], chars],
  ['VARCHAR(20) CHARACTER SET latin1', ["'äöü €'", "'49'"], chars],
  ['VARCHAR(20) CHARACTER SET utf16', ["'😀 é'", "''"], chars],
  ['TINYTEXT', ["'é'", "''"], chars],
  ['LONGTEXT', ["'é'", "'a\\0b'"], chars],
  ['BINARY(4)', ["X'00ff'", "'49'"], bytes],
  ['VARBINARY(10)', ["X'81'", "'49'"], bytes],
  ['BLOB', ["X'e28228'", "''"], bytes],
  ['JSON', ['\'{"a": 12345678901234567890, "b": [1.5]}\'', '\'"x"\''], chars],
  ['POINT', ['POINT(1, 2.5)', 'POINT(0, 0)'], bytes],
  ['GEOMETRY', ['POINT(1, 2.5)', 'LineString(POINT(0, 0), POINT(1, 1))'], bytes],
  ['VECTOR(2)', ["X'0000803F00000040'", "X'0000000000000000'"], bytes],
  ['UUID', ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'00000000-0000-0000-0000-000000000000'"], chars],
  ['INET6', ["'::ffff:10.0.0.1'", "'::'"], chars],
  ['INET4', ["'10.0.0.1'", "'255.255.255.255'"], chars],
];

/** A value of column `v` by way of an expression, and queries that give it. */
const EXPRESSIONS: Readonly<Record<string, string>> = {
  column: 'v',
  COALESCE: 'COALESCE(v, v)',
  IFNULL: 'IFNULL(v, v)',
  NVL2: 'NVL2(id, v, v)',
  NULLIF: 'NULLIF(v, NULL)',
  IF: 'IF(id > 0, v, v)',
  CASE: 'CASE id WHEN 1 THEN v ELSE v END',
  GREATEST: 'GREATEST(v, v)',
  LEAST: 'LEAST(v, v)',
  ANY_VALUE: 'ANY_VALUE(v)',
  'scalar subquery': '(SELECT s.v FROM t s WHERE s.id = t.id)',
  MAX: '(SELECT MAX(s.v) FROM t s WHERE s.id = t.id)',
  MIN: '(SELECT MIN(s.v) FROM t s WHERE s.id = t.id)',
  'user variable': '@v := v',
  parentheses: '(v)',
};

type Query = (print: Print) => string;
const selecting =
  (value: string, from: string): Query =>
  (print) =>
    `SELECT ${value}, ${print(value)} FROM ${from}`;

const QUERIES: Readonly<Record<string, Query>> = {
  ...Object.fromEntries(
    Object.entries(EXPRESSIONS).map(([name, value]) => [name, selecting(value, 't ORDER BY id')]),
  ),
  'MAX of groups': selecting('MAX(v)', 't GROUP BY id'),
  'MIN of groups, sorted': selecting('MIN(v)', 't GROUP BY id ORDER BY RAND()'),
  DISTINCT: (print) => `SELECT DISTINCT v, ${print('v')} FROM t`,
  'DISTINCT COALESCE': (print) => `SELECT DISTINCT COALESCE(v, v), ${print('COALESCE(v, v)')} FROM t`,
  'GROUP BY': (print) => `SELECT v, ${print('v')} FROM t GROUP BY v`,
  ROLLUP: (print) => `SELECT v, ${print('v')} FROM t GROUP BY v WITH ROLLUP`,
  UNION: (print) => `SELECT v, ${print('v')} FROM t UNION SELECT v, ${print('v')} FROM t`,
  'UNION ALL': (print) =>
    `SELECT v, ${print('v')} FROM t WHERE id = 1 UNION ALL SELECT v, ${print('v')} FROM t WHERE id > 1`,
  'UNION ALL of expressions': (print) =>
    `SELECT COALESCE(v, v), ${print('v')} FROM t UNION ALL SELECT v, ${print('v')} FROM t`,
  'derived table': selecting('v', '(SELECT v, id FROM t) d'),
  'derived table with LIMIT': selecting('v', '(SELECT v, id FROM t LIMIT 3) d'),
  'derived table of an expression': selecting('w', '(SELECT COALESCE(v, v) w FROM t) d'),
  'derived table of an aggregate': selecting('w', '(SELECT MAX(v) w FROM t GROUP BY id) d'),
  'expression of a derived table': selecting('IFNULL(w, w)', '(SELECT MAX(v) w FROM t GROUP BY id) d'),
  'view of a column': selecting('v', 'shown'),
  'view of an expression': selecting('w', 'shown'),
  'view of an aggregate': selecting('v', 'aggregates'),
  'aggregate of a view': selecting('MAX(w)', 'shown GROUP BY id'),
  CTE: (print) => `WITH c AS (SELECT v FROM t) SELECT v, ${print('v')} FROM c`,
  'recursive CTE': (print) =>
    `WITH RECURSIVE c AS (SELECT v, id FROM t UNION ALL SELECT v, id + 10 FROM c WHERE id < 10) SELECT v, ${print('v')} FROM c`,
  'LEFT JOIN': selecting('b.v', 't a LEFT JOIN t b ON a.id = b.id + 1'),
  FIRST_VALUE: selecting('FIRST_VALUE(v) OVER (PARTITION BY id)', 't'),
  LAG: selecting('LAG(v) OVER (ORDER BY id)', 't'),
  NTH_VALUE: selecting('NTH_VALUE(v, 1) OVER (ORDER BY id)', 't'),
  'MAX OVER': selecting('MAX(v) OVER (PARTITION BY id)', 't'),
};

/** What no value can be told of: it is refused, before anything runs. */
const REFUSED = /is a BIT that comes from an expression/;

for (const server of servers('mysql')) {
  suite(server.name, { skip: server.skip, concurrency: 2 }, () => {
    for (const [declared, values, print] of TYPES) {
      test(declared, async (t) => {
        const dsn = await freshDatabase(t, server);
        try {
          await execute(dsn, `CREATE TABLE t (id INT PRIMARY KEY, v ${declared})`);
        } catch {
          t.skip('the server has no such type');
          return;
        }
        await execute(dsn, `INSERT INTO t VALUES (1, ${values[0]}), (2, ${values[1]}), (3, NULL)`);
        await execute(dsn, 'CREATE VIEW shown AS SELECT id, v, COALESCE(v, v) AS w FROM t');
        await execute(dsn, 'CREATE VIEW aggregates AS SELECT MAX(v) AS v FROM t GROUP BY id').catch(() => {});
        const source = await openSource(t, dsn);
        const bit = declared.startsWith('BIT');
        const problems: string[] = [];
        let compared = 0;
        for (const [name, query] of Object.entries(QUERIES)) {
          // MariaDB itself gives the last group's value, not NULL, in the row of all groups.
          if (bit && name === 'ROLLUP') continue;
          const sql = query(print);
          const options = queryOptions([{ encoding: 'rows' }]);
          try {
            await source.prepare(sql, options.signal);
            const rows = await rowsOf(source, sql);
            let columns: readonly Column[] = [];
            await rowsOf(source, sql, [], { onColumns: (told) => (columns = told) });
            compared += 1;
            for (const [value = null, printed = null] of rows) {
              const text = plain(value, columns[0]);
              if (!same(text, printed))
                problems.push(`${name} (${columns[0]?.source_type}): ${text}, printed ${printed}`);
            }
          } catch (error) {
            if (!(error instanceof DatabaseError)) throw error;
            if (bit && REFUSED.test(error.message)) continue;
            const own = await execute(dsn, sql).then(
              () => null,
              (refusal: Error) => refusal,
            );
            if (own === null) problems.push(`${name}: ${error.message}`);
          }
        }
        assert.deepEqual(problems, []);
        assert.ok(compared >= (bit ? 10 : 20), `only ${compared} queries could be compared`);
      });
    }
  });
}

function plain(value: Value, column: Column | undefined): string | null {
  if (value === null) return null;
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex').toUpperCase();
  const text = String(value);
  return column?.type === 'TIMESTAMPTZ' ? text.replace(/\+00$/, '') : text;
}

/** Numbers are the same whatever zeros stand behind their last digit. */
function same(text: string | null, printed: Value): boolean {
  if (text === printed) return true;
  const digits = /^-?\d+(?:\.\d+)?$/;
  if (text === null || typeof printed !== 'string' || !digits.test(text) || !digits.test(printed))
    return false;
  const short = (number: string) => (number.includes('.') ? number.replace(/\.?0+$/, '') : number);
  return short(text) === short(printed);
}
