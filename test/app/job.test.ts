import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openSqliteStore } from '../../src/queue/stores/sqlite.ts';
import { launch } from '../support/server.ts';
import { ENTRIES, leftovers, rows, setup } from '../support/setup.ts';
import { until } from '../support/until.ts';

test('a report goes from PENDING over STARTED to SUCCESS, and its table holds every row', async (t) => {
  const place = setup(t);
  const server = await launch(t, place.folder).started();
  const id = await server.post('all_entries', { job_id: 'all' });
  assert.equal(id, 'all');
  const job = await server.finished(id);
  assert.equal(job.state, 'SUCCESS', job.error);
  assert.equal(job.count, ENTRIES);
  assert.equal(job.result?.table, 'results_all');
  assert.equal(job.result.backend, 'reports');
  assert.deepEqual(
    rows(place.results, 'SELECT * FROM results_all'),
    rows(place.ledger, 'SELECT * FROM entries ORDER BY id'),
  );
  assert.equal(await server.stop(), 0);
});

test('progress grows while a report runs, and is null before and after', async (t) => {
  const place = setup(t);
  const server = await launch(t, place.folder, [], {
    DUNGBEETLE_APP__HEARTBEAT: '50ms',
    DUNGBEETLE_APP__LEASE: '5s',
  }).started();
  const id = await server.post('numbers', { args: [3_000_000] });
  const seen = await until('there is progress', async () => (await server.job(id)).progress ?? undefined);
  assert.ok(['query', 'load', 'publish'].includes(seen.phase), seen.phase);
  await until('rows are counted while they move', async () => {
    const job = await server.job(id);
    assert.ok(job.state !== 'SUCCESS', 'rows were never shown while it ran');
    return (job.progress?.rows ?? 0) > 0;
  });
  const job = await server.finished(id);
  assert.equal(job.count, 3_000_000);
  assert.equal(job.progress, null);
});

test('a rerun under the same id replaces the table, and readers never miss it or see it half', async (t) => {
  const place = setup(t);
  const server = await launch(t, place.folder).started();
  await server.post('numbers', { job_id: 'again', args: [40_000] });
  assert.equal((await server.finished('again')).state, 'SUCCESS');
  for (let run = 0; run < 3; run++) {
    await server.post('numbers', { job_id: 'again', args: [40_000] });
    for (;;) {
      const [{ count } = {}] = rows(place.results, 'SELECT count(*) AS count FROM results_again');
      assert.equal(count, 40_000);
      const { state } = await server.job('again');
      if (state === 'SUCCESS') break;
      assert.ok(state === 'PENDING' || state === 'STARTED', state);
    }
  }
  await until('nothing but the one table is left', () => leftovers(place).length === 0);
});

test('an argument reaches the query as what it is', async (t) => {
  const place = setup(t, {
    tasks:
      '-- name: kinds\nSELECT typeof(?1) AS a, typeof(?2) AS b, typeof(?3) AS c, typeof(?4) AS d, typeof(?5) AS e',
  });
  const server = await launch(t, place.folder).started();
  const id = await server.post('kinds', { job_id: 'kinds', args: ['1', 1, 1.5, true, null] });
  const job = await server.finished(id);
  assert.equal(job.state, 'SUCCESS', job.error);
  assert.deepEqual(
    rows(place.results, 'SELECT * FROM results_kinds').map((row) => ({ ...row })),
    [{ a: 'text', b: 'integer', c: 'real', d: 'integer', e: 'null' }],
  );
});

test('too few and too many arguments fail the job at once, without retries', async (t) => {
  const place = setup(t);
  const server = await launch(t, place.folder).started();
  for (const args of [[], ['USER1', 'USER2']]) {
    const job = await server.finished(await server.post('by_user', { args, retries: 3 }));
    assert.equal(job.state, 'FAILURE');
    assert.equal(job.attempt, 1);
    assert.match(job.error, /1 argument/);
  }
});

test('a report that fails midway leaves no table', async (t) => {
  const place = setup(t);
  const server = await launch(t, place.folder).started();
  const job = await server.finished(await server.post('fail_midway', { job_id: 'midway' }));
  assert.equal(job.state, 'FAILURE');
  assert.match(job.error, /malformed JSON/);
  assert.equal(job.result, null);
  assert.deepEqual(rows(place.results, "SELECT name FROM sqlite_master WHERE name LIKE '%midway%'"), []);
  assert.deepEqual(leftovers(place), []);
});

test('a limit that is reached fails the job and says so; nothing is cut in silence', async (t) => {
  const place = setup(t, {
    tasks: `
-- name: few
-- max_rows: 10
SELECT * FROM entries;
-- name: exactly
-- max_rows: 10
SELECT * FROM entries LIMIT 10;
-- name: small
-- max_bytes: 64KB
SELECT * FROM entries;
-- name: endless
-- timeout: 1s
WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n;
`,
  });
  const server = await launch(t, place.folder).started();
  const failures: [string, RegExp][] = [
    ['few', /max_rows/],
    ['small', /max_bytes/],
    ['endless', /timed out after 1 s: the "timeout" tag of task "endless"$/],
  ];
  for (const [task, message] of failures) {
    const job = await server.finished(await server.post(task, { job_id: task }));
    assert.equal(job.state, 'FAILURE', task);
    assert.match(job.error, message);
    assert.deepEqual(
      rows(place.results, 'SELECT name FROM sqlite_master WHERE name = ?', `results_${task}`),
      [],
    );
  }
  const exactly = await server.finished(await server.post('exactly'));
  assert.equal(exactly.state, 'SUCCESS', exactly.error);
  assert.equal(exactly.count, 10);
});

test('a job that takes too long says whose limit it was', async (t) => {
  const place = setup(t, { app: 'default_job_ttl = "30s"\ntimeout = "250ms"' });
  const server = await launch(t, place.folder).started();
  const job = await server.finished(await server.post('count_to_gate'));
  assert.equal(job.error, 'timed out after 0.25 s: timeout in [app] of the configuration');
  const sooner = await server.finished(await server.post('count_to_gate', { timeout: 0.2 }));
  assert.equal(sooner.error, 'timed out after 0.2 s: the "timeout" of its request');
});

test('a table whose job is forgotten can be purged', async (t) => {
  const place = setup(t);
  const server = await launch(t, place.folder).started();
  const id = await server.post('total', { job_id: 'old' });
  await server.finished(id);
  // As when its record expires.
  const store = await openSqliteStore({ path: place.queue });
  t.after(() => store.close());
  await store.purge(id);
  const table = "SELECT 1 FROM sqlite_master WHERE name = 'results_old'";
  assert.equal(rows(place.results, table).length, 1);
  assert.equal((await server.request('DELETE', `/jobs/${id}?purge=true`)).http, 200);
  assert.equal(rows(place.results, table).length, 0);
  assert.equal((await server.request('DELETE', `/jobs/${id}?purge=true`)).code, 'unknown_job');
});

test('a result table is dropped when its time is up', async (t) => {
  const place = setup(t, { app: 'results_sweep = "50ms"' });
  const server = await launch(t, place.folder).started();
  const id = await server.post('total', { job_id: 'brief', ttl: 1 });
  const job = await server.finished(id);
  assert.equal(job.state, 'SUCCESS', job.error);
  await until(
    'the table is gone',
    () => rows(place.results, "SELECT 1 FROM sqlite_master WHERE name = 'results_brief'").length === 0,
  );
  assert.equal((await server.job(id)).state, 'SUCCESS');
});

test('the API answers while every worker is inside an endless query', async (t) => {
  const place = setup(t);
  const server = await launch(t, place.folder).started();
  const ids = await Promise.all(Array.from({ length: 4 }, () => server.post('count_to_gate')));
  for (const id of ids) await until('it runs', async () => (await server.job(id)).state === 'STARTED');
  assert.equal((await server.request('GET', '/health/ready')).http, 200);
  // And another job runs beside them.
  assert.equal((await server.finished(await server.post('total'))).state, 'SUCCESS');
  for (const id of ids) {
    assert.equal((await server.request('DELETE', `/jobs/${id}`)).http, 200);
    assert.equal((await server.finished(id)).state, 'CANCELLED');
  }
  assert.deepEqual(leftovers(place), []);
});

test('a comment in a query that looks like a tag is warned of, and is no tag', async (t) => {
  const place = setup(t, {
    tasks: '-- name: one\nSELECT id\n-- max_rows: 1\nFROM entries\n-- priority: 7\n',
  });
  const server = await launch(t, place.folder).started();
  const warned = server.log.filter(({ tag }) => tag !== undefined);
  assert.deepEqual(
    warned.map(({ level, task, tag, place }) => [level, task, tag, String(place).replace(/^.*\//, '')]),
    [
      ['warn', 'one', 'max_rows', 'tasks.sql:3'],
      ['warn', 'one', 'priority', 'tasks.sql:5'],
    ],
  );
  const job = await server.finished(await server.post('one'));
  assert.equal(job.count, ENTRIES, job.error);
});
