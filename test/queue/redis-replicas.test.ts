/** What holds when replicas have to have a change (`min_replicas`), and what goes on without them. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { ServerName } from '../../scripts/services/engine.ts';
import { QueueError, type QueueErrorCode } from '../../src/queue/errors.ts';
import { Worker, type WorkerEvent } from '../../src/queue/index.ts';
import type { Lease, Store } from '../../src/queue/store.ts';
import { openRedisStore, type RedisStoreOptions } from '../../src/queue/stores/redis.ts';
import { execute, type PrivateServer, startPrivate } from '../support/services.ts';
import { until } from '../support/until.ts';
import { ids, newJob, only, range } from './conformance/subject.ts';
import { onOwn, optionsOf } from './redis.ts';

const LEASE_MS = 60_000;
const success = (lease: Lease) => [{ lease, outcome: { state: 'SUCCESS' as const, result: 'done' } }];

interface Pair {
  readonly redis: PrivateServer;
  readonly replica: PrivateServer;
  /** Its changes need the replica. */
  readonly store: Store;
  readonly open: (options?: Partial<RedisStoreOptions>) => Promise<Store>;
}

async function setup(t: TestContext, kind: ServerName): Promise<Pair> {
  const redis = await startPrivate(t, kind);
  const replica = await startPrivate(t, kind);
  const open = async (options: Partial<RedisStoreOptions> = {}) => {
    const store = await openRedisStore({
      ...optionsOf(redis.dsn),
      min_replicas: 1,
      command_timeout_ms: 3_000,
      ...options,
    });
    t.after(() => store.close());
    return store;
  };
  return { redis, replica, store: await open(), open };
}

async function refused(promise: Promise<unknown>, code: QueueErrorCode): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof QueueError, `${error}`);
    assert.equal(error.code, code, error.message);
    if (code === 'store_unavailable') assert.match(error.message, /only 0 replicas.*not 1/);
    return true;
  });
}

function claim(store: Store, limit = 100) {
  const queues = [{ queue: 'default', limit }];
  return store.claim({ worker: 'w', queues, limit, lease_ms: LEASE_MS });
}

/** Makes a server the replica of another, and waits until it has its data. */
async function follow(replica: PrivateServer, master: PrivateServer): Promise<void> {
  const { password, port } = new URL(master.dsn);
  await execute(replica.dsn, ['CONFIG', 'SET', 'masterauth', password]);
  await execute(replica.dsn, ['REPLICAOF', '127.0.0.1', port]);
  await until('it follows', async () => {
    const [[info] = []] = await execute(replica.dsn, 'INFO replication');
    return String(info).includes('master_link_status:up');
  });
}

onOwn('a change is only accepted with as many replicas as it asks for', async (t, kind) => {
  const { redis, replica, store } = await setup(t, kind);
  await refused(store.enqueue([newJob('a')]), 'store_unavailable');
  await refused(store.ping(), 'store_unavailable');
  await follow(replica, redis);
  await store.enqueue([newJob('b')]);
  await store.ping();
  await replica.kill();
  await refused(store.enqueue([newJob('c')]), 'store_unavailable');
  // Told the truth: it may be there.
  assert.deepEqual(ids(await store.pending('default', 10)), ['a', 'b', 'c']);
});

onOwn('whoever asks again hears of what was done only when the replicas have it', async (t, kind) => {
  const { redis, replica, store, open } = await setup(t, kind);
  await follow(replica, redis);
  await store.enqueue([newJob('ends')]);
  const { lease } = only((await claim(store)).jobs);
  await replica.pause();
  await refused(store.enqueue([newJob('a')]), 'store_unavailable');
  await refused(store.finish(success(lease)), 'store_unavailable');
  // Also on another connection, which has written none of it.
  for (const one of [store, await open()]) {
    await refused(one.enqueue([newJob('a')]), 'store_unavailable');
    await refused(one.finish(success(lease)), 'store_unavailable');
    await refused(one.cancel('ends'), 'store_unavailable');
  }
  replica.resume();
  const again = await open();
  await until('the replica has it', () => again.ping().then(() => true, unlessUnavailable));
  await refused(again.enqueue([newJob('a')]), 'job_active');
  await refused(again.cancel('ends'), 'job_finished');
  // It was the first that counted; `fence` says whose it was.
  assert.deepEqual(await again.finish(success(lease)), [null]);
  const { state, fence, result } = await again.get('ends');
  assert.deepEqual([state, fence, result], ['SUCCESS', lease.fence, 'done']);
});

onOwn('claims, renewals and reads need no replica, whatever shares their way', async (t, kind) => {
  const { redis, replica, store, open } = await setup(t, kind);
  await follow(replica, redis);
  await store.enqueue(range(4).map((id) => newJob(id)));
  const first = only((await claim(store, 1)).jobs);
  await replica.kill();
  const [ended, claimed, renewed, seen] = await Promise.allSettled([
    store.finish(success(first.lease)),
    claim(store, 1),
    store.renew([{ lease: first.lease }], LEASE_MS),
    store.get('job-0'),
  ]);
  assert.equal(ended.status, 'rejected');
  assert.ok(claimed.status === 'fulfilled', JSON.stringify(claimed));
  const second = only(claimed.value.jobs);
  assert.equal(second.job_id, 'job-1');
  assert.ok(renewed.status === 'fulfilled' && seen.status === 'fulfilled');
  assert.equal(seen.value.state, 'SUCCESS');
  assert.deepEqual(await store.renew([{ lease: second.lease }], LEASE_MS), { lost: [], cancelled: [] });
  await store.release([second.lease]);
  assert.deepEqual(ids((await claim(store)).jobs), ['job-1', 'job-2', 'job-3']);
  const later = await open({ clockOffset: () => LEASE_MS + 1 });
  const { requeued } = await later.recover({ max_crashes: 3 });
  assert.deepEqual(requeued.map(({ job_id }) => job_id).sort(), ['job-1', 'job-2', 'job-3']);
  assert.equal(await store.prune({ jobs_ms: LEASE_MS, groups_ms: LEASE_MS }), 0);
});

onOwn(
  'while replicas are away a worker begins each job once, and ends it when they are back',
  async (t, kind) => {
    const { redis, replica, store } = await setup(t, kind);
    await follow(replica, redis);
    const names = range(12);
    await store.enqueue(names.map((id) => newJob(id)));
    await replica.pause();
    const begun: string[] = [];
    const events: WorkerEvent[] = [];
    const worker = new Worker({
      store,
      name: 'w',
      queues: [{ queue: 'default', concurrency: 3 }],
      concurrency: 3,
      handler: {
        run: async ({ job_id }) => {
          begun.push(job_id);
          return null;
        },
      },
      onEvent: (event) => events.push(event),
    });
    t.after(() => worker.stop());
    worker.start();
    const told = (type: WorkerEvent['type']) => events.filter((event) => event.type === type).length;
    await until('all have begun', () => begun.length >= names.length);
    await until('an end is refused', () => told('store_lost') > 0);
    assert.equal(told('succeeded'), 0);
    assert.deepEqual(await store.recover({ max_crashes: 1 }), { requeued: [], poisoned: [], cancelled: [] });
    replica.resume();
    await until('all have ended', () => told('succeeded') === names.length);
    assert.deepEqual(begun, names);
    assert.equal(told('lost'), 0);
  },
);

function unlessUnavailable(error: unknown): false {
  if (error instanceof QueueError && error.code === 'store_unavailable') return false;
  throw error;
}
