import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { StoreUnavailable } from '../../src/queue/errors.ts';
import { nameOf } from '../../src/queue/identity.ts';
import type { Json } from '../../src/queue/index.ts';
import {
  AttemptStopped,
  type Handler,
  type HandlerContext,
  PermanentError,
  Queue,
  Worker,
  type WorkerEvent,
  type WorkerOptions,
} from '../../src/queue/index.ts';
import type { ClaimedJob, Store } from '../../src/queue/store.ts';
import { openSqliteStore } from '../../src/queue/stores/sqlite.ts';
import { retryDelay } from '../../src/queue/worker.ts';
import { tempFolder } from '../support/folder.ts';
import { until } from '../support/until.ts';
import { storeWith } from './store-with.ts';

const JOB = { task: 'task', queue: 'default', payload: null };

interface Place {
  readonly path: string;
  readonly store: Store;
  readonly queue: Queue;
  readonly events: WorkerEvent[];
  advance(ms: number): void;
  /** A worker that runs the handler, stopped when the test ends. */
  work(run: Handler['run'] | Handler, options?: Partial<WorkerOptions>): Worker;
  /** The ids of the jobs of which the workers have told this, in order. */
  told(type: WorkerEvent['type']): string[];
}

async function setup(t: TestContext, busy_timeout_ms = 10_000): Promise<Place> {
  const events: WorkerEvent[] = [];
  const workers: Worker[] = [];
  // Before the folder is removed, which was registered later.
  t.after(async () => {
    await Promise.all(workers.map((worker) => worker.stop()));
    await store.close();
  });
  const path = join(tempFolder(t), 'queue.db');
  let offset = 0;
  const store = await openSqliteStore({ path, busy_timeout_ms, clockOffset: () => offset });
  return {
    path,
    store,
    queue: new Queue(store),
    events,
    advance: (ms) => {
      offset += ms;
    },
    work(run, options = {}) {
      const worker = new Worker({
        store,
        name: `worker-${workers.length}`,
        queues: [{ queue: 'default', concurrency: 10 }],
        concurrency: 10,
        handler: typeof run === 'function' ? { run } : run,
        abort_grace_ms: 200,
        onEvent: (event) => events.push(event),
        ...options,
      });
      workers.push(worker);
      worker.start();
      return worker;
    },
    told: (type) =>
      events.flatMap((event) => (event.type === type && 'job' in event ? [event.job.job_id] : [])),
  };
}

/** Runs until its signal is aborted, and then throws the reason. */
function untilAborted(_job: ClaimedJob, { signal }: HandlerContext): Promise<Json> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
}

test('a job runs with what was posted, and its result is kept', async (t) => {
  const place = await setup(t);
  const seen: ClaimedJob[] = [];
  place.work(async (job) => {
    seen.push(job);
    return { twice: [job.payload, job.payload] };
  });
  const { job_id } = await place.queue.enqueue({ ...JOB, payload: { n: 1 } });
  const job = await place.queue.wait(job_id, { timeout_ms: 30_000 });
  assert.deepEqual(
    [job.state, job.result, nameOf(job.worker ?? '')],
    ['SUCCESS', { twice: [{ n: 1 }, { n: 1 }] }, 'worker-0'],
  );
  assert.deepEqual(
    seen.map(({ job_id, attempt }) => [job_id, attempt]),
    [[job_id, 1]],
  );
  await until('it is told', () => place.told('succeeded').length === 1);
  assert.deepEqual(
    place.events.map(({ type }) => type),
    ['started', 'succeeded'],
  );
});

test('never more run at once than allowed, of a queue or in all, and no slot is left unused', async (t) => {
  const place = await setup(t);
  const limits: Record<string, number> = { a: 3, b: 2, c: 10 };
  const running: Record<string, number> = { a: 0, b: 0, c: 0 };
  const most: Record<string, number> = { a: 0, b: 0, c: 0, all: 0 };
  const jobs = Array.from({ length: 300 }, (_, n) => ({ ...JOB, queue: 'abc'[n % 3] ?? 'a' }));
  await place.queue.enqueueAll(jobs);
  place.work(
    async ({ queue }) => {
      running[queue] = (running[queue] ?? 0) + 1;
      const all = Object.values(running).reduce((sum, count) => sum + count);
      most[queue] = Math.max(most[queue] ?? 0, running[queue]);
      most['all'] = Math.max(most['all'] ?? 0, all);
      const held = await place.store.leases();
      // Those that have ended and are not yet taken by the store are held as well.
      assert.ok(held.length <= 2 * 8, `${held.length} are held`);
      running[queue] -= 1;
      return null;
    },
    {
      queues: Object.entries(limits).map(([queue, concurrency]) => ({ queue, concurrency })),
      concurrency: 8,
    },
  );
  await until('all are done', () => place.told('succeeded').length === jobs.length);
  assert.ok((most['a'] ?? 0) <= 3 && (most['b'] ?? 0) <= 2, JSON.stringify(most));
  assert.equal(most['all'], 8);
});

test('workers of several stores share a limit and keys: none is exceeded, and all is done', async (t) => {
  const place = await setup(t);
  const other = await openSqliteStore({ path: place.path });
  t.after(() => other.close());
  const running = new Map<string, number>();
  const most = new Map<string, number>();
  const count = (name: string, change: number) => {
    const now = (running.get(name) ?? 0) + change;
    running.set(name, now);
    most.set(name, Math.max(most.get(name) ?? 0, now));
  };
  const jobs = Array.from({ length: 120 }, (_, n) => {
    const key = `key-${n % 3}`;
    return { ...JOB, queue: 'ab'[n % 2] ?? 'a', limit: 'db', key, key_concurrency: 2 };
  });
  await place.queue.limit('db', 4);
  await place.queue.enqueueAll(jobs);
  const run = async ({ limit, key }: ClaimedJob) => {
    for (const name of [limit, key]) count(String(name), 1);
    await place.store.states(['any']);
    for (const name of [limit, key]) count(String(name), -1);
    return null;
  };
  // Each with a queue of its own, so that what one ends is what the other waits for.
  const a = place.work(run, { queues: [{ queue: 'a', concurrency: 10 }] });
  const b = place.work(run, { queues: [{ queue: 'b', concurrency: 10 }], store: other });
  await until('all are done', () => place.told('succeeded').length === jobs.length);
  assert.ok((most.get('db') ?? 0) <= 4, `${most.get('db')} ran at once`);
  for (const key of ['key-0', 'key-1', 'key-2']) assert.ok((most.get(key) ?? 0) <= 2, key);
  assert.deepEqual(await place.queue.limits(['db']), [
    { limit: 'db', concurrency: 4, running: 0, waiting: 0 },
  ]);
  await Promise.all([a.stop(), b.stop()]);
});

test('a slot that one worker frees is taken by another that waits for it', async (t) => {
  const place = await setup(t);
  const other = await openSqliteStore({ path: place.path });
  t.after(() => other.close());
  await place.queue.limit('db', 1);
  const [first] = await place.queue.enqueueAll([
    { ...JOB, queue: 'a', limit: 'db' },
    { ...JOB, queue: 'b', limit: 'db' },
  ]);
  const mayEnd = Promise.withResolvers<null>();
  const a = place.work(() => mayEnd.promise, { queues: [{ queue: 'a', concurrency: 1 }] });
  await until('the first runs', () => place.told('started').length === 1);
  const b = place.work(async () => null, { queues: [{ queue: 'b', concurrency: 1 }], store: other });
  assert.deepEqual(place.told('started'), [first?.job_id]);
  mayEnd.resolve(null);
  await until('both are done', () => place.told('succeeded').length === 2);
  await Promise.all([a.stop(), b.stop()]);
});

test('it holds exactly what it runs: the others are free for other workers', async (t) => {
  const place = await setup(t);
  await place.queue.enqueueAll(Array.from({ length: 10 }, () => JOB));
  place.work(untilAborted, { concurrency: 3 });
  await until('three run', () => place.told('started').length === 3);
  assert.equal((await place.store.leases()).length, 3);
  place.work(untilAborted, { concurrency: 4 });
  await until('the other has four', () => place.told('started').length === 7);
  assert.equal((await place.store.pending('default', 100)).length, 3);
});

test('the queues of a worker may change while it runs', async (t) => {
  const place = await setup(t);
  let queues = [{ queue: 'one', concurrency: 1 }];
  place.work(async () => null, { queues: () => queues, poll_ms: 20 });
  const job = await place.queue.enqueue({ ...JOB, queue: 'two' });
  await place.queue.enqueue({ ...JOB, queue: 'one' });
  await until('the first is done', () => place.told('succeeded').length === 1);
  queues = [{ queue: 'two', concurrency: 1 }];
  await until('the second is done', () => place.told('succeeded').includes(job.job_id));
});

test('an error is retried after a delay that grows, and then it is a failure', async (t) => {
  const place = await setup(t);
  place.work(
    async ({ attempt }) => {
      throw new Error(`attempt ${attempt}`);
    },
    { backoff: { base_ms: 1_000_000, max_ms: 3_000_000 }, random: () => 0, poll_ms: 20 },
  );
  const { job_id } = await place.queue.enqueue({ ...JOB, retries: 3 });
  for (const failures of [1, 2, 3]) {
    await until('it waits', async () => (await place.store.get(job_id)).failures === failures);
    const job = await place.store.get(job_id);
    assert.deepEqual([job.state, job.error], ['RETRY', `attempt ${failures}`]);
    place.advance(3_000_001);
  }
  const job = await place.queue.wait(job_id, { timeout_ms: 30_000 });
  assert.deepEqual([job.state, job.error, job.attempt], ['FAILURE', 'attempt 4', 4]);
  const delays = place.events.flatMap((event) => (event.type === 'retrying' ? [event.delay_ms] : []));
  assert.deepEqual(delays, [500_000, 1_000_000, 1_500_000]);
});

test('the delay of a retry doubles up to its limit, half of it at random', () => {
  const backoff = { base_ms: 100, max_ms: 1_000 };
  const delays = (random: number) =>
    [0, 1, 2, 3, 4, 50, 5_000].map((n) => retryDelay(n, backoff, () => random));
  assert.deepEqual(delays(0), [50, 100, 200, 400, 500, 500, 500]);
  assert.deepEqual(delays(0.5), [75, 150, 300, 600, 750, 750, 750]);
});

test('what a claim has taken whose answer was lost is given back, uncounted, and runs', async (t) => {
  const place = await setup(t);
  // The network's part: the call is carried out, and its answer lost.
  let lost = 0;
  const claim: Store['claim'] = async (request) => {
    const claimed = await place.store.claim(request);
    if (claimed.jobs.length === 0 || lost === 5) return claimed;
    lost += 1;
    throw StoreUnavailable('the answer was lost');
  };
  const store = storeWith(place.store, { claim });
  const jobs = await place.queue.enqueueAll([JOB, JOB, JOB]);
  const attempts: number[] = [];
  place.work(
    async ({ attempt }) => {
      attempts.push(attempt);
      return null;
    },
    { store },
  );
  for (const { job_id } of jobs) {
    assert.equal((await place.queue.wait(job_id, { timeout_ms: 30_000 })).state, 'SUCCESS');
  }
  assert.equal(lost, 5);
  assert.deepEqual(attempts, [1, 1, 1]);
});

test('a worker whose claim failed leaves alone what another of its name runs', async (t) => {
  const place = await setup(t);
  const begun: string[] = [];
  const gate = Promise.withResolvers<null>();
  const run = (job: ClaimedJob) => {
    begun.push(job.job_id);
    return gate.promise;
  };
  place.work(run, { name: 'twin' });
  const { job_id } = await place.queue.enqueue(JOB);
  await until('the first has it', () => begun.length === 1);
  let failed = 0;
  const store = storeWith(place.store, {
    claim: async (request) => {
      failed += 1;
      if (failed === 1) throw StoreUnavailable('not now');
      return place.store.claim(request);
    },
  });
  place.work(run, { name: 'twin', store });
  await until('it has looked for what it may hold', () => failed > 1);
  assert.equal((await place.store.get(job_id)).attempt, 1);
  assert.equal((await place.store.get(job_id)).state, 'STARTED');
  gate.resolve(null);
  assert.equal((await place.queue.wait(job_id, { timeout_ms: 30_000 })).state, 'SUCCESS');
  assert.deepEqual(begun, [job_id]);
});

test('queues that a claim has emptied are not asked again for each job that ends', async (t) => {
  const place = await setup(t);
  let claims = 0;
  const store = storeWith(place.store, {
    claim: (request) => {
      claims += 1;
      return place.store.claim(request);
    },
  });
  place.work(async () => null, { store, poll_ms: 600_000 });
  for (let n = 0; n < 20; n += 1) {
    const { job_id } = await place.queue.enqueue(JOB);
    assert.equal((await place.queue.wait(job_id, { timeout_ms: 30_000 })).state, 'SUCCESS');
  }
  assert.ok(claims >= 20 && claims <= 30, `${claims} claims for 20 jobs`);
});

test('a queue that has more than its share is asked again when a job ends, though no hint comes', async (t) => {
  const place = await setup(t);
  const store = storeWith(place.store, { watch: () => () => {} });
  const queues = [
    { queue: 'default', concurrency: 2 },
    { queue: 'other', concurrency: 2 },
  ];
  const jobs = await place.queue.enqueueAll(Array.from({ length: 9 }, () => JOB));
  place.work(async () => null, { store, queues, poll_ms: 600_000 });
  for (const { job_id } of jobs) {
    assert.equal((await place.queue.wait(job_id, { timeout_ms: 30_000 })).state, 'SUCCESS');
  }
});

test('a retry runs when it is due, though no hint comes', async (t) => {
  const place = await setup(t);
  place.work(
    async ({ attempt }) => {
      if (attempt === 1) throw new Error('once');
      return null;
    },
    { backoff: { base_ms: 20, max_ms: 20 }, poll_ms: 600_000 },
  );
  const { job_id } = await place.queue.enqueue({ ...JOB, retries: 1 });
  assert.equal((await place.queue.wait(job_id, { timeout_ms: 30_000 })).state, 'SUCCESS');
});

test('a permanent error is a failure at once', async (t) => {
  const place = await setup(t);
  place.work(async () => {
    throw new PermanentError('no such table');
  });
  const { job_id } = await place.queue.enqueue({ ...JOB, retries: 5 });
  const job = await place.queue.wait(job_id, { timeout_ms: 30_000 });
  assert.deepEqual([job.state, job.error, job.attempt], ['FAILURE', 'no such table', 1]);
});

test('a worker that died costs a job none of its retries', async (t) => {
  const place = await setup(t);
  const { job_id } = await place.queue.enqueue({ ...JOB, retries: 1 });
  const request = { worker: 'dead', queues: [{ queue: 'default', limit: 1 }], limit: 1, lease_ms: 1_000 };
  assert.equal((await place.store.claim(request)).jobs.length, 1);
  place.advance(1_001);
  await place.store.recover({ max_crashes: 3 });
  place.work(
    async ({ attempt }) => {
      if (attempt === 2) throw new Error('the first failure');
      return null;
    },
    { backoff: { base_ms: 1, max_ms: 1 } },
  );
  const job = await place.queue.wait(job_id, { timeout_ms: 30_000 });
  assert.deepEqual([job.state, job.attempt, job.failures], ['SUCCESS', 3, 1]);
});

test('a result that is not JSON is the failure of its job, and of no other', async (t) => {
  const place = await setup(t);
  place.work(async ({ task }) =>
    task === 'bad' ? ({ big: 1n } as unknown as Json) : (undefined as unknown as Json),
  );
  const jobs = await place.queue.enqueueAll([JOB, { ...JOB, task: 'bad', retries: 3 }, JOB]);
  const ended = await Promise.all(jobs.map(({ job_id }) => place.queue.wait(job_id, { timeout_ms: 30_000 })));
  assert.deepEqual(
    ended.map(({ state, result }) => [state, result]),
    [
      ['SUCCESS', null],
      ['FAILURE', null],
      ['SUCCESS', null],
    ],
  );
  assert.match(ended[1]?.error ?? '', /not JSON/);
});

test('heartbeats keep a long job and carry its progress', async (t) => {
  const place = await setup(t);
  place.work(
    (job, context) => {
      context.progress({ rows: 7 });
      assert.throws(() => context.progress(1n as unknown as Json), TypeError);
      return untilAborted(job, context);
    },
    { lease_ms: 5_000, heartbeat_ms: 10 },
  );
  const { job_id } = await place.queue.enqueue(JOB);
  await until('its progress is seen', async () => (await place.store.get(job_id)).progress !== null);
  assert.deepEqual((await place.store.get(job_id)).progress, { rows: 7 });
  for (let n = 0; n < 5; n += 1) {
    place.advance(4_000);
    // A heartbeat of after the leap: only then is the lease good for another five seconds.
    await until('the lease is renewed', async () => {
      place.advance(1);
      const [before] = await place.store.leases();
      return before !== undefined;
    });
    await place.store.recover({ max_crashes: 1 });
    assert.equal((await place.store.get(job_id)).state, 'STARTED');
    await place.store.ping();
  }
});

test('a cancel stops the handler at once, and the job is CANCELLED', async (t) => {
  const place = await setup(t);
  place.work(untilAborted, { heartbeat_ms: 600_000, lease_ms: 1_800_000 });
  const { job_id } = await place.queue.enqueue(JOB);
  await until('it runs', () => place.told('started').length === 1);
  await place.queue.cancel(job_id);
  assert.equal((await place.queue.wait(job_id, { timeout_ms: 30_000 })).state, 'CANCELLED');
  await until('it is told', () => place.told('cancelled').length === 1);
});

test('a success that comes after a cancel is undone', async (t) => {
  const place = await setup(t);
  const discarded: unknown[] = [];
  const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
  place.work({
    run: async () => {
      await mayEnd;
      return 'made';
    },
    discard: async (job, result) => {
      discarded.push([job.job_id, result]);
    },
  });
  const { job_id } = await place.queue.enqueue(JOB);
  await until('it runs', () => place.told('started').length === 1);
  await place.queue.cancel(job_id);
  end();
  assert.equal((await place.queue.wait(job_id, { timeout_ms: 30_000 })).state, 'CANCELLED');
  await until('it is discarded', () => discarded.length > 0);
  assert.deepEqual(discarded, [[job_id, 'made']]);
});

test('a purged job stops its handler, and what it made is undone, also if that fails', async (t) => {
  const place = await setup(t);
  place.work(
    {
      run: (_job, { signal }) =>
        new Promise((resolve) => signal.addEventListener('abort', () => resolve('late'))),
      discard: async () => {
        throw new Error('cannot be undone');
      },
    },
    { heartbeat_ms: 600_000 },
  );
  const { job_id } = await place.queue.enqueue(JOB);
  await until('it runs', () => place.told('started').length === 1);
  await place.queue.purge(job_id);
  await until('the failed undoing is told', () => place.told('discard_failed').length === 1);
  assert.deepEqual(place.told('lost'), [job_id]);
  assert.deepEqual(place.told('succeeded'), []);
});

test('confirm asks again where what the store said is too old, and not where a tenth of the lease is over', async (t) => {
  const place = await setup(t);
  const renewals: number[] = [];
  const renew = place.store.renew.bind(place.store);
  place.store.renew = (leases, lease_ms) => {
    renewals.push(leases.length);
    return renew(leases, lease_ms);
  };
  const asked: number[] = [];
  place.work(
    async (_, { confirm }) => {
      for (const age of [60_000, 60_000, 0, 60_000]) {
        await confirm(age);
        asked.push(renewals.length);
      }
      await until('a tenth of the lease is over', async () => {
        await confirm(60_000);
        return renewals.length === 2;
      });
      return 'held';
    },
    { heartbeat_ms: 600_000, lease_ms: 20_000 },
  );
  const { job_id } = await place.queue.enqueue(JOB);
  assert.equal((await place.queue.wait(job_id, { timeout_ms: 30_000 })).result, 'held');
  assert.deepEqual(asked, [0, 0, 1, 1]);
});

test('confirm says whether the lease is held, and a lost or cancelled one stops the handler', async (t) => {
  const place = await setup(t);
  const answers: string[] = [];
  const gate = Promise.withResolvers<void>();
  place.work(
    async (job, { confirm, signal }) => {
      await confirm();
      answers.push(`${job.job_id}: held`);
      await gate.promise;
      await assert.rejects(confirm(), (error) => {
        assert.ok(error instanceof AttemptStopped);
        answers.push(`${job.job_id}: ${error.reason}`);
        return true;
      });
      assert.ok(signal.aborted);
      await assert.rejects(confirm(), AttemptStopped);
      throw signal.reason;
    },
    { heartbeat_ms: 600_000, lease_ms: 1_000 },
  );
  // No hint reaches it: the commands come from another connection, and nobody watches there.
  const other = await openSqliteStore({ path: place.path });
  t.after(() => other.close());
  await place.queue.enqueueAll([
    { ...JOB, job_id: 'lost' },
    { ...JOB, job_id: 'cancelled' },
  ]);
  await until('both are held', () => answers.length === 2);
  await other.purge('lost');
  await other.cancel('cancelled');
  gate.resolve();
  await until('both were told', () => answers.length === 4);
  assert.deepEqual(answers.slice(2).sort(), ['cancelled: cancelled', 'lost: lease_lost']);
});

test('drain lets what runs end, and begins nothing more', async (t) => {
  const place = await setup(t);
  const gate = Promise.withResolvers<Json>();
  const worker = place.work(() => gate.promise, { concurrency: 1 });
  const [first, second] = await place.queue.enqueueAll([JOB, JOB]);
  assert.ok(first && second);
  await until('one runs', () => worker.size === 1);
  const drained = worker.drain(600_000);
  gate.resolve('in time');
  await drained;
  assert.equal((await place.store.get(first.job_id)).state, 'SUCCESS');
  assert.equal((await place.store.get(second.job_id)).state, 'PENDING');
  assert.equal(worker.size, 0);
});

test('what does not end in time is aborted and given back, uncounted; a success then still counts', async (t) => {
  const place = await setup(t);
  const worker = place.work((job, context) =>
    job.task === 'saves itself'
      ? new Promise((resolve) => context.signal.addEventListener('abort', () => resolve('just so')))
      : untilAborted(job, context),
  );
  const [stopped, saved] = await place.queue.enqueueAll([JOB, { ...JOB, task: 'saves itself' }]);
  assert.ok(stopped && saved);
  await until('both run', () => worker.size === 2);
  await worker.drain(10);
  const job = await place.store.get(stopped.job_id);
  assert.deepEqual([job.state, job.attempt], ['PENDING', 0]);
  assert.deepEqual(place.told('released'), [stopped.job_id]);
  assert.equal((await place.store.get(saved.job_id)).state, 'SUCCESS');
});

test('stop cuts a drain short, and both resolve', async (t) => {
  const place = await setup(t);
  const worker = place.work(untilAborted);
  const { job_id } = await place.queue.enqueue(JOB);
  await until('it runs', () => worker.size === 1);
  const drained = worker.drain(600_000);
  await worker.stop();
  await drained;
  assert.equal((await place.store.get(job_id)).state, 'PENDING');
});

test('a handler that ignores its signal does not hold up a shutdown; what it does later does not count', async (t) => {
  const place = await setup(t);
  const gate = Promise.withResolvers<Json>();
  const discarded: string[] = [];
  const worker = place.work({
    run: () => gate.promise,
    discard: async ({ job_id }) => {
      discarded.push(job_id);
    },
  });
  const { job_id } = await place.queue.enqueue(JOB);
  await until('it runs', () => worker.size === 1);
  await worker.stop();
  assert.deepEqual(place.told('released'), [job_id]);
  const job = await place.store.get(job_id);
  assert.deepEqual([job.state, job.attempt], ['PENDING', 0]);
  gate.resolve('late');
  await until('it is undone', () => discarded.length === 1);
  assert.equal((await place.store.get(job_id)).state, 'PENDING');
});

test('a job claimed while the shutdown began is given back', async (t) => {
  const place = await setup(t);
  for (let round = 0; round < 20; round += 1) {
    const [{ job_id } = { job_id: '' }] = await place.queue.enqueueAll([JOB]);
    const worker = place.work(async () => null);
    await worker.drain(0);
    const { state } = await place.store.get(job_id);
    assert.ok(state === 'PENDING' || state === 'SUCCESS', state);
    assert.deepEqual(await place.store.leases(), []);
    await place.store.purge(job_id);
  }
});

test('workers that come and go lose nothing and run nothing twice', async (t) => {
  const place = await setup(t);
  const ran = new Map<string, number>();
  const jobs = await place.queue.enqueueAll(Array.from({ length: 500 }, () => JOB));
  const handler = async ({ job_id }: ClaimedJob) => {
    ran.set(job_id, (ran.get(job_id) ?? 0) + 1);
    return null;
  };
  await until('all are done', async () => {
    const workers = [0, 1, 2].map(() => place.work(handler, { concurrency: 5 }));
    const enough = Math.min(ran.size + 40, jobs.length);
    await until('some more are done', () => place.told('succeeded').length >= enough);
    await Promise.all(workers.map((worker, n) => (n === 0 ? worker.stop() : worker.drain(1_000))));
    return ran.size === jobs.length;
  });
  assert.deepEqual([...new Set(ran.values())], [1]);
  assert.equal((await place.store.stats())[0]?.counts.SUCCESS, jobs.length);
});

test('a worker can be stopped before it starts, and does nothing after', async (t) => {
  const place = await setup(t);
  const worker = new Worker({
    store: place.store,
    name: 'never',
    queues: [{ queue: 'default', concurrency: 1 }],
    concurrency: 1,
    handler: { run: async () => null },
  });
  await worker.stop();
  worker.start();
  const { job_id } = await place.queue.enqueue(JOB);
  const other = place.work(async () => null);
  assert.match((await place.queue.wait(job_id, { timeout_ms: 30_000 })).worker ?? '', /^worker-0#/);
  await other.stop();
  await other.stop();
});

test('while the store is away attempts go on; what they come to is kept and told when it is back', async (t) => {
  const place = await setup(t, 50);
  const gate = Promise.withResolvers<Json>();
  const asking = Promise.withResolvers<void>();
  place.work(
    async (job, { confirm }) => {
      if (job.task !== 'asks') return gate.promise;
      await gate.promise;
      const confirmed = confirm();
      asking.resolve();
      await confirmed;
      return 'confirmed';
    },
    { heartbeat_ms: 20, concurrency: 2 },
  );
  const [plain, asks, waits] = await place.queue.enqueueAll([JOB, { ...JOB, task: 'asks' }, JOB]);
  assert.ok(plain && asks && waits);
  await until('two run', () => place.told('started').length === 2);
  const thief = new DatabaseSync(place.path, { timeout: 30_000 });
  t.after(() => thief.close());
  thief.exec('BEGIN IMMEDIATE');
  await until('the worker has noticed', () => place.events.some(({ type }) => type === 'store_lost'));
  gate.resolve('made meanwhile');
  await asking.promise;
  assert.deepEqual(place.told('lost'), []);
  thief.exec('COMMIT');
  for (const { job_id } of [plain, asks, waits]) {
    assert.equal((await place.queue.wait(job_id, { timeout_ms: 30_000 })).state, 'SUCCESS');
  }
  await until('it says so', () => place.events.some(({ type }) => type === 'store_back'));
  for (const { job_id } of [plain, asks]) assert.equal((await place.store.get(job_id)).attempt, 1);
});

test('a shutdown while the store is away ends all the same', async (t) => {
  const place = await setup(t, 50);
  const worker = place.work(untilAborted);
  await place.queue.enqueue(JOB);
  await until('it runs', () => worker.size === 1);
  const thief = new DatabaseSync(place.path, { timeout: 30_000 });
  t.after(() => thief.close());
  thief.exec('BEGIN IMMEDIATE');
  await worker.stop();
  await until('the attempt is told lost', () => place.told('lost').length === 1);
  thief.exec('COMMIT');
});

test('what a listener throws is not the failure of a job', async (t) => {
  const place = await setup(t);
  const uncaught: unknown[] = [];
  const catcher = (error: unknown) => uncaught.push(error);
  // The test runner listens, too: for the length of this test, only we do.
  const others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', catcher);
  t.after(() => {
    process.off('uncaughtException', catcher);
    for (const other of others) process.on('uncaughtException', other);
  });
  place.work(async () => null, {
    onEvent: ({ type }) => {
      throw new Error(`the listener broke on ${type}`);
    },
  });
  const { job_id } = await place.queue.enqueue(JOB);
  assert.equal((await place.queue.wait(job_id, { timeout_ms: 30_000 })).state, 'SUCCESS');
  await until('it surfaced', () => uncaught.length === 2);
});

test('jobs that cannot be run yet go back to their queue uncounted, while others run', async (t) => {
  const place = await setup(t);
  let early = true;
  await place.queue.enqueueAll(
    ['a', 'b', 'c'].map((job_id) => ({ ...JOB, job_id, task: job_id === 'b' ? 'now' : 'later' })),
  );
  place.work({
    early: (jobs) => {
      const found = jobs.filter(({ task }) => early && task === 'later');
      return found.length === 0 ? null : { jobs: found, delay_ms: 60_000 };
    },
    run: async () => null,
  });
  assert.equal((await place.queue.wait('b', { timeout_ms: 30_000 })).state, 'SUCCESS');
  await until('the others are back', async () =>
    (await Promise.all(['a', 'c'].map((id) => place.store.get(id)))).every(
      ({ state, attempt, failures, due_at, created_at }) =>
        state === 'PENDING' && attempt === 0 && failures === 0 && due_at >= created_at + 60_000,
    ),
  );
  assert.deepEqual(place.told('started'), ['b']);
  early = false;
  place.advance(61_000);
  for (const id of ['a', 'c']) {
    const { state, attempt } = await place.queue.wait(id, { timeout_ms: 30_000 });
    assert.deepEqual([state, attempt], ['SUCCESS', 1]);
  }
});
