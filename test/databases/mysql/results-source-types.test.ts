/** With `column_types = "source"` every value of a MySQL or MariaDB source is in the result table as it is in the source. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { queryOptions, writeOptions } from '../support.ts';
import { openResults } from './results-support.ts';
import { openSource } from './source-support.ts';

const chars = (value: string) => `CAST(${value} AS CHAR)`;
const bytes = (value: string) => `HEX(${value})`;
const number = (value: string) => `CAST(${value} + 0 AS CHAR)`;

/** What the servers differ in. */
type Kind = 'mariadb' | 'mysql' | 'vectors';

interface Given {
  readonly declared: string;
  readonly values: readonly string[];
  /** What the column becomes, if not the same; `otherwise`: on a server without such a type. */
  readonly becomes?: string;
  readonly otherwise?: string;
  readonly print?: (value: string) => string;
  /** The kind of server that has it. */
  readonly on?: Kind;
}

const given = (declared: string, values: readonly string[], more: Partial<Given> = {}): Given => ({
  declared,
  values,
  ...more,
});
const LONG_TEXT = { becomes: 'longtext' };
const LONG_BLOB = { becomes: 'longblob', print: bytes };
const BITS = { becomes: 'bigint', print: number };
/** Printed, a float has six digits; in a sum it has all of its bits. */
const FLOAT = { print: (value: string) => `CAST(${value} + 0e0 AS CHAR)` };

const TYPES: readonly Given[] = [
  given('tinyint', ['-128', '127']),
  given('tinyint unsigned', ['255']),
  given('smallint', ['-32768', '32767']),
  given('smallint unsigned', ['65535']),
  given('mediumint', ['-8388608', '8388607']),
  given('mediumint unsigned', ['16777215']),
  given('int', ['-2147483648', '2147483647']),
  given('int unsigned', ['4294967295']),
  given('int(7) zerofill', ['42'], { becomes: 'int unsigned', print: number }),
  given('bigint', ['-9223372036854775808', '9223372036854775807']),
  given('bigint unsigned', ['18446744073709551615']),
  given('decimal(65,30)', [`-${'9'.repeat(35)}.${'9'.repeat(30)}`, '0']),
  given('decimal(10,2) unsigned', ['99999999.99']),
  given('decimal(38,31)', [`1234567.${'0'.repeat(30)}1`], { otherwise: 'longtext', on: 'mariadb' }),
  given('decimal(38,38)', [`0.${'0'.repeat(37)}1`], { otherwise: 'longtext', on: 'mariadb' }),
  given('decimal(65,38)', [`-${'9'.repeat(27)}.${'9'.repeat(38)}`], { otherwise: 'longtext', on: 'mariadb' }),
  given('float', ['0.1', '-1.5', '16777217', '3.4028234e38', '-3.4028234e38', '1e-45', '123456.789'], FLOAT),
  given('float unsigned', ['0.1', '33554433'], FLOAT),
  given('double', ['0.1', '1.7976931348623157e308', '5e-324']),
  given('date', ["'1000-01-01'", "'9999-12-31'"]),
  given('datetime', ["'2024-02-29 12:00:00'", "'9999-12-31 23:59:59'"]),
  given('datetime(3)', ["'2024-02-29 12:00:00.5'"]),
  given('datetime(6)', ["'0001-01-01 00:00:00.000001'"]),
  given('timestamp', ["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'"]),
  given('timestamp(6)', ["'2024-02-29 12:34:56.789012'"]),
  given('time', ["'-838:59:59'", "'00:00:00'"]),
  given('time(6)', ["'-00:00:00.000001'", "'101:02:03.4'"]),
  given('year', ['0', '1901', '2000', '2155']),
  given('bit(1)', ["b'1'"], BITS),
  given('bit(9)', ["b'100000001'"], BITS),
  given('bit(64)', ['18446744073709551615'], { becomes: 'decimal(20,0)', print: number }),
  given('char(5)', ["'é'", "''"]),
  given('varchar(20)', ["'é \\\\t'", "' '"]),
  given('varchar(1000)', ["REPEAT('é', 1000)"]),
  given('varchar(20) character set latin1', ["'äöü €'"], { becomes: 'varchar(20)' }),
  given('tinytext', ["REPEAT('é', 127)", "''"], LONG_TEXT),
  given('tinytext character set latin1', ["REPEAT('é', 255)"], LONG_TEXT),
  given('text', ["REPEAT('é', 30000)"], LONG_TEXT),
  given('text character set latin1', ["REPEAT('é', 65535)"], LONG_TEXT),
  given('mediumtext', ["REPEAT('é', 100000)"], LONG_TEXT),
  given('longtext', ["'a\\0b'"]),
  given("enum('', 'a,b', 'ü')", ["'a,b'", "'ü'", "''"], LONG_TEXT),
  given("set('a', 'b', 'ü')", ["'a,ü'", "''"], LONG_TEXT),
  given('binary(4)', ["X'00ff'"], { print: bytes }),
  given('varbinary(300)', ["REPEAT(X'ff', 300)"], { print: bytes }),
  given('tinyblob', ["REPEAT(X'ff', 255)"], { print: bytes }),
  given('blob', ["REPEAT(X'ff', 65535)"], LONG_BLOB),
  given('mediumblob', ["REPEAT(X'ff', 70000)"], { print: bytes }),
  given('longblob', ["X'00'"], { print: bytes }),
  given('json', ['\'{"a": 1, "b": [1.5, null]}\''], { otherwise: 'longtext' }),
  given('point', ['POINT(1, 2.5)'], LONG_BLOB),
  given('uuid', ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"], { ...LONG_TEXT, on: 'mariadb' }),
  given('inet6', ["'::ffff:10.0.0.1'"], { ...LONG_TEXT, on: 'mariadb' }),
  given('vector(2)', ["X'0000803F00000040'"], { ...LONG_BLOB, on: 'vectors' }),
];

/** Each kind of server with itself and with the others. */
const PAIRS = servers('mysql').flatMap((source) =>
  servers('mysql').map((backend) => [source, backend] as const),
);
const ROWS = 8;

suite('columns as in the source', { concurrency: 2 }, () => {
  for (const [source, backend] of PAIRS) {
    test(`${source.name} to ${backend.name}`, { skip: source.skip || backend.skip }, async (t) => {
      const from = await freshDatabase(t, source);
      const to = await freshDatabase(t, backend);
      const there = { source: await kindsOf(from), backend: await kindsOf(to) };
      const types = TYPES.filter(({ on }) => on === undefined || there.source.has(on));
      const declared = types.map(({ declared }, index) => `c${index} ${declared} NULL`);
      await execute(from, `CREATE TABLE t (id INT, ${declared.join(', ')})`);
      const rows = Array.from({ length: ROWS }, (_, row) => [
        row,
        ...types.map(({ values }) => values[row] ?? 'NULL'),
      ]);
      await execute(from, `INSERT INTO t VALUES ${rows.map((row) => `(${row.join(', ')})`).join(', ')}`);
      const reader = await openSource(t, from);
      const results = await openResults(t, to, { column_types: 'source' });
      await using result = await reader.query(
        'SELECT * FROM t ORDER BY id',
        [],
        queryOptions(results.accepts),
      );
      const { columns, table } = await results.write(result, writeOptions('a'));
      assert.deepEqual(
        columns.slice(1).map(({ type }) => type.toLowerCase()),
        types.map(({ declared, becomes = declared, otherwise }) =>
          otherwise === undefined || there.backend.has('mariadb') ? becomes : otherwise,
        ),
      );
      const printed = types.map(({ print = chars }, index) => print(`c${index}`)).join(', ');
      const was = await execute(from, `SELECT ${printed} FROM t ORDER BY id`);
      const is = await execute(to, `SELECT ${printed} FROM ${table} ORDER BY id`);
      for (const [index, { declared }] of types.entries()) {
        assert.deepEqual(
          is.map((row) => row[index]),
          was.map((row) => row[index]),
          declared,
        );
      }
    });
  }
});

async function kindsOf(dsn: string): Promise<ReadonlySet<Kind>> {
  const [[version = ''] = []] = await execute(dsn, 'SELECT VERSION()');
  const mariadb = /mariadb/i.test(version ?? '');
  const vectors = !mariadb && Number.parseInt(version ?? '', 10) >= 9;
  return new Set<Kind>([mariadb ? 'mariadb' : 'mysql', ...(vectors ? (['vectors'] as const) : [])]);
}
