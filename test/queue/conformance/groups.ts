import assert from 'node:assert/strict';
import { ids, LEASE_MS, newJob, range, rejects, type Suites } from './subject.ts';
import { endAgain, WAYS_OUT } from './ways-out.ts';

export function groups({ each, shared }: Suites): void {
  each('a group has its jobs, in the order posted', async (s) => {
    const before = Date.now();
    const posted = await s.postAll(['c', 'a', 'b'], { group_id: 'g', concurrency: 2 });
    for (const job of posted) assert.equal(job.group_id, 'g');
    const group = await s.store.group('g');
    assert.deepEqual([group.group_id, group.concurrency], ['g', 2]);
    assert.ok(group.created_at >= before && group.created_at <= Date.now());
    assert.deepEqual(group.jobs, posted);
    await s.postAll(['d'], { group_id: 'free' });
    assert.equal((await s.store.group('free')).concurrency, null);
    await rejects(s.store.group('nobody'), 'unknown_group');
  });

  each('a group id is refused while one of its jobs waits or runs, and then free', async (s) => {
    await s.postAll(['a', 'b'], { group_id: 'g' });
    await rejects(s.postAll(['c'], { group_id: 'g' }), 'group_active');
    await s.store.cancel('b');
    const a = await s.claimOne();
    await rejects(s.postAll(['c'], { group_id: 'g' }), 'group_active');
    await s.succeed(a);
    await s.postAll(['c', 'a'], { group_id: 'g' });
    assert.deepEqual(ids((await s.store.group('g')).jobs), ['c', 'a']);
    await s.store.cancelGroup('g');
    await s.store.retry('c');
    await rejects(s.postAll(['d'], { group_id: 'g' }), 'group_active');
  });

  each('its jobs stay those of the group, also when an id was used again', async (s) => {
    await s.postAll(['a', 'b'], { group_id: 'g' });
    for (const held of await s.claim()) await s.fail(held);
    const again = await s.post('a');
    const group = await s.store.group('g');
    assert.deepEqual(
      group.jobs.map(({ job_id, state }) => [job_id, state]),
      [
        ['a', 'FAILURE'],
        ['b', 'FAILURE'],
      ],
    );
    assert.deepEqual(await s.store.get('a'), again);
    assert.equal(again.group_id, null);
  });

  each('a group has a good id, a good concurrency and at least one job', async (s) => {
    await rejects(s.postAll(['a'], { group_id: 'no good' }), 'invalid_job');
    await rejects(s.postAll(['a'], { group_id: 'g', concurrency: 0 }), 'invalid_job');
    await rejects(s.postAll(['a'], { group_id: 'g', concurrency: 1.5 }), 'invalid_job');
    await rejects(s.postAll([], { group_id: 'g' }), 'invalid_job');
    await rejects(s.store.get('a'), 'unknown_job');
  });

  each('never more of a group run than its concurrency; others pass', async (s) => {
    await s.postAll(range(5, 'g-'), { group_id: 'g', concurrency: 2 });
    await s.post('other');
    const first = await s.claim();
    assert.deepEqual(ids(first), ['g-0', 'g-1', 'other']);
    assert.deepEqual(await s.claimIds(), []);
    const [a, b] = first;
    assert.ok(a && b);
    await s.succeed(a);
    assert.deepEqual(await s.claimIds(), ['g-2']);
    assert.deepEqual(await s.claimIds(), []);
    await s.fail(b);
    assert.deepEqual(await s.claimIds(), ['g-3']);
  });

  each('a group without a concurrency is not limited', async (s) => {
    await s.postAll(range(50), { group_id: 'g' });
    assert.equal((await s.claim()).length, 50);
  });

  each('the slots of a group are taken in order of priority', async (s) => {
    await s.postAll(['a', 'b', { job_id: 'high', priority: 1 }, 'c'], { group_id: 'g', concurrency: 1 });
    assert.deepEqual(await s.runAll(), ['high', 'a', 'b', 'c']);
  });

  for (const [way, leave] of WAYS_OUT) {
    each(`${way} frees the slot, exactly once`, async (s) => {
      await s.postAll(range(4, 'g-'), { group_id: 'g', concurrency: 1 });
      const held = await s.claimOne();
      await leave(s, held);
      await endAgain(s, held);
      assert.deepEqual(await s.claimIds(), ['g-1']);
      assert.deepEqual(await s.claimIds(), []);
    });
  }

  each('released and recovered jobs of a group take their slot again first', async (s) => {
    await s.postAll(range(3, 'g-'), { group_id: 'g', concurrency: 1 });
    await s.store.release([(await s.claimOne()).lease]);
    assert.deepEqual(await s.claimIds(), ['g-0']);
    s.advance(LEASE_MS + 1);
    await s.recover();
    const again = await s.claim();
    assert.deepEqual(ids(again), ['g-0']);
    for (const held of again) await s.succeed(held);
    assert.deepEqual(await s.claimIds(), ['g-1']);
  });

  each('jobs of a group that wait hold no slot, and leave none behind when they go', async (s) => {
    await s.postAll(range(6, 'g-'), { group_id: 'g', concurrency: 1 });
    await s.store.cancel('g-0');
    await s.store.purge('g-1');
    assert.deepEqual(await s.claimIds(), ['g-2']);
    await s.store.cancel('g-3');
    await s.store.purge('g-4');
    assert.deepEqual(await s.claimIds(), []);
    await s.store.purge('g-2');
    assert.deepEqual(await s.claimIds(), ['g-5']);
  });

  each('jobs that cannot run keep no slot from those that can', async (s) => {
    const eta = Date.now() + 60_000;
    await s.postAll(
      [
        { job_id: 'later', eta, priority: 9 },
        { job_id: 'paused', queue: 'paused', priority: 8 },
        { job_id: 'unheard', queue: 'unheard', priority: 7 },
        { job_id: 'child', after: [{ job_id: 'last' }], priority: 6 },
        'first',
        'last',
      ],
      { group_id: 'g', concurrency: 1 },
    );
    await s.store.pause('paused');
    const run = async (queues: readonly string[]) => {
      const [held] = await s.claim(1, queues);
      if (held !== undefined) await s.succeed(held);
      return held?.job_id;
    };
    const queues = ['default', 'paused'];
    assert.equal(await run(queues), 'first');
    assert.equal(await run(queues), 'last');
    assert.equal(await run(queues), 'child');
    assert.equal(await run(queues), undefined);
    s.advance(61_000);
    assert.equal(await run(queues), 'later');
    await s.store.resume('paused');
    assert.equal(await run(queues), 'paused');
    assert.equal(await run(['unheard']), 'unheard');
  });

  each('a group over several queues has one concurrency', async (s) => {
    await s.postAll(
      [
        { job_id: 'a-1', queue: 'a' },
        { job_id: 'b-1', queue: 'b' },
        { job_id: 'a-2', queue: 'a' },
        { job_id: 'b-2', queue: 'b' },
      ],
      { group_id: 'g', concurrency: 1 },
    );
    const first = await s.claimOne('b');
    assert.equal(first.job_id, 'b-1');
    assert.deepEqual(await s.claimIds(10, ['a']), []);
    assert.deepEqual(await s.claimIds(10, ['b']), []);
    await s.succeed(first);
    const second = await s.claimOne('a');
    assert.equal(second.job_id, 'a-1');
    await s.succeed(second);
    assert.deepEqual(await s.claimIds(10, ['a', 'b']), ['a-2']);
  });

  each('a job that is retried by hand respects the concurrency of its group', async (s) => {
    await s.postAll(range(3, 'g-'), { group_id: 'g', concurrency: 1 });
    await s.fail(await s.claimOne());
    const running = await s.claimOne();
    await s.store.retry('g-0');
    assert.deepEqual(await s.claimIds(), []);
    await s.succeed(running);
    assert.deepEqual(await s.runAll(), ['g-2', 'g-0']);
  });

  each('ETAs that fall due together take the slots in order', async (s) => {
    const eta = Date.now() + 60_000;
    await s.postAll(
      [
        { job_id: 'low', eta, priority: -1 },
        { job_id: 'b', eta },
        { job_id: 'high', eta, priority: 1 },
      ],
      { group_id: 'g', concurrency: 1 },
    );
    assert.deepEqual(await s.claimIds(), []);
    s.advance(61_000);
    assert.deepEqual(await s.runAll(), ['high', 'b', 'low']);
  });

  each('a large group with few slots lets the others by, and runs to its end', async (s) => {
    await s.postAll(range(2_500, 'g-'), { group_id: 'g', concurrency: 2 });
    await s.postAll(range(10, 'other-'));
    assert.deepEqual(await s.claimIds(12), ['g-0', 'g-1', ...range(10, 'other-')]);
    const eta = Date.now() + 60_000;
    await s.postAll(
      range(2_500, 'late-').map((job_id) => ({ job_id, eta, queue: 'late' })),
      { group_id: 'late', concurrency: 3 },
    );
    s.advance(61_000);
    await s.post('behind', { queue: 'late' });
    const ran: string[] = [];
    // A claim may put off a part of such a crowd; it then says that there is more at once.
    for (let round = 0; round < 10 && ran.length < 4; round += 1)
      ran.push(...(await s.claimIds(10, ['late'])));
    assert.deepEqual(ran, ['late-0', 'late-1', 'late-2', 'behind']);
    assert.deepEqual(await s.claimIds(10, ['late']), []);
  });

  each('cancelling a group cancels what waits and asks what runs', async (s) => {
    await s.postAll(['done', 'runs', 'waits', { job_id: 'child', after: [{ job_id: 'waits' }] }], {
      group_id: 'g',
    });
    await s.succeed(await s.claimOne());
    const held = await s.claimOne();
    const group = await s.store.cancelGroup('g');
    assert.deepEqual(
      group.jobs.map(({ state, cancel_requested }) => [state, cancel_requested]),
      [
        ['SUCCESS', false],
        ['STARTED', true],
        ['CANCELLED', false],
        ['CANCELLED', false],
      ],
    );
    assert.deepEqual(await s.store.group('g'), group);
    await s.store.cancelGroup('g');
    assert.equal(await s.succeed(held), 'CANCELLED');
    await rejects(s.store.cancelGroup('g'), 'group_finished');
    await rejects(s.store.cancelGroup('nobody'), 'unknown_group');
  });

  each('says how many jobs of a group are left, in whatever way they end', async (s) => {
    await s.postAll([...range(3, 'g-'), { job_id: 'child', after: [{ job_id: 'g-0' }] }], { group_id: 'g' });
    await s.postAll(['only'], { group_id: 'h' });
    assert.deepEqual(await s.store.unfinished(['h', 'nobody', 'g']), [1, null, 4]);
    assert.deepEqual(await s.store.unfinished([]), []);
    const held = await s.claimOne();
    assert.deepEqual(await s.store.unfinished(['g']), [4]);
    await s.fail(held);
    assert.deepEqual(await s.store.unfinished(['g']), [2]);
    await s.store.cancel('g-1');
    await s.store.purge('g-2');
    assert.deepEqual(await s.store.unfinished(['g']), [0]);
    await s.store.retry('g-1');
    assert.deepEqual(await s.store.unfinished(['g']), [1]);
    await s.store.cancelGroup('g');
    // Its newest group counts.
    await s.postAll(['new-1', 'new-2'], { group_id: 'g' });
    assert.deepEqual(await s.store.unfinished(['g']), [2]);
    await s.store.purgeGroup('g');
    assert.deepEqual(await s.store.unfinished(['g', 'h']), [null, 1]);
  });

  shared('several connections at once never exceed the concurrency of a group', async (s) => {
    const stores = [s.store, await s.connect(), await s.connect()];
    await s.postAll(range(60), { group_id: 'g', concurrency: 3 });
    let running = 0;
    let most = 0;
    let done = 0;
    await Promise.all(
      stores.map(async (store, n) => {
        while (done < 60) {
          const queues = [{ queue: 'default', limit: 2 }];
          const { jobs } = await store.claim({ worker: `w${n}`, queues, limit: 2, lease_ms: LEASE_MS });
          running += jobs.length;
          most = Math.max(most, running);
          const ends = jobs.map(({ lease }) => ({
            lease,
            outcome: { state: 'SUCCESS', result: n } as const,
          }));
          // Meanwhile the others claim.
          assert.deepEqual((await store.renew(jobs, LEASE_MS)).lost, []);
          // Counted down before it is asked for: the next claim may come before the answer.
          running -= jobs.length;
          const states = await store.finish(ends);
          done += states.filter((state) => state === 'SUCCESS').length;
        }
      }),
    );
    assert.equal(done, 60);
    assert.ok(most >= 1 && most <= 3, `${most} ran at once`);
  });

  shared('of many posts of one group id exactly one is accepted', async (s) => {
    const stores = [s.store, await s.connect()];
    const results = await Promise.allSettled(
      range(20).map((job_id, n) => (stores[n % 2] ?? s.store).enqueue([newJob(job_id)], { group_id: 'g' })),
    );
    assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
    assert.equal((await s.store.group('g')).jobs.length, 1);
  });
}
