import assert from 'node:assert/strict';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { launch } from '../support/server.ts';
import { leftovers, rows, setup } from '../support/setup.ts';

/** What a server prints when it does not start: one line, and exit code 1. */
async function refusal(server: ReturnType<typeof launch>): Promise<string> {
  assert.equal(await server.exited(), 1, server.stderr);
  const text = server.stderr.trimEnd();
  assert.ok(text.length > 0, 'it says why');
  assert.ok(!text.includes('\n'), `one line: ${text}`);
  assert.ok(!/\bat .*\.(ts|js):\d+/.test(text), `no stack: ${text}`);
  assert.equal(server.url, '', 'nothing listened');
  return text;
}

test('a port in use', async (t) => {
  const place = setup(t);
  const other = createServer().listen(0, '127.0.0.1');
  t.after(() => other.close());
  await new Promise((resolve) => other.once('listening', resolve));
  const address = other.address();
  assert.ok(address !== null && typeof address === 'object');
  const server = launch(t, place.folder, ['--server', `127.0.0.1:${address.port}`]);
  assert.match(await refusal(server), new RegExp(`127.0.0.1:${address.port}.*in use`));
});

test('tasks that write, are no SQL, or name unknown databases: the server says which, and does not start', async (t) => {
  const faulty: [string, RegExp][] = [
    ['DELETE FROM entries', /DELETE/],
    ['WITH x AS (SELECT 1) INSERT INTO entries (id) SELECT 1 FROM x', /writes/],
    ['SELECT 1; DROP TABLE entries', /one statement/],
    ["VACUUM INTO 'copy.db'", /VACUUM/],
    ["ATTACH 'other.db' AS other", /ATTACH/],
    ['PRAGMA journal_mode = DELETE', /PRAGMA/],
    ['SELEC 1', /SELEC/],
    ['SELECT 1 FROM', /incomplete input|syntax error/],
    ['SELECT * FROM no_such_table', /no such table: no_such_table/],
  ];
  const place = setup(t, { tasks: faulty.map(([sql], n) => `-- name: faulty_${n}\n${sql};\n`).join('') });
  const server = launch(t, place.folder);
  assert.equal(await server.exited(), 1);
  const lines = server.stderr.trimEnd().split('\n');
  assert.equal(lines.length, faulty.length, server.stderr);
  for (const [n, [sql, message]] of faulty.entries()) {
    const line = lines[n] ?? '';
    assert.match(line, new RegExp(`tasks\\.sql:${2 * n + 2}:\\d+: .*faulty_${n}.*ledger`), sql);
    assert.match(line, message);
  }
  assert.equal(server.url, '', 'nothing listened');
});

test('tasks with unknown names, twice the same name', async (t) => {
  const unknown = setup(t, { tasks: '-- name: a\n-- db: nowhere\nSELECT 1;' });
  assert.match(await refusal(launch(t, unknown.folder)), /tasks\.sql:1: .*nowhere.*ledger/);
  const twice = setup(t, { tasks: '-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;' });
  assert.match(await refusal(launch(t, twice.folder)), /tasks\.sql:3: .*"a".*line 1/);
});

test('a typo in the configuration, a source that is not there or not a database', async (t) => {
  const typo = setup(t, { app: 'log_levle = "INFO"' });
  assert.match(await refusal(launch(t, typo.folder)), /config\.toml.*log_levle.*log_level/);

  const missing = setup(t);
  rmSync(missing.ledger);
  assert.match(await refusal(launch(t, missing.folder)), /ledger/);

  const garbage = setup(t);
  writeFileSync(garbage.ledger, 'this is not a database, however long it may be. '.repeat(100));
  assert.match(await refusal(launch(t, garbage.folder)), /ledger.*not a database/);
});

test('a store or a results folder that cannot be written', async (t) => {
  const place = setup(t);
  mkdirSync(join(place.folder, 'queue.db'));
  assert.match(await refusal(launch(t, place.folder)), /queue\.db|store/);
});

test('a source that goes away fails its jobs, and the server lives and recovers', async (t) => {
  const place = setup(t, { app: 'ready = ["store", "db"]' });
  const server = await launch(t, place.folder).started();
  renameSync(place.ledger, `${place.ledger}.away`);
  const job = await server.finished(await server.post('total'));
  assert.equal(job.state, 'FAILURE');
  assert.match(job.error, /ledger/);
  assert.equal((await server.request('GET', '/health/ready')).http, 503);
  renameSync(`${place.ledger}.away`, place.ledger);
  assert.equal((await server.finished(await server.post('total'))).state, 'SUCCESS');
  assert.equal((await server.request('GET', '/health/ready')).http, 200);
});

test('hostile ids and column names are data, not SQL', async (t) => {
  const place = setup(t, {
    tasks: `-- name: hostile\nSELECT 1 AS "a""; DROP TABLE entries; --", 2 AS "", 3 AS "a", 4 AS "A", 5 AS "a"`,
  });
  const server = await launch(t, place.folder).started();
  const bad = ['a"b', "a'b", 'a.b', 'a b', 'ü', '', 'x'.repeat(129), '../x', 'a;b', 'a%b'];
  for (const job_id of bad.filter((id) => id !== '')) {
    const answer = await server.request('POST', '/tasks/hostile/jobs', { job_id });
    assert.equal(answer.http, 400, job_id);
    const group = await server.request('POST', '/groups', { jobs: [{ task: 'hostile', job_id }] });
    assert.equal(group.http, 400, job_id);
  }
  const job = await server.finished(await server.post('hostile', { job_id: 'x'.repeat(128) }));
  assert.equal(job.state, 'SUCCESS', job.error);
  const [row = {}] = rows(place.results, `SELECT * FROM "${job.result?.table}"`);
  assert.deepEqual(Object.values(row), [1, 2, 3, 4, 5]);
  assert.equal(new Set(Object.keys(row).map((name) => name.toLowerCase())).size, 5);
});

test('ids that differ only by case have tables of their own', async (t) => {
  const place = setup(t);
  const server = await launch(t, place.folder).started();
  await server.post('numbers', { job_id: 'Mine', args: [1] });
  const first = await server.finished('Mine');
  await server.post('numbers', { job_id: 'mine', args: [2] });
  const second = await server.finished('mine');
  assert.equal(first.state, 'SUCCESS');
  assert.equal(second.state, 'SUCCESS', second.error);
  assert.notEqual(first.result?.table.toLowerCase(), second.result?.table.toLowerCase());
  for (const job of [first, second]) {
    assert.equal(rows(place.results, `SELECT * FROM "${job.result?.table}"`).length, job.count);
  }
  assert.deepEqual(leftovers(place), []);
});

test('secrets and arguments stay out of the log', async (t) => {
  const place = setup(t);
  const server = await launch(t, place.folder, [], { DUNGBEETLE_APP__LOG_LEVEL: 'INFO' }).started();
  const job = await server.finished(await server.post('by_user', { args: ['secret-argument'] }));
  assert.equal(job.state, 'SUCCESS');
  const failed = await server.finished(
    await server.post('numbers', { args: ['secret-argument', 'another'] }),
  );
  assert.equal(failed.state, 'FAILURE');
  assert.equal(await server.stop(), 0);
  assert.ok(!JSON.stringify(server.log).includes('secret-argument'));
  const lines = server.log.filter(
    (entry) => entry['job_id'] === job.job_id && entry['attempt'] !== undefined,
  );
  assert.ok(lines.length > 0, 'the lines of a job can be found by its id');
  for (const line of lines) assert.equal(line['task'], 'by_user');
});
