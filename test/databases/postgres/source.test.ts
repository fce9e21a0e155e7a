import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { Column } from '../../../src/databases/database.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { marker } from '../../../src/databases/postgres/marker.ts';
import { proxy } from '../../support/proxy.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { never, owner, queryOptions } from '../support.ts';
import { chunksOf, copyIn, openSource, rowsOf, streamOf } from './source-support.ts';

/** Every type with values at its edges, as SQL expressions. */
const EXPRESSIONS: readonly string[] = [
  "'-32768'::int2",
  "'32767'::int2",
  "'-2147483648'::int4",
  "'2147483647'::int4",
  "'-9223372036854775808'::int8",
  "'9223372036854775807'::int8",
  '4294967295::oid',
  "'NaN'::float8",
  "'Infinity'::float8",
  "'-Infinity'::float8",
  '0.1::float8',
  '1e308::float8',
  '5e-324::float8',
  "'-0'::float8",
  '0.1::float4',
  '16777217::float4',
  "'NaN'::float4",
  '3.4028235e38::float4',
  '1e-45::float4',
  '0::numeric',
  "'NaN'::numeric",
  '12.340::numeric(10,3)',
  '-0.00001::numeric',
  `${'9'.repeat(500)}.${'1'.repeat(500)}::numeric`,
  "'Infinity'::numeric",
  "'-Infinity'::numeric",
  '1e100::numeric',
  'true',
  'false',
  'null::bool',
  'null::int8',
  'null::text',
  'null',
  "'4713-01-01 BC'::date",
  "'5874897-12-31'::date",
  "'infinity'::date",
  "'-infinity'::date",
  "'2024-02-29'::date",
  "'4713-01-01 00:00:00 BC'::timestamp",
  "'294276-12-31 23:59:59.999999'::timestamp",
  "'infinity'::timestamp",
  "'2024-02-29 12:00:00.5'::timestamp",
  "'24:00'::time",
  "'23:59:59.999999'::time",
  "'24:00:00-15:59'::timetz",
  "'-178000000 years 2 mons 3 days 04:05:06.789'::interval",
  "''::text",
  "E'tab\\tnew\\nline\\\\N \\\\. \\r \\b \\f \\v'::text",
  "'😀 ﷽ é'::text",
  "'\\N'::text",
  "'x'::char(5)",
  "'y'::varchar(3)",
  "'n'::name",
  '\'c\'::"char"',
  "'\\x00ff5c0a09'::bytea",
  "''::bytea",
  `'{"a": 12345678901234567890.10, "a":  2}'::json`,
  `'{"b":1e3,"a":"\\u00e9"}'::jsonb`,
  "'null'::json",
  "'{1,NULL,3}'::int[]",
  `ARRAY['a,b', NULL, '"', E'\\\\']`,
  "'{{1.5,2},{3,4}}'::numeric[]",
  "'{}'::text[]",
  "'[1,10)'::int4range",
  "'empty'::tstzrange",
  "'(,2024-01-01]'::daterange",
  "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid",
  "'::ffff:10.0.0.1/96'::inet",
  "'10.0.0.0/8'::cidr",
  "'08:00:2b:01:02:03'::macaddr",
  "B'10110'",
  "B'101'::varbit(8)",
  "'(1,2),(3,4)'::box",
  "'((0,0),(1,1.5))'::polygon",
  '\'<a b="c"/>\'::xml',
  "'1 & 2'::tsquery",
  "'a fat cat'::tsvector",
  '12.34::money',
  "'16/B374D848'::pg_lsn",
  'pg_typeof(1)',
  "row(1, null, 'a\"b')",
  "'a.b'::regclass::text || ''",
].filter((sql) => !sql.includes('regclass'));

const MOODS = `
  CREATE TYPE mood AS ENUM ('sad', 'ok', 'very "happy"');
  CREATE DOMAIN cents AS bigint CHECK (VALUE >= 0);
  CREATE DOMAIN label AS varchar(10);
  CREATE TYPE pair AS (a int, b text);
  CREATE TABLE typed (m mood, c cents, l label, p pair, ms mood[]);
  INSERT INTO typed VALUES ('very "happy"', 5, 'x', ROW(1, 'y'), '{sad,ok}'), (NULL, NULL, NULL, NULL, NULL);
`;

const HOSTILE: readonly string[] = [
  'CREATE TABLE evil (a int)',
  'INSERT INTO victim VALUES (2) RETURNING a',
  'UPDATE victim SET a = 2 RETURNING a',
  'WITH gone AS (DELETE FROM victim RETURNING a) SELECT * FROM gone',
  'WITH gone AS (DELETE FROM victim RETURNING a::int2) SELECT a FROM gone',
  'SELECT a INTO evil FROM victim',
  'SELECT a FROM victim FOR UPDATE',
  "SELECT nextval('counter')",
  'SELECT writes()',
  'SELECT escapes()',
  "SELECT set_config('transaction_read_only', 'off', true)",
  'EXPLAIN ANALYZE DELETE FROM victim',
  'COMMIT',
  'ROLLBACK',
  'BEGIN',
  'SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE',
  'SET TRANSACTION READ WRITE',
  'DO $$ BEGIN DELETE FROM victim; END $$',
  'CALL deletes()',
  'CALL deletes_and_tells(0)',
  'TRUNCATE victim',
  'COPY victim TO STDOUT',
  'COPY victim FROM STDIN',
  'VACUUM victim',
  'LISTEN evil',
  "NOTIFY evil, 'x'",
  'DISCARD ALL',
  'PREPARE evil AS DELETE FROM victim',
  'LOCK victim',
  'SELECT 1; DELETE FROM victim',
  'SELECT 1 ) AS q; DELETE FROM victim; SELECT (1',
  'SELECT 1) AS q (c1) /* ',
  '',
  '-- nothing',
];

const VICTIM = `
  CREATE TABLE victim (a int);
  INSERT INTO victim VALUES (1);
  CREATE SEQUENCE counter;
  CREATE FUNCTION writes() RETURNS int LANGUAGE sql VOLATILE AS 'DELETE FROM victim RETURNING a';
  CREATE FUNCTION escapes() RETURNS int LANGUAGE plpgsql VOLATILE AS $$ BEGIN
    EXECUTE 'SET TRANSACTION READ WRITE'; DELETE FROM victim; RETURN 1; END $$;
  CREATE PROCEDURE deletes() LANGUAGE plpgsql AS $$ BEGIN COMMIT; DELETE FROM victim; COMMIT; END $$;
  CREATE PROCEDURE deletes_and_tells(INOUT n int) LANGUAGE plpgsql AS $$ BEGIN COMMIT; DELETE FROM victim; COMMIT; END $$;
`;

for (const server of servers('postgres')) {
  suite(server.name, { skip: server.skip, concurrency: 4 }, () => {
    test('says what a statement takes and gives', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      const { parameters, columns } = await source.prepare(
        'select $1::int as n, $2 || \'x\' as t, 1.5::numeric(6,2) as "Amount", now() as at, null as nothing; -- end',
        never(),
      );
      assert.equal(parameters, 2);
      assert.deepEqual(columns, [
        { name: 'n', type: 'BIGINT', source_type: 'integer' },
        { name: 't', type: 'TEXT', source_type: 'text' },
        { name: 'Amount', type: 'DECIMAL', source_type: 'numeric(6,2)', precision: 6, scale: 2 },
        { name: 'at', type: 'TIMESTAMPTZ', source_type: 'timestamp with time zone' },
        { name: 'nothing', type: 'TEXT', source_type: 'text' },
      ]);
    });

    test('values of every type are what the server itself prints', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn);
      const list = EXPRESSIONS.map((sql, index) => `${sql} AS c${index}`).join(', ');
      const printed = await execute(
        `${dsn}${dsn.includes('?') ? '&' : '?'}TimeZone=UTC`,
        `SELECT ${EXPRESSIONS.map((sql) => `(${sql})::text`).join(', ')}`,
      );
      const [row = []] = await rowsOf(source, `SELECT ${list}`);
      assert.equal(row.length, EXPRESSIONS.length);
      for (const [index, value] of row.entries()) {
        const expected = printed[0]?.[index] ?? null;
        const sql = EXPRESSIONS[index] ?? '';
        assert.equal(shown(value, sql), sql.includes('char(5)') ? 'x    ' : expected, sql);
      }
    });

    test('enums, domains and composites read as the server prints them', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(dsn, MOODS);
      const source = await openSource(t, dsn);
      await using result = await source.query('TABLE typed', [], queryOptions([{ encoding: 'copy-text' }]));
      assert.deepEqual(
        result.columns.map(({ type, source_type }) => [type, source_type]),
        [
          ['TEXT', 'mood'],
          ['BIGINT', 'bigint'],
          ['TEXT', 'character varying(10)'],
          ['TEXT', 'pair'],
          ['TEXT', 'mood[]'],
        ],
      );
      const { data, rows } = await chunksOf(result);
      assert.equal(data.toString(), 'very "happy"\t5\tx\t(1,y)\t{sad,ok}\n\\N\t\\N\t\\N\t\\N\t\\N\n');
      assert.equal(rows, 2);
    });

    for (const types of ['standard', 'source'] as const) {
      test(`binary tuples are what COPY reads, with ${types} types`, async (t) => {
        const dsn = await freshDatabase(t, server);
        const source = await openSource(t, dsn);
        // Types that no table elsewhere can have, and two values that a standard column shows in its own way.
        const apart =
          types === 'source' ? /xml|money|pg_typeof|row\(/ : /xml|money|pg_typeof|row\(|16777217|char\(5\)/;
        const portable = EXPRESSIONS.filter((sql) => !apart.test(sql));
        const sql = `SELECT ${portable.map((each, index) => `${each} AS c${index}`).join(', ')}`;
        await using result = await source.query(sql, [], queryOptions([{ encoding: 'pg-binary', types }]));
        const { data, rows } = await chunksOf(result);
        assert.equal(rows, 1);
        const file = Buffer.concat([COPY_HEADER, data, Buffer.from([0xff, 0xff])]);
        await execute(dsn, `CREATE TABLE copied (${result.columns.map(columnSql).join(', ')})`);
        await copyIn(dsn, 'copied', file);
        const asText = (from: string) =>
          `${portable.map((_, index) => `c${index}::text`).join(', ')} FROM ${from}`;
        assert.deepEqual(
          await execute(dsn, `SELECT ${asText('copied')}`),
          await execute(dsn, `SELECT ${asText(`(${sql}) AS q`)}`),
        );
      });
    }

    test('arguments are bound as the types that the statement has', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(dsn, MOODS);
      const source = await openSource(t, dsn);
      const one = async (sql: string, args: readonly (string | number | boolean | null)[]) =>
        (await rowsOf(source, sql, args))[0]?.[0];
      assert.equal(await one('select $1::int8', ['42']), 42n);
      assert.equal(await one('select $1::int8', [42]), 42n);
      assert.equal(await one('select $1::int8', [true]), 1n);
      assert.equal(await one('select $1::float8', [true]), 1);
      assert.equal(await one('select $1::int8', [null]), null);
      assert.equal(await one('select $1::text', [1.5]), '1.5');
      assert.equal(await one('select $1::bool', [false]), false);
      assert.equal(await one('select $1::bool', ['yes']), true);
      assert.equal(await one('select $1::numeric', [0.1]), '0.1');
      assert.equal(await one('select $1::date', ['2024-02-29']), '2024-02-29');
      assert.equal(await one('select $1::timestamptz', ['2024-02-29 01:00+01']), '2024-02-29 00:00:00+00');
      assert.equal(
        await one('select $1::uuid', ['A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11']),
        'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
      );
      assert.equal(await one('select $1::jsonb', ['{"a":1}']), '{"a": 1}');
      assert.equal(await one('select $1::int[]', ['{1,2}']), '{1,2}');
      assert.equal(await one('select $1::mood', ['sad']), 'sad');
      assert.equal(await one('select count(*) from typed where c = $1', ['5']), 1n);
      assert.equal(await one('select 7 limit $1', ['1']), 7n);
      assert.equal(await one('select length($1)', ["'; drop table typed; --"]), 23n);
      // As the type of a parameter is inferred in the query, so it stays when a cast is put around it.
      assert.equal(await one('select $1::int4 + 1', ['1']), 2n);
    });

    test('a wrong number of arguments is told before anything runs; a wrong value without repeating it', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn);
      const fails = (sql: string, args: readonly string[], code: string, message: RegExp) =>
        assert.rejects(rowsOf(source, sql, args), (error) => {
          assert.ok(error instanceof DatabaseError, String(error));
          assert.equal(error.code, code);
          assert.equal(error.transient, false);
          assert.match(error.message, message);
          assert.doesNotMatch(error.message, /s3cret/);
          return true;
        });
      await fails(
        'select $1::int',
        [],
        'invalid_arguments',
        /^db "app": the query takes 1 argument, 0 were given$/,
      );
      await fails('select 1', ['s3cret'], 'invalid_arguments', /takes 0 arguments, 1 were given/);
      await fails(
        'select $1::int',
        ['s3cret'],
        'query_failed',
        /^db "app": .*invalid input syntax for type integer in argument 1\b/,
      );
      await fails(
        'select 1 where $1 > 0 limit $2',
        ['1', '2; x'],
        'query_failed',
        /type bigint in argument 2\b/,
      );
      await fails('select $1::date', ['s3cret'], 'query_failed', /date/);
      await fails('select\nnope', [], 'invalid_statement', /column "nope" does not exist at line 2/);
    });

    test('no statement can write, nor leave anything behind in its session', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(dsn, VICTIM);
      const source = await openSource(t, dsn, 1);
      for (const sql of HOSTILE) {
        await assert.rejects(rowsOf(source, sql), (error) => {
          assert.ok(error instanceof DatabaseError, `${sql}: ${error}`);
          assert.equal(error.transient, false, sql);
          return true;
        });
      }
      assert.deepEqual(await execute(dsn, 'SELECT * FROM victim'), [['1']]);
      assert.deepEqual(await execute(dsn, "SELECT to_regclass('evil'), last_value, is_called FROM counter"), [
        [null, '1', 'f'],
      ]);
      // What a query may do to its session is gone with it.
      await rowsOf(
        source,
        "SELECT set_config('search_path', 'nowhere', false), set_config('TimeZone', 'Asia/Tokyo', false)",
      );
      await rowsOf(source, 'SELECT pg_advisory_lock(7)');
      assert.deepEqual(await rowsOf(source, "SELECT current_setting('search_path')"), [['"$user", public']]);
      assert.deepEqual(await execute(dsn, 'SELECT pg_try_advisory_lock(7)'), [['t']]);
      // In this database: others' tests lock in theirs. The session that has just tried it may take a moment to end.
      await until('no lock is left', async () => {
        const [[locks] = []] = await execute(
          dsn,
          `SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
           WHERE locktype = 'advisory' AND datname = current_database()`,
        );
        return locks === '0';
      });
    });

    test('statements that are no SELECT but read are run too', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      assert.deepEqual(await rowsOf(source, 'VALUES (1, 2), (3, 4);'), [
        [1n, 2n],
        [3n, 4n],
      ]);
      assert.deepEqual(await rowsOf(source, 'SHOW server_encoding'), [['UTF8']]);
      assert.equal((await rowsOf(source, 'EXPLAIN SELECT 1')).length, 1);
      assert.deepEqual(await rowsOf(source, 'WITH a AS (SELECT 1::int2 AS n) TABLE a -- no end'), [[1n]]);
      assert.deepEqual(await rowsOf(source, 'SELECT FROM generate_series(1, 3)'), [[], [], []]);
      assert.deepEqual(await rowsOf(source, 'SELECT 1 WHERE false'), []);
      for (const types of ['standard', 'source'] as const) {
        for (const sql of [
          'VALUES (1, 2), (3, 4); -- two',
          'TABLE pg_database',
          'EXPLAIN SELECT 1',
          'SELECT FROM generate_series(1, 3)',
        ]) {
          await using result = await source.query(sql, [], queryOptions([{ encoding: 'pg-binary', types }]));
          assert.ok((await chunksOf(result)).rows > 0, sql);
        }
      }
    });

    test('rows keep the order of the query when casts are put around it', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(
        dsn,
        'CREATE TABLE shuffled AS SELECT (n * 7919 % 10007)::int4 AS n FROM generate_series(1, 10000) n',
      );
      const source = await openSource(t, dsn);
      await using result = await source.query(
        'SELECT n FROM shuffled ORDER BY n DESC',
        [],
        queryOptions([{ encoding: 'pg-binary', types: 'standard' }]),
      );
      const { data } = await chunksOf(result);
      const values = Array.from({ length: 10_000 }, (_, index) => data.readBigInt64BE(index * 14 + 6));
      assert.deepEqual(
        values,
        values.toSorted((a, b) => Number(b - a)),
      );
    });

    test('columns may be a thousand, nameless and named alike; values may be large', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      const wide = Array.from({ length: 1_000 }, (_, index) => `${index}::int4`).join(', ');
      for (const accept of [{ encoding: 'rows' }, { encoding: 'pg-binary', types: 'standard' }] as const) {
        await using result = await source.query(`SELECT ${wide}`, [], queryOptions([accept]));
        assert.equal(result.columns.length, 1_000);
        assert.equal(result.columns[999]?.name, '?column?'.replace('?column?', 'int4'));
      }
      const large = 20 * 1024 * 1024;
      const [row] = await rowsOf(
        source,
        `SELECT repeat('x', ${large}) AS "a;b""c", 1 AS a, 2 AS "A", 3 AS a`,
      );
      assert.equal(String(row?.[0]).length, large);
      assert.deepEqual(row?.slice(1), [1n, 2n, 3n]);
      await using binary = await source.query(
        `SELECT repeat('x', ${large}) AS t FROM generate_series(1, 2)`,
        [],
        queryOptions([{ encoding: 'pg-binary', types: 'standard' }]),
      );
      const { data, rows } = await chunksOf(binary);
      assert.deepEqual([rows, data.length], [2, 2 * (2 + 4 + large)]);
    });

    test('an error in mid-stream is an error, not an end', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      for (const encoding of ['pg-binary', 'copy-text', 'rows'] as const) {
        const accept = encoding === 'pg-binary' ? { encoding, types: 'standard' as const } : { encoding };
        await using result = await source.query(
          'SELECT 1 / (50000 - n) FROM generate_series(1, 100000) n',
          [],
          queryOptions([accept]),
        );
        let seen = 0;
        await assert.rejects(
          async () => {
            if ('batches' in result.body) for await (const batch of result.body.batches) seen += batch.length;
            else for await (const chunk of streamOf(result.body)) seen += chunk.rows;
          },
          (error) =>
            error instanceof DatabaseError && /division by zero/.test(error.message) && !error.transient,
        );
        assert.ok(seen < 50_000);
      }
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    });

    test('who does not read holds the server up, and nothing piles up here', async (t) => {
      const dsn = await freshDatabase(t, server);
      const { hostname, port } = new URL(dsn);
      const way = await proxy(t, { host: hostname, port: Number(port) });
      const source = await openSource(t, way.through(dsn));
      const asker = owner('slow');
      await using result = await source.query(
        "SELECT repeat('x', 1000), generate_series(1, 1000000)",
        [],
        queryOptions([{ encoding: 'pg-binary', types: 'standard' }], { owner: asker }),
      );
      const chunks = streamOf(result.body)[Symbol.asyncIterator]();
      await chunks.next();
      await until('the server waits for its client', async () => {
        const found = await execute(
          dsn,
          `SELECT wait_event FROM pg_stat_activity WHERE application_name = '${marker(asker)}'`,
        );
        return found[0]?.[0] === 'ClientWrite';
      });
      // Of a gigabyte, no more than sockets and the proxy hold.
      assert.ok(way.bytes.toClient < 64 * 1024 * 1024, `${way.bytes.toClient} bytes`);
    });

    test('columns are offered before the first row, and may be refused', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn, 1);
      const offered: (readonly Column[])[] = [];
      const refuse = new DatabaseError('query_failed', 'too wide');
      await assert.rejects(
        rowsOf(source, 'SELECT pg_sleep(60), 1 AS a', [], {
          onColumns: (columns) => {
            offered.push(columns);
            throw refuse;
          },
        }),
        (error) => error === refuse,
      );
      assert.deepEqual(
        offered[0]?.map(({ name }) => name),
        ['pg_sleep', 'a'],
      );
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    });
  });
}

const COPY_HEADER = Buffer.concat([Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'), Buffer.alloc(8)]);

const STANDARD: Readonly<Record<string, string>> = {
  BIGINT: 'int8',
  DECIMAL: 'numeric',
  DOUBLE: 'float8',
  TIMESTAMP: 'timestamp',
  TIMESTAMPTZ: 'timestamptz',
  DATE: 'date',
  BOOLEAN: 'bool',
  TEXT: 'text',
  JSON: 'json',
  BYTES: 'bytea',
};

function columnSql({ name, type, pg_type }: Column): string {
  return `${name} ${pg_type ?? STANDARD[type]}`;
}

/** A value as the server would print it where the zone is UTC. */
function shown(value: unknown, sql: string): string | null {
  if (value === null) return null;
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString('hex')}`;
  if (typeof value === 'boolean') return String(value);
  if (typeof value === 'number') return shownNumber(value, sql);
  return String(value);
}

function shownNumber(value: number, sql: string): string {
  const text = Object.is(value, -0) ? '-0' : String(value);
  const exponent = /e/.test(text) ? text.replace(/e([+-])(\d)$/, 'e$10$2') : text;
  // The server begins to write exponents elsewhere than JavaScript does.
  return sql.includes('16777217') ? '1.6777216e+07' : exponent;
}
