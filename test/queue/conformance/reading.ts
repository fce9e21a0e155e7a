import assert from 'node:assert/strict';
import type { Job, JobFilter } from '../../../src/queue/store.ts';
import { until } from '../../support/until.ts';
import { LEASE_MS, listen, newJob, range, rejects, type Subject, type Suites } from './subject.ts';

const HOUR = 3_600_000;

export function reading({ each, shared }: Suites): void {
  each('what is not there is unknown', async (s) => {
    await rejects(s.store.get('x'), 'unknown_job');
    await rejects(s.store.group('x'), 'unknown_group');
    assert.deepEqual(await s.store.states(['x', 'y']), [null, null]);
    assert.deepEqual(await s.store.states([]), []);
    assert.deepEqual(await s.store.pending('x', 10), []);
    assert.deepEqual(await s.store.list({}, 10), { items: [], cursor: null });
  });

  each('what no job can be called is unknown too', async (s) => {
    await s.post('a', { queue: 'q\ufffd' });
    for (const name of ['', '\0', 'a\0', '\0a', 'q\0', "a'b", 'a b', '%00', '\u2028', 'x'.repeat(10_000)]) {
      await rejects(s.store.get(name), 'unknown_job');
      await rejects(s.store.cancel(name), 'unknown_job');
      await rejects(s.store.purge(name), 'unknown_job');
      await rejects(s.store.retry(name), 'unknown_job');
      await rejects(s.store.group(name), 'unknown_group');
      await rejects(s.store.cancelGroup(name), 'unknown_group');
      await rejects(s.store.purgeGroup(name), 'unknown_group');
      assert.deepEqual(await s.store.states([name, 'a']), [null, 'PENDING']);
      assert.deepEqual(await s.store.unfinished([name]), [null]);
      assert.deepEqual(await s.store.pending(name, 10), []);
      for (const filter of [{ task: name }, { queue: name }, { group_id: name }]) {
        if (name !== '') assert.deepEqual(await s.store.list(filter, 10), { items: [], cursor: null });
      }
      const [limit] = await s.store.limits([name]);
      assert.deepEqual([limit?.concurrency, limit?.running, limit?.waiting], [null, 0, 0]);
      await s.store.resume(name);
    }
    for (const name of ['', '\0', 'a\0b', 'x'.repeat(129)]) await rejects(s.store.pause(name), 'invalid_job');
  });

  each('states are those of the newest runs', async (s) => {
    await s.post('a');
    await s.fail(await s.claimOne());
    await s.postAll(['a', 'b']);
    await s.claimOne();
    assert.deepEqual(await s.store.states(['b', 'nobody', 'a', 'b']), [
      'PENDING',
      null,
      'STARTED',
      'PENDING',
    ]);
  });

  each('pending jobs are listed in the order in which they then run', async (s) => {
    const now = Date.now();
    await s.postAll([
      'a',
      { job_id: 'in-2h', eta: now + 2 * HOUR, priority: 5 },
      { job_id: 'high', priority: 3 },
      { job_id: 'in-1h', eta: now + HOUR },
      { job_id: 'in-3h', eta: now + 3 * HOUR },
      { job_id: 'low', priority: -3 },
      { job_id: 'retried', retries: 1, priority: 9 },
      'b',
    ]);
    await s.postAll(['g-1', { job_id: 'g-2', priority: 1 }, 'g-3'], { group_id: 'g', concurrency: 1 });
    await s.retryLater(await s.claimOne(), 4 * HOUR);
    const listed = await s.pendingIds();
    assert.deepEqual(listed, [
      'high',
      'g-2',
      'a',
      'b',
      'g-1',
      'g-3',
      'low',
      'in-1h',
      'in-2h',
      'in-3h',
      'retried',
    ]);
    assert.deepEqual(await s.pendingIds('default', 3), ['high', 'g-2', 'a']);
    assert.deepEqual(await s.pendingIds('default', 0), []);
    assert.deepEqual(await s.pendingIds('other'), []);
    const ran = await s.runAll();
    for (let hour = 0; hour < 5; hour += 1) {
      s.advance(HOUR);
      ran.push(...(await s.runAll()));
    }
    assert.deepEqual(ran, listed);
  });

  each('the first of many that wait are listed, whatever they wait for', async (s) => {
    const plain = range(12, 'plain-').map((job_id, n) => ({ job_id, priority: n % 6 }));
    const tied = range(12, 'tied-').map((job_id, n) => ({ job_id, priority: n % 4 }));
    const late = range(6, 'late-').map((job_id, n) => ({ job_id, priority: n, eta: Date.now() + n * HOUR }));
    await s.postAll([...plain, ...late]);
    await s.postAll(tied, { group_id: 'g', concurrency: 1 });
    const all = await s.pendingIds();
    assert.equal(all.length, 30);
    for (let limit = 1; limit <= 30; limit += 1) {
      assert.deepEqual(await s.pendingIds('default', limit), all.slice(0, limit), `the first ${limit}`);
    }
  });

  each('what waits for parents is listed last, what runs or is finished is not', async (s) => {
    await s.postAll([
      { job_id: 'child', after: [{ job_id: 'a' }], priority: 9 },
      { job_id: 'grandchild', after: [{ job_id: 'child' }] },
      'a',
      { job_id: 'later', eta: Date.now() + HOUR },
    ]);
    assert.deepEqual(await s.pendingIds(), ['a', 'later', 'child', 'grandchild']);
    const a = await s.claimOne();
    assert.deepEqual(await s.pendingIds(), ['later', 'child', 'grandchild']);
    await s.succeed(a);
    assert.deepEqual(await s.pendingIds(), ['child', 'later', 'grandchild']);
  });

  each('a listing is newest first, and its cursors hold while jobs are posted and purged', async (s) => {
    await s.postAll(range(25));
    const newestFirst = range(25).reverse();
    const first = await s.store.list({}, 10);
    assert.deepEqual(
      first.items.map(({ job_id }) => job_id),
      newestFirst.slice(0, 10),
    );
    await s.postAll(range(5, 'new-'));
    await s.store.purge('job-12');
    await s.store.purge('job-15');
    assert.ok(first.cursor);
    const second = await s.store.list({}, 10, first.cursor);
    assert.deepEqual(
      second.items.map(({ job_id }) => job_id),
      newestFirst
        .slice(10)
        .filter((id) => id !== 'job-12')
        .slice(0, 10),
    );
    assert.ok(second.cursor);
    const third = await s.store.list({}, 10, second.cursor);
    assert.deepEqual(
      third.items.map(({ job_id }) => job_id),
      ['job-3', 'job-2', 'job-1', 'job-0'],
    );
    assert.equal(third.cursor, null);
  });

  each('the last page has no cursor, also when it is full', async (s) => {
    await s.postAll(range(4));
    const { cursor } = await s.store.list({}, 2);
    assert.ok(cursor);
    const last = await s.store.list({}, 2, cursor);
    assert.deepEqual([last.items.length, last.cursor], [2, null]);
    assert.equal((await s.store.list({}, 4)).cursor, null);
  });

  each('every run of an id is listed', async (s) => {
    await s.post('a', { payload: 1 });
    await s.fail(await s.claimOne());
    await s.post('a', { payload: 2 });
    const { items } = await s.store.list({}, 10);
    assert.deepEqual(
      items.map(({ job_id, payload, state }) => [job_id, payload, state]),
      [
        ['a', 2, 'PENDING'],
        ['a', 1, 'FAILURE'],
      ],
    );
  });

  each('filters', async (s) => {
    await populate(s);
    const all = (await s.store.list({}, 1_000)).items;
    assert.equal(all.length, 60);
    const filters: JobFilter[] = [
      ...(['PENDING', 'STARTED', 'RETRY', 'SUCCESS', 'FAILURE', 'CANCELLED'] as const).map((state) => ({
        state,
      })),
      { task: 'task-1' },
      { queue: 'q2' },
      { group_id: 'g' },
      { group_id: 'nobody' },
      { state: 'PENDING', task: 'task-0', queue: 'q1' },
      { state: 'FAILURE', queue: 'q1' },
      { state: 'STARTED', task: 'task-2' },
      { state: 'CANCELLED', group_id: 'g' },
      { group_id: 'g', task: 'task-1' },
    ];
    for (const filter of filters) {
      const wanted = all.filter((job) =>
        Object.entries(filter).every(([key, value]) => job[key as keyof JobFilter] === value),
      );
      const found: Job[] = [];
      let cursor: string | null | undefined;
      while (cursor !== null) {
        const page: Awaited<ReturnType<typeof s.store.list>> = await s.store.list(filter, 3, cursor);
        assert.ok(page.items.length <= 3);
        found.push(...page.items);
        cursor = page.cursor;
      }
      assert.deepEqual(found, wanted, JSON.stringify(filter));
      if (!('group_id' in filter && filter.group_id === 'nobody'))
        assert.notEqual(wanted.length, 0, JSON.stringify(filter));
    }
  });

  each('a rare job is found among many', async (s) => {
    await s.post('needle', { task: 'rare' });
    await s.postAll(range(5_000));
    const { items, cursor } = await s.store.list({ task: 'rare' }, 10);
    assert.deepEqual(
      items.map(({ job_id }) => job_id),
      ['needle'],
    );
    assert.equal(cursor, null);
    assert.deepEqual((await s.store.list({ task: 'nobody' }, 10)).items, []);
  });

  each('a cursor that was not given out is refused', async (s) => {
    await s.postAll(range(3));
    for (const cursor of ['', 'x', '1', '-1', 'bm90IG9uZQ', '../..', '9'.repeat(40)]) {
      await rejects(s.store.list({}, 2, cursor), 'invalid_cursor');
    }
  });

  each('statistics count the jobs of each queue by state', async (s) => {
    await populate(s);
    await s.store.pause('q2');
    await s.store.pause('empty');
    const all = (await s.store.list({}, 1_000)).items;
    const stats = await s.store.stats();
    assert.deepEqual(
      stats.map(({ queue, paused }) => [queue, paused]),
      [
        ['empty', true],
        ['q1', false],
        ['q2', true],
      ],
    );
    for (const { queue, counts } of stats) {
      for (const [state, count] of Object.entries(counts)) {
        const jobs = all.filter((job) => job.queue === queue && job.state === state);
        assert.equal(count, jobs.length, `${queue} ${state}`);
      }
      assert.equal(Object.keys(counts).length, 6);
    }
  });

  each('statistics say how long the job that has been ready the longest waits', async (s) => {
    const oldest = async () => (await s.store.stats())[0]?.oldest_ready_ms;
    await s.post('later', { eta: Date.now() + HOUR });
    assert.equal(await oldest(), null);
    await s.post('low', { priority: -1 });
    s.advance(60_000);
    await s.post('high', { priority: 1 });
    s.advance(10_000);
    const age = await oldest();
    assert.ok(typeof age === 'number' && age >= 70_000 && age < 130_000, `${age}`);
    await s.store.pause('default');
    assert.equal(await oldest(), null);
    await s.store.resume('default');
    await s.claimOne();
    await s.claimOne();
    assert.equal(await oldest(), null);
    s.advance(HOUR);
    const due = await oldest();
    assert.ok(typeof due === 'number' && due >= 60_000 && due < 130_000, `${due}`);
  });

  each('a store that is open can be written', (s) => s.store.ping());

  each('listeners hear of work, of cancels and of ends, until they stop', async (s) => {
    const heard = listen(s.store);
    await s.post('a', { retries: 1 });
    await until('it hears of the job', () => heard.hints.some(({ type }) => type === 'ready'));
    const held = await s.claimOne();
    await s.store.cancel('a');
    await until('it hears of the cancel', () => heard.hints.some(({ type }) => type === 'cancel'));
    await s.finish(held, { state: 'CANCELLED' });
    const isEnd = (hint: (typeof heard.hints)[number]) =>
      hint.type === 'finished' && (hint.job_id === 'a' || hint.job_id === null);
    await until('it hears of the end', () => heard.hints.some(isEnd));
    heard.stop();
    heard.stop();
    heard.hints.length = 0;
    const other = listen(s.store);
    await s.post('b');
    await until('another hears of the next', () => other.hints.some(({ type }) => type === 'ready'));
    assert.deepEqual(heard.hints, []);
    other.stop();
  });

  shared('listeners of other connections hear of work, of cancels and of ends', async (s) => {
    const other = await s.connect();
    const { hints, stop } = listen(other);
    // Another connection's: only what it answers after that tells that it has begun to listen.
    await other.ping();
    await s.post('a');
    await until('it hears of the job', () => hints.some(({ type }) => type === 'ready'));
    const held = await s.claimOne();
    await s.store.cancel('a');
    await until('it hears of the cancel', () => hints.some(({ type }) => type === 'cancel'));
    await s.succeed(held);
    await until('it hears of the end', () => hints.some(({ type }) => type === 'finished'));
    stop();
  });

  each('after close every call is refused, and a second close is none', async (s) => {
    await s.post('a');
    await s.store.close();
    await s.store.close();
    await rejects(s.store.get('a'), 'store_unavailable');
    await rejects(s.store.enqueue([newJob('b')]), 'store_unavailable');
    await rejects(s.store.ping(), 'store_unavailable');
  });

  each('calls made before close are answered', async (s) => {
    const calls = Promise.all(range(50).map((job_id) => s.post(job_id)));
    await Promise.all([calls, s.store.close()]);
    assert.equal((await calls).length, 50);
  });
}

/** Sixty jobs in two queues, of three tasks, some in a group, in every state. */
async function populate(s: Subject): Promise<void> {
  const jobs = range(40).map((job_id, n) => ({
    job_id,
    task: `task-${n % 3}`,
    queue: n % 2 === 0 ? 'q1' : 'q2',
    retries: 1,
  }));
  await s.postAll(jobs);
  await s.postAll(
    range(20, 'g-').map((job_id, n) => ({ job_id, task: `task-${n % 3}`, queue: 'q1' })),
    { group_id: 'g', concurrency: 4 },
  );
  const held = await s.claim(24, ['q1', 'q2']);
  for (const [n, job] of held.entries()) {
    if (n % 5 === 0) await s.succeed(job);
    else if (n % 5 < 3) await s.fail(job);
    else if (n % 5 === 3) await s.retryLater(job, LEASE_MS);
  }
  for (const job_id of ['job-30', 'job-31', 'g-10', 'g-11']) await s.store.cancel(job_id);
}
