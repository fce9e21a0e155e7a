/** A cancel asked of any server ends a query that another process runs, on every store. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { freshDatabase, runningQueries } from '../support/services.ts';
import { until } from '../support/until.ts';
import {
  at,
  DIALECTS,
  eventsOf,
  launch,
  onlyTables,
  resultsServer,
  service,
  setup,
  skipOf,
} from './databases/support.ts';
import { STORES } from './stores.ts';

const POSTGRES = service('postgres-15');

/** Heartbeats come too late to be what ends a query here: it is the hint. */
const SELDOM = { DUNGBEETLE_APP__LEASE: '1h', DUNGBEETLE_APP__HEARTBEAT: '20m' };

suite('a cancel of a query that runs in another process', { concurrency: 2 }, () => {
  for (const store of STORES) {
    const skip = skipOf(POSTGRES, ...store.needs);
    test(`ends it at once: ${store.name}`, { skip }, async (t) => {
      const source = await freshDatabase(t, POSTGRES);
      const results = resultsServer(await freshDatabase(t, POSTGRES));
      const place = setup(t, {
        tasks: `-- name: hang\n${DIALECTS.postgres.hang}`,
        db: { app: at(source) },
        results: { reports: results.settings },
        store: await store.open(t),
      });
      const server = await launch(t, place, ['--queue', 'none'], SELDOM).started();
      const other = await launch(t, place, ['--queue', 'none'], SELDOM).started();
      const worker = await launch(t, place, ['--worker-only'], SELDOM).started();
      await server.post('hang', { job_id: 'hanging' });
      await until('its query runs', async () => (await runningQueries(source)).length === 1);
      const answer = await other.request('DELETE', '/jobs/hanging');
      assert.equal(answer.http, 200, answer.message);
      await until('no query runs', async () => (await runningQueries(source)).length === 0);
      assert.equal((await server.finished('hanging')).state, 'CANCELLED');
      assert.deepEqual(eventsOf(worker, 'hanging'), ['started', 'cancelled']);
      await onlyTables(results, []);

      // All of a group, and one that waits.
      await server.request('POST', '/groups', {
        group_id: 'some',
        concurrency: 1,
        jobs: [
          { job_id: 'first', task: 'hang' },
          { job_id: 'second', task: 'hang' },
        ],
      });
      await until('one runs', async () => (await runningQueries(source)).length === 1);
      assert.equal((await other.request('DELETE', '/groups/some')).http, 200);
      await until('none runs', async () => (await runningQueries(source)).length === 0);
      for (const id of ['first', 'second']) assert.equal((await other.finished(id)).state, 'CANCELLED');
      assert.deepEqual(eventsOf(worker, 'second'), []);
    });
  }
});
