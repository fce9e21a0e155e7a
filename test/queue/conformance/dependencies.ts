import assert from 'node:assert/strict';
import type { Outcome } from '../../../src/queue/store.ts';
import { LEASE_MS, range, rejects, type Suites } from './subject.ts';

const FAILED: readonly (readonly [string, Outcome])[] = [
  ['failed', { state: 'FAILURE', error: 'x' }],
  ['was cancelled', { state: 'CANCELLED' }],
];

export function dependencies({ each, shared }: Suites): void {
  each('a child waits until its parent has succeeded', async (s) => {
    const [child] = await s.postAll([
      { job_id: 'child', after: [{ job_id: 'parent' }], priority: 9 },
      'parent',
    ]);
    assert.deepEqual(child?.after, [{ job_id: 'parent', on_failure: 'cancel' }]);
    assert.deepEqual((await s.store.get('child')).after, child.after);
    const parent = await s.claimOne();
    assert.equal(parent.job_id, 'parent');
    assert.deepEqual(await s.claim(), []);
    await s.succeed(parent);
    assert.deepEqual(await s.claimIds(), ['child']);
  });

  each('a chain runs in order', async (s) => {
    await s.postAll(
      range(20).map((job_id, n) => ({ job_id, after: n === 0 ? [] : [{ job_id: `job-${n - 1}` }] })),
    );
    assert.deepEqual(await s.runAll(), range(20));
  });

  each('a child of several parents waits for all of them, a diamond runs each once', async (s) => {
    await s.postAll([
      'top',
      { job_id: 'left', after: [{ job_id: 'top' }] },
      { job_id: 'right', after: [{ job_id: 'top' }] },
      { job_id: 'bottom', after: [{ job_id: 'left' }, { job_id: 'right' }] },
    ]);
    assert.deepEqual(await s.runAll(), ['top', 'left', 'right', 'bottom']);
  });

  each('an attempt of the parent that is to be retried does not count as its end', async (s) => {
    await s.postAll([
      { job_id: 'parent', retries: 1 },
      { job_id: 'child', after: [{ job_id: 'parent' }] },
    ]);
    await s.retryLater(await s.claimOne());
    const again = await s.claimOne();
    assert.equal(again.job_id, 'parent');
    assert.deepEqual(await s.claim(), []);
    await s.succeed(again);
    assert.deepEqual(await s.claimIds(), ['child']);
  });

  for (const [what, outcome] of FAILED) {
    each(`when a parent ${what}, its children are cancelled, and theirs`, async (s) => {
      await s.postAll([
        'parent',
        { job_id: 'child', after: [{ job_id: 'parent' }] },
        { job_id: 'grandchild', after: [{ job_id: 'child', on_failure: 'cancel' }] },
        { job_id: 'runs-anyway', after: [{ job_id: 'grandchild', on_failure: 'run' }] },
        'stranger',
      ]);
      await s.finish(await s.claimOne(), outcome);
      assert.deepEqual(await s.states('child', 'grandchild', 'runs-anyway'), [
        'CANCELLED',
        'CANCELLED',
        'PENDING',
      ]);
      assert.deepEqual(await s.claimIds(), ['runs-anyway', 'stranger']);
    });

    each(`when a parent ${what}, a child with on_failure "run" runs anyway`, async (s) => {
      await s.postAll(['parent', { job_id: 'child', after: [{ job_id: 'parent', on_failure: 'run' }] }]);
      await s.finish(await s.claimOne(), outcome);
      assert.deepEqual(await s.claimIds(), ['child']);
    });

    each(`a parent that ${what} before its child is posted counts by that`, async (s) => {
      await s.post('parent');
      await s.finish(await s.claimOne(), outcome);
      const posted = await s.postAll([
        { job_id: 'runs', after: [{ job_id: 'parent', on_failure: 'run' }] },
        { job_id: 'cancelled', after: [{ job_id: 'parent' }] },
        { job_id: 'cancelled-too', after: [{ job_id: 'cancelled' }] },
        { job_id: 'runs-too', after: [{ job_id: 'cancelled', on_failure: 'run' }] },
      ]);
      const states = ['PENDING', 'CANCELLED', 'CANCELLED', 'PENDING'];
      assert.deepEqual(
        posted.map(({ state }) => state),
        states,
      );
      for (const job of posted) assert.deepEqual(await s.store.get(job.job_id), job);
      assert.deepEqual(await s.claimIds(), ['runs', 'runs-too']);
    });
  }

  each('a parent that has succeeded does not hold back a child posted later', async (s) => {
    await s.post('parent');
    await s.succeed(await s.claimOne());
    await s.post('child', { after: [{ job_id: 'parent' }] });
    assert.deepEqual(await s.claimIds(), ['child']);
  });

  each('a child of a running job, posted alone, waits for it', async (s) => {
    await s.post('parent');
    const parent = await s.claimOne();
    await s.post('child', { after: [{ job_id: 'parent' }] });
    assert.deepEqual(await s.claim(), []);
    await s.succeed(parent);
    assert.deepEqual(await s.claimIds(), ['child']);
  });

  each('the newest run of a parent counts', async (s) => {
    await s.post('parent');
    await s.fail(await s.claimOne());
    await s.post('parent');
    await s.post('child', { after: [{ job_id: 'parent' }] });
    await s.succeed(await s.claimOne());
    assert.deepEqual(await s.claimIds(), ['child']);
  });

  each('a parent in the batch is meant before one that the store has of the same id', async (s) => {
    await s.post('parent');
    await s.fail(await s.claimOne());
    await s.postAll([{ job_id: 'child', after: [{ job_id: 'parent' }] }, 'parent']);
    assert.deepEqual(await s.runAll(), ['parent', 'child']);
  });

  each('of several edges to one parent the strictest counts', async (s) => {
    const run = { job_id: 'parent', on_failure: 'run' } as const;
    await s.postAll([
      'parent',
      { job_id: 'a', after: [run, { job_id: 'parent' }] },
      { job_id: 'b', after: [{ job_id: 'parent' }, run] },
      { job_id: 'c', after: [run, run] },
    ]);
    await s.fail(await s.claimOne());
    assert.deepEqual(await s.states('a', 'b', 'c'), ['CANCELLED', 'CANCELLED', 'PENDING']);
    assert.deepEqual(await s.claimIds(), ['c']);
  });

  each('a batch of as many parents as may be is accepted, one more is refused', async (s) => {
    const parents = range(200, 'parent-').map((job_id) => ({ job_id }));
    const children = range(100, 'child-').map((job_id) => ({ job_id, after: parents }));
    await rejects(
      s.postAll([...parents, ...children, { job_id: 'one', after: parents.slice(0, 1) }]),
      'invalid_job',
    );
    await rejects(s.store.get('parent-0'), 'unknown_job');
    await s.postAll([...parents, ...children]);
    assert.equal((await s.store.get('child-99')).after.length, 200);
  });

  each('unknown parents and cycles are refused', async (s) => {
    await rejects(s.post('a', { after: [{ job_id: 'nobody' }] }), 'unknown_job');
    await rejects(s.post('a', { after: [{ job_id: 'a' }] }), 'invalid_job');
    await rejects(
      s.postAll([
        'free',
        { job_id: 'a', after: [{ job_id: 'c' }] },
        { job_id: 'b', after: [{ job_id: 'a' }] },
        { job_id: 'c', after: [{ job_id: 'b' }, { job_id: 'free' }] },
      ]),
      'invalid_job',
    );
    assert.deepEqual(await s.store.stats(), []);
  });

  each('a child keeps its ETA, also when its parent has ended', async (s) => {
    await s.postAll(['parent', { job_id: 'child', after: [{ job_id: 'parent' }], eta: Date.now() + 60_000 }]);
    assert.equal(await s.nextDueAt(), null);
    await s.succeed(await s.claimOne());
    assert.deepEqual(await s.claim(), []);
    s.advance(61_000);
    assert.deepEqual(await s.claimIds(), ['child']);
  });

  each('cancelling a parent that waits, and purging one, cancels its children', async (s) => {
    for (const [n, remove] of [
      (id: string) => s.store.cancel(id),
      (id: string) => s.store.purge(id),
    ].entries()) {
      await s.postAll([
        `parent-${n}`,
        { job_id: `child-${n}`, after: [{ job_id: `parent-${n}` }] },
        { job_id: `any-${n}`, after: [{ job_id: `parent-${n}`, on_failure: 'run' }] },
      ]);
      await remove(`parent-${n}`);
      assert.deepEqual(await s.states(`child-${n}`, `any-${n}`), ['CANCELLED', 'PENDING']);
      assert.deepEqual(await s.claimIds(), [`any-${n}`]);
    }
  });

  each('purging a running parent cancels its children', async (s) => {
    await s.postAll(['parent', { job_id: 'child', after: [{ job_id: 'parent' }] }]);
    await s.claimOne();
    await s.store.purge('parent');
    assert.equal(await s.state('child'), 'CANCELLED');
  });

  each('a parent that dies as poison, or is cancelled by its recovery, cancels its children', async (s) => {
    await s.postAll([
      'poison',
      'asked',
      { job_id: 'child-1', after: [{ job_id: 'poison' }] },
      { job_id: 'child-2', after: [{ job_id: 'asked' }] },
    ]);
    await s.claim();
    await s.store.cancel('asked');
    s.advance(LEASE_MS + 1);
    await s.recover(1);
    assert.deepEqual(await s.states('poison', 'asked', 'child-1', 'child-2'), [
      'FAILURE',
      'CANCELLED',
      'CANCELLED',
      'CANCELLED',
    ]);
  });

  each('a child that was cancelled is not brought back by what becomes of its parents', async (s) => {
    await s.postAll(['one', 'two', { job_id: 'child', after: [{ job_id: 'one' }, { job_id: 'two' }] }]);
    await s.store.cancel('child');
    assert.deepEqual(await s.runAll(), ['one', 'two']);
    assert.equal(await s.state('child'), 'CANCELLED');
  });

  each('one failed parent cancels the child, and the other may still run', async (s) => {
    await s.postAll(['one', 'two', { job_id: 'child', after: [{ job_id: 'one' }, { job_id: 'two' }] }]);
    await s.fail(await s.claimOne());
    assert.equal(await s.state('child'), 'CANCELLED');
    assert.deepEqual(await s.runAll(), ['two']);
  });

  each('a child that is retried waits for the parents that are not finished, and for no other', async (s) => {
    await s.postAll([
      'one',
      'two',
      { job_id: 'child', after: [{ job_id: 'one' }, { job_id: 'two' }] },
      { job_id: 'grandchild', after: [{ job_id: 'child' }] },
    ]);
    await s.fail(await s.claimOne());
    await s.store.retry('child');
    assert.deepEqual(await s.pendingIds(), ['two', 'child']);
    await s.store.retry('one');
    assert.deepEqual(await s.runAll(), ['two', 'child', 'one']);
    assert.equal(await s.state('grandchild'), 'CANCELLED');
    await s.store.retry('grandchild');
    assert.deepEqual(await s.claimIds(), ['grandchild']);
  });

  each('a retried parent leaves its children as they are', async (s) => {
    await s.postAll(['parent', { job_id: 'child', after: [{ job_id: 'parent' }] }]);
    await s.fail(await s.claimOne());
    await s.store.retry('parent');
    assert.deepEqual(await s.runAll(), ['parent']);
    assert.equal(await s.state('child'), 'CANCELLED');
  });

  each('a chain of ten thousand is cancelled from its first job', async (s) => {
    const chain = range(10_000);
    await s.postAll(
      chain.map((job_id, n) => ({ job_id, after: n === 0 ? [] : [{ job_id: `job-${n - 1}` }] })),
    );
    await s.store.cancel('job-0');
    assert.equal(await s.state('job-9999'), 'CANCELLED');
    assert.deepEqual(await s.claim(), []);
  });

  each('children in another queue are released as well', async (s) => {
    await s.postAll(['parent', { job_id: 'child', queue: 'other', after: [{ job_id: 'parent' }] }]);
    await s.succeed(await s.claimOne());
    assert.deepEqual(await s.claimIds(1, ['other']), ['child']);
  });

  shared('parents that end at the same time, in several connections, release their child once', async (s) => {
    const other = await s.connect();
    for (let round = 0; round < 20; round += 1) {
      const parents = [`one-${round}`, `two-${round}`];
      const child = `child-${round}`;
      await s.postAll([...parents, { job_id: child, after: parents.map((job_id) => ({ job_id })) }]);
      const [one, two] = await s.claim();
      assert.ok(one && two);
      const outcome: Outcome = { state: 'SUCCESS', result: null };
      await Promise.all([s.succeed(one), other.finish([{ lease: two.lease, outcome }])]);
      const [held] = await s.claim();
      assert.equal(held?.job_id, child);
      assert.deepEqual(await s.claim(), []);
      await s.succeed(held);
    }
  });
}
