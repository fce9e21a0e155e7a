/** What a query does to its session: it spoils neither its own values nor the next query's. */
import assert from 'node:assert/strict';
import { suite, type TestContext, test } from 'node:test';
import pg from 'pg';
import type { Accept, Value } from '../../../src/databases/database.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { connect, MORTAL } from '../../../src/databases/postgres/connect.ts';
import { singleText } from '../../../src/databases/postgres/copy-text-form.ts';
import { clientConfig } from '../../../src/util/postgres/dsn.ts';
import { noPgbouncer, pooled } from '../../support/pgbouncer.ts';
import { afterOthers } from '../../support/scope.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { closing, queryOptions } from '../support.ts';
import { chunksOf, openSource, rowsOf } from './source-support.ts';

const ACCEPTS: readonly Accept[] = [
  { encoding: 'pg-binary', types: 'standard' },
  { encoding: 'pg-binary', types: 'source' },
  { encoding: 'copy-text' },
];

async function relayed(source: Awaited<ReturnType<typeof openSource>>, sql: string, accept: Accept) {
  await using result = await source.query(sql, [], queryOptions([accept]));
  return (await chunksOf(result)).data.toString('latin1');
}

/** Values of every kind whose text depends on a setting. */
const VALUES = `'\\x00ff'::bytea AS a, 0.1::float8 + 0.2 AS b, '-0'::float8 AS c, 5e-324::float8 AS d,
  '2024-02-01'::date AS e, '0044-03-15 BC'::date AS f, 'infinity'::date AS g,
  '2024-02-01 12:34:56.000789'::timestamp AS h, '0044-03-15 01:02:03 BC'::timestamp AS i, '-infinity'::timestamp AS j,
  '2024-02-01 12:34:56+05:30'::timestamptz AS k, 12.50::numeric AS l, true AS m, '{"x": 1.10}'::json AS n`;

const CHANGES: Readonly<Record<string, string>> = {
  bytea_output: 'escape',
  extra_float_digits: '-10',
  DateStyle: 'German, DMY',
  IntervalStyle: 'iso_8601',
  TimeZone: 'Asia/Kolkata',
  lc_monetary: 'C',
  xmlbinary: 'hex',
};

for (const server of servers('postgres')) {
  suite(`sessions on ${server.name}`, { skip: server.skip }, () => {
    test('values are exact whatever the query sets', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      for (const [name, value] of Object.entries(CHANGES)) {
        const changed = (values: string) =>
          `SELECT ${values} FROM (SELECT set_config('${name}', '${value}', true) AS set OFFSET 0) AS q
             WHERE set IS NOT NULL`;
        for (const accept of ACCEPTS) {
          for (const _ of ['first', 'known']) {
            assert.equal(
              await relayed(source, changed(VALUES), accept),
              await relayed(source, `SELECT ${VALUES}`, accept),
              `${name}, ${JSON.stringify(accept)}`,
            );
          }
        }
        const float = '1.1::float4 AS x, 16777216::float4 AS y';
        assert.deepEqual(await rowsOf(source, changed(float)), [[1.1, 16777216]]);
        const asked = relayed(source, changed(float), { encoding: 'pg-binary', types: 'standard' });
        if (name !== 'extra_float_digits') await asked;
        else await assert.rejects(asked, /invalid input syntax for type double precision/);
      }
      for (const accept of [...ACCEPTS, { encoding: 'rows' } as const]) {
        const sql = "SELECT set_config('client_encoding', 'LATIN1', true), 'é'::text";
        await assert.rejects(
          accept.encoding === 'rows' ? rowsOf(source, sql) : relayed(source, sql, accept),
          (error) =>
            error instanceof DatabaseError &&
            !error.transient &&
            /the query changes client_encoding to LATIN1|not UTF-8 text/.test(error.message),
        );
      }
    });

    test('32-bit floats have the digits that the server shows', async (t) => {
      const dsn = await freshDatabase(t, server);
      const rows = await execute(
        dsn,
        `SET extra_float_digits = 3; SELECT x::float8::text, x::text FROM (
           SELECT (2.0::float8 ^ n)::float4 AS x FROM generate_series(-149, 127) AS n
           UNION ALL SELECT ((n * 7919) % 100000 / 1000.0)::float4 FROM generate_series(1, 2000) AS n
           UNION ALL SELECT (1.17e-38::float8 * n / 100)::float4 FROM generate_series(1, 100) AS n
           UNION ALL SELECT 3.4028235e38::float4 UNION ALL SELECT '-0' UNION ALL SELECT 'NaN' UNION ALL SELECT '-Infinity') AS all_of_them`,
      );
      assert.ok(rows.length > 2000);
      for (const [exact, shown] of rows) {
        assert.equal(Number(singleText(Number(exact))), Number(shown), String(exact));
      }
    });

    test('the stricter time limit holds', async (t) => {
      const dsn = await freshDatabase(t, server);
      const name = new URL(dsn).pathname.slice(1);
      for (const [database, parameter, ours, expected] of [
        ['2s', '', 60_000, '2s'],
        ['0', '', 60_000, '61s'],
        ['1d', '', 60_000, '61s'],
        ['2s', '', null, '2s'],
        ['0', 'statement_timeout=1500', 60_000, '1500ms'],
        ['0', 'options=-c%20statement_timeout%3D3s', 60_000, '3s'],
        ['1min', 'statement_timeout=90000', 60_000, '61s'],
      ] as const) {
        await execute(dsn, `ALTER DATABASE "${name}" SET statement_timeout = '${database}'`);
        const source = await openSource(t, `${dsn}?${parameter}`);
        const sql = "SELECT current_setting('statement_timeout') AS holds";
        for (const accept of [ACCEPTS[0], ACCEPTS[0], ACCEPTS[2]]) {
          assert.ok(accept);
          await using result = await source.query(sql, [], queryOptions([accept], { timeout_ms: ours }));
          assert.match((await chunksOf(result)).data.toString('latin1'), new RegExp(`${expected}\n?$`));
        }
        await source.close();
      }
      await execute(
        dsn,
        `ALTER DATABASE "${name}" SET statement_timeout = 0; ALTER DATABASE "${name}" SET lock_timeout = '50ms';
         ALTER DATABASE "${name}" SET idle_in_transaction_session_timeout = '2min'`,
      );
      const client = await connect({
        config: clientConfig(dsn),
        connect_timeout_ms: 10_000,
        settings: MORTAL,
      });
      closing(t, () => client.end());
      const { rows } = await client.query(
        "SELECT current_setting('lock_timeout') AS lock, current_setting('idle_in_transaction_session_timeout') AS idle",
      );
      assert.deepEqual(rows, [{ lock: '50ms', idle: '1min' }]);
    });

    test('nothing of a query is there for the next', async (t) => {
      const dsn = await freshDatabase(t, server);
      const { dsn: admin } = server;
      assert.ok(admin !== null);
      const role = `reader_${new URL(dsn).pathname.slice(-8)}`;
      await execute(
        dsn,
        `CREATE FUNCTION marks() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
           PERFORM set_config('my.mark', 'x', true); RETURN 1; END $$;
         CREATE FUNCTION seeds() RETURNS int LANGUAGE sql AS $$ SELECT setseed(0.5); SELECT 1 $$;
         CREATE FUNCTION prepares() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
           EXECUTE 'PREPARE left_over AS SELECT 1'; RETURN 1; END $$;
         CREATE VIEW marked AS SELECT marks() AS m;
         CREATE VIEW marked_by_server AS SELECT set_config('my.mark', 'x', true) AS m;
         CREATE VIEW marked_behind AS SELECT * FROM marked_by_server;
         CREATE TABLE guarded (a int); INSERT INTO guarded VALUES (1); GRANT SELECT ON ALL TABLES IN SCHEMA public TO public;
         ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON guarded USING (marks() = 1);
         CREATE ROLE ${role}`,
      );
      afterOthers(t, async () => {
        await execute(admin, `DROP ROLE ${role}`);
      });
      const source = await openSource(t, `${dsn}?role=${role}`, 1);
      const unmarked = "SELECT current_setting('my.mark', true) IS NULL AS x";
      const unprepared = 'SELECT count(*) = 0 AS x FROM pg_prepared_statements';
      const unlocked =
        "SELECT count(*) = 0 AS x FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
      const isTrue = async (question: string, why: string) =>
        assert.deepEqual(await rowsOf(source, question), [[true]], why);
      const cases: readonly (readonly [string, string])[] = [
        ["SELECT set_config('my.mark', 'x', true)", unmarked],
        ["SELECT set_config('my.mark', 'x', false)", unmarked],
        ["SELECT pg_catalog.\"set_config\"('my.mark', 'x', true)", unmarked],
        ["SELECT SET_CONFIG /* nothing */ ('my.mark', 'x', true)", unmarked],
        [`SELECT U&"s\\0065t_config"('my.mark', 'x', true)`, unmarked],
        ['SELECT marks()', unmarked],
        ['SELECT (q).marks FROM (SELECT marks()) AS q', unmarked],
        ['SELECT * FROM marked', unmarked],
        ['SELECT * FROM marked_behind', unmarked],
        ['SELECT * FROM guarded', unmarked],
        [
          `SELECT query_to_xml('SELECT set_config(''my.mark'', ''x'', true)', true, true, '')::text`,
          unmarked,
        ],
        ['SELECT prepares()', unprepared],
        ['SELECT pg_advisory_lock(1)::text', unlocked],
      ];
      for (const [sql, question] of cases) {
        for (const accept of [ACCEPTS[0], ACCEPTS[0], ACCEPTS[2]]) {
          assert.ok(accept);
          await relayed(source, sql, accept);
          await isTrue(question, sql);
        }
      }
      for (const sql of ['SELECT setseed(0.5)', 'SELECT seeds()']) {
        const drawn = new Set<Value | undefined>();
        for (let n = 0; n < 3; n += 1) {
          await rowsOf(source, sql);
          drawn.add((await rowsOf(source, 'SELECT random()'))[0]?.[0]);
        }
        assert.equal(drawn.size, 3, sql);
      }
      const [[dblink] = []] = await execute(
        dsn,
        "SELECT count(*) FROM pg_available_extensions WHERE name = 'dblink'",
      );
      if (dblink === '1') {
        const { hostname, port, username, password, pathname } = new URL(dsn);
        await execute(dsn, 'CREATE EXTENSION dblink');
        const way = `host=${hostname} port=${port} user=${username} password=${password} dbname=${pathname.slice(1)}`;
        await rowsOf(source, `SELECT dblink_connect('left_over', '${way}')`);
        assert.deepEqual(await rowsOf(source, 'SELECT dblink_get_connections()'), [[null]]);
      }
    });

    test('nor what operators, casts and domains of people do', async (t) => {
      const marks = (signature: string, result: string) =>
        `CREATE FUNCTION marks(${signature}) RETURNS ${result} LANGUAGE plpgsql AS $$ BEGIN
           PERFORM set_config('my.mark', 'x', true); RETURN $1::text; END $$;`;
      for (const [setUp, sql] of [
        [
          `${marks('int, text', 'text')} CREATE OPERATOR ### (leftarg = int, rightarg = text, function = marks)`,
          "SELECT 1 ### 'x'",
        ],
        [
          `CREATE TYPE pair AS (a int); CREATE FUNCTION marks(pair) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
             PERFORM set_config('my.mark', 'x', true); RETURN 1; END $$; CREATE CAST (pair AS int) WITH FUNCTION marks(pair)`,
          'SELECT row(1)::pair::int',
        ],
        [
          `CREATE FUNCTION marks(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
             PERFORM set_config('my.mark', 'x', true); RETURN true; END $$; CREATE DOMAIN odd AS int CHECK (marks(VALUE))`,
          'SELECT 1::odd',
        ],
      ] as const) {
        const dsn = await freshDatabase(t, server);
        await execute(dsn, setUp);
        const source = await openSource(t, dsn, 1);
        await rowsOf(source, sql);
        assert.deepEqual(await rowsOf(source, "SELECT current_setting('my.mark', true)"), [[null]], sql);
      }
    });

    test('a query that leaves nothing keeps its session for the next', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(
        dsn,
        `CREATE TABLE t (a int, b text); CREATE VIEW v AS SELECT a, upper(b) AS b FROM t;
         CREATE FUNCTION unused() RETURNS int LANGUAGE sql AS 'SELECT 1'`,
      );
      const source = await openSource(t, dsn, 1);
      const pid = await rowsOf(source, 'SELECT pg_backend_pid()');
      for (const sql of [
        'SELECT * FROM t',
        "SELECT count(*), sum(a), 'set_config()' FROM v /* setseed() */ GROUP BY b -- unused()",
        "WITH x AS (SELECT now(), random()) SELECT to_char(now, 'YYYY'), current_setting('TimeZone') FROM x",
      ]) {
        await rowsOf(source, sql);
        for (const accept of ACCEPTS) await relayed(source, sql, accept);
        assert.deepEqual(await rowsOf(source, 'SELECT pg_backend_pid()'), pid, sql);
      }
    });

    test("nothing of a query is there for a pooler's other clients", { skip: noPgbouncer() }, async (t) =>
      behindPooler(t, await freshDatabase(t, server)),
    );
  });
}

async function behindPooler(t: TestContext, direct: string): Promise<void> {
  await execute(
    direct,
    `CREATE FUNCTION marks() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
       PERFORM set_config('my.mark', 'x', false); RETURN 1; END $$`,
  );
  const dsn = await pooled(t, direct, 1);
  const source = await openSource(t, dsn);
  const other = new pg.Client(dsn);
  await other.connect();
  closing(t, () => other.end());
  for (const accept of [ACCEPTS[0], ACCEPTS[0], ACCEPTS[2]]) {
    assert.ok(accept);
    assert.match(await relayed(source, "SELECT marks()::text || ' is all'", accept), /1 is all/);
    const { rows } = await other.query("SELECT current_setting('my.mark', true) AS mark");
    assert.deepEqual(rows, [{ mark: null }]);
  }
}
