import assert from 'node:assert/strict';
import { LEASE_MS, only, range, rejects, type Subject, type Suites } from './subject.ts';

const HOUR = 3_600_000;

/** Brings a job `x` into each of the states. */
const STATES: Readonly<Record<string, (s: Subject) => Promise<unknown>>> = {
  PENDING: (s) => s.post('x'),
  'PENDING with an ETA': (s) => s.post('x', { eta: Date.now() + HOUR }),
  'PENDING as a child': async (s) => {
    await s.post('parent', { queue: 'other' });
    await s.post('x', { after: [{ job_id: 'parent' }] });
  },
  STARTED: async (s) => {
    await s.post('x');
    await s.claimOne();
  },
  RETRY: async (s) => {
    await s.post('x', { retries: 1 });
    await s.retryLater(await s.claimOne(), HOUR);
  },
  SUCCESS: async (s) => {
    await s.post('x');
    await s.succeed(await s.claimOne());
  },
  FAILURE: async (s) => {
    await s.post('x');
    await s.fail(await s.claimOne());
  },
  CANCELLED: async (s) => {
    await s.post('x');
    await s.store.cancel('x');
  },
};

export function forgetting({ each }: Suites): void {
  for (const [state, bring] of Object.entries(STATES)) {
    each(`a job can be purged when it is ${state}, and its id is free`, async (s) => {
      await bring(s);
      await s.store.purge('x');
      await rejects(s.store.get('x'), 'unknown_job');
      await rejects(s.store.purge('x'), 'unknown_job');
      assert.deepEqual(await s.store.leases(), []);
      s.advance(2 * HOUR);
      assert.deepEqual(await s.claimIds(), []);
      assert.deepEqual(
        (await s.store.list({}, 10)).items.map(({ job_id }) => job_id).filter((id) => id === 'x'),
        [],
      );
      await s.post('x');
      assert.deepEqual(await s.claimIds(), ['x']);
    });
  }

  each('a purge forgets every run of the id', async (s) => {
    for (let run = 0; run < 3; run += 1) {
      await s.post('x');
      await s.fail(await s.claimOne());
    }
    await s.post('x');
    await s.post('y');
    assert.equal((await s.store.list({}, 10)).items.length, 5);
    await s.store.purge('x');
    assert.deepEqual(
      (await s.store.list({}, 10)).items.map(({ job_id }) => job_id),
      ['y'],
    );
    assert.equal(only(await s.store.stats()).counts.FAILURE, 0);
  });

  each('a purged group is gone with its jobs, and no others', async (s) => {
    await s.postAll(['done', 'runs', 'waits'], { group_id: 'g', concurrency: 2 });
    await s.postAll([{ job_id: 'child', after: [{ job_id: 'waits' }] }, 'stranger']);
    await s.succeed(await s.claimOne());
    const held = await s.claimOne();
    await s.post('done');
    await s.store.purgeGroup('g');
    await rejects(s.store.group('g'), 'unknown_group');
    await rejects(s.store.purgeGroup('g'), 'unknown_group');
    assert.deepEqual((await s.store.renew([{ lease: held.lease }], LEASE_MS)).lost, [held.lease]);
    assert.equal(await s.state('child'), 'CANCELLED');
    assert.equal(await s.state('done'), 'PENDING');
    await rejects(s.store.get('waits'), 'unknown_job');
    assert.deepEqual(await s.claimIds(), ['stranger', 'done']);
    await s.postAll(['runs'], { group_id: 'g' });
  });

  each('a job purged from a group is no longer part of it', async (s) => {
    await s.postAll(['a', 'b'], { group_id: 'g' });
    await s.store.purge('a');
    assert.deepEqual(
      (await s.store.group('g')).jobs.map(({ job_id }) => job_id),
      ['b'],
    );
    await s.store.purge('b');
    assert.deepEqual((await s.store.group('g')).jobs, []);
    await rejects(s.store.cancelGroup('g'), 'group_finished');
    await s.postAll(['a'], { group_id: 'g' });
  });

  each('jobs are forgotten when they ended long enough ago', async (s) => {
    await s.postAll(['success', 'failure', 'runs', { job_id: 'later', eta: Date.now() + 100 * HOUR }]);
    await s.succeed(await s.claimOne());
    await s.fail(await s.claimOne());
    await s.claimOne();
    await s.post('cancelled');
    await s.store.cancel('cancelled');
    const retention = { jobs_ms: HOUR, groups_ms: HOUR };
    s.advance(HOUR - 10_000);
    assert.equal(await s.store.prune(retention), 0);
    s.advance(20_000);
    await s.post('young');
    await s.store.cancel('young');
    assert.equal(await s.store.prune(retention), 3);
    for (const job_id of ['success', 'failure', 'cancelled'])
      await rejects(s.store.get(job_id), 'unknown_job');
    assert.deepEqual(await s.states('runs', 'later', 'young'), ['STARTED', 'PENDING', 'CANCELLED']);
    assert.equal(await s.store.prune(retention), 0);
  });

  each('a group is forgotten with its jobs once all of them ended long enough ago', async (s) => {
    await s.postAll(['a', 'b'], { group_id: 'g', concurrency: 1 });
    await s.succeed(await s.claimOne());
    s.advance(10 * HOUR);
    assert.equal(await s.store.prune({ jobs_ms: HOUR, groups_ms: HOUR }), 0);
    await s.succeed(await s.claimOne());
    assert.equal(await s.store.prune({ jobs_ms: HOUR, groups_ms: 5 * HOUR }), 0);
    s.advance(2 * HOUR);
    assert.equal(await s.store.prune({ jobs_ms: HOUR, groups_ms: 5 * HOUR }), 0);
    assert.equal((await s.store.group('g')).jobs.length, 2);
    s.advance(4 * HOUR);
    assert.equal(await s.store.prune({ jobs_ms: HOUR, groups_ms: 5 * HOUR }), 2);
    await rejects(s.store.group('g'), 'unknown_group');
    await rejects(s.store.get('a'), 'unknown_job');
  });

  each('a group that is set going again is not forgotten', async (s) => {
    await s.postAll(['a', 'b'], { group_id: 'g' });
    for (const held of await s.claim()) await s.fail(held);
    s.advance(2 * HOUR);
    await s.store.retry('a');
    assert.equal(await s.store.prune({ jobs_ms: HOUR, groups_ms: HOUR }), 0);
    assert.deepEqual(await s.runAll(), ['a']);
    assert.equal(await s.store.prune({ jobs_ms: HOUR, groups_ms: HOUR }), 0);
    s.advance(2 * HOUR);
    assert.equal(await s.store.prune({ jobs_ms: HOUR, groups_ms: HOUR }), 2);
  });

  each('many jobs and a large group are forgotten step by step, and all of them', async (s) => {
    await s.postAll(range(1_300, 'g-'), { group_id: 'g' });
    await s.postAll(range(1_300, 'j-'));
    await s.store.cancelGroup('g');
    for (const held of await s.claim(1_300)) await s.store.cancel(held.job_id);
    s.advance(LEASE_MS + 1);
    await s.recover();
    s.advance(1);
    assert.equal(await s.store.prune({ jobs_ms: 0, groups_ms: 0 }), 2_600);
    assert.deepEqual((await s.store.list({}, 10)).items, []);
    assert.deepEqual(await s.store.stats(), []);
  });

  each('fences and the store id outlive all jobs', async (s) => {
    const { store_id } = s.store;
    assert.ok(store_id.length >= 8);
    await s.post('a');
    const held = await s.claimOne();
    await s.succeed(held);
    s.advance(1);
    assert.equal(await s.store.prune({ jobs_ms: 0, groups_ms: 0 }), 1);
    const job = await s.post('a');
    assert.ok(job.seq > held.seq);
    assert.ok((await s.claimOne()).lease.fence > held.lease.fence);
    assert.equal(s.store.store_id, store_id);
  });

  each('a waiting child is not touched when its finished parent is forgotten', async (s) => {
    await s.postAll([
      'one',
      { job_id: 'two', queue: 'other' },
      { job_id: 'child', after: [{ job_id: 'one' }, { job_id: 'two' }] },
    ]);
    await s.succeed(await s.claimOne());
    s.advance(1);
    assert.equal(await s.store.prune({ jobs_ms: 0, groups_ms: 0 }), 1);
    assert.deepEqual(await s.claimIds(), []);
    await s.succeed(await s.claimOne('other'));
    assert.deepEqual(await s.claimIds(), ['child']);
  });
}
