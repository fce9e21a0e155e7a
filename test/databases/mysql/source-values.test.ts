/** Every value arrives as the server itself prints it. */
import assert from 'node:assert/strict';
import { suite, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import type { Argument, Column, Value } from '../../../src/databases/database.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { shortest } from '../../../src/databases/mysql/source-rows.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { queryOptions } from '../support.ts';
import { chunksOf, isMariadb, openSource, rowsOf, withVariable } from './source-support.ts';

/** Types as a table declares them, with values at their edges: as SQL, or null where the server's default is meant. */
const TYPES: readonly (readonly [
  declared: string,
  type: string,
  named: string,
  values: readonly string[],
])[] = [
  ['TINYINT', 'BIGINT', 'tinyint', ['-128', '127', '0']],
  ['BOOLEAN', 'BIGINT', 'tinyint(1)', ['TRUE', 'FALSE', '-128', '127']],
  ['TINYINT UNSIGNED', 'BIGINT', 'tinyint unsigned', ['255']],
  ['SMALLINT', 'BIGINT', 'smallint', ['-32768', '32767']],
  ['SMALLINT UNSIGNED', 'BIGINT', 'smallint unsigned', ['65535']],
  ['MEDIUMINT', 'BIGINT', 'mediumint', ['-8388608', '8388607']],
  ['MEDIUMINT UNSIGNED', 'BIGINT', 'mediumint unsigned', ['16777215']],
  ['INT', 'BIGINT', 'int', ['-2147483648', '2147483647']],
  ['INT UNSIGNED', 'BIGINT', 'int unsigned', ['4294967295']],
  [
    'BIGINT',
    'BIGINT',
    'bigint',
    ['-9223372036854775808', '9223372036854775807', '9007199254740993', '-9007199254740993', '0', '-1'],
  ],
  ['BIGINT UNSIGNED', 'DECIMAL', 'bigint unsigned', ['18446744073709551615', '0', '9007199254740993']],
  ['DECIMAL(65,30)', 'DECIMAL', 'decimal(65,30)', [`-${'9'.repeat(35)}.${'9'.repeat(30)}`, '0', '1e-30']],
  ['DECIMAL(65,0)', 'DECIMAL', 'decimal(65,0)', ['9'.repeat(65), `-${'1'.repeat(64)}`]],
  ['DECIMAL(30,30)', 'DECIMAL', 'decimal(30,30)', ['-0.000000000000000000000000000001', '0.5']],
  ['DECIMAL(5,2) UNSIGNED', 'DECIMAL', 'decimal(5,2) unsigned', ['999.99', '0']],
  ['DATE', 'DATE', 'date', ["'1000-01-01'", "'9999-12-31'", "'2024-02-29'", "'0001-01-01'"]],
  ['DATETIME', 'TIMESTAMP', 'datetime', ["'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'"]],
  [
    'DATETIME(6)',
    'TIMESTAMP',
    'datetime(6)',
    ["'9999-12-31 23:59:59.999999'", "'2024-01-01'", "'1714-01-01 00:00:00.000001'"],
  ],
  ['DATETIME(3)', 'TIMESTAMP', 'datetime(3)', ["'2024-02-29 12:00:00.5'", "'2024-02-29 12:00:00'"]],
  ['TIME', 'TEXT', 'time', ["'838:59:59'", "'-838:59:59'", "'00:00:00'", "'-00:00:01'", "'24:00:00'"]],
  ['TIME(6)', 'TEXT', 'time(6)', ["'-838:59:58.999999'", "'00:00:00'", "'00:00:00.000001'"]],
  ['TIME(2)', 'TEXT', 'time(2)', ["'01:02:03.45'", "'100:00:00'"]],
  ['YEAR', 'BIGINT', 'year', ['1901', '2155']],
  ['CHAR(5)', 'TEXT', 'char(5)', ["'x'", "''"]],
  [
    'VARCHAR(20)',
    'TEXT',
    'varchar(20)',
    ["'tab\\tnew\\nline'", "'\\\\N'", "'\\\\.'", "' x '", "'😀 ﷽ é'", "'a\\0b'"],
  ],
  ['VARCHAR(20) CHARACTER SET latin1', 'TEXT', 'varchar(20)', ["'äöü €'"]],
  ['VARCHAR(20) CHARACTER SET utf16', 'TEXT', 'varchar(20)', ["'😀 é'"]],
  ['TINYTEXT', 'TEXT', 'tinytext', ["'x'"]],
  ['TEXT', 'TEXT', 'text', ["'y'", "REPEAT('é', 30000)"]],
  ['MEDIUMTEXT', 'TEXT', 'mediumtext', ["REPEAT('z\\n', 100000)"]],
  ['LONGTEXT', 'TEXT', 'longtext', ["''"]],
  ["ENUM('', 'a,b', 'ü')", 'TEXT', 'enum', ["'a,b'", "'ü'", "''"]],
  ["SET('a', 'b', 'ü')", 'TEXT', 'set', ["'a,ü'", "''"]],
  ['JSON', 'JSON', 'json', ['\'{"a": 12345678901234567890.10, "a":  2}\'', "'null'", "'[]'"]],
];

const MARIADB_TYPES: typeof TYPES = [
  ['UUID', 'TEXT', 'uuid', ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]],
  ['INET6', 'TEXT', 'inet6', ["'::ffff:10.0.0.1'", "'::'"]],
];

/** Those whose text is no proof, and what is. */
const BY_BYTES: readonly (readonly [declared: string, named: string, values: readonly string[]])[] = [
  ['BINARY(4)', 'binary(4)', ["X'00ff'", "'ab'"]],
  ['VARBINARY(10)', 'varbinary(10)', ["X'00ff5c0a09'", "''"]],
  ['TINYBLOB', 'tinyblob', ["X'00'"]],
  ['BLOB', 'blob', ['CHAR(0, 1, 2, 255, 128)']],
  ['MEDIUMBLOB', 'mediumblob', ["REPEAT(X'5c0900ff', 50000)"]],
  ['LONGBLOB', 'longblob', ["X'e28228'"]],
  ['POINT', 'point', ['POINT(1, 2.5)']],
];

for (const server of servers('mysql')) {
  suite(server.name, { skip: server.skip, concurrency: 2 }, () => {
    const tableOf = async (dsn: string, declared: string, values: readonly string[]) => {
      await execute(dsn, `CREATE TABLE t (id INT PRIMARY KEY, v ${declared} NULL)`);
      const rows = [...values, 'NULL'].map((value, index) => `(${index}, ${value})`);
      await execute(dsn, `INSERT INTO t VALUES ${rows.join(', ')}`);
    };

    for (const [declared, type, named, values] of isMariadb(server) ? [...TYPES, ...MARIADB_TYPES] : TYPES) {
      test(declared, async (t) => {
        const dsn = await freshDatabase(t, server);
        await tableOf(dsn, declared, values);
        const source = await openSource(t, dsn);
        const sql = 'SELECT v FROM t ORDER BY id';
        const printed = await execute(dsn, 'SELECT CAST(v AS CHAR) FROM t ORDER BY id');
        assert.deepEqual(
          (await rowsOf(source, sql)).map(([value]) => printable(value)),
          printed.flat(),
        );
        const [column] = await columnsOf(t, dsn, sql);
        assert.equal(column?.type, type);
        assert.equal(column?.source_type, named);
        assert.equal(column?.name, 'v');
      });
    }

    for (const [declared, named, values] of BY_BYTES) {
      test(declared, async (t) => {
        const dsn = await freshDatabase(t, server);
        await tableOf(dsn, declared, values);
        const source = await openSource(t, dsn);
        const sql = 'SELECT v FROM t ORDER BY id';
        const printed = await execute(dsn, 'SELECT HEX(v) FROM t ORDER BY id');
        const given = (await rowsOf(source, sql)).map(([value]) => hex(value ?? null));
        assert.deepEqual(given, printed.flat());
        const [column] = await columnsOf(t, dsn, sql);
        assert.equal(column?.type, 'BYTES');
        // MySQL does not tell which geometry it is.
        assert.equal(column?.source_type, named === 'point' && !isMariadb(server) ? 'geometry' : named);
      });
    }

    test('BIT: a number, of 64 bits a DECIMAL', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(dsn, 'CREATE TABLE t (a BIT(1), b BIT(9), c BIT(63), d BIT(64))');
      const ones = (count: number) => `b'${'1'.repeat(count)}'`;
      await execute(dsn, `INSERT INTO t VALUES (b'1', b'100000001', ${ones(63)}, ${ones(64)}), (0, 0, 0, 0)`);
      const source = await openSource(t, dsn);
      assert.deepEqual(await rowsOf(source, 'SELECT * FROM t'), [
        [1n, 257n, 2n ** 63n - 1n, '18446744073709551615'],
        [0n, 0n, 0n, '0'],
      ]);
      const columns = await columnsOf(t, dsn, 'SELECT * FROM t');
      assert.deepEqual(
        columns.map(({ source_type }) => source_type),
        ['bit(1)', 'bit(9)', 'bit(63)', 'bit(64)'],
      );
    });

    test('floats: the shortest digits of 32 bits, all of 64', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(dsn, 'CREATE TABLE t (f FLOAT, d DOUBLE)');
      const doubles = [
        0.1, 1e22, 5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, 123456789.12345679,
      ];
      const floats = [0.1, 16777217, 3.4028234e38, 1e-45, 1.17549435e-38, -1.5];
      for (const [index, double] of doubles.entries()) {
        await execute(dsn, `INSERT INTO t VALUES (${floats[index]}, ${double})`);
      }
      const source = await openSource(t, dsn);
      const rows = await rowsOf(source, 'SELECT f, d FROM t');
      assert.deepEqual(
        rows.map(([, double]) => double),
        doubles,
      );
      assert.deepEqual(
        rows.map(([float]) => float),
        [0.1, 16777216, 3.4028235e38, 1e-45, 1.1754944e-38, -1.5],
      );
    });

    test('random values of every kind', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(
        dsn,
        `CREATE TABLE t (id INT, i BIGINT, u BIGINT UNSIGNED, n DECIMAL(50,20), d DOUBLE, t DATETIME(6), h TIME(6),
          s LONGTEXT, b LONGBLOB)`,
      );
      const source = await openSource(t, dsn);
      const row = fc.tuple(
        nullable(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
        nullable(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
        nullable(
          fc
            .tuple(
              fc.bigInt({ min: -(10n ** 30n) + 1n, max: 10n ** 30n - 1n }),
              fc.stringMatching(/^\d{20}$/),
            )
            .map(([whole, fraction]) => `${whole}.${fraction}`),
        ),
        // A literal of the server's has no zero below zero.
        nullable(fc.double({ noDefaultInfinity: true, noNaN: true }).map((double) => double + 0)),
        nullable(
          fc
            .tuple(
              fc.date({
                min: new Date('0001-01-01T00:00Z'),
                max: new Date('9999-12-31T23:59:59Z'),
                noInvalidDate: true,
              }),
              fc.integer({ min: 0, max: 999 }),
            )
            .map(([date, micros]) =>
              date.toISOString().replace('T', ' ').replace('Z', String(micros).padStart(3, '0')),
            ),
        ),
        nullable(
          fc
            .tuple(fc.constantFrom('', '-'), fc.nat(838), fc.nat(59), fc.nat(59), fc.nat(999_999))
            .map(([sign, h, m, s, us]) => `${sign}${h}:${m}:${s}.${String(us).padStart(6, '0')}`),
        ),
        nullable(
          fc.string({ unit: 'binary', maxLength: 300 }).map((text) => Buffer.from(text.toWellFormed())),
        ),
        nullable(fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes))),
      );
      await fc.assert(
        fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 60 }), async (rows) => {
          const tuples = rows.map((values, id) => {
            const [i, u, n, d, ...rest] = values;
            const texts = rest.map((value) => (Buffer.isBuffer(value) ? blob(value) : quoted(value)));
            return `(${[id, i, u, n, d === null ? null : `${d}e0`.replace(/(e[^e]*)e0$/, '$1'), ...texts].join(', ')})`;
          });
          await execute(dsn, 'TRUNCATE t');
          await execute(
            dsn,
            `INSERT INTO t VALUES ${tuples.map((tuple) => tuple.replaceAll(/(?<=[(,] ?)(?=[,)])/g, 'NULL')).join(', ')}`,
          );
          const order = 'FROM t ORDER BY id';
          const printed = await execute(
            dsn,
            `SELECT CAST(i AS CHAR), CAST(u AS CHAR), CAST(n AS CHAR), CAST(t AS CHAR), CAST(h AS CHAR), HEX(s), HEX(b) ${order}`,
          );
          const given = await rowsOf(source, `SELECT i, u, n, t, h, s, b, d ${order}`);
          assert.deepEqual(
            given.map(([i, u, n, at, h, s, b]) => [
              ...[i, u, n, at, h].map(printable),
              hex(s ?? null),
              hex(b ?? null),
            ]),
            printed,
          );
          // Exact where the server's own text is not: what it was given.
          assert.deepEqual(
            given.map((values) => values[7]),
            rows.map(([, , , double]) => double),
          );
        }),
        { numRuns: 12 },
      );
    });

    test('dates that are none become NULL and are counted; impossible ones are an error', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(dsn, 'CREATE TABLE t (d DATE, dt DATETIME(6), ts TIMESTAMP NULL)');
      const loosely = (sql: string) => withVariable(server, 'sql_mode', 'ALLOW_INVALID_DATES', sql);
      await execute(
        dsn,
        loosely(`INSERT INTO t VALUES
        ('0000-00-00', '0000-00-00 00:00:00', '0000-00-00 00:00:00'), ('2024-00-00', '2024-01-00 10:00:00', NULL),
        ('2024-01-01', '0000-01-01 10:00:00.5', '2024-01-01 00:00:00'), (NULL, NULL, NULL)`),
      );
      const source = await openSource(t, dsn);
      await using result = await source.query(
        'SELECT * FROM t',
        [],
        queryOptions([{ encoding: 'copy-text' }]),
      );
      const { data, rows } = await chunksOf(result);
      assert.equal(rows, 4);
      assert.equal(
        data.toString(),
        '\\N\t\\N\t\\N\n\\N\t\\N\t\\N\n2024-01-01\t\\N\t2024-01-01 00:00:00+00\n\\N\t\\N\t\\N\n',
      );
      const none = 'dates that are none (0000-00-00 or in part zero) became NULL';
      assert.deepEqual(result.warnings?.(), [
        `column "d": 2 ${none}`,
        `column "dt": 3 ${none}`,
        `column "ts": 1 ${none.replace('dates that are', 'date that is')}`,
      ]);
      await execute(dsn, loosely("INSERT INTO t (d) VALUES ('2024-02-31')"));
      await assert.rejects(rowsOf(source, 'SELECT d AS due FROM t'), (error) => {
        assert.ok(error instanceof DatabaseError);
        assert.equal(error.code, 'query_failed');
        assert.equal(error.transient, false);
        assert.match(error.message, /^db "app": column "due", row 5: a date that no calendar has/);
        return true;
      });
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    });

    test('a TIMESTAMP is a point in time where the zone is known, else what its clock shows', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(dsn, 'CREATE TABLE t (ts TIMESTAMP(6) NULL)');
      await execute(
        dsn,
        withVariable(
          server,
          'time_zone',
          '+00:00',
          "INSERT INTO t VALUES ('2024-02-29 23:45:00.123456'), ('1970-01-01 00:00:01')",
        ),
      );
      const inZone = async (zone: string, sql = 'SELECT ts FROM t') => {
        const url = new URL(dsn);
        if (zone !== '') url.searchParams.set('time_zone', `'${zone}'`);
        const [column] = await columnsOf(t, url.href, sql);
        return [column?.type, ...(await rowsOf(await openSource(t, url.href), sql)).flat()];
      };
      const points = ['TIMESTAMPTZ', '2024-02-29 23:45:00.123456+00', '1970-01-01 00:00:01.000000+00'];
      for (const zone of ['', '+00:00', '+05:30', '-11:30', '+13:00'])
        assert.deepEqual(await inZone(zone), points, zone);
      // The session's zone is as the DSN wants it for all else, too.
      assert.deepEqual(
        await inZone('+05:30', "SELECT CAST(FROM_UNIXTIME(60) AS DATETIME), CAST('x' AS CHAR)"),
        ['TIMESTAMP', '1970-01-01 05:31:00', 'x'],
      );
      assert.deepEqual(await inZone('', withVariable(server, 'time_zone', '+01:00', 'SELECT ts FROM t')), [
        'TIMESTAMP',
        '2024-03-01 00:45:00.123456',
        '1970-01-01 01:00:01.000000',
      ]);
      await execute(
        dsn,
        "CREATE FUNCTION moves() RETURNS INT DETERMINISTIC BEGIN SET SESSION time_zone = '+02:00'; RETURN 1; END",
      );
      await assert.rejects(
        inZone('', 'SELECT ts, moves() FROM t'),
        /^DatabaseError: db "app": .*changed the time zone/,
      );
      assert.deepEqual(await inZone(''), points);
    });

    test('values of 20 MB, and rows of many of them', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      const textOf = async (sql: string, args: readonly Argument[] = []) => {
        await using result = await source.query(sql, args, queryOptions([{ encoding: 'copy-text' }]));
        return (await chunksOf(result)).data;
      };
      const size = 20 * 2 ** 20;
      const text = await textOf(`SELECT 1, REPEAT('x', ${size}), X'00', 2`);
      assert.ok(text.equals(Buffer.from(`1\t${'x'.repeat(size)}\t\\\\x00\t2\n`)));
      // Packets that are exactly full have an empty one behind them.
      for (const length of [2 ** 24 - 7, 2 ** 24 - 6, 2 ** 24 - 5]) {
        const filled = await textOf(`SELECT REPEAT('y', ${length})`);
        assert.ok(filled.equals(Buffer.from(`${'y'.repeat(length)}\n`)));
      }
      const echoed = await textOf('SELECT ?', ['z'.repeat(2 ** 24)]);
      assert.ok(echoed.equals(Buffer.from(`${'z'.repeat(2 ** 24)}\n`)));
    });

    test('columns: none by any name lost, up to 1,000 and more', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn);
      const names = ['a', 'a', 'A', ';drop', '`', '"x"', "'", 'ü', 'n'.repeat(200)];
      const sql = `SELECT '' AS \`\`, ${names.map((name, index) => `${index} AS \`${name.replaceAll('`', '``')}\``).join(', ')}`;
      const told: (readonly Column[])[] = [];
      await using result = await source.query(
        sql,
        [],
        queryOptions([{ encoding: 'rows' }], { onColumns: (columns) => told.push(columns) }),
      );
      assert.deepEqual(
        result.columns.map(({ name }) => name),
        ['', ...names],
      );
      assert.deepEqual(told, [result.columns]);
      const wide = Array.from({ length: 1_500 }, (_, index) => (index % 7 === 3 ? 'NULL' : String(index)));
      const [row] = await rowsOf(
        source,
        `SELECT ${wide.map((value, index) => `${value} AS c${index}`).join(', ')}`,
      );
      assert.deepEqual(
        row?.map((value) => (value === null ? 'NULL' : String(value))),
        wide,
      );
      assert.deepEqual(await rowsOf(source, 'SELECT 1 FROM DUAL WHERE FALSE'), []);
    });

    test('all encodings hold the same rows', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn);
      const sql = `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
        SELECT a.i * 1000 + b.i AS id, REPEAT('tab\\t', a.i % 5) AS s, NULLIF(b.i % 3, 0) AS n
        FROM n a, n b WHERE a.i <= 50 ORDER BY 1`;
      const expected = await rowsOf(source, sql);
      assert.equal(expected.length, 50_000);
      for (const encoding of ['copy-text', 'pg-binary'] as const) {
        const accept = encoding === 'copy-text' ? { encoding } : { encoding, types: 'standard' as const };
        await using result = await source.query(sql, [], queryOptions([{ encoding: 'rows' }, accept]));
        assert.equal(result.body.encoding, encoding);
        assert.equal((await chunksOf(result)).rows, expected.length);
      }
    });
  });
}

async function columnsOf(t: TestContext, dsn: string, sql: string): Promise<readonly Column[]> {
  const source = await openSource(t, dsn, 1);
  const options = queryOptions([{ encoding: 'rows' }]);
  await using result = await source.query(sql, [], options);
  const prepared = await source.prepare(sql, options.signal);
  assert.deepEqual(
    prepared.columns.map(({ name, type }) => [name, type]),
    result.columns.map(({ name, type }) => [name, type]),
  );
  return result.columns;
}

function printable(value: Value | undefined): string | null {
  return value === null || value === undefined ? null : String(value);
}

function hex(value: Value): string | null {
  if (value === null) return null;
  const bytes = typeof value === 'string' ? Buffer.from(value) : Buffer.from(value as Uint8Array);
  return bytes.toString('hex').toUpperCase();
}

function nullable<T>(values: fc.Arbitrary<T>): fc.Arbitrary<T | null> {
  return fc.option(values, { freq: 8 });
}

function quoted(value: unknown): string {
  return value === null ? 'NULL' : `'${String(value)}'`;
}

function blob(value: Buffer): string {
  return `X'${value.toString('hex')}'`;
}

test('a float has the fewest digits that tell it from its neighbours', () => {
  fc.assert(
    fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (float) => {
      const value = shortest(float);
      assert.equal(Math.fround(value), float);
      const digits = value.toExponential().replace(/e.*|[-.]/g, '').length;
      if (digits > 1) assert.notEqual(Math.fround(Number(float.toPrecision(digits - 1))), float);
    }),
    { numRuns: 2_000 },
  );
});
