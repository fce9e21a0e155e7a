/** Values arrive as they left, whatever they are and wherever they come from. */
import assert from 'node:assert/strict';
import { isUtf8 } from 'node:buffer';
import type { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Column, Value } from '../../src/databases/database.ts';
import { DatabaseError } from '../../src/databases/errors.ts';
import { type Encoding, openBench, report, rowsOf, writeOptions } from './support.ts';

/** Values as SQL literals, so that nothing stands between the test and SQLite. */
const literal = fc.oneof(
  fc.constant('NULL'),
  fc.bigInt({ min: -(2n ** 63n) + 1n, max: 2n ** 63n - 1n }).map(String),
  fc.integer({ min: -3, max: 3 }).map(String),
  fc.constantFrom('1.0', '-0.0', '9e999', '-9e999', '0.1', '1e19', '9007199254740993.0', '4.9e-324', '1.5'),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value.toExponential()),
  fc.constantFrom(
    "''",
    "'007'",
    "'1.0'",
    "' 12 '",
    "'1e5'",
    "'0x10'",
    "'abc'",
    "'2024'",
    "'2024-02-30'",
    "'Infinity'",
  ),
  fc.constantFrom(
    "'a' || char(0) || 'b'",
    'char(0)',
    'char(65533)',
    "'\u{1f600}'",
    "'9223372036854775808'",
    "'+5'",
  ),
  fc
    .string({ unit: 'grapheme', maxLength: 8 })
    .map((text) => `'${text.replaceAll("'", "''").replaceAll('\0', '')}'`),
  fc.uint8Array({ maxLength: 6 }).map((bytes) => `x'${Buffer.from(bytes).toString('hex')}'`),
);
const declared = fc.constantFrom(
  ...['', 'INTEGER', 'BIGINT', 'TEXT', 'VARCHAR(10)', 'REAL', 'DOUBLE PRECISION', 'DECIMAL(10,2)', 'NUMERIC'],
  ...[
    'DATE',
    'DATETIME',
    'TIMESTAMP',
    'BOOLEAN',
    'JSON',
    'BLOB',
    'STRING',
    'ANY',
    'FLOATING POINT',
    'CLOB',
    'XML',
  ],
);
/** Queries over tables t and u, both (a, b, c), and views over them. */
const query = fc.constantFrom(
  'SELECT * FROM t',
  'SELECT c, a, b, a FROM t ORDER BY rowid DESC',
  'SELECT * FROM t UNION ALL SELECT * FROM u',
  'SELECT a FROM t UNION SELECT b FROM u',
  'SELECT * FROM (SELECT a, b FROM t UNION ALL SELECT b, c FROM u)',
  'SELECT * FROM plain_view',
  'SELECT * FROM union_view',
  'SELECT * FROM view_of_union_view',
  'SELECT a || b, a + b, -a, coalesce(a, b), CAST(a AS TEXT), CAST(b AS REAL), min(a, b) FROM t',
  'SELECT min(a), max(b), sum(c), total(a), group_concat(b), count(*) FROM t',
  'SELECT t.*, u.* FROM t LEFT JOIN u ON t.rowid = u.rowid + 1',
  'SELECT a, b, c FROM t FULL JOIN u USING (a, b, c)',
  'SELECT * FROM t NATURAL JOIN u',
  'SELECT a, (SELECT b FROM u WHERE u.rowid = t.rowid), max(c) FROM t GROUP BY a',
  'WITH m AS MATERIALIZED (SELECT * FROM t) SELECT m.*, u.a FROM m, u ORDER BY m.a, u.b',
  'SELECT a, lag(b) OVER (ORDER BY a), first_value(c) OVER (ORDER BY b) FROM t',
  'SELECT DISTINCT a, b FROM t -- and a comment',
  'SELECT a, b FROM t GROUP BY b, a',
  "VALUES (1, 2.0), (3.0, '4')",
  'SELECT iif(a, b, c), t.rowid, quote(a) FROM t INDEXED BY by_a WHERE a IS NOT NULL',
  'SELECT b FROM t INDEXED BY by_b WHERE b IS NOT NULL ORDER BY b',
  'SELECT g, v FROM generated',
  'SELECT NULL AS n, * FROM t WHERE 0',
  'SELECT * FROM strict_table',
);

/** Storage class and bits of every value, in order. */
function read(db: DatabaseSync, sql: string, width: number): string[][] {
  const names = Array.from({ length: width }, (_, index) => `c${index}`);
  const parts = names.map(
    // %!.26e tells any two doubles apart, but for the zeros; a blob's and a text's bytes count.
    (name) =>
      `typeof(${name}) || ' ' || CASE typeof(${name}) WHEN 'real' THEN sign_of(${name}) || printf('%!.26e', ${name}) WHEN 'null' THEN '' ELSE hex(${name}) END`,
  );
  db.function('sign_of', (value) => (Object.is(value, -0) ? '-' : ''));
  const rows = db.prepare(`WITH q(${names}) AS (${sql}\n) SELECT ${parts.join(', ')} FROM q`);
  rows.setReturnArrays(true);
  return rows.all() as unknown as string[][];
}

function holdsInvalidText(row: readonly string[]): boolean {
  return row.some((value) => value.startsWith('text ') && !isUtf8(Buffer.from(value.slice(5), 'hex')));
}

for (const encoding of ['sqlite-file', 'rows'] as const satisfies Encoding[]) {
  test(`random values of random types through random queries, by ${encoding}`, async (t) => {
    const bench = await openBench(t);
    const reader = await openedReader(bench);
    let runs = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(declared, { minLength: 6, maxLength: 6 }),
        fc.array(fc.tuple(literal, literal, literal), { maxLength: 6 }),
        fc.array(fc.tuple(literal, literal, literal), { maxLength: 6 }),
        query,
        async (types, t_rows, u_rows, sql) => {
          bench.ledger.exec(schema(types, t_rows, u_rows));
          const job_id = `run_${++runs}`;
          const width = bench.ledger.prepare(sql).columns().length;
          let before: string[][];
          try {
            before = read(bench.ledger, sql, width);
          } catch (error) {
            // An integer overflow, say: then that is what the report says, too.
            assert.ok(error instanceof Error);
            await assert.rejects(report(bench, job_id, sql, { encoding }), {
              code: 'query_failed',
              message: `db "ledger": ${error.message}`,
            });
            return;
          }
          if (encoding === 'rows' && before.some(holdsInvalidText)) {
            await assert.rejects(report(bench, job_id, sql, { encoding }), /not UTF-8/);
            return;
          }
          const { table, columns, rows } = await report(bench, job_id, sql, { encoding });
          assert.equal(columns.length, width);
          const after = read(reader, `SELECT * FROM "${table}" ORDER BY rowid`, width);
          // Without ORDER BY, or among equals, any order is right.
          const exact = sql.includes('ORDER BY rowid');
          assert.deepEqual(
            exact ? after : sorted(after),
            exact ? before : sorted(before),
            `${sql} with ${types}`,
          );
          assert.equal(rows, before.length);
          await bench.results.drop(job_id);
        },
      ),
      { numRuns: Number(process.env['RUNS'] ?? 120) },
    );
  });
}

function sorted(rows: readonly unknown[]): string[] {
  return rows.map((row) => JSON.stringify(row)).toSorted();
}

async function openedReader(bench: Awaited<ReturnType<typeof openBench>>): Promise<DatabaseSync> {
  await bench.results.ping(AbortSignal.timeout(60_000));
  return bench.reader();
}

function schema(types: readonly string[], t: readonly string[][], u: readonly string[][]): string {
  const values = (rows: readonly string[][]) => rows.map((row) => `(${row.join(', ')})`).join(', ');
  const insert = (table: string, rows: readonly string[][]) =>
    rows.length === 0 ? '' : `INSERT INTO ${table}(a, b, c) VALUES ${values(rows)};`;
  return `
    DROP VIEW IF EXISTS plain_view; DROP VIEW IF EXISTS union_view; DROP VIEW IF EXISTS view_of_union_view;
    DROP TABLE IF EXISTS t; DROP TABLE IF EXISTS u; DROP TABLE IF EXISTS generated; DROP TABLE IF EXISTS strict_table;
    CREATE TABLE t(a ${types[0]}, b ${types[1]}, c ${types[2]});
    CREATE TABLE u(a ${types[3]}, b ${types[4]}, c ${types[5]});
    CREATE INDEX by_a ON t(a); CREATE INDEX by_b ON t(b);
    CREATE VIEW plain_view AS SELECT b AS x, a AS y FROM t;
    CREATE VIEW union_view AS SELECT a, b FROM t union SELECT c, a FROM u;
    CREATE VIEW view_of_union_view AS SELECT * FROM union_view;
    ${insert('t', t)} ${insert('u', u)}
    CREATE TABLE generated(a, g ${types[0]} AS (a || '') STORED, v ${types[3]} AS (a) VIRTUAL);
    INSERT INTO generated(a) SELECT a FROM t;
    CREATE TABLE strict_table(a ANY, b TEXT, c BLOB) STRICT;
    INSERT INTO strict_table SELECT a, hex(b), CAST(c AS BLOB) FROM u;
  `;
}

test('both encodings make the same table', async (t) => {
  const bench = await openBench(t, {
    schema: `
      CREATE TABLE t(id INTEGER PRIMARY KEY, name VARCHAR(20), amount DECIMAL(10,2), f REAL, d DATE, j JSON, x, b BLOB, s STRING);
      INSERT INTO t VALUES (1, '007', 12.50, 1.0, '2024-01-01', '[1]', 5, x'00ff', '5'), (2, NULL, 3, -0.0, '2024', '7', 'x', 'text', 'five')`,
  });
  const sql = 'SELECT *, 1, 1.5, name || 1, NULL, iif(id = 1, 1, name), upper(d) AS up FROM t ORDER BY id';
  const by_file = await report(bench, 'by_file', sql, { encoding: 'sqlite-file' });
  const by_rows = await report(bench, 'by_rows', sql, { encoding: 'rows' });
  assert.deepEqual(by_rows.columns, by_file.columns);
  assert.equal(by_rows.rows, by_file.rows);
  assert.deepEqual(
    by_file.columns.map((column) => column.type),
    [
      'BIGINT',
      'TEXT',
      'DECIMAL',
      'DOUBLE',
      'DATE',
      'JSON',
      '',
      'BLOB',
      '',
      'BIGINT',
      'DOUBLE',
      'TEXT',
      'TEXT',
      'BIGINT',
      'TEXT',
    ],
  );
  const reader = bench.reader();
  const definition = (table: string) =>
    String(reader.prepare('SELECT sql FROM sqlite_schema WHERE name = ?').get(table)?.['sql']).replace(
      table,
      '',
    );
  assert.equal(definition(by_rows.table), definition(by_file.table));
  const width = by_file.columns.length;
  assert.deepEqual(
    read(reader, `SELECT * FROM ${by_rows.table}`, width),
    read(reader, `SELECT * FROM ${by_file.table}`, width),
  );
});

test('text that is not UTF-8 is copied between files, and refused as rows', async (t) => {
  const bench = await openBench(t, {
    schema: "CREATE TABLE t(a); INSERT INTO t VALUES (CAST(x'41ff42' AS TEXT))",
  });
  const sql = "SELECT a, char(65533) || 'x' AS real FROM t";
  const { table } = await report(bench, 'file', sql, { encoding: 'sqlite-file' });
  assert.deepEqual(
    { ...bench.reader().prepare(`SELECT typeof(a) AS kind, hex(a) AS bytes FROM ${table}`).get() },
    { kind: 'text', bytes: '41FF42' },
  );
  for (const query of [sql, "SELECT CAST(x'efbfbdff' AS TEXT)", "SELECT CAST(x'00ff' AS TEXT)"]) {
    await assert.rejects(report(bench, 'rows', query, { encoding: 'rows' }), (error) => {
      assert.ok(error instanceof DatabaseError);
      assert.deepEqual([error.code, error.transient], ['query_failed', false]);
      assert.match(error.message, /^row 1, column ".*": the text is not UTF-8/);
      return true;
    });
  }
});

test('very long values, no rows, many columns', async (t) => {
  const bench = await openBench(t, { schema: 'CREATE TABLE t(a TEXT, b BLOB)' });
  for (const encoding of ['sqlite-file', 'rows'] as const) {
    const long = await report(
      bench,
      `long_${encoding}`,
      "SELECT hex(zeroblob(10000000)) || 'end' AS a, randomblob(20000000) AS b, 'x' AS c UNION ALL SELECT 'small', NULL, 'y'",
      { encoding },
    );
    assert.equal(long.rows, 2);
    assert.ok(long.bytes > 40_000_000);
    const reader = bench.reader();
    assert.deepEqual(
      reader
        .prepare(
          `SELECT length(a) AS a, substr(a, -4) AS tail, length(b) AS b, c FROM "${long.table}" ORDER BY rowid`,
        )
        .all()
        .map((row) => ({ ...row })),
      [
        { a: 20_000_003, tail: '0end', b: 20_000_000, c: 'x' },
        { a: 5, tail: 'mall', b: null, c: 'y' },
      ],
    );

    const none = await report(bench, `none_${encoding}`, 'SELECT a, b, a || b AS both FROM t', { encoding });
    assert.equal(none.rows, 0);
    assert.deepEqual(
      none.columns.map((column) => [column.name, column.type]),
      [
        ['a', 'TEXT'],
        ['b', 'BLOB'],
        ['both', 'TEXT'],
      ],
    );
    assert.equal(reader.prepare(`SELECT count(*) AS n FROM "${none.table}"`).get()?.['n'], 0);

    for (const width of [1_000, 1_001, 2_000]) {
      const list = Array.from({ length: width }, (_, index) => `${index} + a AS "col ${index}"`).join(', ');
      const wide = await report(bench, `wide_${encoding}`, `SELECT ${list} FROM (SELECT 0.5 AS a)`, {
        encoding,
      });
      assert.equal(wide.columns.length, width);
      assert.ok(wide.columns.every((column) => column.type === 'DOUBLE'));
      assert.equal(
        reader.prepare(`SELECT "col ${width - 1}" AS last FROM "${wide.table}"`).get()?.['last'],
        width - 0.5,
      );
    }
  }
  const list = Array.from({ length: 2_001 }, (_, index) => index).join(', ');
  await assert.rejects(report(bench, 'too_wide', `SELECT ${list}`), { code: 'invalid_statement' });
  await assert.rejects(
    bench.results.write(rowsOf(Array<string>(2_001).fill('a'), []), writeOptions('too_wide')),
    /2001 columns, a SQLite table at most 2000/,
  );
});

test('column names of all sorts', async (t) => {
  const bench = await openBench(t);
  const { table, columns } = await report(
    bench,
    'names',
    `SELECT 1 AS a, 2 AS A, 3 AS "", 4 AS "a""; DROP TABLE x; --", 5 AS rowid, 6 AS "ünï", 7 AS "SELECT", 8 AS a, 9 AS "a_2"`,
  );
  const names = ['a', 'A_3', 'column_3', 'a"; DROP TABLE x; --', 'rowid', 'ünï', 'SELECT', 'a_4', 'a_2'];
  assert.deepEqual(
    columns.map((column) => column.name),
    names,
  );
  assert.deepEqual(Object.entries(bench.reader().prepare(`SELECT * FROM ${table}`).get() ?? {}), [
    ...names.map((name, index) => [name, index + 1]),
  ]);
});

test('values of other engines: wide integers, booleans, NaN, exact decimals, numeric-looking dates', async (t) => {
  const bench = await openBench(t);
  const columns: Column[] = [
    { name: 'n', type: 'BIGINT', source_type: 'bigint unsigned' },
    { name: 'd', type: 'DECIMAL', source_type: 'numeric' },
    { name: 'day', type: 'DATE', source_type: 'date' },
    { name: 'year', type: 'DATE', source_type: 'year' },
    { name: 'ok', type: 'BOOLEAN', source_type: 'bool' },
    { name: 'f', type: 'DOUBLE', source_type: 'float8' },
    { name: 'j', type: 'JSON', source_type: 'jsonb' },
    { name: 'i', type: 'BIGINT', source_type: 'int8' },
    { name: 'z', type: 'TIMESTAMPTZ', source_type: 'timestamptz' },
    { name: 'zero', type: 'DOUBLE', source_type: 'float8' },
  ];
  const rows: Value[][] = [
    [
      2n ** 64n - 1n,
      '12.340',
      '2024-01-02',
      '2024',
      true,
      Number.NaN,
      '{"a":1}',
      5n,
      '2024-01-02T00:00:00Z',
      -0,
    ],
    [7n, null, null, '1999', false, 1.5, '"x"', -(2n ** 63n), null, null],
  ];
  const {
    table,
    columns: made,
    warnings,
  } = await bench.results.write(rowsOf(columns, rows), writeOptions('mixed'));
  assert.deepEqual(
    made.map((column) => [column.name, column.type, column.source_type]),
    [
      ['n', '', 'bigint unsigned'],
      ['d', 'TEXT', 'numeric'],
      ['day', 'DATE', 'date'],
      ['year', 'TEXT', 'year'],
      ['ok', 'BOOLEAN', 'bool'],
      ['f', 'DOUBLE', 'float8'],
      ['j', 'JSON', 'jsonb'],
      ['i', 'BIGINT', 'int8'],
      ['z', 'TIMESTAMPTZ', 'timestamptz'],
      ['zero', '', 'float8'],
    ],
  );
  assert.deepEqual(warnings, ['column 6: 1 NaN stored as NULL, since SQLite has no NaN']);
  const statement = bench.reader().prepare(`SELECT * FROM ${table}`);
  statement.setReadBigInts(true);
  statement.setReturnArrays(true);
  assert.deepEqual(statement.all(), [
    [
      '18446744073709551615',
      '12.340',
      '2024-01-02',
      '2024',
      1n,
      null,
      '{"a":1}',
      5n,
      '2024-01-02T00:00:00Z',
      -0,
    ],
    [7n, null, null, '1999', 0n, 1.5, '"x"', -(2n ** 63n), null, null],
  ]);
  await assert.rejects(
    bench.results.write(rowsOf(['a'], [['\ud800']]), writeOptions('surrogate')),
    /column 1 holds text that is not well-formed Unicode/,
  );
  await assert.rejects(
    bench.results.write(rowsOf(['a', 'b'], [[1n]]), writeOptions('short')),
    /1 values where/,
  );
});
