import assert from 'node:assert/strict';
import type { ClaimedJob, Job, JobState, Outcome } from '../../../src/queue/store.ts';
import { until } from '../../support/until.ts';
import { ids, LEASE_MS, only, rejects, type Subject, type Suites } from './subject.ts';

export function ending({ each, shared }: Suites): void {
  each('a success has its result and no error', async (s) => {
    await s.post('a', { retries: 1 });
    await s.retryLater(await s.claimOne());
    assert.equal((await s.store.get('a')).error, 'not now');
    const held = await s.claimOne();
    assert.equal(held.error, 'not now');
    const result = { rows: 3, list: ['ü', null] };
    assert.equal(await s.finish(held, { state: 'SUCCESS', result }), 'SUCCESS');
    const job = await s.store.get('a');
    assert.deepEqual([job.state, job.result, job.error, job.attempt], ['SUCCESS', result, '', 2]);
    assert.ok(job.finished_at !== null && job.started_at !== null && job.finished_at >= job.started_at);
    assert.deepEqual(await s.store.leases(), []);
  });

  each('a failure has its error', async (s) => {
    await s.post('a');
    assert.equal(await s.fail(await s.claimOne()), 'FAILURE');
    const job = await s.store.get('a');
    assert.deepEqual([job.state, job.error, job.result], ['FAILURE', 'it broke', null]);
    assert.notEqual(job.finished_at, null);
  });

  each('RETRY puts the job back, due after the delay', async (s) => {
    await s.post('a', { retries: 3 });
    const held = await s.claimOne();
    assert.equal(await s.retryLater(held, 60_000), 'RETRY');
    const job = await s.store.get('a');
    assert.deepEqual([job.state, job.attempt, job.failures, job.error], ['RETRY', 1, 1, 'not now']);
    assert.equal(job.finished_at, null);
    assert.ok(job.due_at >= Date.now() + 59_000 && job.due_at <= Date.now() + 60_000);
    assert.equal(await s.nextDueAt(), job.due_at);
    assert.deepEqual(await s.claim(), []);
    s.advance(60_001);
    const again = await s.claimOne();
    assert.deepEqual([again.attempt, again.failures], [2, 1]);
    assert.ok(again.lease.fence > held.lease.fence);
  });

  each('CANCELLED by the worker ends the job', async (s) => {
    await s.post('a');
    assert.equal(await s.finish(await s.claimOne(), { state: 'CANCELLED', error: 'stopped' }), 'CANCELLED');
    assert.equal((await s.store.get('a')).error, 'stopped');
  });

  each('who reads a job on the hint that it has finished finds it so', async (s) => {
    const ends: readonly Outcome[] = [
      { state: 'SUCCESS', result: 1 },
      { state: 'FAILURE', error: 'e' },
      { state: 'CANCELLED' },
    ];
    await s.postAll(ends.map(({ state }) => state));
    const held = await s.claim();
    const reads: Promise<Job>[] = [];
    const stop = s.store.watch((hint) => {
      if (hint.type === 'finished' && hint.job_id !== null) reads.push(s.store.get(hint.job_id));
    });
    assert.deepEqual(ids(held), ['SUCCESS', 'FAILURE', 'CANCELLED']);
    await s.store.finish(
      ends.map((outcome, index) => ({ lease: held[index]?.lease ?? assert.fail(), outcome })),
    );
    await until('all are hinted at', async () => {
      const jobs = await Promise.all(reads);
      for (const { job_id, state } of jobs) assert.equal(state, job_id);
      return new Set(jobs.map(({ job_id }) => job_id)).size === ends.length;
    });
    stop();
  });

  const afterCancel: readonly (readonly [Outcome, JobState])[] = [
    [{ state: 'SUCCESS', result: 1 }, 'CANCELLED'],
    [{ state: 'RETRY', error: 'e', delay_ms: 0 }, 'CANCELLED'],
    [{ state: 'CANCELLED' }, 'CANCELLED'],
    [{ state: 'FAILURE', error: 'e' }, 'FAILURE'],
  ];
  for (const [outcome, state] of afterCancel) {
    each(`${outcome.state} after a cancel was asked is ${state}`, async (s) => {
      await s.post('a', { retries: 1 });
      const held = await s.claimOne();
      await s.store.cancel('a');
      assert.equal(await s.finish(held, outcome), state);
      const job = await s.store.get('a');
      assert.deepEqual([job.state, job.result], [state, null]);
      assert.deepEqual(await s.claim(), []);
    });
  }

  each('many ends in one call are judged each by itself, in order', async (s) => {
    await s.postAll(['a', 'b', 'c', 'd']);
    const [a, b, c, d] = await s.claim();
    assert.ok(a && b && c && d);
    await s.store.cancel('c');
    const success: Outcome = { state: 'SUCCESS', result: null };
    const states = await s.store.finish([
      { lease: a.lease, outcome: success },
      { lease: { ...b.lease, fence: b.lease.fence + 1_000 }, outcome: success },
      { lease: c.lease, outcome: success },
      { lease: d.lease, outcome: { state: 'FAILURE', error: 'x' } },
      { lease: a.lease, outcome: { state: 'FAILURE', error: 'again' } },
    ]);
    assert.deepEqual(states, ['SUCCESS', null, 'CANCELLED', 'FAILURE', null]);
    assert.deepEqual(await s.states('a', 'b', 'c', 'd'), ['SUCCESS', 'STARTED', 'CANCELLED', 'FAILURE']);
    assert.equal((await s.store.get('a')).error, '');
  });

  each('no ends are no ends', async (s) => {
    assert.deepEqual(await s.store.finish([]), []);
    assert.deepEqual(await s.store.renew([], LEASE_MS), { lost: [], cancelled: [] });
    await s.store.release([]);
  });

  // What a worker can no longer do once its attempt is not the current one.
  const zombies: readonly (readonly [string, (s: Subject, held: ClaimedJob) => Promise<unknown>])[] = [
    ['finished', (s, held) => s.succeed(held)],
    ['put back to be retried', (s, held) => s.retryLater(held)],
    ['released', (s, held) => s.store.release([held.lease])],
    [
      'recovered',
      async (s) => {
        s.advance(LEASE_MS + 1);
        await s.recover();
      },
    ],
    ['purged', (s) => s.store.purge('a')],
    [
      'run again by another',
      async (s, held) => {
        await s.retryLater(held);
        await s.claimOne();
      },
    ],
    [
      'posted anew and running',
      async (s, held) => {
        await s.fail(held);
        await s.post('a');
        await s.claimOne();
      },
    ],
  ];
  for (const [what, happens] of zombies) {
    each(`an attempt that was ${what} cannot be renewed, finished or released`, async (s) => {
      await s.post('a', { retries: 5 });
      const zombie = await s.claimOne();
      await happens(s, zombie);
      const before = await s.store.list({}, 10);
      const leases = await s.store.leases();
      const renewal = { lease: zombie.lease, progress: 'I am alive' };
      assert.deepEqual(await s.store.renew([renewal], LEASE_MS), { lost: [zombie.lease], cancelled: [] });
      for (const outcome of [
        { state: 'SUCCESS', result: 'late' },
        { state: 'FAILURE', error: 'late' },
        { state: 'RETRY', error: 'late', delay_ms: 0 },
        { state: 'CANCELLED' },
      ] satisfies Outcome[]) {
        assert.equal(await s.finish(zombie, outcome), null);
      }
      await s.store.release([zombie.lease]);
      assert.deepEqual(await s.store.list({}, 10), before);
      assert.deepEqual(await s.store.leases(), leases);
    });
  }

  each('each field of a lease is needed', async (s) => {
    await s.postAll(['a', 'b']);
    const [a, b] = await s.claim();
    assert.ok(a && b);
    for (const lease of [
      { ...a.lease, job_id: 'b' },
      { ...a.lease, attempt: 2 },
      { ...a.lease, fence: b.lease.fence },
      { ...a.lease, fence: a.lease.fence - 1 },
    ]) {
      assert.equal(await s.succeed({ lease }), null);
      assert.deepEqual((await s.store.renew([{ lease }], LEASE_MS)).lost, [lease]);
      await s.store.release([lease]);
    }
    assert.deepEqual(await s.states('a', 'b'), ['STARTED', 'STARTED']);
  });

  each('a released job is back in its old place, the attempt not counted', async (s) => {
    await s.postAll(['a', 'b', 'c']);
    const [a, b] = await s.claim(2);
    assert.ok(a && b);
    await s.store.release([b.lease, a.lease]);
    const job = await s.store.get('a');
    assert.deepEqual([job.state, job.attempt, job.progress], ['PENDING', 0, null]);
    assert.deepEqual(await s.pendingIds(), ['a', 'b', 'c']);
    const again = await s.claim();
    assert.deepEqual(
      again.map(({ job_id, attempt }) => [job_id, attempt]),
      [
        ['a', 1],
        ['b', 1],
        ['c', 1],
      ],
    );
    assert.ok(only(again.filter(({ job_id }) => job_id === 'a')).lease.fence > a.lease.fence);
  });

  each(
    'a job released with a delay is due after it, in its new place, the attempt not counted',
    async (s) => {
      await s.postAll(['a', 'b', 'c']);
      const [a, b] = await s.claim(2);
      assert.ok(a && b);
      await s.store.release([a.lease], 60_000);
      await s.store.release([b.lease], 0);
      const job = await s.store.get('a');
      assert.deepEqual([job.state, job.attempt, job.failures, job.eta], ['PENDING', 0, 0, null]);
      assert.ok(job.due_at >= (a.started_at ?? 0) + 60_000, 'it is due later');
      assert.deepEqual(await s.pendingIds(), ['b', 'c', 'a']);
      const { jobs, next_due_at } = await s.store.claim({
        worker: 'w',
        queues: [{ queue: 'default', limit: 3 }],
        limit: 3,
        lease_ms: 10_000,
      });
      assert.deepEqual([jobs.map(({ job_id }) => job_id), next_due_at], [['b', 'c'], job.due_at]);
    },
  );

  each('a released job that was asked to cancel is CANCELLED', async (s) => {
    await s.post('a');
    const held = await s.claimOne();
    await s.store.cancel('a');
    await s.store.release([held.lease]);
    assert.equal(await s.state('a'), 'CANCELLED');
  });

  each('a failed or cancelled job runs again as it was posted, at the end of its queue', async (s) => {
    await s.post('a', { payload: { x: 1 }, retries: 2, eta: 1 });
    await s.retryLater(await s.claimOne());
    await s.fail(await s.claimOne());
    await s.post('b');
    const job = await s.store.retry('a');
    assert.deepEqual(
      [job.state, job.attempt, job.failures, job.error, job.result, job.finished_at, job.cancel_requested],
      ['PENDING', 0, 0, '', null, null, false],
    );
    assert.deepEqual([job.payload, job.retries], [{ x: 1 }, 2]);
    assert.deepEqual(await s.store.get('a'), job);
    assert.deepEqual(await s.pendingIds(), ['b', 'a']);
    assert.equal((await s.claimOne()).job_id, 'b');
    assert.equal((await s.claimOne()).attempt, 1);
    await s.store.cancel('a');
    await rejects(s.store.retry('a'), 'job_active');
  });

  each('a retry comes behind what was posted right before it', async (s) => {
    await s.post('a');
    await s.fail(await s.claimOne());
    // In one step of the store, where it can: at the same time.
    await Promise.all([s.post('b'), s.store.retry('a')]);
    assert.deepEqual(await s.pendingIds(), ['b', 'a']);
  });

  each('a job cancelled while it ran can run again', async (s) => {
    await s.post('a');
    const held = await s.claimOne();
    await s.store.cancel('a');
    await s.finish(held, { state: 'CANCELLED' });
    await s.store.retry('a');
    assert.equal(await s.succeed(await s.claimOne()), 'SUCCESS');
  });

  each('a job cancelled before its ETA runs at once when it is retried', async (s) => {
    await s.post('a', { eta: Date.now() + 3_600_000 });
    await s.store.cancel('a');
    await s.store.retry('a');
    assert.deepEqual(await s.claimIds(), ['a']);
  });

  each('a job that waits, runs, succeeded or is unknown cannot be retried', async (s) => {
    await rejects(s.store.retry('a'), 'unknown_job');
    await s.post('a', { retries: 1 });
    await rejects(s.store.retry('a'), 'job_active');
    await s.retryLater(await s.claimOne());
    await rejects(s.store.retry('a'), 'job_active');
    const held = await s.claimOne();
    await rejects(s.store.retry('a'), 'job_active');
    await s.succeed(held);
    await rejects(s.store.retry('a'), 'job_finished');
  });

  shared('of a cancel and a success at the same time, both sides are told the same', async (s) => {
    const other = await s.connect();
    for (let round = 0; round < 30; round += 1) {
      const job_id = `race-${round}`;
      await s.post(job_id);
      const held = await s.claimOne();
      const [finished, cancelled] = await Promise.allSettled([s.succeed(held), other.cancel(job_id)]);
      assert.ok(finished.status === 'fulfilled');
      const state = await s.state(job_id);
      assert.equal(finished.value, state);
      assert.equal(cancelled.status === 'fulfilled' ? 'CANCELLED' : 'SUCCESS', state);
    }
  });
}
