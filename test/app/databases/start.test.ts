/** What keeps a server between real databases from starting, and what it says then. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { suite, type TestContext, test } from 'node:test';
import { tempFolder } from '../../support/folder.ts';
import { afterOthers } from '../../support/scope.ts';
import { databaseOf, execute, freshDatabase, proxy, servers } from '../../support/services.ts';
import {
  at,
  eventsOf,
  launch,
  resultsFile,
  SECRET,
  type Settings,
  service,
  setup,
  skipOf,
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

/** A port that takes connections and says nothing. */
async function deafPort(t: TestContext): Promise<number> {
  const sockets = new Set<Socket>();
  const listener = createServer((socket) => sockets.add(socket)).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  assert.ok(address !== null && typeof address === 'object');
  t.after(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => listener.close(resolve));
  });
  return address.port;
}

function withFile(t: TestContext, db: Settings, results?: Settings) {
  const file = resultsFile(join(tempFolder(t), 'results.db')).settings;
  return setup(t, {
    tasks: '-- name: one\nSELECT 1 AS n',
    db: { app: db },
    results: { reports: results ?? file },
    app: { ready: ['store'] },
  });
}

suite('the start', { concurrency: 2 }, () => {
  for (const [kind, server] of [
    ...[service('postgres-18'), service('mariadb'), service('clickhouse')].map((one) => ['db', one] as const),
    ...[service('postgres-18'), service('mariadb')].map((one) => ['results', one] as const),
  ]) {
    test(`with ${server.name} down as ${kind}: its jobs wait, others run, and all is checked when it comes`, {
      skip: server.skip,
    }, async (t) => {
      const dsn = await freshDatabase(t, server);
      const network = await proxy(t, { port: Number(new URL(dsn).port) });
      network.refuse();
      const away = { ...at(network.through(dsn)), connect_timeout: '10s' };
      const path = join(tempFolder(t), 'source.db');
      new DatabaseSync(path).close();
      const file = resultsFile(join(tempFolder(t), 'results.db')).settings;
      const name = `${kind}.away`;
      const place = setup(t, {
        tasks: [
          `-- name: patient\n-- ${kind}: away\n-- ${kind === 'db' ? 'results' : 'db'}: here\nSELECT 1 AS n`,
          '-- name: prompt\n-- db: here\n-- results: here\nSELECT 1 AS n',
          '-- name: either\nSELECT 1 AS n',
          ...(kind === 'db'
            ? ['-- name: wrong\n-- db: away\n-- results: here\nSELECT 1 AS n\nFROM nowhere_4711']
            : []),
        ].join('\n'),
        db: { here: { type: 'sqlite', dsn: path }, ...(kind === 'db' ? { away } : {}) },
        results: { here: file, ...(kind === 'results' ? { away } : {}) },
        app: { ready: ['store', 'db.here', 'results.here'] },
      });
      const running = await launch(t, place).started();
      const waited = running.log.find(({ event }) => event === 'database_awaited');
      assert.equal(waited?.['database'], name);
      const ready = await running.request<Record<string, string>>('GET', '/health/ready');
      assert.equal(ready.http, 200);
      assert.match(ready.data[name] ?? '', new RegExp(`^${kind} "away": .*(ECONNREFUSED|refused)`));

      const patient = await running.post('patient', { retries: 0 });
      const wrong = kind === 'db' ? await running.post('wrong', { retries: 5 }) : null;
      for (let round = 0; round < 3; round++) {
        const prompt = await running.finished(await running.post('prompt'));
        assert.equal(prompt.state, 'SUCCESS', prompt.error);
      }
      if (kind === 'db') {
        const either = await running.finished(await running.post('either'));
        assert.equal(either.state, 'SUCCESS', 'of two databases the one that is there is taken');
      }
      const waiting = await running.job(patient);
      assert.deepEqual([waiting.state, waiting.attempt, waiting.error], ['PENDING', 0, '']);
      assert.deepEqual(eventsOf(running, patient), []);

      await network.listen();
      const done = await running.finished(patient);
      assert.deepEqual([done.state, done.attempt], ['SUCCESS', 1], done.error);
      const health = await running.request<Record<string, string>>('GET', '/health/ready');
      if (wrong === null) {
        assert.equal(health.data[name], 'ok');
        return;
      }
      const failed = await running.finished(wrong);
      assert.deepEqual([failed.state, failed.attempt], ['FAILURE', 1]);
      assert.match(failed.error, /^db "away": .*nowhere_4711/);
      assert.match(
        health.data[name] ?? '',
        /tasks\.sql:\d+(:\d+)?: task "wrong" on db "away": .*nowhere_4711/,
      );
      const memory = server.engine === 'clickhouse' ? ' ENGINE = Memory' : '';
      await execute(dsn, `CREATE TABLE nowhere_4711 (id ${memory === '' ? 'bigint' : 'Int64'})${memory}`);
      const mended = await running.finished(await running.post('wrong'));
      assert.equal(mended.state, 'SUCCESS', mended.error);
      assert.equal((await running.request<Record<string, string>>('GET', '/health/ready')).data[name], 'ok');
    });
  }

  test('with a source that does not answer: it is waited for, and the start goes on', async (t) => {
    const deaf = await deafPort(t);
    const silent = at(`postgres://someone:${SECRET}@127.0.0.1:${deaf}/books`);
    const running = await launch(t, withFile(t, { ...silent, connect_timeout: '500ms' })).started();
    const ready = await running.request<Record<string, string>>('GET', '/health/ready');
    assert.match(ready.data['db.app'] ?? '', /^db "app": .*\d s/);
    assert.equal(await running.stop(), 0);
  });

  for (const server of [service('postgres-18'), ...servers('mysql'), service('clickhouse')]) {
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
          new RegExp(`tasks\\.sql:${7 + 2 * index}:\\d+: task "faulty_${index}" on db "app": `),
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

  const [postgres, mariadb] = [service('postgres-18'), service('mariadb')];
  test('everything that is refused is told at once, each with its place', {
    skip: skipOf(postgres, mariadb),
  }, async (t) => {
    const [ledger, reports] = [await freshDatabase(t, postgres), await freshDatabase(t, mariadb)];
    const role = `test_start_${randomBytes(4).toString('hex')}`;
    await execute(ledger, `CREATE TABLE entries (id bigint); CREATE ROLE ${role} LOGIN PASSWORD '${SECRET}'`);
    await execute(reports, `CREATE USER '${role}'@'%' IDENTIFIED BY '${SECRET}'`);
    await execute(
      reports,
      `GRANT SELECT, INSERT ON \`${new URL(reports).pathname.slice(1)}\`.* TO '${role}'@'%'`,
    );
    afterOthers(t, async () => {
      if (postgres.dsn !== null) await execute(postgres.dsn, `DROP ROLE ${role}`);
      if (mariadb.dsn !== null) await execute(mariadb.dsn, `DROP USER '${role}'@'%'`);
    });
    const login = (dsn: string, password = SECRET) => {
      const url = new URL(dsn);
      url.username = role;
      url.password = password;
      return at(url.href);
    };
    const folder = tempFolder(t);
    writeFileSync(join(folder, 'results.db-staging'), 'in the way');
    const place = setup(t, {
      tasks: [
        '-- name: denied\n-- db: mine\n\n  SELECT 1 AS n,',
        '    id FROM entries\n-- name: locks\n-- db: full\nSELECT id\nFROM entries FOR UPDATE',
        '-- name: fine\n-- db: full\nSELECT id FROM entries',
      ].join('\n'),
      db: { full: at(ledger), mine: login(ledger), wrong: login(ledger, `${SECRET}-not`) },
      results: {
        postgres: login(ledger),
        mariadb: login(reports),
        sqlite: resultsFile(join(folder, 'results.db')).settings,
      },
    });
    const lines = await refusal(launch(t, place));
    const wanted = [
      /^dungbeetle: db "wrong": .*password/,
      /^results "mariadb": .*denied/,
      /^results "postgres": permission denied for schema public/,
      /^results "sqlite": .*results are collected in the folder/,
      /sql\/tasks\.sql:5:13: task "denied" on db "mine": db "mine": permission denied for table entries/,
      /sql\/tasks\.sql:9:14: task "locks" on db "full": db "full": the statement locks rows/,
    ];
    assert.equal(lines.length, wanted.length, lines.join('\n'));
    for (const [index, pattern] of wanted.entries()) assert.match(lines[index] ?? '', pattern);
  });
});
