import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Maintenance, Queue } from '../../src/queue/index.ts';
import type { ClaimedJob, Recovered, Store } from '../../src/queue/store.ts';
import { openSqliteStore } from '../../src/queue/stores/sqlite.ts';
import { tempFolder } from '../support/folder.ts';
import { until } from '../support/until.ts';
import { storeWith } from './store-with.ts';

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

/** Two jobs, which run for a second unless they are renewed: `alive`, which is given, and `dead`. */
async function claimAliveAndDead(store: Store): Promise<ClaimedJob> {
  const queue = new Queue(store);
  await queue.enqueueAll(
    ['alive', 'dead'].map((job_id) => ({ job_id, task: 'task', queue: 'default', payload: null })),
  );
  const queues = [{ queue: 'default', limit: 2 }];
  const { jobs } = await store.claim({ worker: 'w', queues, limit: 2, lease_ms: 1_000 });
  const [alive] = jobs;
  assert.ok(alive);
  return alive;
}

test('after the store was away workers can renew what has expired meanwhile; the dead are still found', async (t) => {
  let offset = 0;
  const path = join(tempFolder(t), 'queue.db');
  const store = await openSqliteStore({ path, busy_timeout_ms: 10, clockOffset: () => offset });
  t.after(() => store.close());
  const alive = await claimAliveAndDead(store);
  const recovered: string[] = [];
  let failures = 0;
  const maintenance = new Maintenance({
    store,
    sweep_ms: 1,
    grace_ms: 1_000,
    onRecovered: ({ requeued }) => recovered.push(...requeued.map(({ job_id }) => job_id)),
    onError: () => {
      failures += 1;
    },
  });
  const lock = new DatabaseSync(path);
  t.after(() => lock.close());
  lock.exec('BEGIN IMMEDIATE');
  maintenance.start();
  t.after(() => maintenance.stop());
  await until('the store is away', () => failures >= 2);
  offset += 1_001;
  lock.exec('ROLLBACK');
  assert.deepEqual((await store.renew([{ lease: alive.lease }], 600_000)).lost, []);
  await until('the dead one is found', () => recovered.length > 0);
  assert.deepEqual(recovered, ['dead']);
  assert.equal((await store.get('alive')).state, 'STARTED');
});

test('an answer that was long on its way counts as an outage, a store that is always slow does not', async (t) => {
  let offset = 0;
  const plain = await openSqliteStore({ path: ':memory:', clockOffset: () => offset });
  t.after(() => plain.close());
  const alive = await claimAliveAndDead(plain);
  const asked = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  let pings = 0;
  const store = storeWith(plain, {
    ping: async () => {
      pings += 1;
      asked.resolve();
      await gate.promise;
      // Every later one is as slow.
      if (pings > 1) await delay(110);
      await plain.ping();
    },
  });
  const recovered: string[] = [];
  const maintenance = new Maintenance({
    store,
    sweep_ms: 1,
    grace_ms: 200,
    onRecovered: ({ requeued }) => recovered.push(...requeued.map(({ job_id }) => job_id)),
  });
  maintenance.start();
  t.after(() => maintenance.stop());
  await asked.promise;
  offset += 1_001;
  await delay(110);
  gate.resolve();
  // In the same moment what the worker had to say comes through.
  assert.deepEqual((await plain.renew([{ lease: alive.lease }], 600_000)).lost, []);
  await until('the dead one is found', () => recovered.length > 0);
  assert.ok(pings > 1);
  assert.deepEqual(recovered, ['dead']);
});
