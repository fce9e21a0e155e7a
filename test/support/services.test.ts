import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { databaseOf, execute, freshDatabase, runningQueries, SERVERS } from './services.ts';

for (const server of SERVERS) {
  suite(server.name, { skip: server.skip }, () => {
    test('gives a database of the test’s own, and it is gone afterwards', async (t) => {
      let dsn = '';
      await t.test('used', async (inner) => {
        dsn = await freshDatabase(inner, server);
        if (server.engine === 'redis') {
          await execute(dsn, 'SET a b');
          assert.deepEqual(await execute(dsn, 'GET a'), [['b']]);
          return;
        }
        assert.deepEqual(await runningQueries(dsn), []);
        assert.deepEqual(await execute(dsn, "SELECT 1, 'a', NULL"), [['1', 'a', null]]);
      });
      if (server.engine === 'redis') assert.deepEqual(await execute(dsn, 'GET a'), [[null]]);
      else await assert.rejects(execute(dsn, 'SELECT 1'));
      assert.notEqual(databaseOf(dsn, 'x'), dsn);
    });
  });
}
