import assert from 'node:assert/strict';
import { ids, LEASE_MS, only, rejects, type Suites } from './subject.ts';

export function leases({ each, shared }: Suites): void {
  each('a renewed lease lasts longer', async (s) => {
    await s.post('a');
    const held = await s.claimOne();
    for (let beat = 0; beat < 3; beat += 1) {
      s.advance(LEASE_MS - 2_000);
      assert.deepEqual(await s.store.renew([{ lease: held.lease }], LEASE_MS), { lost: [], cancelled: [] });
      assert.deepEqual(await s.recover(), { requeued: [], poisoned: [], cancelled: [] });
    }
    assert.deepEqual(await s.store.leases(), [held.lease]);
    assert.equal(await s.succeed(held), 'SUCCESS');
  });

  each('a lease that has expired but was not recovered is still held', async (s) => {
    await s.postAll(['a', 'b']);
    const [a, b] = await s.claim();
    assert.ok(a && b);
    s.advance(LEASE_MS + 1);
    assert.deepEqual(await s.store.leases(), []);
    assert.deepEqual(await s.store.renew([{ lease: a.lease }], LEASE_MS), { lost: [], cancelled: [] });
    assert.deepEqual(await s.store.leases(), [a.lease]);
    assert.equal(await s.succeed(b), 'SUCCESS');
    assert.deepEqual(await s.recover(), { requeued: [], poisoned: [], cancelled: [] });
    assert.equal(await s.state('a'), 'STARTED');
  });

  each('an expired attempt runs again as a new one, in its old place, its retries untouched', async (s) => {
    await s.postAll([{ job_id: 'a', retries: 1 }, 'b']);
    const dead = await s.claimOne();
    s.advance(LEASE_MS + 1);
    assert.deepEqual((await s.recover()).requeued, [dead.lease]);
    assert.deepEqual(await s.recover(), { requeued: [], poisoned: [], cancelled: [] });
    const job = await s.store.get('a');
    assert.deepEqual([job.state, job.attempt, job.failures, job.retries], ['PENDING', 1, 0, 1]);
    const [again] = await s.claim();
    assert.ok(again);
    assert.deepEqual([again.job_id, again.attempt, again.failures], ['a', 2, 0]);
    assert.ok(again.lease.fence > dead.lease.fence);
  });

  each('only expired leases are recovered, and every one of them', async (s) => {
    await s.postAll(Array.from({ length: 1_200 }, (_, n) => `old-${n}`));
    await s.claim(1_200);
    s.advance(LEASE_MS - 1_000);
    await s.post('young');
    await s.claimOne();
    s.advance(1_001);
    assert.equal((await s.recover()).requeued.length, 1_200);
    assert.equal(await s.state('young'), 'STARTED');
  });

  each('a job whose workers die again and again fails', async (s) => {
    await s.post('a', { retries: 100 });
    for (let death = 1; death <= 2; death += 1) {
      const held = await s.claimOne();
      s.advance(LEASE_MS + 1);
      assert.deepEqual((await s.recover(3)).requeued, [held.lease]);
    }
    const held = await s.claimOne();
    s.advance(LEASE_MS + 1);
    assert.deepEqual(await s.recover(3), { requeued: [], poisoned: [held.lease], cancelled: [] });
    const job = await s.store.get('a');
    assert.equal(job.state, 'FAILURE');
    assert.match(job.error, /died 3 times/);
    assert.deepEqual(await s.claim(), []);
    assert.equal((await s.store.retry('a')).attempt, 0);
    await s.claimOne();
    s.advance(LEASE_MS + 1);
    assert.equal((await s.recover(3)).requeued.length, 1, 'a retry begins to count anew');
  });

  each('deaths count only in a row', async (s) => {
    await s.post('a', { retries: 100 });
    for (let round = 0; round < 3; round += 1) {
      for (let death = 0; death < 2; death += 1) {
        await s.claimOne();
        s.advance(LEASE_MS + 1);
        assert.equal((await s.recover(3)).requeued.length, 1);
      }
      const held = await s.claimOne();
      if (round === 0) await s.store.release([held.lease]);
      else await s.retryLater(held);
    }
    assert.equal(await s.succeed(await s.claimOne()), 'SUCCESS');
  });

  each('an expired attempt of a job that was asked to cancel is CANCELLED', async (s) => {
    await s.post('a');
    const held = await s.claimOne();
    await s.store.cancel('a');
    s.advance(LEASE_MS + 1);
    assert.deepEqual(await s.recover(), { requeued: [], poisoned: [], cancelled: [held.lease] });
    assert.equal(await s.state('a'), 'CANCELLED');
  });

  each('progress is shown while the job runs, and not after', async (s) => {
    await s.post('a', { retries: 1 });
    const held = await s.claimOne();
    assert.equal((await s.store.get('a')).progress, null);
    await s.store.renew([{ lease: held.lease, progress: { rows: 1 } }], LEASE_MS);
    assert.deepEqual((await s.store.get('a')).progress, { rows: 1 });
    await s.store.renew([{ lease: held.lease }], LEASE_MS);
    assert.deepEqual((await s.store.get('a')).progress, { rows: 1 });
    assert.deepEqual(only((await s.store.list({ state: 'STARTED' }, 5)).items).progress, { rows: 1 });
    await s.retryLater(held);
    assert.equal((await s.store.get('a')).progress, null);
    const again = await s.claimOne();
    assert.equal(again.progress, null);
    await s.store.renew([{ lease: again.lease, progress: 2 }], LEASE_MS);
    await s.succeed(again);
    assert.equal((await s.store.get('a')).progress, null);
  });

  each('a cancel reaches whoever renews, until the attempt ends', async (s) => {
    await s.postAll(['a', 'b']);
    const [a, b] = await s.claim();
    assert.ok(a && b);
    const job = await s.store.cancel('a');
    assert.deepEqual([job.state, job.cancel_requested], ['STARTED', true]);
    assert.deepEqual(await s.store.cancel('a'), job);
    assert.deepEqual(await s.store.renew([{ lease: a.lease }, { lease: b.lease }], LEASE_MS), {
      lost: [],
      cancelled: [a.lease],
    });
    assert.deepEqual(await s.store.renew([{ lease: b.lease }, { lease: a.lease }], LEASE_MS), {
      lost: [],
      cancelled: [a.lease],
    });
  });

  each('a job that waits is cancelled at once', async (s) => {
    await s.postAll([
      { job_id: 'now', retries: 1 },
      { job_id: 'later', eta: Date.now() + 60_000 },
    ]);
    await s.retryLater(await s.claimOne(), 60_000);
    await s.postAll(['ready', { job_id: 'child', after: [{ job_id: 'ready' }] }]);
    for (const job_id of ['now', 'later', 'child', 'ready']) {
      const job = await s.store.cancel(job_id);
      assert.equal(job.state, 'CANCELLED');
      assert.notEqual(job.finished_at, null);
    }
    s.advance(120_000);
    assert.deepEqual(await s.claim(), []);
    assert.equal(await s.nextDueAt(), null);
  });

  each('a finished or unknown job cannot be cancelled', async (s) => {
    await rejects(s.store.cancel('a'), 'unknown_job');
    await s.post('a');
    await s.succeed(await s.claimOne());
    await rejects(s.store.cancel('a'), 'job_finished');
    assert.equal(await s.state('a'), 'SUCCESS');
    await s.post('b');
    await s.store.cancel('b');
    await rejects(s.store.cancel('b'), 'job_finished');
  });

  shared('several connections recover at once: each lease is recovered once', async (s) => {
    const stores = [s.store, await s.connect(), await s.connect()];
    await s.postAll(Array.from({ length: 50 }, (_, n) => `job-${n}`));
    const held = await s.claim();
    s.advance(LEASE_MS + 1);
    const recovered = await Promise.all(stores.map((store) => store.recover({ max_crashes: 3 })));
    const requeued = recovered.flatMap((one) => one.requeued.map(({ job_id }) => job_id));
    assert.deepEqual(requeued.sort(), ids(held).sort());
  });
}
