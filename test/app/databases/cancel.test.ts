/** Reports that are cancelled, or take too long, end inside the database servers. */
import assert from 'node:assert/strict';
import { suite, type TestContext, test } from 'node:test';
import { createConnection } from 'mysql2/promise';
import pg from 'pg';
import { freshDatabase, runningQueries, type Service, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import {
  at,
  DIALECTS,
  eventsOf,
  launch,
  loading,
  onlyTables,
  PAIRS,
  type ReportView,
  resultsServer,
  SECRET,
  service,
  setup,
  skipOf,
} from './support.ts';

/** Far above what it takes, far below what the queries would take. */
const SOON_MS = 20_000;

async function open(t: TestContext, source: Service, backend: Service) {
  assert.ok(source.engine !== 'redis');
  const { hang, flood, parameter } = DIALECTS[source.engine];
  const dsn = await freshDatabase(t, source);
  const results_dsn = await freshDatabase(t, backend);
  const results = resultsServer(results_dsn);
  const place = setup(t, {
    tasks: `
-- name: hang
${hang}
-- name: flood
${flood}
-- name: late
-- timeout: 1
${hang}
-- name: late_flood
-- timeout: 1
${flood}
-- name: one
SELECT 1 AS n, ${source.engine === 'postgres' ? `${parameter(1)}::text` : parameter(1)} AS word`,
    db: { app: at(dsn) },
    results: { reports: results.settings },
  });
  const server = await launch(t, place).started();
  // ClickHouse tells of the whole server's queries: ours have the job's id in theirs.
  const running = async (job_id: string) =>
    (await runningQueries(dsn)).filter(
      (query) => source.engine !== 'clickhouse' || query.id.includes(job_id),
    );
  return { server, results, results_dsn, running };
}

function checkCancelled(job: ReportView): void {
  assert.equal(job.state, 'CANCELLED');
  assert.equal(job.result, null);
  assert.equal(job.count, 0);
}

suite('cancels and timeouts', { concurrency: 2 }, () => {
  for (const [source, backend] of PAIRS) {
    const pair = `${source.name} to ${backend.name}`;
    const skip = skipOf(source, backend);

    test(`DELETE and timeouts end what runs, ${pair}`, { skip }, async (t) => {
      const { server, results, results_dsn, running } = await open(t, source, backend);
      const isGone = (id: string) =>
        until('it is gone in the source', async () => (await running(id)).length === 0);

      const hang = await server.post('hang', { job_id: `${source.name}-hang` });
      await until('its query runs', async () => (await running(hang)).length === 1);
      let begun = performance.now();
      assert.equal((await server.request('DELETE', `/jobs/${hang}`)).data, true);
      checkCancelled(await server.finished(hang));
      await isGone(hang);
      assert.ok(performance.now() - begun < SOON_MS);
      await until('the log tells of it', () => eventsOf(server, hang).join() === 'started,cancelled');

      const flood = await server.post('flood', { job_id: `${source.name}-flood` });
      await loading(server, flood);
      begun = performance.now();
      assert.equal((await server.request('DELETE', `/jobs/${flood}`)).http, 200);
      checkCancelled(await server.finished(flood));
      await isGone(flood);
      await until('nothing is loaded', async () => (await runningQueries(results_dsn)).length === 0);
      assert.ok(performance.now() - begun < SOON_MS);

      for (const task of ['late', 'late_flood']) {
        const job = await server.finished(await server.post(task, { job_id: `${source.name}-${task}` }));
        assert.equal(job.state, 'FAILURE');
        assert.match(job.error, /timed out/);
        await isGone(job.job_id);
      }
      const job = await server.finished(await server.post('one', { job_id: 'after', args: [SECRET] }));
      assert.equal(job.state, 'SUCCESS', job.error);
      await onlyTables(results, ['results_after']);
    });
  }

  for (const backend of [service('postgres-15'), ...servers('mysql')]) {
    const source = service('postgres-18');
    const name = `DELETE ends a report that waits for a reader of its table on ${backend.name}`;
    test(name, { skip: skipOf(source, backend) }, async (t) => {
      const { server, results, results_dsn, running } = await open(t, source, backend);
      await server.post('one', { job_id: 'locked', args: ['old'] });
      assert.equal((await server.finished('locked')).state, 'SUCCESS');
      const release = await lockTable(t, results_dsn, 'results_locked');
      await server.post('one', { job_id: 'locked', args: [SECRET] });
      await until('it publishes', async () => (await server.job('locked')).progress?.phase === 'publish');
      assert.equal((await server.request('DELETE', '/jobs/locked')).http, 200);
      checkCancelled(await server.finished('locked'));
      await until('it is gone in the source', async () => (await running('locked')).length === 0);
      await release();
      await until('nothing waits any more', async () => (await runningQueries(results_dsn)).length === 0);
      assert.deepEqual(await results.query('SELECT word FROM results_locked'), [['old']]);
      await onlyTables(results, ['results_locked']);
    });
  }
});

/** Reads a table in a transaction that stays open: nobody can replace it until the answer is called. */
async function lockTable(t: TestContext, dsn: string, table: string): Promise<() => Promise<void>> {
  if (new URL(dsn).protocol === 'mysql:') {
    const connection = await createConnection(dsn);
    t.after(() => connection.destroy());
    await connection.query('START TRANSACTION');
    await connection.query(`SELECT * FROM ${table}`);
    return async () => connection.end();
  }
  const client = new pg.Client(dsn);
  client.on('error', () => {}); // it is ended with its database
  await client.connect();
  let open = true;
  const end = async () => {
    if (open) await client.end();
    open = false;
  };
  t.after(end);
  await client.query(`BEGIN; SELECT * FROM ${table}`);
  return end;
}
