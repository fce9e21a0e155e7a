import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { nameOf } from '../../src/queue/identity.ts';
import { Queue } from '../../src/queue/queue.ts';
import { openSqliteStore } from '../../src/queue/stores/sqlite.ts';
import { tempFolder } from '../support/folder.ts';
import { until } from '../support/until.ts';
import { child } from './processes.ts';

async function setup(t: TestContext) {
  const path = join(tempFolder(t), 'queue.db');
  const store = await openSqliteStore({ path });
  t.after(() => store.close());
  return { path, store, queue: new Queue(store) };
}

const endless = { task: 'endless', queue: 'default', payload: null };
const quick = { task: 'quick', queue: 'default', payload: null };

test('what was accepted is there after kill -9 of who posted it', async (t) => {
  const { path, store } = await setup(t);
  const poster = child(t, 'post', path);
  await until('some are accepted', () => poster.told.length >= 100);
  await poster.kill('SIGKILL');
  for (const job_id of poster.jobs('accepted')) assert.equal((await store.get(job_id)).state, 'PENDING');
  await store.ping();
});

test('jobs of workers that were killed run elsewhere, and each succeeds once', async (t) => {
  const { path, store, queue } = await setup(t);
  const ids = Array.from({ length: 20 }, (_, n) => `held-${n}`);
  await queue.enqueueAll(ids.map((job_id) => ({ ...endless, job_id })));
  const doomed = [
    child(t, 'worker', path, 'one', '1500', '300'),
    child(t, 'worker', path, 'two', '1500', '300'),
  ];
  await until('all run', async () => (await store.leases()).length === ids.length);
  for (const one of doomed) await one.kill('SIGKILL');
  // Whoever runs them next ends them: what they do is a matter of their handler.
  const survivor = child(t, 'worker', path, 'three', '1500', '300');
  await survivor.hears('ready');
  const requeued = new Set<string>();
  await until('they run again', async () => {
    for (const { job_id } of (await store.recover({ max_crashes: 3 })).requeued) requeued.add(job_id);
    return requeued.size === ids.length && survivor.jobs('started').length >= 10;
  });
  for (const job_id of ids) await store.cancel(job_id);
  for (const job_id of ids)
    assert.equal((await queue.wait(job_id, { timeout_ms: 30_000 })).state, 'CANCELLED');
  await queue.enqueueAll(ids.map((job_id) => ({ ...quick, job_id })));
  for (const job_id of ids) {
    const job = await queue.wait(job_id, { timeout_ms: 30_000 });
    assert.deepEqual([job.state, nameOf(job.worker ?? '')], ['SUCCESS', 'three']);
  }
  await until('it has told of all', () => survivor.jobs('succeeded').length >= ids.length);
  assert.deepEqual(survivor.jobs('succeeded').sort(), [...ids].sort());
});

test('killed in the middle of much work, each job has exactly one success', async (t) => {
  const { path, store, queue } = await setup(t);
  const ids = Array.from({ length: 2_000 }, (_, n) => `job-${n}`);
  await queue.enqueueAll(ids.map((job_id) => ({ ...quick, job_id, retries: 0 })));
  const workers = ['a', 'b', 'c'].map((name) => child(t, 'worker', path, name, '1000', '300'));
  const [first, second] = workers;
  assert.ok(first && second);
  await until(
    'they are at it',
    () => first.jobs('succeeded').length > 10 && second.jobs('succeeded').length > 10,
  );
  await first.kill('SIGKILL');
  await second.kill('SIGKILL');
  await until('all are done', async () => {
    await store.recover({ max_crashes: 5 });
    const stats = (await store.stats())[0];
    assert.equal(stats?.counts.FAILURE, 0);
    return stats.counts.SUCCESS === ids.length;
  });
  const [last] = workers.slice(2);
  assert.ok(last);
  const told = workers.flatMap((worker) => worker.jobs('succeeded'));
  assert.equal(
    new Set(told).size,
    told.length,
    'two workers were told that the same job had succeeded by them',
  );
});

test('a cancel from another process stops the handler, well before the next heartbeat', async (t) => {
  const { path, store, queue } = await setup(t);
  const worker = child(t, 'worker', path, 'one', '120000', '60000');
  const { job_id } = await queue.enqueue(endless);
  await worker.hears('started', job_id);
  await store.cancel(job_id);
  await worker.hears('stopped: cancelled', job_id);
  assert.equal((await queue.wait(job_id, { timeout_ms: 30_000 })).state, 'CANCELLED');
});

test('a worker that was stopped for longer than its lease is refused, and told so', async (t) => {
  const { path, store, queue } = await setup(t);
  const zombie = child(t, 'worker', path, 'zombie', '400', '100');
  const { job_id } = await queue.enqueue(endless);
  await zombie.hears('started', job_id);
  zombie.process.kill('SIGSTOP');
  await until(
    'its lease is recovered',
    async () => (await store.recover({ max_crashes: 3 })).requeued.length > 0,
  );
  const request = { worker: 'other', queues: [{ queue: 'default', limit: 1 }], limit: 1, lease_ms: 60_000 };
  const [held] = (await store.claim(request)).jobs;
  assert.equal(held?.job_id, job_id);
  zombie.process.kill('SIGCONT');
  await zombie.hears('stopped: lease_lost', job_id);
  await zombie.hears('lost', job_id);
  const outcome = { state: 'SUCCESS', result: 'mine' } as const;
  assert.deepEqual(await store.finish([{ lease: held.lease, outcome }]), ['SUCCESS']);
  assert.equal((await store.get(job_id)).worker, 'other');
});

test('a worker that is told to stop gives back what runs, uncounted, and does not wait for the deaf', async (t) => {
  const { path, store, queue } = await setup(t);
  const worker = child(t, 'worker', path, 'one', '60000', '20000');
  const jobs = await queue.enqueueAll([endless, { ...endless, task: 'deaf' }]);
  for (const { job_id } of jobs) await worker.hears('started', job_id);
  worker.process.kill('SIGTERM');
  for (const { job_id } of jobs) {
    await worker.hears('released', job_id);
    const job = await store.get(job_id);
    assert.deepEqual([job.state, job.attempt], ['PENDING', 0]);
  }
  assert.deepEqual(await store.leases(), []);
});

test('another process hears of a job at once', async (t) => {
  const { path, queue } = await setup(t);
  const worker = child(t, 'worker', path, 'one', '60000', '20000');
  await worker.hears('ready');
  for (let n = 0; n < 20; n += 1) {
    const { job_id } = await queue.enqueue(quick);
    const job = await queue.wait(job_id, { timeout_ms: 30_000 });
    assert.equal(job.state, 'SUCCESS');
  }
});

test('two processes share the file fairly: neither waits for the other to run out of work', async (t) => {
  const { path, store } = await setup(t);
  const busy = child(t, 'post', path);
  await until('the other is at it', () => busy.told.length > 20);
  for (let n = 0; n < 100; n += 1) await store.enqueue([{ ...quick, job_id: `mine-${n}` }]);
  const before = busy.told.length;
  await until('the other goes on', () => busy.told.length > before + 20);
});
