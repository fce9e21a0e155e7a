/** What keeps a server between real databases from starting, and what it says then. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { suite, type TestContext, test } from 'node:test';
import { tempFolder } from '../../support/folder.ts';
import { databaseOf, execute, freshDatabase } from '../../support/services.ts';
import {
  at,
  launch,
  resultsFile,
  SECRET,
  type Settings,
  service,
  setup,
  type WatchedServer,
} from './support.ts';

/** What it prints: lines on standard error, with exit code 1, and nothing has listened. */
async function refusal(server: WatchedServer): Promise<readonly string[]> {
  assert.equal(await server.exited(), 1, server.stderr);
  assert.equal(server.url, '', 'nothing listened');
  assert.ok(!/\bat .*\.(ts|js):\d+/.test(server.stderr), `no stack: ${server.stderr}`);
  return server.stderr.trimEnd().split('\n');
}

async function onlyLine(server: WatchedServer): Promise<string> {
  const [line = '', ...others] = await refusal(server);
  assert.deepEqual(others, []);
  return line;
}

/** A port that takes connections and says nothing, or one that nobody listens on. */
async function deafPort(t: TestContext, { listens }: { readonly listens: boolean }): Promise<number> {
  const sockets = new Set<Socket>();
  const listener = createServer((socket) => sockets.add(socket)).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  assert.ok(address !== null && typeof address === 'object');
  const close = async () => {
    for (const socket of sockets) socket.destroy();
    if (listener.listening) await new Promise((resolve) => listener.close(resolve));
  };
  if (listens) t.after(close);
  else await close();
  return address.port;
}

function withFile(t: TestContext, db: Settings, results?: Settings) {
  const file = resultsFile(join(tempFolder(t), 'results.db')).settings;
  return setup(t, {
    tasks: '-- name: one\nSELECT 1 AS n',
    db: { app: db },
    results: { reports: results ?? file },
  });
}

suite('the start', { concurrency: 2 }, () => {
  // How long the silence of ClickHouse is borne is not for connect_timeout to say: the connection is there.
  for (const scheme of ['http', 'postgres', 'mysql']) {
    test(`with a source that is down, or does not answer: ${scheme}`, async (t) => {
      const gone = await deafPort(t, { listens: false });
      const down = withFile(t, at(`${scheme}://someone:${SECRET}@127.0.0.1:${gone}/books`));
      assert.match(await onlyLine(launch(t, down)), /^dungbeetle: db "app": .*(ECONNREFUSED|refused)/);
      const deaf = await deafPort(t, { listens: true });
      const silent = at(`${scheme}://someone:${SECRET}@127.0.0.1:${deaf}/books`);
      const line = await onlyLine(launch(t, withFile(t, { ...silent, connect_timeout: '500ms' })));
      assert.match(line, /^dungbeetle: db "app": .*\d s/);
    });
  }

  for (const scheme of ['postgres', 'mysql']) {
    test(`with a results server that is down, or does not answer: ${scheme}`, async (t) => {
      const path = join(tempFolder(t), 'source.db');
      new DatabaseSync(path).close();
      const source = { type: 'sqlite', dsn: path };
      const gone = await deafPort(t, { listens: false });
      const down = withFile(t, source, at(`${scheme}://someone:${SECRET}@127.0.0.1:${gone}/books`));
      assert.match(
        await onlyLine(launch(t, down)),
        /^dungbeetle: results "reports": .*(ECONNREFUSED|refused)/,
      );
      const deaf = await deafPort(t, { listens: true });
      const silent = at(`${scheme}://someone:${SECRET}@127.0.0.1:${deaf}/books`);
      const line = await onlyLine(launch(t, withFile(t, source, { ...silent, connect_timeout: '500ms' })));
      assert.match(line, /^dungbeetle: results "reports": /);
    });
  }

  for (const server of [service('postgres-18'), service('mariadb'), service('clickhouse')]) {
    test(`with a password or a database that ${server.name} does not know`, {
      skip: server.skip,
    }, async (t) => {
      const dsn = await freshDatabase(t, server);
      const wrong = new URL(dsn);
      wrong.password = SECRET;
      assert.match(
        await onlyLine(launch(t, withFile(t, at(wrong.href)))),
        /^dungbeetle: db "app": .*(password|denied)/i,
      );
      const nowhere = withFile(t, at(databaseOf(dsn, 'nowhere')));
      assert.match(await onlyLine(launch(t, nowhere)), /^dungbeetle: db "app": .*nowhere/);
    });

    test(`with tasks that ${server.name} cannot run, and one that is raw`, {
      skip: server.skip,
    }, async (t) => {
      const dsn = await freshDatabase(t, server);
      const memory = server.engine === 'clickhouse' ? ' ENGINE = Memory' : '';
      await execute(dsn, `CREATE TABLE entries (id ${memory === '' ? 'bigint' : 'Int64'})${memory}`);
      const faulty: readonly (readonly [string, RegExp])[] = [
        ['SELECT * FROM no_such_table', /no_such_table/],
        ['SELECT 1; SELECT 2', /one statement|syntax|multiple commands/],
        ['DELETE FROM entries', /read|no rows/i],
        ['INSERT INTO entries SELECT 1', /read|no rows/i],
        ['CREATE TABLE other AS SELECT 1 AS n', /read|no rows/i],
        ['SELEC 1', /SELEC|read/i],
      ];
      const tasks = [
        '-- name: fine\nSELECT id FROM entries\n',
        '-- name: raw_one\n-- raw: 1\nSELECT * FROM not_there_yet\n',
        ...faulty.map(([sql], index) => `-- name: faulty_${index}\n${sql}\n`),
      ].join('');
      const { settings } = resultsFile(join(tempFolder(t), 'results.db'));
      const place = setup(t, { tasks, db: { app: at(dsn) }, results: { reports: settings } });
      const lines = await refusal(launch(t, place));
      assert.equal(lines.length, faulty.length, lines.join('\n'));
      for (const [index, [sql, message]] of faulty.entries()) {
        assert.match(
          lines[index] ?? '',
          new RegExp(`tasks\\.sql:${6 + 2 * index}: task "faulty_${index}" on db "app": `),
          sql,
        );
        assert.match(lines[index] ?? '', message);
      }
      assert.deepEqual(await execute(dsn, 'SELECT count(*) FROM entries'), [['0']]);
    });

    test(`with nothing but a raw task on ${server.name}, which fails when it runs`, {
      skip: server.skip,
    }, async (t) => {
      const dsn = await freshDatabase(t, server);
      const { settings } = resultsFile(join(tempFolder(t), 'results.db'));
      const place = setup(t, {
        tasks:
          '-- name: raw_one\n-- raw: 1\nSELECT 1 AS n FROM not_there_yet\n-- name: raw_write\n-- raw: 1\nDROP TABLE not_there_yet',
        db: { app: at(dsn) },
        results: { reports: settings },
      });
      const running = await launch(t, place).started();
      const failed = await running.finished(await running.post('raw_one', { retries: 5 }));
      assert.equal(failed.state, 'FAILURE');
      assert.equal(failed.attempt, 1, 'it is not retried');
      assert.match(failed.error, /^db "app": .*not_there_yet/);
      const memory = server.engine === 'clickhouse' ? ' ENGINE = Memory' : '';
      await execute(dsn, `CREATE TABLE not_there_yet (id ${memory === '' ? 'bigint' : 'Int64'})${memory}`);
      const done = await running.finished(await running.post('raw_one'));
      assert.equal(done.state, 'SUCCESS', done.error);
      const written = await running.finished(await running.post('raw_write'));
      assert.equal(written.state, 'FAILURE');
      assert.match(written.error, /^db "app": .*(read|no rows)/i);
      assert.deepEqual(await execute(dsn, 'SELECT count(*) FROM not_there_yet'), [['0']]);
    });
  }
});
