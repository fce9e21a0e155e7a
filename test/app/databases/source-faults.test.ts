/** A source that is killed, restarted or silent while the server and its other parts live on. */
import assert from 'node:assert/strict';
import { suite, type TestContext, test } from 'node:test';
import { freshDatabase, noPrivate, privateNames, startPrivate } from '../../support/services.ts';
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
  service,
  setup,
  skipOf,
  type WatchedServer,
} from './support.ts';

const CASES = [
  { name: 'postgres-15', engine: 'postgres', backend: service('mysql') } as const,
  ...privateNames('mysql').map(
    (name) => ({ name, engine: 'mysql', backend: service('postgres-15') }) as const,
  ),
  { name: 'clickhouse', engine: 'clickhouse', backend: service('postgres-15') } as const,
];

async function open(t: TestContext, { name, engine, backend }: (typeof CASES)[number]) {
  const source = await startPrivate(t, name);
  const results = resultsServer(await freshDatabase(t, backend));
  const place = setup(t, {
    tasks: `
-- name: flood
${DIALECTS[engine].flood}
-- name: hang
${DIALECTS[engine].hang}
-- name: gated
${engine === 'clickhouse' ? 'SELECT 1' : DIALECTS[engine].gated}
-- name: one
SELECT 1 AS n, ${engine === 'postgres' ? '$1::text' : '?'} AS word`,
    db: { app: { ...at(source.dsn), connect_timeout: '2s' } },
    results: { reports: results.settings },
    app: { ready: ['store', 'db', 'results'] },
  });
  const server = await launch(t, place).started();
  return { source, results, server };
}

/** The server lives, and says which of its parts is away. */
async function awayIs(server: WatchedServer, part: string): Promise<void> {
  assert.equal((await server.request('GET', '/health/live')).http, 200);
  const answer = await server.request('GET', '/health/ready');
  assert.equal(answer.http, 503);
  assert.match(answer.message ?? '', new RegExp(`^not ready: ${part.replace('.', '\\.')}: `));
  assert.ok(!answer.message?.includes(';'), `nothing else is away: ${answer.message}`);
}

async function isBack(server: WatchedServer): Promise<void> {
  await until('it is ready', async () => (await server.request('GET', '/health/ready')).http === 200);
}

suite('a source', { concurrency: 2 }, () => {
  for (const one of CASES) {
    const skip = noPrivate(one.name) || skipOf(one.backend);
    test(`${one.name} killed while it gives rows`, { skip }, async (t) => {
      const { source, results, server } = await open(t, one);
      // The gate falls with the server; what is behind none would run for ever.
      const gated = one.engine !== 'clickhouse';
      if (gated) await closeGate(t, source.dsn);
      const tasks = [gated ? 'gated' : 'flood', 'hang'];
      for (const task of tasks) {
        await server.post(task, { job_id: `${task}-once` });
        await server.post(task, { job_id: `${task}-again`, retries: 100 });
      }
      for (const run of ['once', 'again']) {
        await loading(server, `${tasks[0]}-${run}`);
        await until('it runs', async () => (await server.job(`hang-${run}`)).state === 'STARTED');
      }
      await source.kill();

      for (const task of tasks) {
        const job = await server.finished(`${task}-once`);
        assert.equal(job.state, 'FAILURE');
        assert.match(job.error, /^db "app": ./);
        assert.equal(job.attempt, 1);
        await until('it will run again', async () => eventsOf(server, `${task}-again`).includes('retrying'));
        assert.match((await server.job(`${task}-again`)).error, /^db "app": ./);
      }
      await awayIs(server, 'db.app');
      await onlyTables(results, []);

      await source.start();
      await isBack(server);
      for (const id of gated ? ['hang-again'] : ['hang-again', 'flood-again']) {
        await until('it runs again', async () => (await server.job(id)).state === 'STARTED');
        assert.equal((await server.request('DELETE', `/jobs/${id}`)).http, 200);
        assert.equal((await server.finished(id)).state, 'CANCELLED');
      }
      if (gated) {
        const job = await server.finished('gated-again');
        assert.equal(job.state, 'SUCCESS', job.error);
        assert.equal(job.count, BEFORE_GATE + 1);
        assert.ok(job.attempt > 1, 'it was retried');
        assert.equal((await server.request('DELETE', '/jobs/gated-again?purge=true')).http, 200);
      }
      const job = await server.finished(await server.post('one', { job_id: 'after', args: [SECRET] }));
      assert.equal(job.state, 'SUCCESS', job.error);
      await onlyTables(results, ['results_after']);
      assert.equal(await server.stop(), 0);
    });

    test(`${one.name} that stands still, and is away while jobs come`, { skip }, async (t) => {
      const { source, results, server } = await open(t, one);
      await source.pause();
      await awayIs(server, 'db.app');
      source.resume();
      await isBack(server);

      // In order, but for ClickHouse, which would wait for its idle connections.
      await (one.engine === 'clickhouse' ? source.kill() : source.stop());
      const once = await server.finished(await server.post('one', { args: [SECRET] }));
      assert.equal(once.state, 'FAILURE');
      assert.match(once.error, /^db "app": ./);
      await server.post('one', { job_id: 'patient', args: [SECRET], retries: 100 });
      await until('it waits', async () => (await server.job('patient')).state === 'RETRY');
      await awayIs(server, 'db.app');
      await source.start();
      const job = await server.finished('patient');
      assert.equal(job.state, 'SUCCESS', job.error);
      assert.ok(job.attempt > 1);
      assert.equal(job.error, '');
      await isBack(server);
      await onlyTables(results, ['results_patient']);
    });
  }
});
