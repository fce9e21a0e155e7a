import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { StoreUnavailable } from '../../src/queue/errors.ts';
import { Queue, QueueError } from '../../src/queue/index.ts';
import type { Hint, Store } from '../../src/queue/store.ts';
import { openSqliteStore } from '../../src/queue/stores/sqlite.ts';
import { tempFolder } from '../support/folder.ts';
import { until } from '../support/until.ts';
import { storeWith } from './store-with.ts';

const JOB = { task: 'task', queue: 'default', payload: null };

async function setup(t: TestContext) {
  const path = join(tempFolder(t), 'queue.db');
  const store = await openSqliteStore({ path });
  t.after(() => store.close());
  return { path, store, queue: new Queue(store) };
}

async function end(store: Store, count: number): Promise<void> {
  const request = {
    worker: 'w',
    queues: [{ queue: 'default', limit: count }],
    limit: count,
    lease_ms: 60_000,
  };
  const { jobs } = await store.claim(request);
  assert.equal(jobs.length, count);
  await store.finish(jobs.map(({ lease }) => ({ lease, outcome: { state: 'SUCCESS', result: 1 } })));
}

/** A store that counts how often it is asked, and by whom it is watched. */
function counted(store: Store) {
  const counts = { get: 0, states: 0, unfinished: 0, watchers: 0 };
  const counting: Partial<Store> = {
    get: (job_id) => {
      counts.get += 1;
      return store.get(job_id);
    },
    states: (job_ids) => {
      counts.states += 1;
      return store.states(job_ids);
    },
    unfinished: (group_ids) => {
      counts.unfinished += 1;
      return store.unfinished(group_ids);
    },
    watch: (listener: (hint: Hint) => void) => {
      counts.watchers += 1;
      const stop = store.watch(listener);
      return () => {
        counts.watchers -= 1;
        stop();
      };
    },
  };
  return { counts, queue: new Queue(storeWith(store, counting)) };
}

test('a waiter hears of the end, also if it had ended before', async (t) => {
  const { store, queue } = await setup(t);
  const { job_id } = await queue.enqueue(JOB);
  const waits = queue.wait(job_id, { timeout_ms: 60_000 });
  await end(store, 1);
  assert.deepEqual([(await waits).state, (await waits).result], ['SUCCESS', 1]);
  assert.deepEqual(await queue.wait(job_id, { timeout_ms: 60_000 }), await waits);
});

test('failures and cancels are ends, attempts to be retried are not', async (t) => {
  const { store, queue } = await setup(t);
  const { job_id } = await queue.enqueue({ ...JOB, retries: 1 });
  const waits = queue.wait(job_id, { timeout_ms: 60_000 });
  const request = { worker: 'w', queues: [{ queue: 'default', limit: 1 }], limit: 1, lease_ms: 60_000 };
  const [first] = (await store.claim(request)).jobs;
  assert.ok(first);
  await store.finish([{ lease: first.lease, outcome: { state: 'RETRY', error: 'x', delay_ms: 0 } }]);
  await queue.cancel(job_id);
  assert.equal((await waits).state, 'CANCELLED');
});

test('when the time is up, or the signal is aborted, the job is told as it is', async (t) => {
  const { store, queue: plain } = await setup(t);
  const { counts, queue } = counted(store);
  const { job_id } = await plain.enqueue(JOB);
  assert.equal((await queue.wait(job_id, { timeout_ms: 0 })).state, 'PENDING');
  assert.equal((await queue.wait(job_id, { timeout_ms: 20 })).state, 'PENDING');
  const abort = new AbortController();
  const waits = queue.wait(job_id, { timeout_ms: 60_000, signal: abort.signal });
  abort.abort();
  assert.equal((await waits).state, 'PENDING');
  assert.equal((await queue.wait(job_id, { timeout_ms: 60_000, signal: abort.signal })).state, 'PENDING');
  assert.equal(counts.watchers, 0, 'nobody waits, but it is watched');
});

test('an unknown job is refused, and so is one that is purged meanwhile', async (t) => {
  const { queue } = await setup(t);
  const unknown = (error: unknown) => error instanceof QueueError && error.code === 'unknown_job';
  await assert.rejects(queue.wait('nobody', { timeout_ms: 60_000 }), unknown);
  await assert.rejects(queue.wait('nobody', { timeout_ms: 0 }), unknown);
  const { job_id } = await queue.enqueue(JOB);
  const waits = queue.wait(job_id, { timeout_ms: 60_000 });
  await Promise.all([assert.rejects(waits, unknown), queue.purge(job_id)]);
});

test('a waiter hears of an end in another process', async (t) => {
  const { path, queue } = await setup(t);
  const other = await openSqliteStore({ path });
  t.after(() => other.close());
  const { job_id } = await queue.enqueue(JOB);
  const waits = queue.wait(job_id, { timeout_ms: 60_000 });
  await end(other, 1);
  assert.equal((await waits).state, 'SUCCESS');
});

test('a thousand waiters cost a few questions, and leave nothing behind', async (t) => {
  const { store } = await setup(t);
  const { counts, queue } = counted(store);
  const jobs = await queue.enqueueAll(Array.from({ length: 1_000 }, () => JOB));
  const waits = jobs.map(({ job_id }) => queue.wait(job_id, { timeout_ms: 60_000 }));
  const twice = jobs.slice(0, 100).map(({ job_id }) => queue.wait(job_id, { timeout_ms: 60_000 }));
  await until('they were asked after', () => counts.states > 0);
  assert.equal(counts.watchers, 1);
  await end(store, 1_000);
  for (const job of await Promise.all([...waits, ...twice])) assert.equal(job.state, 'SUCCESS');
  assert.ok(counts.states < 50, `${counts.states} questions`);
  assert.equal(counts.get, 1_000);
  assert.equal(counts.watchers, 0);
});

test('a hint that comes while a job is read has it read again, unless it is over', async (t) => {
  const { store } = await setup(t);
  const { job_id } = await new Queue(store).enqueue(JOB);
  let hint: (hint: Hint) => void = () => assert.fail('nobody listens');
  let reads = 0;
  const gate = Promise.withResolvers<void>();
  const queue = new Queue(
    storeWith(store, {
      watch: (listener) => {
        hint = listener;
        return () => {};
      },
      get: async (id) => {
        reads += 1;
        const job = await store.get(id);
        if (reads === 1) await gate.promise;
        return job;
      },
    }),
  );
  const waits = queue.wait(job_id, { timeout_ms: 60_000 });
  hint({ type: 'finished', job_id });
  assert.equal(reads, 1);
  await end(store, 1);
  for (let n = 0; n < 3; n += 1) hint({ type: 'finished', job_id });
  assert.equal(reads, 1);
  gate.resolve();
  assert.equal((await waits).state, 'SUCCESS');
  assert.equal(reads, 2);
  hint({ type: 'finished', job_id });
  assert.equal(reads, 2);
});

test('waiting for a group costs a question now and then, however large it is and however many wait', async (t) => {
  const { store } = await setup(t);
  const { counts, queue } = counted(store);
  const jobs = Array.from({ length: 2_000 }, () => JOB);
  await queue.enqueueAll(jobs, { group_id: 'large' });
  await queue.enqueueAll([JOB], { group_id: 'small' });
  const abort = new AbortController();
  const leaving = Array.from({ length: 50 }, () =>
    queue.waitForGroup('large', { timeout_ms: 60_000, signal: abort.signal }),
  );
  const late = Array.from({ length: 50 }, () => queue.waitForGroup('large', { timeout_ms: 20 }));
  await Promise.all(late);
  abort.abort();
  await Promise.all(leaving);
  assert.equal(counts.watchers, 0, 'nobody waits, but it is watched');
  let over = false;
  const large = queue.waitForGroup('large', { timeout_ms: 60_000 }).then(() => {
    over = true;
  });
  const small = queue.waitForGroup('small', { timeout_ms: 60_000 });
  await end(store, 1_999);
  await queue.purgeGroup('small');
  await small;
  assert.equal(over, false);
  await end(store, 1);
  await large;
  await queue.waitForGroup('large', { timeout_ms: 60_000 });
  assert.equal(counts.watchers, 0);
  assert.equal(counts.get + counts.states, 0);
  // Each asks once for itself, and one asks for all of them.
  assert.ok(counts.unfinished < 150, `${counts.unfinished} questions`);
  const unknown = (error: unknown) => error instanceof QueueError && error.code === 'unknown_group';
  await assert.rejects(queue.waitForGroup('small', { timeout_ms: 60_000 }), unknown);
});

test('a group is waited for through a time in which the store is unavailable', async (t) => {
  const { store } = await setup(t);
  await new Queue(store).enqueueAll([JOB], { group_id: 'g' });
  let asked = 0;
  const queue = new Queue(
    storeWith(store, {
      unfinished: (group_ids) => {
        asked += 1;
        return asked === 2 ? Promise.reject(StoreUnavailable('for now')) : store.unfinished(group_ids);
      },
    }),
  );
  const waits = queue.waitForGroup('g', { timeout_ms: 60_000 });
  await until('it was asked in vain', () => asked === 2);
  await end(store, 1);
  await waits;
  assert.ok(asked > 2);
});

test('a job that many have waited for in vain is read once for all of them', async (t) => {
  const { store } = await setup(t);
  const { counts, queue } = counted(store);
  const { job_id } = await queue.enqueue(JOB);
  const abort = new AbortController();
  const waits = Array.from({ length: 100 }, () =>
    queue.wait(job_id, { timeout_ms: 60_000, signal: abort.signal }),
  );
  abort.abort();
  for (const job of await Promise.all(waits)) assert.equal(job.state, 'PENDING');
  assert.equal(counts.get, 1);
});

test('a listener that throws is no failure of the call that ends the job', () => {
  const path = fileURLToPath(new URL('./children/throwing-listener.ts', import.meta.url));
  const told = execFileSync(process.execPath, [path], { encoding: 'utf8' });
  // Before the call, and when it was carried out.
  assert.deepEqual(JSON.parse(told), { states: ['SUCCESS'], thrown: ['a listener', 'a listener'] });
});

test('a chain is posted in order, an id is made up where there is none', async (t) => {
  const { queue } = await setup(t);
  const jobs = await queue.enqueueChain([JOB, { ...JOB, job_id: 'second' }, JOB], 'run');
  const [first, second, third] = jobs;
  assert.match(first?.job_id ?? '', /^job_[0-9a-f-]{36}$/);
  assert.deepEqual(second?.after, [{ job_id: first?.job_id, on_failure: 'run' }]);
  assert.deepEqual(third?.after, [{ job_id: 'second', on_failure: 'run' }]);
  assert.deepEqual(
    (await queue.pending('default', 10)).map(({ job_id }) => job_id),
    jobs.map(({ job_id }) => job_id),
  );
});
