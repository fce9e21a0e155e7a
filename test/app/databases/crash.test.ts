/** A server killed with SIGKILL while its report is on the way between real databases. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { pause } from '../../support/pause.ts';
import { execute, freshDatabase, runningQueries, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import {
  at,
  BEFORE_GATE,
  closeGate,
  DIALECTS,
  DOOMED,
  eventsOf,
  launch,
  loading,
  onlyTables,
  resultsServer,
  service,
  setup,
  skipOf,
} from './support.ts';

const PAIRS = [
  [service('postgres-18'), service('mysql'), 'postgres'],
  ...servers('mysql').map((server) => [server, service('postgres-15'), 'mysql'] as const),
] as const;

/** Begins to wait at once. */
const WAITS = {
  postgres: 'SELECT 1 AS n, pg_advisory_xact_lock_shared(1)::text AS gate',
  mysql: 'SELECT 1 AS n, GET_LOCK(DATABASE(), 600) + RELEASE_LOCK(DATABASE()) AS gate',
};

suite('a worker that sleeps past its lease', { concurrency: 2 }, () => {
  for (const [source, backend, dialect] of PAIRS) {
    const name = `neither finishes its report nor publishes it, ${source.name} to ${backend.name}`;
    test(name, { skip: skipOf(source, backend) }, async (t) => {
      const dsn = await freshDatabase(t, source);
      const results = resultsServer(await freshDatabase(t, backend));
      const open = await closeGate(t, dsn);
      const place = setup(t, {
        tasks: `-- name: gated\n-- queue: gated\n${DIALECTS[dialect].gated}`,
        db: { app: at(dsn) },
        results: { reports: results.settings },
      });
      const server = await launch(t, place, ['--queue', 'none-of-them']).started();
      const worker = ['--queue', 'gated', '--worker-only'];
      const zombie = await launch(t, place, worker, DOOMED).started();
      const id = await server.post('gated', { job_id: 'slept-over' });
      await loading(server, id);
      const first = (await server.job(id)).worker;
      await pause(zombie.child.pid, [join(place.folder, 'queue.db')]);

      const successor = await launch(t, place, worker).started();
      await until('it runs again', async () => (await server.job(id)).attempt === 2);
      await open();
      const job = await server.finished(id);
      assert.equal(job.state, 'SUCCESS', job.error);
      assert.equal(job.count, BEFORE_GATE + 1);
      assert.notEqual(job.worker, first);
      const catalog = await results.query(
        'SELECT job_id, attempt, fence, created_at FROM dungbeetle_results',
      );

      zombie.child.kill('SIGCONT');
      await until('it has noticed', () => eventsOf(zombie, id).includes('lost'));
      assert.deepEqual(
        await results.query('SELECT job_id, attempt, fence, created_at FROM dungbeetle_results'),
        catalog,
      );
      const after = await server.job(id);
      assert.deepEqual([after.state, after.attempt, after.count], ['SUCCESS', 2, BEFORE_GATE + 1]);
      await onlyTables(results, ['results_slept-over']);
      assert.equal(await zombie.stop(), 0);
      assert.equal(await successor.stop(), 0);
      await until('no query is left', async () => (await runningQueries(dsn)).length === 0);
    });
  }
});

suite('a worker killed with SIGKILL', { concurrency: 2 }, () => {
  for (const [source, backend, dialect] of PAIRS) {
    for (const phase of ['query', 'load'] as const) {
      const name = `in its ${phase}, ${source.name} to ${backend.name}: the report runs again, complete and once`;
      test(name, { skip: skipOf(source, backend) }, async (t) => {
        const dsn = await freshDatabase(t, source);
        const results = resultsServer(await freshDatabase(t, backend));
        const open = await closeGate(t, dsn);
        const sql = phase === 'query' ? WAITS[dialect] : DIALECTS[dialect].gated;
        const place = setup(t, {
          tasks: `-- name: gated\n${sql}`,
          db: { app: at(dsn) },
          results: { reports: results.settings },
        });
        const doomed = await launch(t, place, [], DOOMED).started();
        const id = await doomed.post('gated', { job_id: 'taken-over' });
        if (phase === 'load') await loading(doomed, id);
        const first = await until('its query runs', async () => (await runningQueries(dsn))[0]?.id);
        await doomed.stop('SIGKILL');

        const successor = await launch(t, place).started();
        const second = await until('the query of the next attempt runs, and no other', async () => {
          const [running, ...others] = await runningQueries(dsn);
          return others.length === 0 && running?.id !== first && running?.id;
        });
        assert.equal((await successor.job(id)).attempt, 2);
        // It has ended in the server, not only lost its client.
        const sessions = await execute(
          dsn,
          dialect === 'postgres'
            ? `SELECT pid FROM pg_stat_activity WHERE pid IN (${first}, ${second})`
            : `SELECT id FROM information_schema.processlist WHERE id IN (${first}, ${second})`,
        );
        assert.deepEqual(sessions, [[second]]);

        await open();
        const job = await successor.finished(id);
        assert.equal(job.state, 'SUCCESS', job.error);
        assert.equal(job.attempt, 2);
        assert.equal(job.count, phase === 'load' ? BEFORE_GATE + 1 : 1);
        const mark = backend.engine === 'mysql' ? '`' : '"';
        assert.deepEqual(
          await results.query(`SELECT count(*), max(n) FROM ${mark}results_taken-over${mark}`),
          [[String(job.count), String(job.count)]],
        );
        assert.deepEqual(await results.query('SELECT job_id, attempt FROM dungbeetle_results'), [
          ['taken-over', '2'],
        ]);
        await onlyTables(results, ['results_taken-over']);
        assert.equal(await successor.stop(), 0);
        await until('no query is left', async () => (await runningQueries(dsn)).length === 0);
      });
    }
  }
});
