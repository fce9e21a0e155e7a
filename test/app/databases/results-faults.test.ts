/** A results server that is killed, restarted, silent, full or takes no writes for a while. */
import assert from 'node:assert/strict';
import { suite, type TestContext, test } from 'node:test';
import { mounted } from '../../support/mount.ts';
import {
  execute,
  freshDatabase,
  noPrivate,
  type PrivateServer,
  privateNames,
  runningQueries,
  setReadOnly,
  startPrivate,
} from '../../support/services.ts';
import { until } from '../../support/until.ts';
import {
  at,
  BEFORE_GATE,
  closeGate,
  DIALECTS,
  eventsOf,
  launch,
  loading,
  onlyTables,
  resultsServer,
  SECRET,
  type Settings,
  service,
  setup,
  skipOf,
  type WatchedServer,
} from './support.ts';

const source = service('postgres-18');
const MYSQLS = privateNames('mysql');
const BACKENDS = ['postgres-15', ...MYSQLS] as const;

async function open(t: TestContext, backend: PrivateServer, settings: Settings = {}, dsn = backend.dsn) {
  const source_dsn = await freshDatabase(t, source);
  const place = setup(t, {
    tasks: `
-- name: gated
${DIALECTS.postgres.gated}
-- name: flood
${DIALECTS.postgres.flood}
-- name: one
SELECT 1 AS n, $1::text AS word`,
    db: { app: at(source_dsn) },
    results: { reports: { ...at(dsn), connect_timeout: '2s', ...settings } },
    app: { ready: ['store', 'db', 'results'] },
  });
  const server = await launch(t, place).started();
  const first = await server.finished(await server.post('one', { job_id: 'old', args: [SECRET] }));
  assert.equal(first.state, 'SUCCESS', first.error);
  return { source_dsn, results: resultsServer(backend.dsn), server };
}

async function awayIs(server: WatchedServer, part: RegExp): Promise<void> {
  assert.equal((await server.request('GET', '/health/live')).http, 200);
  const answer = await server.request('GET', '/health/ready');
  assert.equal(answer.http, 503);
  assert.match(answer.message ?? '', part);
  assert.ok(!answer.message?.includes(';'), `nothing else is away: ${answer.message}`);
}

async function isBack(server: WatchedServer): Promise<void> {
  await until('it is ready', async () => (await server.request('GET', '/health/ready')).http === 200);
}

/** Refuses what writes, or takes it again. */
async function readOnly(server: PrivateServer, on: boolean): Promise<void> {
  if (!MYSQLS.includes(server.engine.name)) return setReadOnly(server, on);
  await execute(server.dsn, `SET GLOBAL read_only = ${on ? 'ON' : 'OFF'}`);
}

/** The DSN of a user that a read-only server refuses: an administrator may always write to MySQL. */
async function plainUser(server: PrivateServer): Promise<string> {
  if (!MYSQLS.includes(server.engine.name)) return server.dsn;
  const url = new URL(server.dsn);
  await execute(server.dsn, `CREATE USER plain@'%' IDENTIFIED BY '${url.password}'`);
  await execute(server.dsn, `GRANT ALL ON ${url.pathname.slice(1)}.* TO plain@'%'`);
  url.username = 'plain';
  return url.href;
}

suite('a results server', { concurrency: 2 }, () => {
  for (const name of BACKENDS) {
    const skip = noPrivate(name) || skipOf(source);

    test(`${name} killed in the midst of a load`, { skip }, async (t) => {
      const backend = await startPrivate(t, name);
      const { source_dsn, results, server } = await open(t, backend);
      const release = await closeGate(t, source_dsn);
      await server.post('gated', { job_id: 'once' });
      await server.post('gated', { job_id: 'again', retries: 100 });
      await loading(server, 'once');
      await loading(server, 'again');
      await backend.kill();
      await release();

      const once = await server.finished('once');
      assert.equal(once.state, 'FAILURE');
      assert.match(once.error, /^results "reports": ./);
      await until('it will run again', async () => eventsOf(server, 'again').includes('retrying'));
      await awayIs(server, /^not ready: results\.reports: /);
      await until(
        'no query is left in the source',
        async () => (await runningQueries(source_dsn)).length === 0,
      );

      await backend.start();
      const again = await server.finished('again');
      assert.equal(again.state, 'SUCCESS', again.error);
      assert.equal(again.count, BEFORE_GATE + 1);
      await isBack(server);
      assert.deepEqual(await results.query('SELECT count(*), max(n) FROM results_again'), [
        [String(BEFORE_GATE + 1), String(BEFORE_GATE + 1)],
      ]);
      await onlyTables(results, ['results_again', 'results_old']);
      assert.equal(await server.stop(), 0);
    });

    test(`${name} that stands still or restarts: cancels work meanwhile, and reports afterwards`, {
      skip,
    }, async (t) => {
      const backend = await startPrivate(t, name);
      const { source_dsn, results, server } = await open(t, backend);
      await server.post('flood', { job_id: 'stuck' });
      await loading(server, 'stuck');
      await backend.pause();
      await awayIs(server, /^not ready: results\.reports: /);
      assert.equal((await server.request('DELETE', '/jobs/stuck')).http, 200);
      assert.equal((await server.finished('stuck')).state, 'CANCELLED');
      await until(
        'its query is gone in the source',
        async () => (await runningQueries(source_dsn)).length === 0,
      );
      backend.resume();
      await isBack(server);
      const job = await server.finished(await server.post('one', { job_id: 'new', args: [SECRET] }));
      assert.equal(job.state, 'SUCCESS', job.error);
      await backend.restart();
      const late = await server.finished(await server.post('one', { job_id: 'late', args: [SECRET] }));
      assert.equal(late.state, 'SUCCESS', late.error);
      await onlyTables(results, ['results_late', 'results_new', 'results_old']);
    });

    test(`${name} that takes no writes for a while`, { skip }, async (t) => {
      const backend = await startPrivate(t, name);
      const { source_dsn, results, server } = await open(t, backend, {}, await plainUser(backend));
      await readOnly(backend, true);
      const once = await server.finished(await server.post('one', { args: [SECRET] }));
      assert.equal(once.state, 'FAILURE');
      assert.match(once.error, /^results "reports": .*read[- ]only/i);
      for (const [task, job_id] of [
        ['one', 'small'],
        ['gated', 'large'],
      ] as const) {
        await server.post(task, { job_id, retries: 100, ...(task === 'one' ? { args: [SECRET] } : {}) });
        await until('it waits', async () => eventsOf(server, job_id).includes('retrying'));
      }
      await until(
        'no query is left in the source',
        async () => (await runningQueries(source_dsn)).length === 0,
      );
      await readOnly(backend, false);
      for (const id of ['small', 'large']) {
        const job = await server.finished(id);
        assert.equal(job.state, 'SUCCESS', job.error);
      }
      await onlyTables(results, ['results_large', 'results_old', 'results_small']);
    });

    test(`${name} whose disk is full`, { skip }, async (t) => {
      const folder = mounted(t, MYSQLS.includes(name) ? 'size=180m' : 'size=120m');
      if (folder === null) return;
      const backend = await startPrivate(t, name, { dataFolder: folder });
      // A Postgres whose write-ahead log finds no room ends; what is unlogged meets a full disk alone.
      const { source_dsn, results, server } = await open(
        t,
        backend,
        MYSQLS.includes(name) ? {} : { unlogged: true },
      );
      const full = await server.finished(await server.post('flood', { job_id: 'full', retries: 1 }));
      assert.equal(full.state, 'FAILURE');
      assert.match(full.error, /^results "reports": .*(space|full)/i);
      assert.equal(full.attempt, 2, 'it was worth a retry');
      await until(
        'no query is left in the source',
        async () => (await runningQueries(source_dsn)).length === 0,
      );
      await onlyTables(results, ['results_old']);
      const job = await server.finished(await server.post('gated', { job_id: 'after' }));
      assert.equal(job.state, 'SUCCESS', job.error);
      assert.equal(job.count, BEFORE_GATE + 1);
      await isBack(server);
      await onlyTables(results, ['results_after', 'results_old']);
    });
  }
});
