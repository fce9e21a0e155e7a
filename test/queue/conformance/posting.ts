import assert from 'node:assert/strict';
import type { NewJob } from '../../../src/queue/store.ts';
import { ids, newJob, only, range, rejects, type Suites } from './subject.ts';

export function posting({ each, shared }: Suites): void {
  each('a job is stored as it was posted', async (s) => {
    const payload = { text: 'ü"\\\u0000\n😀', list: [1, -0.5, -0, null, true, {}], deep: { a: { b: [] } } };
    const eta = Date.now() + 3_600_000;
    const before = Date.now();
    const job = await s.post('all:of-it_1', {
      task: 'report',
      queue: 'q 1',
      payload,
      priority: -3,
      eta,
      retries: 7,
    });
    const { seq, created_at, ...rest } = job;
    assert.ok(Number.isSafeInteger(seq));
    assert.ok(created_at >= before && created_at <= Date.now());
    assert.deepEqual(rest, {
      job_id: 'all:of-it_1',
      task: 'report',
      queue: 'q 1',
      payload,
      state: 'PENDING',
      priority: -3,
      eta,
      retries: 7,
      attempt: 0,
      failures: 0,
      fence: null,
      group_id: null,
      after: [],
      limit: null,
      key: null,
      key_concurrency: null,
      worker: null,
      error: '',
      result: null,
      progress: null,
      cancel_requested: false,
      due_at: eta,
      started_at: null,
      finished_at: null,
    });
    assert.deepEqual(await s.store.get('all:of-it_1'), job);
  });

  each('what is not said has its default, and an ETA in the past is now', async (s) => {
    const job = await s.post('plain', { eta: 5 });
    assert.deepEqual([job.priority, job.retries, job.eta], [0, 0, 5]);
    assert.equal(job.due_at, job.created_at);
    assert.deepEqual(await s.claimIds(), ['plain']);
  });

  each('jobs are returned as stored, in order, and numbered in the order of posting', async (s) => {
    const jobs = await s.postAll(range(50));
    assert.deepEqual(ids(jobs), range(50));
    const later = await s.post('later');
    const seqs = [...jobs, later].map(({ seq }) => seq);
    assert.deepEqual(
      seqs,
      [...new Set(seqs)].sort((a, b) => a - b),
    );
    for (const job of jobs) assert.deepEqual(await s.store.get(job.job_id), job);
  });

  each('no jobs are no jobs', async (s) => {
    assert.deepEqual(await s.store.enqueue([]), []);
    assert.deepEqual(await s.store.stats(), []);
  });

  each('an id that waits, runs or is to be retried is refused, a finished one is free', async (s) => {
    await s.post('x', { retries: 1 });
    await rejects(s.post('x'), 'job_active');
    const first = await s.claimOne();
    await rejects(s.post('x'), 'job_active');
    await s.retryLater(first);
    await rejects(s.post('x'), 'job_active');
    await s.succeed(await s.claimOne());
    const again = await s.post('x', { payload: 2 });
    assert.ok(again.seq > first.seq);
    assert.equal((await s.store.get('x')).payload, 2);
    await s.store.cancel('x');
    assert.equal((await s.post('x')).state, 'PENDING');
  });

  each('a batch is accepted whole or not at all', async (s) => {
    await s.post('taken');
    await rejects(s.postAll(['a', 'b', 'taken', 'c']), 'job_active');
    await rejects(s.postAll(['a', 'b', 'a']), 'job_active');
    await rejects(s.postAll(['a', { job_id: 'b', after: [{ job_id: 'nobody' }] }]), 'unknown_job');
    await rejects(s.postAll(['a', 'not an id']), 'invalid_job');
    for (const job_id of ['a', 'b', 'c']) await rejects(s.store.get(job_id), 'unknown_job');
    assert.deepEqual(await s.pendingIds(), ['taken']);
    assert.equal(only(await s.store.stats()).counts.PENDING, 1);
  });

  each('a refused group leaves nothing', async (s) => {
    await s.post('taken');
    await rejects(s.postAll(['a', 'taken'], { group_id: 'g' }), 'job_active');
    await rejects(s.store.group('g'), 'unknown_group');
  });

  const bad: readonly (readonly [string, Partial<NewJob> & { job_id?: string }])[] = [
    ['an empty id', { job_id: '' }],
    ['an id of 129 characters', { job_id: 'x'.repeat(129) }],
    ['an id with a dot', { job_id: 'a.b' }],
    ['an id with a quote', { job_id: `a'b` }],
    ['an id with a line break', { job_id: 'a\n' }],
    ['an id with a letter beyond ASCII', { job_id: 'ä' }],
    ['an empty queue', { queue: '' }],
    ['an empty task', { task: '' }],
    ['a fractional priority', { priority: 0.5 }],
    ['a priority that is no number', { priority: Number.NaN }],
    ['a huge priority', { priority: 2 ** 40 }],
    ['negative retries', { retries: -1 }],
    ['fractional retries', { retries: 1.5 }],
    ['an ETA that is no time', { eta: Number.NaN }],
    ['a fractional ETA', { eta: 0.5 }],
    ['an endless ETA', { eta: Number.POSITIVE_INFINITY }],
    ['a parent with a bad id', { after: [{ job_id: 'a b' }] }],
  ];
  each('a field that cannot be is refused', async (s) => {
    for (const [what, more] of bad) {
      await rejects(s.store.enqueue([{ ...newJob('good'), ...more }]), 'invalid_job').catch(
        (error: unknown) => {
          throw new Error(`${what} was not refused`, { cause: error });
        },
      );
    }
    assert.deepEqual(await s.store.stats(), []);
  });

  each('an id of 128 characters of every allowed kind is accepted', async (s) => {
    const job_id = 'AZaz09_:-'.padEnd(128, 'x');
    await s.post(job_id);
    assert.deepEqual(await s.claimIds(), [job_id]);
  });

  each('a payload that is not JSON is refused', async (s) => {
    const circle: { self?: unknown } = {};
    circle.self = circle;
    // The types forbid these; callers in plain JavaScript do not see the types.
    for (const payload of [circle, 1n, undefined]) {
      const job = { ...newJob('odd'), payload } as unknown as NewJob;
      await rejects(s.store.enqueue([job]), 'invalid_job');
    }
  });

  each('a payload of a megabyte comes back whole', async (s) => {
    const payload = '0123456789abcdef'.repeat(65_536);
    await s.post('big', { payload });
    assert.equal((await s.claimOne()).payload, payload);
  });

  shared('of many posts of one id, from several connections, exactly one is accepted', async (s) => {
    const stores = [s.store, await s.connect(), await s.connect()];
    for (let round = 0; round < 10; round += 1) {
      const results = await Promise.allSettled(
        stores.flatMap((store) => range(10).map(() => store.enqueue([newJob(`same-${round}`)]))),
      );
      assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
      for (const result of results) {
        if (result.status === 'rejected') assert.equal(result.reason.code, 'job_active');
      }
    }
    assert.equal((await s.pendingIds()).length, 10);
  });

  shared(
    'batches that overlap, from several connections: each is accepted whole or not at all',
    async (s) => {
      const stores = [s.store, await s.connect(), await s.connect()];
      const results = await Promise.allSettled(
        range(30).map((own, n) => {
          const store = stores[n % stores.length] ?? s.store;
          return store.enqueue([newJob(own), newJob(`shared-${n % 10}`), newJob(`${own}-b`)]);
        }),
      );
      const accepted = results.filter(({ status }) => status === 'fulfilled').length;
      assert.equal(accepted, 10);
      assert.equal((await s.pendingIds()).length, 3 * accepted);
    },
  );
}
