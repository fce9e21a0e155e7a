/** Large groups in the Redis store, which cancels and purges them in steps. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { Service } from '../support/services.ts';
import { ids, range, rejects, Subject } from './conformance/subject.ts';
import { onShared, open } from './redis.ts';

/** More than two steps. */
const SIZE = 1_203;
const NAMES = range(SIZE);

async function opened(t: TestContext, server: Service): Promise<Subject> {
  return new Subject(await open(t, server));
}

onShared('a large group is cancelled whole, also where its jobs are claimed meanwhile', async (t, server) => {
  const s = await opened(t, server);
  const other = await s.connect();
  await s.postAll(NAMES, { group_id: 'g', concurrency: 50 });
  const before = await s.claim(20);
  await s.succeed(before[0] ?? assert.fail());
  const queues = [{ queue: 'default', limit: 5 }];
  const claim = () => other.claim({ worker: 'w', queues, limit: 5, lease_ms: 60_000 });
  const [group, ...claims] = await Promise.all([s.store.cancelGroup('g'), claim(), claim(), claim()]);
  assert.deepEqual(ids(group.jobs), NAMES);
  const running = group.jobs.filter(({ state }) => state === 'STARTED');
  assert.ok(running.every(({ cancel_requested }) => cancel_requested));
  assert.equal(running.length, 19 + claims.reduce((sum, { jobs }) => sum + jobs.length, 0));
  assert.deepEqual(
    group.jobs
      .filter(({ state }) => state !== 'STARTED' && state !== 'CANCELLED')
      .map(({ job_id }) => job_id),
    ['job-0'],
  );
  assert.deepEqual(await s.claim(), []);
  assert.deepEqual(await s.pendingIds(), []);
  const { lost, cancelled } = await s.store.renew(
    [...before.slice(1), ...claims.flatMap(({ jobs }) => jobs)].map(({ lease }) => ({ lease })),
    60_000,
  );
  assert.deepEqual([lost.length, cancelled.length], [0, running.length]);
  for (const lease of cancelled) assert.equal(await s.succeed({ lease }), 'CANCELLED');
  await rejects(s.store.cancelGroup('g'), 'group_finished');
});

onShared('of a large group that is cancelled no child runs because its parent was', async (t, server) => {
  const s = await opened(t, server);
  const jobs = NAMES.map((job_id, n) => {
    return n === 0 ? { job_id } : { job_id, after: [{ job_id: `job-${n - 1}`, on_failure: 'run' as const }] };
  });
  await s.postAll(jobs, { group_id: 'g' });
  const cancelling = s.store.cancelGroup('g');
  const claimed = await s.claimIds();
  assert.ok(
    claimed.every((id) => id === 'job-0'),
    `${claimed}`,
  );
  const { jobs: cancelled } = await cancelling;
  assert.ok(cancelled.slice(1).every(({ state }) => state === 'CANCELLED'));
  assert.deepEqual(await s.claimIds(), []);
});

onShared('a large group is purged with all of its runs, and its id is free again', async (t, server) => {
  const s = await opened(t, server);
  await s.postAll(NAMES, { group_id: 'g' });
  await s.store.cancelGroup('g');
  await s.postAll(
    NAMES.map((job_id) => ({ job_id, limit: 'l', key: job_id })),
    { group_id: 'g', concurrency: 3 },
  );
  await s.post('another');
  const held = await s.claim(2);
  await s.store.purgeGroup('g');
  await rejects(s.store.group('g'), 'unknown_group');
  await rejects(s.store.purgeGroup('g'), 'unknown_group');
  assert.deepEqual(ids((await s.store.list({}, 10)).items), ['another']);
  const { lost } = await s.store.renew(
    held.map(({ lease }) => ({ lease })),
    60_000,
  );
  assert.equal(lost.length, 2);
  assert.deepEqual(await s.store.limits(['l']), [{ limit: 'l', concurrency: null, running: 0, waiting: 0 }]);
  await s.postAll(['new'], { group_id: 'g' });
  assert.deepEqual(ids((await s.store.group('g')).jobs), ['new']);
  assert.deepEqual(await s.claimIds(), ['another', 'new']);
});
