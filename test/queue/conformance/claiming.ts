import assert from 'node:assert/strict';
import { ids, LEASE_MS, newJob, range, type Suites } from './subject.ts';

export function claiming({ each, shared }: Suites): void {
  each('jobs of equal priority run in the order posted', async (s) => {
    await s.postAll(range(20));
    for (const job_id of range(10, 'single-')) await s.post(job_id);
    assert.deepEqual(await s.claimIds(7), range(20).slice(0, 7));
    assert.deepEqual(await s.claimIds(), [...range(20).slice(7), ...range(10, 'single-')]);
    assert.deepEqual(await s.claimIds(), []);
  });

  each('higher priorities run first, also posted later', async (s) => {
    await s.postAll([
      { job_id: 'low', priority: -1 },
      { job_id: 'normal-1' },
      { job_id: 'high-1', priority: 5 },
      { job_id: 'normal-2' },
      { job_id: 'high-2', priority: 5 },
      { job_id: 'highest', priority: 2 ** 31 - 1 },
    ]);
    assert.deepEqual(await s.claimIds(), ['highest', 'high-1', 'high-2', 'normal-1', 'normal-2', 'low']);
  });

  each('within a priority the job that was due first runs first', async (s) => {
    const now = Date.now();
    await s.postAll([
      { job_id: 'in-3', eta: now + 300_000 },
      { job_id: 'in-1', eta: now + 100_000 },
      { job_id: 'in-2', eta: now + 200_000 },
      { job_id: 'first' },
    ]);
    s.advance(400_000);
    await s.post('late');
    assert.deepEqual(await s.claimIds(), ['first', 'in-1', 'in-2', 'in-3', 'late']);
  });

  each('no job runs before its ETA, and the claim says when the next is due', async (s) => {
    const now = Date.now();
    await s.postAll([
      { job_id: 'later', eta: now + 60_000 },
      { job_id: 'urgent-but-later', eta: now + 90_000, priority: 9 },
      { job_id: 'now' },
    ]);
    assert.equal(await s.nextDueAt(), now + 60_000);
    assert.deepEqual(await s.claimIds(), ['now']);
    assert.equal(await s.nextDueAt(), now + 60_000);
    s.advance(61_000);
    assert.deepEqual(await s.claimIds(), ['later']);
    assert.equal(await s.nextDueAt(), now + 90_000);
    s.advance(30_000);
    assert.deepEqual(await s.claimIds(), ['urgent-but-later']);
    assert.equal(await s.nextDueAt(), null);
  });

  each('jobs of later do not hide those of a lower priority that are due', async (s) => {
    const eta = Date.now() + 60_000;
    const many = (prefix: string, fields: { readonly queue?: string; readonly priority: number }) =>
      Array.from({ length: 30 }, (_, n) => ({ job_id: `${prefix}-${n}`, eta, ...fields }));
    await s.postAll([
      ...many('high', { priority: 2 }),
      ...many('higher', { priority: 3 }),
      ...many('other', { queue: 'other', priority: 3 }),
      { job_id: 'middle', priority: 1 },
      { job_id: 'low' },
      { job_id: 'other-low', queue: 'other' },
    ]);
    for (const [limit, expected] of [
      [1, ['middle']],
      [2, ['low', 'other-low']],
    ] as const) {
      const queues = ['default', 'other'].slice(0, limit).map((queue) => ({ queue, limit }));
      const { jobs, next_due_at } = await s.store.claim({ worker: 'w', queues, limit, lease_ms: LEASE_MS });
      assert.deepEqual(ids(jobs).toSorted(), expected);
      assert.equal(next_due_at, eta);
    }
  });

  each('a claim says when the next job is due also when it hands out all it was asked for', async (s) => {
    const eta = Date.now() + 60_000;
    await s.postAll([{ job_id: 'a' }, { job_id: 'b' }, { job_id: 'c', eta }]);
    const request = { worker: 'w', queues: [{ queue: 'default', limit: 1 }], limit: 1, lease_ms: LEASE_MS };
    const { jobs, next_due_at } = await s.store.claim(request);
    assert.deepEqual(ids(jobs), ['a']);
    assert.equal(next_due_at, eta);
  });

  each('a claimed job is STARTED, held, and says by whom', async (s) => {
    await s.post('a', { payload: [1] });
    const before = Date.now();
    const job = await s.claimOne();
    assert.deepEqual(job.lease, { job_id: 'a', attempt: 1, fence: job.fence });
    const { lease: _, ...stored } = job;
    assert.deepEqual(await s.store.get('a'), stored);
    assert.equal(job.state, 'STARTED');
    assert.equal(job.attempt, 1);
    assert.equal(job.worker, 'worker-1');
    assert.deepEqual(job.payload, [1]);
    assert.ok(job.started_at !== null && job.started_at >= before && job.started_at <= Date.now());
    assert.deepEqual(await s.store.leases(), [job.lease]);
  });

  each('never more are handed out than asked for, of a queue or in all', async (s) => {
    await s.postAll([
      ...range(10, 'a-').map((job_id) => ({ job_id, queue: 'a' })),
      ...range(10, 'b-').map((job_id) => ({ job_id, queue: 'b' })),
      ...range(10, 'c-').map((job_id) => ({ job_id, queue: 'c' })),
    ]);
    const claim = async (limits: readonly [number, number], limit: number) => {
      const queues = [
        { queue: 'a', limit: limits[0] },
        { queue: 'b', limit: limits[1] },
      ];
      return ids((await s.store.claim({ worker: 'w', queues, limit, lease_ms: LEASE_MS })).jobs);
    };
    assert.deepEqual(await claim([2, 1], 10), ['a-0', 'a-1', 'b-0']);
    assert.deepEqual(await claim([5, 5], 2), ['a-2', 'a-3']);
    assert.deepEqual(await claim([0, 2], 10), ['b-1', 'b-2']);
    assert.deepEqual(await claim([5, 5], 0), []);
    assert.deepEqual(await s.pendingIds('c'), range(10, 'c-'));
  });

  each('across queues the same order holds', async (s) => {
    await s.post('a-1', { queue: 'a' });
    await s.post('b-1', { queue: 'b', priority: 1 });
    await s.post('b-2', { queue: 'b' });
    await s.post('a-2', { queue: 'a' });
    assert.deepEqual(await s.claimIds(3, ['a', 'b']), ['b-1', 'a-1', 'b-2']);
  });

  each('fences grow with every claim, also of one job', async (s) => {
    await s.postAll(range(3));
    const fences = (await s.claim(2)).map(({ lease }) => lease.fence);
    const [first] = await s.claim(1);
    assert.ok(first);
    await s.retryLater(first);
    fences.push(first.lease.fence, (await s.claimOne()).lease.fence);
    assert.deepEqual(
      fences,
      [...new Set(fences)].sort((a, b) => a - b),
    );
  });

  each('a paused queue hands out nothing until it is resumed; what runs goes on', async (s) => {
    await s.postAll(['a', 'b', { job_id: 'other', queue: 'other' }]);
    const running = await s.claimOne();
    await s.store.pause('default');
    await s.store.pause('default');
    assert.deepEqual(await s.claimIds(10, ['default', 'other']), ['other']);
    await s.post('c', { eta: Date.now() + 60_000 });
    assert.equal(await s.nextDueAt(), null);
    assert.deepEqual((await s.store.renew([{ lease: running.lease }], LEASE_MS)).lost, []);
    assert.equal(await s.succeed(running), 'SUCCESS');
    await s.store.resume('default');
    assert.deepEqual(await s.claimIds(), ['b']);
    await s.store.resume('default');
  });

  each('a queue can be paused before it has a job', async (s) => {
    await s.store.pause('new');
    assert.deepEqual(
      (await s.store.stats()).map(({ queue, paused }) => ({ queue, paused })),
      [{ queue: 'new', paused: true }],
    );
    await s.post('a', { queue: 'new' });
    assert.deepEqual(await s.claimIds(1, ['new']), []);
  });

  each('a queue without jobs that was paused and resumed is gone', async (s) => {
    await s.store.pause('slip');
    await s.store.resume('slip');
    await s.store.resume('slop');
    assert.deepEqual(await s.store.stats(), []);
  });

  shared('of several connections that claim at once, each job goes to one', async (s) => {
    const stores = [s.store, await s.connect(), await s.connect()];
    await s.postAll(range(200));
    const claimed = await Promise.all(
      stores.map(async (store, n) => {
        const got: string[] = [];
        for (;;) {
          const queues = [{ queue: 'default', limit: 7 }];
          const { jobs } = await store.claim({ worker: `w${n}`, queues, limit: 7, lease_ms: LEASE_MS });
          if (jobs.length === 0) return got;
          got.push(...ids(jobs));
        }
      }),
    );
    assert.deepEqual(claimed.flat().sort(), range(200).sort());
  });

  shared('a job posted by one connection is claimed and finished by another', async (s) => {
    const other = await s.connect();
    assert.equal(other.store_id, s.store.store_id);
    await other.enqueue([newJob('a')]);
    assert.equal(await s.succeed(await s.claimOne()), 'SUCCESS');
    assert.equal((await other.get('a')).state, 'SUCCESS');
  });
}
