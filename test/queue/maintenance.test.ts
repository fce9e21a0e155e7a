import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Maintenance, Queue } from '../../src/queue/index.ts';
import type { Recovered } from '../../src/queue/store.ts';
import { openSqliteStore } from '../../src/queue/stores/sqlite.ts';
import { until } from '../support/until.ts';

test('expired leases are recovered and old jobs forgotten, again and again, until it is stopped', async (t) => {
  let offset = 0;
  const store = await openSqliteStore({ path: ':memory:', clockOffset: () => offset });
  t.after(() => store.close());
  const queue = new Queue(store);
  const recovered: Recovered[] = [];
  let pruned = 0;
  const maintenance = new Maintenance({
    store,
    sweep_ms: 5,
    prune_ms: 5,
    max_crashes: 2,
    jobs_ms: 100_000,
    groups_ms: 100_000,
    onRecovered: (one) => recovered.push(one),
    onPruned: (jobs) => {
      pruned += jobs;
    },
  });
  maintenance.start();
  const { job_id } = await queue.enqueue({ task: 'task', queue: 'default', payload: null });
  const request = { worker: 'dead', queues: [{ queue: 'default', limit: 1 }], limit: 1, lease_ms: 1_000 };
  for (const death of [1, 2]) {
    assert.equal((await store.claim(request)).jobs.length, 1);
    offset += 1_001;
    await until('it is recovered', () => recovered.length === death);
  }
  assert.deepEqual(
    recovered.map(({ requeued, poisoned }) => [requeued.length, poisoned.length]),
    [
      [1, 0],
      [0, 1],
    ],
  );
  assert.equal((await store.get(job_id)).state, 'FAILURE');
  offset += 100_001;
  await until('it is forgotten', () => pruned === 1);
  await maintenance.stop();
  assert.deepEqual(await store.states([job_id]), [null]);
});

test('what fails is told, and tried again', async (t) => {
  const store = await openSqliteStore({ path: ':memory:' });
  await store.close();
  const errors: unknown[] = [];
  const maintenance = new Maintenance({
    store,
    sweep_ms: 1,
    prune_ms: 600_000,
    onError: (error) => errors.push(error),
  });
  maintenance.start();
  t.after(() => maintenance.stop());
  await until('it was tried thrice', () => errors.length >= 3);
});
