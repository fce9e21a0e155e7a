import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { execute, noPrivate, startPrivate } from './services.ts';

const NAMES = ['postgres-15', 'postgres-18', 'mariadb', 'clickhouse', 'redis'] as const;

/** One statement that shows that it answers. */
const ask = (name: string) => (name === 'redis' ? 'PING' : 'SELECT 1');

for (const name of NAMES) {
  suite(name, { skip: noPrivate(name) }, () => {
    test('comes back with what it had after a SIGKILL and after a restart, on the same port', async (t) => {
      const server = await startPrivate(t, name);
      if (name !== 'redis') {
        await execute(
          server.dsn,
          `CREATE TABLE kept (a INTEGER)${name === 'clickhouse' ? ' ENGINE = Log' : ''}`.replace(
            'INTEGER',
            name === 'clickhouse' ? 'Int32' : 'INTEGER',
          ),
        );
        await execute(server.dsn, 'INSERT INTO kept VALUES (7)');
      }
      const before = server.pid;
      await server.kill();
      await assert.rejects(execute(server.dsn, ask(name)));
      await server.start();
      assert.notEqual(server.pid, before);
      if (name !== 'redis') assert.deepEqual(await execute(server.dsn, 'SELECT a FROM kept'), [['7']]);
      await server.restart();
      if (name !== 'redis') assert.deepEqual(await execute(server.dsn, 'SELECT a FROM kept'), [['7']]);
    });
  });
}
