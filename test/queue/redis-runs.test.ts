/** Calls that share a run of the script, where plain jobs have a shorter way than others. */
import assert from 'node:assert/strict';
import type { Job } from '../../src/queue/store.ts';
import { ids, newJob, only, range, rejects } from './conformance/subject.ts';
import { onShared, open } from './redis.ts';

const LEASE_MS = 60_000;
const SUCCESS = { state: 'SUCCESS', result: { done: true } } as const;

function request(limit: number, ...queues: readonly string[]) {
  return { worker: 'w', queues: queues.map((queue) => ({ queue, limit })), limit, lease_ms: LEASE_MS };
}

onShared('posts made at once are carried out in the order made, whatever they post', async (t, server) => {
  const { store } = await open(t, server);
  const big = 'x'.repeat(5_000);
  const posts = range(1_000).map((job_id, index) => {
    if (index % 50 === 7) return newJob(job_id, { key: 'k' });
    if (index % 50 === 23) return newJob(job_id, { after: [{ job_id: `job-${index - 1}` }] });
    if (index % 50 === 24) return newJob(job_id, { limit: 'l' });
    return newJob(job_id, index % 50 === 31 ? { payload: big } : {});
  });
  const posted = await Promise.all(posts.map((job) => store.enqueue([job])));
  const seqs = posted.map((jobs) => only(jobs).seq);
  assert.deepEqual(
    seqs,
    [...seqs].sort((one, other) => one - other),
  );
  assert.equal(new Set(seqs).size, 1_000);
  const stored = await Promise.all(posts.map(({ job_id }) => store.get(job_id)));
  assert.deepEqual(stored, posted.map(only));
  const waiting = posts.filter(({ after }) => after === undefined).map(({ job_id }) => job_id);
  assert.deepEqual(ids((await store.claim(request(2_000, 'default'))).jobs).sort(), waiting.sort());
});

onShared(
  'of posts of one id at once the first is accepted, of a batch all jobs or none',
  async (t, server) => {
    const { store } = await open(t, server);
    const results = await Promise.allSettled([
      store.enqueue([newJob('a')]),
      store.enqueue([newJob('b'), newJob('a')]),
      store.enqueue([newJob('c'), newJob('b')]),
      store.enqueue([newJob('c')]),
      store.enqueue([newJob('d')]),
    ]);
    assert.deepEqual(
      results.map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled', 'rejected', 'fulfilled'],
    );
    await rejects(store.enqueue([newJob('d')]), 'job_active');
    assert.deepEqual(ids(await store.pending('default', 10)), ['a', 'c', 'b', 'd']);
    assert.deepEqual(
      (await store.stats()).map(({ counts }) => counts.PENDING),
      [4],
    );
  },
);

onShared('an id that is free again is used again among new ones', async (t, server) => {
  const { store } = await open(t, server);
  await store.enqueue([newJob('again')]);
  const { lease, seq } = only((await store.claim(request(1, 'default'))).jobs);
  const [states, , again] = await Promise.all([
    store.finish([{ lease, outcome: SUCCESS }]),
    store.enqueue([newJob('one')]),
    store.enqueue([newJob('again')]),
    store.enqueue([newJob('two')]),
  ]);
  assert.deepEqual(states, ['SUCCESS']);
  assert.deepEqual(ids(await store.pending('default', 10)), ['one', 'again', 'two']);
  const runs = (await store.list({ state: 'SUCCESS' }, 10)).items;
  assert.deepEqual(
    runs.map((run) => run.seq),
    [seq],
  );
  assert.deepEqual(await store.get('again'), only(again));
  await store.purge('again');
  await rejects(store.get('again'), 'unknown_job');
  assert.deepEqual(ids((await store.list({}, 10)).items), ['two', 'one']);
});

onShared('ends, posts and claims made at once see what those before them did', async (t, server) => {
  const { store } = await open(t, server);
  await store.enqueue([
    newJob('a'),
    newJob('b'),
    newJob('parent'),
    newJob('child', { after: [{ job_id: 'parent' }] }),
  ]);
  const claimed = (await store.claim(request(3, 'default'))).jobs;
  const [a, b, parent] = claimed.map(({ lease }) => lease);
  assert.ok(a && b && parent);
  const [states, , first, more, stale, rest] = await Promise.all([
    store.finish([{ lease: a, outcome: SUCCESS }]),
    store.enqueue([newJob('c')]),
    store.claim(request(1, 'default')),
    store.finish([
      { lease: b, outcome: SUCCESS },
      { lease: { ...parent, fence: parent.fence + 1 }, outcome: SUCCESS },
    ]),
    store.finish([
      { lease: b, outcome: SUCCESS },
      { lease: parent, outcome: SUCCESS },
    ]),
    store.claim(request(5, 'default')),
  ]);
  assert.deepEqual(states, ['SUCCESS']);
  assert.deepEqual(ids(first.jobs), ['c']);
  assert.deepEqual(more, ['SUCCESS', null]);
  assert.deepEqual(stale, [null, 'SUCCESS']);
  assert.deepEqual(ids(rest.jobs), ['child']);
  const [{ counts } = { counts: undefined }] = await store.stats();
  assert.deepEqual(counts, { PENDING: 0, STARTED: 2, RETRY: 0, SUCCESS: 3, FAILURE: 0, CANCELLED: 0 });
  const ended: Job = await store.get('a');
  assert.deepEqual(ended.result, { done: true });
  const held = (await store.leases()).map(({ job_id }) => job_id);
  assert.deepEqual(held.sort(), ['c', 'child']);
});

onShared(
  'a claim says when the next job falls due, behind what it takes and what it leaves',
  async (t, server) => {
    const { store, advance } = await open(t, server);
    const [now] = await store.enqueue([newJob('now'), newJob('low', { priority: -1 })]);
    assert.ok(now);
    const [soon, late] = [now.created_at + 3_600_000, now.created_at + 7_200_000];
    await store.enqueue([newJob('late', { eta: late }), newJob('soon', { eta: soon, priority: -1 })]);
    const one = await store.claim(request(1, 'default'));
    assert.deepEqual([ids(one.jobs), one.next_due_at], [['now'], soon]);
    const two = await store.claim(request(5, 'default', 'other'));
    assert.deepEqual([ids(two.jobs), two.next_due_at], [['low'], soon]);
    advance(3_700_000);
    const three = await store.claim(request(5, 'default'));
    assert.deepEqual([ids(three.jobs), three.next_due_at], [['soon'], late]);
    advance(3_700_000);
    const four = await store.claim(request(1, 'default'));
    assert.deepEqual([ids(four.jobs), four.next_due_at], [['late'], null]);
  },
);
