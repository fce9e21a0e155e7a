import assert from 'node:assert/strict';
import type { NewJob } from '../../../src/queue/store.ts';
import { ids, LEASE_MS, named, newJob, range, type Suites } from './subject.ts';

/** `count` jobs of a key. */
function keyed(count: number, key: string, more: Partial<NewJob> = {}) {
  return range(count, `${key}-`).map((job_id) => ({ key, ...more, job_id }));
}

export function keys({ each, shared }: Suites): void {
  each('never more jobs of a key run than it says, in all queues and groups; others pass', async (s) => {
    const limited = { key: 'k', key_concurrency: 2 };
    await s.postAll([
      { job_id: 'a-0', queue: 'a', ...limited },
      { job_id: 'b-0', queue: 'b', ...limited },
      { job_id: 'a-1', queue: 'a', ...limited },
    ]);
    await s.postAll([{ job_id: 'g-0', queue: 'a', ...limited }], { group_id: 'g', concurrency: 9 });
    await s.postAll([{ job_id: 'h-0', queue: 'b', ...limited }], { group_id: 'h' });
    await s.postAll([
      ...keyed(2, 'other', { queue: 'a', key_concurrency: 1 }),
      { job_id: 'plain', queue: 'b' },
    ]);
    const first = await s.claim(100, ['a']);
    assert.deepEqual(ids(first), ['a-0', 'other-0', 'a-1']);
    assert.deepEqual(await s.claimIds(100, ['a', 'b']), ['plain']);
    await s.succeed(named(first, 'other-0'));
    assert.deepEqual(await s.claimIds(100, ['a', 'b']), ['other-1']);
    await s.succeed(named(first, 'a-1'));
    assert.deepEqual(await s.claimIds(100, ['b']), ['b-0']);
    assert.deepEqual(await s.claimIds(100, ['a', 'b']), []);
    await s.fail(named(first, 'a-0'));
    assert.deepEqual(await s.claimIds(100, ['a', 'b']), ['g-0']);
    assert.deepEqual(await s.claimIds(100, ['a', 'b']), []);
  });

  each('a key without a concurrency is not limited', async (s) => {
    await s.postAll(keyed(50, 'k'));
    assert.equal((await s.claim()).length, 50);
  });

  each('what the last of its jobs to be posted says holds for all of a key', async (s) => {
    await s.postAll(keyed(8, 'k', { key_concurrency: 1 }));
    assert.deepEqual(await s.claimIds(), ['k-0']);
    assert.deepEqual(await s.claimIds(), []);
    // More: also of those that were posted before.
    await s.post('more', { key: 'k', key_concurrency: 3, queue: 'other' });
    const [a, b] = await s.claim();
    assert.ok(a && b);
    assert.deepEqual([a.job_id, b.job_id], ['k-1', 'k-2']);
    assert.deepEqual(await s.claimIds(), []);
    // Fewer: those that run go on.
    await s.postAll([
      { job_id: 'not-last', key: 'k', queue: 'other' },
      { job_id: 'fewer', key: 'k', key_concurrency: 2, queue: 'other' },
    ]);
    await s.succeed(a);
    assert.deepEqual(await s.claimIds(), []);
    await s.succeed(b);
    assert.deepEqual(await s.claimIds(), ['k-3']);
    assert.deepEqual(await s.claimIds(), []);
    // None at all.
    await s.post('any', { key: 'k', queue: 'other' });
    assert.deepEqual(await s.claimIds(), ['k-4', 'k-5', 'k-6', 'k-7']);
    assert.equal((await s.store.get('k-7')).key_concurrency, 1);
  });

  each('a job that is set to run again says anew how many of its key may run', async (s) => {
    await s.post('strict', { key: 'k', key_concurrency: 1 });
    await s.fail(await s.claimOne());
    await s.postAll(keyed(4, 'k'));
    assert.deepEqual(await s.claimIds(1), ['k-0']);
    await s.store.retry('strict');
    assert.deepEqual(await s.claimIds(), []);
    await s.store.cancel('strict');
    assert.deepEqual(await s.claimIds(), []);
    await s.post('free', { key: 'k' });
    assert.deepEqual(await s.claimIds(), ['k-1', 'k-2', 'k-3', 'free']);
  });

  each('a job that is posted and cancelled at once has had its say on its key, too', async (s) => {
    await s.post('failed');
    await s.fail(await s.claimOne());
    await s.postAll(keyed(3, 'k'));
    await s.post('doomed', { key: 'k', key_concurrency: 1, after: [{ job_id: 'failed' }] });
    assert.equal(await s.state('doomed'), 'CANCELLED');
    assert.deepEqual(await s.claimIds(), ['k-0']);
    assert.deepEqual(await s.claimIds(), []);
  });

  each('of a refused post nothing is kept', async (s) => {
    await s.postAll(keyed(3, 'k', { key_concurrency: 1 }));
    const [held] = await s.claim();
    assert.equal(held?.job_id, 'k-0');
    await assert.rejects(
      s.postAll([
        { job_id: 'new', key: 'k' },
        { job_id: 'k-1', key: 'k' },
      ]),
    );
    await assert.rejects(s.store.retry('k-1'));
    assert.deepEqual(await s.claimIds(), []);
  });

  each('keys take turns: who posted a thousand is served once before all that wait', async (s) => {
    await s.postAll(keyed(1_000, 'a'));
    await s.postAll(keyed(10, 'b'));
    await s.postAll(range(3, 'plain-'));
    const ran = (await s.runAll()).slice(0, 25);
    const turns = range(10).flatMap((_, n) => (n === 0 ? [] : [`a-${n}`, `b-${n}`]));
    assert.deepEqual(ran, ['a-0', 'b-0', ...range(3, 'plain-'), ...turns, 'a-10', 'a-11']);
  });

  each('within one claim keys take turns, too', async (s) => {
    await s.postAll([...keyed(4, 'a'), ...keyed(2, 'b'), ...keyed(2, 'c')]);
    assert.deepEqual(await s.claimIds(5), ['a-0', 'b-0', 'c-0', 'a-1', 'b-1']);
    assert.deepEqual(await s.claimIds(5), ['c-1', 'a-2', 'a-3']);
  });

  each('who comes later waits for the turn of those that were served before', async (s) => {
    await s.postAll([...keyed(3, 'a'), ...keyed(3, 'b')]);
    assert.deepEqual(await s.claimIds(2), ['a-0', 'b-0']);
    s.advance(1_000);
    await s.postAll(['plain', ...keyed(2, 'c')]);
    assert.deepEqual(await s.claimIds(), ['a-1', 'b-1', 'plain', 'c-0', 'a-2', 'b-2', 'c-1']);
  });

  each('a higher priority runs first, whoever was served before', async (s) => {
    await s.postAll([...keyed(3, 'a', { priority: 1 }), ...keyed(2, 'b'), ...keyed(2, 'c', { priority: 1 })]);
    await s.post('low', { key: 'a' });
    assert.deepEqual(await s.runAll(), ['a-0', 'c-0', 'a-1', 'c-1', 'a-2', 'b-0', 'low', 'b-1']);
  });

  each('a key has one turn in all queues', async (s) => {
    await s.postAll([
      ...keyed(2, 'a', { queue: 'p' }),
      { job_id: 'a-q', key: 'a', queue: 'q' },
      { job_id: 'b-q', key: 'b', queue: 'q' },
      { job_id: 'plain-q', queue: 'q' },
    ]);
    assert.deepEqual(await s.claimIds(1, ['p']), ['a-0']);
    assert.deepEqual(await s.claimIds(2, ['q']), ['b-q', 'plain-q']);
    assert.deepEqual(await s.claimIds(9, ['p', 'q']), ['a-1', 'a-q']);
  });

  each('a job that became due after its key was served has its turn from then on', async (s) => {
    const eta = Date.now() + 60_000;
    await s.postAll([
      ...keyed(2, 'a'),
      { job_id: 'a-later', key: 'a', eta },
      { job_id: 'later', eta: eta + 1 },
    ]);
    assert.deepEqual(await s.claimIds(1), ['a-0']);
    s.advance(61_000);
    await s.post('last');
    // The turn of a-1 is when a-0 was handed out; then it is the turn of the key that decides.
    assert.deepEqual(await s.claimIds(), ['a-1', 'later', 'last', 'a-later']);
  });

  each('jobs of one key run in their order whatever turn they have', async (s) => {
    const eta = Date.now() + 60_000;
    await s.postAll([
      { job_id: 'a-2', key: 'a', eta: eta + 2 },
      { job_id: 'a-1', key: 'a', eta: eta + 1, limit: 'x' },
      { job_id: 'a-3', key: 'a', eta: eta + 3, limit: 'x' },
      { job_id: 'a-0', key: 'a', eta },
    ]);
    s.advance(61_000);
    assert.deepEqual(await s.runAll(), range(4, 'a-'));
  });

  each('an attempt that was given back was a turn all the same', async (s) => {
    await s.postAll([...keyed(2, 'a'), ...keyed(1, 'b'), 'plain']);
    await s.store.release([(await s.claimOne()).lease]);
    assert.deepEqual(await s.claimIds(1), ['b-0']);
    assert.deepEqual(await s.claimIds(), ['plain', 'a-0', 'a-1']);
    s.advance(LEASE_MS + 1);
    await s.post('after');
    await s.recover();
    assert.deepEqual(await s.claimIds(), ['plain', 'b-0', 'a-0', 'after', 'a-1']);
  });

  each('keys take turns at the slots of a limit, a group', async (s) => {
    await s.store.limit('db', 1);
    await s.postAll([...keyed(100, 'a', { limit: 'db' }), ...keyed(3, 'b', { limit: 'db' })]);
    await s.postAll([{ job_id: 'nobody', limit: 'db' }]);
    const first = ['a-0', 'b-0', 'nobody', 'a-1', 'b-1', 'a-2', 'b-2', 'a-3', 'a-4'];
    assert.deepEqual((await s.runAll()).slice(0, 9), first);
    await s.postAll([...keyed(3, 'c'), ...keyed(2, 'd')], { group_id: 'g', concurrency: 1 });
    assert.deepEqual(await s.runAll(), ['c-0', 'd-0', 'c-1', 'd-1', 'c-2']);
  });

  each('turns change while jobs wait for a slot', async (s) => {
    await s.store.limit('db', 1);
    await s.postAll([
      { job_id: 'running', limit: 'db' },
      { job_id: 'a-db', key: 'a', limit: 'db' },
      { job_id: 'b-db', key: 'b', limit: 'db' },
      { job_id: 'c-db', key: 'c', limit: 'db' },
      ...keyed(1, 'b'),
      ...keyed(1, 'a'),
    ]);
    const first = await s.claim();
    assert.deepEqual(ids(first), ['running', 'b-0', 'a-0']);
    const ran: string[] = [];
    let held = named(first, 'running');
    for (let n = 0; n < 3; n += 1) {
      await s.succeed(held);
      held = await s.claimOne();
      ran.push(held.job_id);
    }
    assert.deepEqual(ran, ['c-db', 'b-db', 'a-db']);
  });

  each('a job of a key that waits for a limit holds up none that the key has elsewhere', async (s) => {
    await s.store.limit('x', 1);
    await s.postAll([
      ...range(5, 'x-').map((job_id) => ({ job_id, key: 'a', key_concurrency: 3, limit: 'x' })),
      ...range(2, 'y-').map((job_id) => ({ job_id, key: 'a', key_concurrency: 3, limit: 'y' })),
      { job_id: 'a', key: 'a', key_concurrency: 3 },
    ]);
    const first = await s.claim();
    assert.deepEqual(ids(first), ['x-0', 'y-0', 'y-1']);
    await s.succeed(named(first, 'y-0'));
    assert.deepEqual(await s.claimIds(), ['a']);
    await s.succeed(named(first, 'y-1'));
    assert.deepEqual(await s.claimIds(), []);
    await s.succeed(named(first, 'x-0'));
    assert.deepEqual(await s.claimIds(), ['x-1']);
    assert.deepEqual(await s.claimIds(), []);
  });

  each('a group, a limit and a key: each in turn is what is full', async (s) => {
    await s.store.limit('db', 2);
    const all = { limit: 'db', key: 'k', key_concurrency: 2 };
    await s.postAll(
      range(4, 'all-').map((job_id) => ({ job_id, ...all })),
      { group_id: 'g', concurrency: 2 },
    );
    await s.postAll(
      [
        { job_id: 'h-0', ...all },
        { job_id: 'h-1', ...all },
      ],
      { group_id: 'h', concurrency: 1 },
    );
    const [a, b] = await s.claim();
    assert.ok(a && b);
    assert.deepEqual([a.job_id, b.job_id], ['all-0', 'all-1']);
    // The limit and the key have room, the group has none.
    await s.store.limit('db', 9);
    await s.post('room', { ...all, key_concurrency: 9, eta: Date.now() + 600_000 });
    const [h] = await s.claim();
    assert.equal(h?.job_id, 'h-0');
    assert.deepEqual(await s.claimIds(), []);
    // The groups and the key have room, the limit has none.
    await s.store.limit('db', 1);
    await s.succeed(a);
    await s.succeed(h);
    assert.deepEqual(await s.claimIds(), []);
    await s.store.limit('db', 2);
    assert.deepEqual(await s.claimIds(), ['all-2']);
    // The limit and the other group have room, the key has none.
    await s.store.limit('db', 9);
    await s.post('none', { ...all, key_concurrency: 1, eta: Date.now() + 600_000 });
    await s.succeed(b);
    assert.deepEqual(await s.claimIds(), []);
    await s.post('one', { ...all, key_concurrency: 2, eta: Date.now() + 600_000 });
    assert.deepEqual(await s.claimIds(), ['all-3']);
    assert.deepEqual(await s.claimIds(), []);
  });

  each('one key with many jobs and one slot lets a crowd of keys by', async (s) => {
    await s.postAll(keyed(2_500, 'a', { key_concurrency: 1 }));
    const others = range(50, 'k-');
    await s.postAll(others.map((job_id) => ({ job_id, key: job_id, key_concurrency: 1 })));
    assert.deepEqual(await s.claimIds(), ['a-0', ...others]);
    assert.deepEqual(await s.claimIds(), []);
  });

  each('a key is known no more when its last job has ended', async (s) => {
    await s.postAll(keyed(2, 'k', { key_concurrency: 1, limit: 'db' }));
    assert.deepEqual(await s.runAll(), ['k-0', 'k-1']);
    await s.postAll([...keyed(2, 'k'), 'plain']);
    assert.deepEqual(await s.claimIds(), ['k-0', 'plain', 'k-1']);
  });

  each('chains of keys: a child takes its turn when its parent has ended', async (s) => {
    const strict = { key: 'a', key_concurrency: 1 };
    await s.postAll([
      { job_id: 'a-1', ...strict },
      { job_id: 'a-2', ...strict, after: [{ job_id: 'a-1' }] },
      { job_id: 'a-3', ...strict, after: [{ job_id: 'a-2' }] },
      { job_id: 'a-free', ...strict },
      { job_id: 'b-1', key: 'b' },
      { job_id: 'b-2', key: 'b', after: [{ job_id: 'a-1', on_failure: 'run' }] },
    ]);
    const first = await s.claim();
    assert.deepEqual(ids(first), ['a-1', 'b-1']);
    assert.deepEqual(await s.claimIds(), []);
    await s.succeed(named(first, 'a-1'));
    assert.deepEqual(await s.runAll(), ['a-2', 'b-2', 'a-3', 'a-free']);
  });

  shared('the turn and the slots of a key are one for all connections', async (s) => {
    const other = await s.connect();
    await other.enqueue(
      [...keyed(3, 'a'), ...keyed(3, 'b', { key_concurrency: 1 })].map((job) => newJob(job.job_id, job)),
    );
    assert.deepEqual(await s.claimIds(1), ['a-0']);
    const request = { worker: 'w', queues: [{ queue: 'default', limit: 1 }], limit: 1, lease_ms: LEASE_MS };
    const [b] = (await other.claim(request)).jobs;
    assert.equal(b?.job_id, 'b-0');
    assert.deepEqual(await s.claimIds(1), ['a-1']);
    assert.deepEqual(ids((await other.claim(request)).jobs), ['a-2']);
    assert.deepEqual(await s.claimIds(), []);
    await s.succeed(b);
    assert.deepEqual(await s.claimIds(), ['b-1']);
  });
}
