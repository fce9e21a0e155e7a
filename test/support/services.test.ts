import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { createConnection } from 'mysql2/promise';
import pg from 'pg';
import { execute, freshDatabase, leftQueries, runningQueries, SERVERS, servers } from './services.ts';
import { until } from './until.ts';

/** A statement that takes longer than any test. */
const ENDLESS = {
  postgres: 'SELECT pg_sleep(1000) /* endless */',
  mysql: 'SELECT sleep(1000) /* endless */',
  clickhouse: "SELECT count(), 'endless' FROM system.numbers WHERE NOT ignore(number)",
} as const;

for (const server of SERVERS) {
  const { engine } = server;
  suite(server.name, { skip: server.skip }, () => {
    if (engine === 'redis') {
      test('gives a database of the test’s own, and empties it afterwards', async (t) => {
        const mine = await freshDatabase(t, server);
        let dsn = '';
        await t.test('used', async (inner) => {
          dsn = await freshDatabase(inner, server);
          assert.notEqual(dsn, mine);
          await execute(dsn, ['SET', 'a', 'b c']);
          assert.deepEqual(await execute(dsn, 'GET a'), [['b c']]);
          assert.deepEqual(await execute(mine, 'GET a'), [[null]]);
        });
        assert.deepEqual(await execute(dsn, 'GET a'), [[null]]);
      });
      return;
    }

    test('gives a database of the test’s own, and drops it afterwards', async (t) => {
      let dsn = '';
      await t.test('used', async (inner) => {
        dsn = await freshDatabase(inner, server);
        assert.deepEqual(await execute(dsn, "SELECT 1, 'a', NULL"), [['1', 'a', null]]);
      });
      await assert.rejects(execute(dsn, 'SELECT 1'), /does not exist|doesn't exist|Unknown database/);
    });

    test('drops it after the hooks that came later', async (t) => {
      let stillThere: unknown;
      await t.test('used', async (inner) => {
        const dsn = await freshDatabase(inner, server);
        inner.after(async () => {
          stillThere = await execute(dsn, 'SELECT 1');
        });
      });
      assert.deepEqual(stillThere, [['1']]);
    });

    test('gives values as the server prints them', async (t) => {
      const dsn = await freshDatabase(t, server);
      const decimal =
        engine === 'clickhouse' ? "toDecimal128('12345678901234567890.10', 2)" : '12345678901234567890.10';
      assert.deepEqual(await execute(dsn, `SELECT 9007199254740993, ${decimal}, 'é\\\\x'`), [
        // A backslash stands for itself in Postgres' strings alone.
        ['9007199254740993', '12345678901234567890.10', engine === 'postgres' ? 'é\\\\x' : 'é\\x'],
      ]);
    });

    test('rejects with the server’s own error', async (t) => {
      const dsn = await freshDatabase(t, server);
      await assert.rejects(execute(dsn, 'SELECT nonsense'), /nonsense/);
    });

    test('tells what runs in a database, and ends it with the database', async (t) => {
      let ended: Promise<unknown> | undefined;
      await t.test('used', async (inner) => {
        const dsn = await freshDatabase(inner, server);
        assert.deepEqual(await leftQueries(dsn, 'endless'), []);
        const other = engine === 'clickhouse' ? null : await freshDatabase(inner, server);
        ended = outcome(execute(dsn, ENDLESS[engine]));
        await until('it runs', async () => (await leftQueries(dsn, 'endless')).length === 1);
        if (other !== null) assert.deepEqual(await runningQueries(other), []);
        if (engine === 'clickhouse')
          await execute(dsn, "KILL QUERY WHERE query LIKE '%endless%' AND query NOT LIKE 'KILL%' SYNC");
      });
      assert.match(String(await ended), /terminat|closed|was cancelled/i);
    });
  });
}

/** The error with which it rejects. */
function outcome(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => 'it came to its end',
    (error: unknown) => error,
  );
}

for (const server of servers('postgres')) {
  test(`${server.name}: a transaction left open counts as running, an idle session does not`, {
    skip: server.skip,
  }, async (t) => {
    const dsn = await freshDatabase(t, server);
    const client = new pg.Client({ connectionString: dsn, application_name: 'job 17' });
    await client.connect();
    t.after(() => client.end());
    assert.deepEqual(await leftQueries(dsn), []);
    await client.query('BEGIN');
    const [left] = await leftQueries(dsn, 'job 17');
    assert.deepEqual(left && [left.application, left.query], ['job 17', 'BEGIN']);
  });
}

for (const server of servers('mysql')) {
  test(`${server.name}: a session with locks does not keep its database`, {
    skip: server.skip,
  }, async (t) => {
    let dsn = '';
    await t.test('used', async (inner) => {
      dsn = await freshDatabase(inner, server);
      await execute(dsn, 'CREATE TABLE a (b INTEGER)');
      const client = await createConnection({ uri: dsn });
      client.on('error', () => {}); // it is ended with the database
      await client.query('START TRANSACTION');
      await client.query('SELECT * FROM a');
    });
    await assert.rejects(execute(dsn, 'SELECT 1'), { code: 'ER_BAD_DB_ERROR' });
  });
}
