/** Queries that have run before: asked for in one round trip, and nothing else is different. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { Argument, QueryOptions } from '../../../src/databases/database.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { marker } from '../../../src/databases/postgres/marker.ts';
import { proxy } from '../../support/proxy.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { owner, queryOptions } from '../support.ts';
import { chunksOf, openSource, streamOf } from './source-support.ts';

type Source = Awaited<ReturnType<typeof openSource>>;

const BINARY = [{ encoding: 'pg-binary', types: 'standard' }] as const;

/** Names and types of the columns, and the rows as they came. */
async function relayed(
  source: Source,
  sql: string,
  args: readonly Argument[] = [],
  fields: Partial<QueryOptions> = {},
) {
  await using result = await source.query(sql, args, queryOptions(BINARY, fields));
  const { data, rows } = await chunksOf(result);
  const columns = result.columns.map(({ name, type, source_type }) => `${name} ${type} ${source_type}`);
  return { columns, rows, data: data.toString('latin1') };
}

async function refused(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof DatabaseError, String(error));
  return `${error.code} ${error.transient}: ${error.message}`;
}

for (const server of servers('postgres')) {
  suite(`known statements on ${server.name}`, { skip: server.skip, concurrency: 4 }, () => {
    test('give what they gave, with other arguments what those give', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn);
      const sql = `SELECT n, n::int AS small, n::numeric / 3 AS third, 'text ' || n AS label, NULL::date AS none
        FROM generate_series($1::bigint, $2) AS n WHERE n <> $3;`;
      for (const args of [
        ['1', '3', '2'],
        ['5', '100000', '7'],
        [1, 0, null],
        ['-3', 3, 0],
      ] as const) {
        const fresh = await relayed(await openSource(t, dsn), sql, args);
        assert.deepEqual(await relayed(source, sql, args), fresh);
        assert.deepEqual(await relayed(source, sql, args), fresh);
      }
    });

    test('take one round trip', async (t) => {
      const dsn = await freshDatabase(t, server);
      const { hostname, port } = new URL(dsn);
      const way = await proxy(t, { host: hostname, port: Number(port) });
      const source = await openSource(t, way.through(dsn));
      const sql = 'SELECT n FROM generate_series(1, $1::int) AS n';
      await relayed(source, sql, [3]);
      const before = way.turns;
      assert.equal((await relayed(source, sql, [4])).rows, 4);
      assert.equal(way.turns - before, 1);
    });

    test('see the tables as they are now', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn);
      await execute(dsn, "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'one')");
      const sql = 'SELECT * FROM t';
      const columnsOf = async () => (await relayed(source, sql)).columns;
      assert.deepEqual(await columnsOf(), ['a BIGINT integer', 'b TEXT text']);
      for (const [change, columns] of [
        ['ALTER TABLE t ALTER a TYPE text', ['a TEXT text', 'b TEXT text']],
        ['ALTER TABLE t ADD c date', ['a TEXT text', 'b TEXT text', 'c DATE date']],
        ['ALTER TABLE t RENAME b TO bb', ['a TEXT text', 'bb TEXT text', 'c DATE date']],
        ['ALTER TABLE t DROP a, DROP c', ['bb TEXT text']],
        [
          'DROP TABLE t; CREATE TABLE t (bb numeric(10, 2)); INSERT INTO t VALUES (1)',
          ['bb DECIMAL numeric(10,2)'],
        ],
      ] as const) {
        await execute(dsn, change);
        const fresh = await relayed(await openSource(t, dsn), sql);
        assert.deepEqual(fresh.columns, columns, change);
        assert.deepEqual(await relayed(source, sql), fresh, change);
        assert.deepEqual(await relayed(source, sql), fresh, change);
      }
      await execute(dsn, 'DROP TABLE t');
      const gone = await refused(relayed(source, sql));
      assert.match(gone, /relation "t" does not exist/);
    });

    test('are forgotten when they have become others: that costs one connection, once', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn, 1);
      await execute(
        dsn,
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE TYPE letter AS ENUM ('1')",
      );
      const sql = 'SELECT a, pg_backend_pid() AS pid FROM t';
      const first = await relayed(source, sql);
      assert.deepEqual(await relayed(source, sql), first);
      await execute(dsn, "ALTER TABLE t ALTER a TYPE letter USING '1'");
      const changed = await relayed(source, sql);
      assert.deepEqual(changed.columns, ['a TEXT letter', 'pid BIGINT integer']);
      // The same process serves them.
      assert.deepEqual(await relayed(source, sql), changed);
      assert.deepEqual(await relayed(source, sql), changed);
    });

    test('take arguments of the types that they have now', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn);
      await execute(dsn, 'CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)');
      const sql = 'SELECT count(*) AS n FROM t WHERE a > $1';
      for (const [change, arg] of [
        ['SELECT', '1'],
        ['ALTER TABLE t ALTER a TYPE numeric', '1.5'],
        ['ALTER TABLE t ALTER a TYPE text', 'x'],
        ["ALTER TABLE t ALTER a TYPE date USING '2024-02-29'", '2024-02-28'],
      ] as const) {
        await execute(dsn, change);
        const fresh = await relayed(await openSource(t, dsn), sql, [arg]);
        assert.deepEqual(await relayed(source, sql, [arg]), fresh, change);
        assert.deepEqual(await relayed(source, sql, [arg]), fresh, change);
      }
    });

    test('fail as they do the first time', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(
        dsn,
        `CREATE TABLE written (x int); CREATE SEQUENCE s;
         CREATE FUNCTION writes(x int) RETURNS int LANGUAGE plpgsql AS $$
           BEGIN IF x > 1 THEN INSERT INTO written VALUES (x); END IF; RETURN x; END $$`,
      );
      const source = await openSource(t, dsn);
      for (const [sql, good, bad] of [
        ['SELECT $1::int AS x', ['1'], ['no number']],
        ['SELECT $1::int AS x', ['1'], ['1', '2']],
        ['SELECT $1::int AS x', ['1'], []],
        ['SELECT 1 / $1::int AS x', ['1'], ['0']],
        ['SELECT 10 / (5 - n) AS x FROM generate_series(1, $1::int) AS n', ['4'], ['5']],
        ['SELECT writes($1::int) AS x', ['1'], ['2']],
        ['SELECT pg_sleep($1::float8) AS x', ['0'], ['1000']],
      ] as const) {
        const fields = sql.includes('pg_sleep') ? { timeout_ms: 100 } : {};
        const fresh = await refused(relayed(await openSource(t, dsn), sql, bad, fields));
        await relayed(source, sql, good, fields);
        assert.equal(await refused(relayed(source, sql, bad, fields)), fresh);
        await relayed(source, sql, good, fields);
      }
      assert.deepEqual(await execute(dsn, 'SELECT x FROM written'), []);
    });

    test('are marked, and end in the server when they are cancelled', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn, 1);
      for (const sql of [
        'SELECT pg_sleep(1000) AS x',
        "SELECT repeat('x', 100) AS x, generate_series(1, 1000000000000) AS y",
      ]) {
        for (const round of [1, 2, 3]) {
          const asker = owner(`endless${round}`);
          const running = async () =>
            (await execute(dsn, `SELECT 1 FROM pg_stat_activity WHERE application_name = '${marker(asker)}'`))
              .length > 0;
          const cancel = new AbortController();
          const reason = new Error('not wanted any more');
          await using result = await source.query(
            sql,
            [],
            queryOptions(BINARY, { owner: asker, signal: cancel.signal }),
          );
          const reading = assert.rejects(
            async () => {
              for await (const _ of streamOf(result.body));
            },
            (error) => error === reason,
          );
          await until('it runs', running);
          cancel.abort(reason);
          await reading;
          await until('it has ended', async () => !(await running()));
        }
      }
      assert.equal((await relayed(source, 'SELECT 1 AS x')).rows, 1);
    });

    test('on a connection that died unnoticed: over another one', async (t) => {
      const dsn = await freshDatabase(t, server);
      const { hostname, port } = new URL(dsn);
      const way = await proxy(t, { host: hostname, port: Number(port) });
      const source = await openSource(t, way.through(dsn));
      const sql = 'SELECT 1 AS x';
      const fresh = await relayed(source, sql);
      way.cut();
      assert.deepEqual(await relayed(source, sql), fresh);
    });

    test('cut at any byte, a result is complete or an error', async (t) => {
      const dsn = await freshDatabase(t, server);
      const { hostname, port } = new URL(dsn);
      const way = await proxy(t, { host: hostname, port: Number(port) });
      const source = await openSource(t, way.through(dsn));
      const sql = "SELECT n, 'row ' || n AS label FROM generate_series(1, 20) AS n";
      const whole = await relayed(source, sql);
      const before = way.bytes.toClient;
      assert.deepEqual(await relayed(source, sql), whole);
      const size = way.bytes.toClient - before;
      let errors = 0;
      for (let at = 1; at < size; at += 17) {
        way.cutAfter('toClient', at);
        try {
          assert.deepEqual(await relayed(source, sql), whole);
        } catch (error) {
          assert.ok(error instanceof DatabaseError, String(error));
          assert.equal(error.code, 'unavailable');
          errors += 1;
        }
        way.cut();
      }
      assert.ok(errors > 0);
    });
  });
}
