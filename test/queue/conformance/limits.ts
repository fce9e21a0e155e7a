import assert from 'node:assert/strict';
import type { NewJob, Store } from '../../../src/queue/store.ts';
import { until } from '../../support/until.ts';
import { ids, LEASE_MS, listen, named, newJob, range, rejects, Subject, type Suites } from './subject.ts';
import { endAgain, WAYS_OUT } from './ways-out.ts';

const HOUR = 3_600_000;

/** `count` jobs that share a limit. */
function limited(count: number, limit: string, prefix: string, more: Partial<NewJob> = {}) {
  return range(count, prefix).map((job_id) => ({ ...more, job_id, limit }));
}

export function limits({ each, shared }: Suites): void {
  each('a job has its limit, its key and the concurrency of its key', async (s) => {
    const asked = { limit: 'the db', key: 'jürgen', key_concurrency: 2 };
    const posted = await s.post('a', asked);
    const { limit, key, key_concurrency } = posted;
    assert.deepEqual({ limit, key, key_concurrency }, asked);
    assert.deepEqual(await s.store.get('a'), posted);
    const { lease: _, ...held } = await s.claimOne();
    assert.deepEqual(held, await s.store.get('a'));
    assert.equal(held.key, 'jürgen');
    const [bare, empty] = await s.postAll([
      'b',
      { job_id: 'c', limit: null, key: null, key_concurrency: null },
    ]);
    for (const job of [bare, empty]) {
      assert.deepEqual([job?.limit, job?.key, job?.key_concurrency], [null, null, null]);
    }
    assert.deepEqual(await s.store.get('b'), bare);
  });

  each('what came behind a job that is cancelled keeps its place before what came earlier', async (s) => {
    await s.store.limit('db', 1);
    await s.post('running', { limit: 'db' });
    const running = await s.claimOne();
    await s.post('waiting', { limit: 'db' });
    assert.deepEqual(await s.claimIds(), []);
    await s.post('first', { limit: 'db', priority: 5 });
    await s.post('second', { limit: 'db', priority: 5 });
    await s.store.cancel('first');
    await s.succeed(running);
    assert.deepEqual(await s.runAll(), ['second', 'waiting']);
  });

  each('names of limits and keys, and concurrencies, are good ones', async (s) => {
    for (const bad of ['', 'a\nb', 'x'.repeat(257)]) {
      await rejects(s.post('a', { limit: bad }), 'invalid_job');
      await rejects(s.post('a', { key: bad }), 'invalid_job');
      await rejects(s.store.limit(bad, 1), 'invalid_job');
    }
    for (const bad of [0, -1, 1.5, Number.NaN]) {
      await rejects(s.post('a', { key: 'k', key_concurrency: bad }), 'invalid_job');
      await rejects(s.store.limit('l', bad), 'invalid_job');
    }
    await rejects(s.post('a', { key_concurrency: 1 }), 'invalid_job');
    await rejects(s.store.get('a'), 'unknown_job');
    assert.deepEqual(await s.store.limits(['l']), [
      { limit: 'l', concurrency: null, running: 0, waiting: 0 },
    ]);
  });

  each('never more jobs of a limit run than it says, in all queues and groups; others pass', async (s) => {
    await s.store.limit('db', 2);
    await s.postAll(limited(2, 'db', 'a-', { queue: 'a' }));
    await s.postAll(limited(2, 'db', 'g-', { queue: 'b' }), { group_id: 'g', concurrency: 5 });
    await s.postAll(limited(2, 'db', 'h-', { queue: 'b' }), { group_id: 'h' });
    await s.postAll(limited(1, 'other', 'o-', { queue: 'b' }));
    await s.post('plain', { queue: 'a' });
    const first = await s.claim(100, ['b']);
    assert.deepEqual(ids(first), ['g-0', 'g-1', 'o-0']);
    assert.deepEqual(await s.claimIds(100, ['a', 'b']), ['plain']);
    await s.succeed(named(first, 'o-0'));
    assert.deepEqual(await s.claimIds(100, ['a', 'b']), []);
    await s.succeed(named(first, 'g-1'));
    assert.deepEqual(await s.claimIds(100, ['a', 'b']), ['a-0']);
    await s.fail(named(first, 'g-0'));
    assert.deepEqual(await s.claimIds(100, ['b']), ['h-0']);
    assert.deepEqual(await s.claimIds(100, ['a', 'b']), []);
  });

  each('a limit that was never set does not limit', async (s) => {
    await s.postAll(limited(50, 'db', 'job-'));
    assert.equal((await s.claim()).length, 50);
  });

  each('a limit can be set while jobs run: they go on, and count', async (s) => {
    await s.postAll(limited(6, 'db', 'job-'));
    const [a, b, c] = await s.claim(3);
    assert.ok(a && b && c);
    await s.store.limit('db', 2);
    assert.deepEqual((await s.store.renew([a, b, c], LEASE_MS)).lost, []);
    assert.deepEqual(await s.claimIds(), []);
    await s.succeed(a);
    assert.deepEqual(await s.claimIds(), []);
    await s.succeed(b);
    assert.deepEqual(await s.claimIds(), ['job-3']);
    assert.deepEqual(await s.claimIds(), []);
  });

  each(
    'a limit that is raised lets in as many more, in every queue; one that is removed lets in all',
    async (s) => {
      await s.store.limit('db', 1);
      await s.postAll(limited(6, 'db', 'a-', { queue: 'a' }));
      await s.postAll(limited(6, 'db', 'b-', { queue: 'b' }));
      assert.deepEqual(await s.claimIds(100, ['a', 'b']), ['a-0']);
      assert.deepEqual(await s.claimIds(100, ['a', 'b']), []);
      await s.store.limit('db', 3);
      assert.deepEqual(await s.claimIds(100, ['b']), ['b-0', 'b-1']);
      assert.deepEqual(await s.claimIds(100, ['a', 'b']), []);
      await s.store.limit('db', 3);
      assert.deepEqual(await s.claimIds(100, ['a', 'b']), []);
      await s.store.limit('db', null);
      assert.deepEqual(await s.claimIds(100, ['a', 'b']), [
        ...range(6, 'a-').slice(1),
        ...range(6, 'b-').slice(2),
      ]);
    },
  );

  each('what is raised or removed lets in jobs of many keys, and of many limits', async (s) => {
    const names = range(6, 'k-');
    await s.store.limit('db', 1);
    await s.postAll(names.map((key) => ({ job_id: `db-${key}`, limit: 'db', key })));
    assert.deepEqual(await s.claimIds(), ['db-k-0']);
    assert.deepEqual(await s.claimIds(), []);
    await s.store.limit('db', 3);
    assert.deepEqual(await s.claimIds(), ['db-k-1', 'db-k-2']);
    assert.deepEqual(await s.claimIds(), []);
    await s.store.limit('db', null);
    assert.deepEqual(await s.claimIds(), ['db-k-3', 'db-k-4', 'db-k-5']);

    const elsewhere = { key: 'me', queue: 'elsewhere' };
    await s.postAll(names.map((limit) => ({ job_id: `me-${limit}`, limit, key: 'me', key_concurrency: 1 })));
    assert.deepEqual(await s.claimIds(), ['me-k-0']);
    assert.deepEqual(await s.claimIds(), []);
    await s.post('raised', { ...elsewhere, key_concurrency: 3 });
    assert.deepEqual(await s.claimIds(), ['me-k-1', 'me-k-2']);
    assert.deepEqual(await s.claimIds(), []);
    await s.post('removed', elsewhere);
    assert.deepEqual(await s.claimIds(), ['me-k-3', 'me-k-4', 'me-k-5']);
  });

  each(
    'a limit that is set counts what runs, holds what waits, in order, and what is tried again',
    async (s) => {
      await s.postAll(limited(9, 'db', 'job-', { retries: 5 }));
      await s.postAll([
        { job_id: 'later', limit: 'db', eta: Date.now() + HOUR },
        { job_id: 'high', limit: 'db', priority: 1 },
        { job_id: 'last', limit: 'db' },
        { job_id: 'other', limit: 'other' },
        { job_id: 'child', limit: 'db', after: [{ job_id: 'job-0' }] },
      ]);
      const running = await s.claim(4);
      assert.deepEqual(ids(running), ['high', 'job-0', 'job-1', 'job-2']);
      await s.retryLater(named(running, 'job-1'), 1_000);
      await s.store.release([named(running, 'job-2').lease]);
      await s.store.cancel('job-8');
      const [before] = await s.store.limits(['db']);
      assert.deepEqual([before?.running, before?.waiting], [2, 10]);
      await s.store.limit('db', 2);
      const [after] = await s.store.limits(['db']);
      assert.deepEqual(after, { limit: 'db', concurrency: 2, running: 2, waiting: 10 });
      assert.deepEqual(await s.claimIds(), ['other']);
      await s.succeed(named(running, 'high'));
      assert.deepEqual(await s.claimIds(), ['job-2']);
      await s.retryLater(named(running, 'job-0'), HOUR);
      s.advance(2_000);
      assert.deepEqual(await s.claimIds(), ['job-3']);
      assert.deepEqual(await s.claimIds(), []);
      assert.deepEqual(
        (await s.store.limits(['db'])).map(({ running, waiting }) => [running, waiting]),
        [[2, 9]],
      );
    },
  );

  shared('a limit that is set while others post, claim and end jobs holds from then on', async (s) => {
    const stores = [s.store, await s.connect(), await s.connect()];
    const subjects = stores.map((store) => new Subject({ ...s, store }));
    for (const limit of range(4, 'limit-')) {
      const jobs = limited(12, limit, `${limit}-`, { retries: 100 });
      const posting = Promise.all(jobs.map((job, n) => subjects[n % 3]?.postAll([job])));
      let isSet = false;
      const retrying = new Set<string>();
      const work = async (subject: Subject) => {
        while (!isSet) {
          for (const job of await subject.claim(3)) {
            retrying.add(job.job_id);
            await subject.retryLater(job);
          }
        }
      };
      const working = subjects.map(work);
      await until('some were tried again', () => retrying.size > 2);
      await s.store.limit(limit, 2);
      isSet = true;
      await Promise.all([posting, ...working]);
      assert.deepEqual(await s.store.limits([limit]), [{ limit, concurrency: 2, running: 0, waiting: 12 }]);
      const ran: string[] = [];
      while (ran.length < 12) {
        const held = (await Promise.all(subjects.map((subject) => subject.claim(9)))).flat();
        assert.ok(held.length >= 1 && held.length <= 2, `${held.length} run at once`);
        ran.push(...ids(held));
        for (const job of held) await s.succeed(job);
      }
      assert.equal(new Set(ran).size, 12);
      assert.deepEqual(await s.store.limits([limit]), [{ limit, concurrency: 2, running: 0, waiting: 0 }]);
    }
  });

  each('a limit holds until it is set anew, whether or not jobs name it', async (s) => {
    await s.store.limit('db', 1);
    await s.postAll(limited(2, 'db', 'a-'));
    assert.deepEqual(await s.runAll(), ['a-0', 'a-1']);
    s.advance(HOUR);
    assert.equal(await s.store.prune({ jobs_ms: 1_000, groups_ms: 1_000 }), 2);
    assert.deepEqual(await s.store.limits(['db']), [{ limit: 'db', concurrency: 1, running: 0, waiting: 0 }]);
    await s.postAll(limited(2, 'db', 'b-'));
    assert.deepEqual(await s.claimIds(), ['b-0']);
    assert.deepEqual(await s.claimIds(), []);
  });

  each('a limit says how many of its jobs run and wait', async (s) => {
    const usage = async () => {
      const [{ running, waiting } = {}] = await s.store.limits(['db']);
      return [running, waiting];
    };
    assert.deepEqual(await usage(), [0, 0]);
    await s.postAll([
      ...limited(3, 'db', 'job-', { retries: 1 }),
      { job_id: 'later', limit: 'db', eta: Date.now() + HOUR },
      { job_id: 'child', limit: 'db', after: [{ job_id: 'later' }] },
      { job_id: 'grandchild', limit: 'db', queue: 'other', after: [{ job_id: 'child' }] },
    ]);
    assert.deepEqual(await usage(), [0, 6]);
    await s.store.limit('db', 2);
    await s.store.limit('x', 7);
    const [a, b] = await s.claim();
    assert.ok(a && b);
    assert.deepEqual(await usage(), [2, 4]);
    assert.deepEqual(await s.store.limits(['x', 'unknown', 'db', 'x']), [
      { limit: 'x', concurrency: 7, running: 0, waiting: 0 },
      { limit: 'unknown', concurrency: null, running: 0, waiting: 0 },
      { limit: 'db', concurrency: 2, running: 2, waiting: 4 },
      { limit: 'x', concurrency: 7, running: 0, waiting: 0 },
    ]);
    assert.deepEqual(await s.store.limits([]), []);
    await s.store.cancel(a.job_id);
    assert.deepEqual(await usage(), [2, 4]);
    await s.finish(a, { state: 'CANCELLED' });
    await s.retryLater(b, HOUR);
    assert.deepEqual(await usage(), [0, 5]);
    await s.store.cancel('later');
    assert.deepEqual(await usage(), [0, 2]);
    await s.store.retry('later');
    await s.store.purge('job-2');
    assert.deepEqual(await usage(), [0, 2]);
    assert.deepEqual(ids(await s.claim()), ['later']);
    assert.deepEqual(await usage(), [1, 1]);
  });

  for (const [way, leave] of WAYS_OUT) {
    each(`${way} frees a slot of the limit, the group and the key, each exactly once`, async (s) => {
      await s.store.limit('db', 1);
      await s.postAll(
        [{ job_id: 'all', priority: 1, limit: 'db', key: 'k', key_concurrency: 1 }, ...range(2, 'g-')],
        {
          group_id: 'g',
          concurrency: 1,
        },
      );
      await s.postAll(limited(2, 'db', 'l-'));
      await s.postAll(range(2, 'k-').map((job_id) => ({ job_id, key: 'k', key_concurrency: 1 })));
      const held = await s.claimOne();
      assert.equal(held.job_id, 'all');
      assert.deepEqual(await s.claimIds(), []);
      await leave(s, held);
      await endAgain(s, held);
      // In order of turn: that of the key is when its last job was handed out.
      assert.deepEqual(await s.claimIds(), ['g-0', 'l-0', 'k-0']);
      assert.deepEqual(await s.claimIds(), []);
    });
  }

  each('jobs of a limit that wait hold no slot, and leave none behind when they go', async (s) => {
    await s.store.limit('db', 1);
    await s.postAll(limited(6, 'db', 'job-'));
    await s.store.cancel('job-0');
    await s.store.purge('job-1');
    assert.deepEqual(await s.claimIds(), ['job-2']);
    await s.store.cancel('job-3');
    await s.store.purge('job-4');
    assert.deepEqual(await s.claimIds(), []);
    await s.store.purge('job-2');
    assert.deepEqual(await s.claimIds(), ['job-5']);
  });

  each('the slots of a limit are taken in order, over queues too', async (s) => {
    await s.store.limit('db', 1);
    const eta = Date.now() + 60_000;
    await s.postAll([
      { job_id: 'a-1', queue: 'a', limit: 'db' },
      { job_id: 'b-1', queue: 'b', limit: 'db' },
      { job_id: 'later', queue: 'a', limit: 'db', eta },
      { job_id: 'later-but-high', queue: 'b', limit: 'db', eta: eta + 1, priority: 1 },
      { job_id: 'b-high', queue: 'b', limit: 'db', priority: 1 },
      { job_id: 'a-2', queue: 'a', limit: 'db' },
    ]);
    assert.deepEqual(await s.runAll(['a', 'b']), ['b-high', 'a-1', 'b-1', 'a-2']);
    s.advance(61_000);
    assert.deepEqual(await s.runAll(['a', 'b']), ['later-but-high', 'later']);
  });

  each('jobs of a limit that cannot run keep no slot from those that can', async (s) => {
    await s.store.limit('db', 1);
    await s.postAll([
      { job_id: 'later', limit: 'db', eta: Date.now() + 60_000, priority: 9 },
      { job_id: 'paused', limit: 'db', queue: 'paused', priority: 8 },
      { job_id: 'unheard', limit: 'db', queue: 'unheard', priority: 7 },
      { job_id: 'child', limit: 'db', after: [{ job_id: 'last' }], priority: 6 },
      { job_id: 'first', limit: 'db' },
      { job_id: 'last', limit: 'db' },
    ]);
    await s.store.pause('paused');
    assert.deepEqual(await s.runAll(['default', 'paused']), ['first', 'last', 'child']);
    s.advance(61_000);
    assert.deepEqual(await s.runAll(['default', 'paused']), ['later']);
    await s.store.resume('paused');
    assert.deepEqual(await s.runAll(['default', 'paused']), ['paused']);
    assert.deepEqual(await s.runAll(['unheard']), ['unheard']);
  });

  each('a slot goes to a queue that others listen on, once this one is paused', async (s) => {
    await s.store.limit('db', 1);
    await s.postAll([
      { job_id: 'running', limit: 'db' },
      { job_id: 'a', queue: 'a', limit: 'db', priority: 1 },
      { job_id: 'b', queue: 'b', limit: 'db' },
    ]);
    const running = await s.claimOne();
    assert.deepEqual(await s.claimIds(100, ['a', 'b']), []);
    await s.store.pause('a');
    await s.succeed(running);
    assert.deepEqual(await s.claimIds(100, ['a', 'b']), ['b']);
    await s.store.resume('a');
    assert.deepEqual(await s.claimIds(100, ['a', 'b']), []);
  });

  each('a child takes its slot when it starts: a chain in one limit runs through', async (s) => {
    await s.store.limit('db', 1);
    await s.postAll([
      { job_id: 'a', limit: 'db' },
      { job_id: 'b', limit: 'db', after: [{ job_id: 'a' }] },
      { job_id: 'c', limit: 'db', after: [{ job_id: 'b', on_failure: 'run' }] },
      { job_id: 'd', limit: 'db', after: [{ job_id: 'b', on_failure: 'cancel' }] },
      { job_id: 'other', limit: 'db' },
    ]);
    const a = await s.claimOne();
    assert.deepEqual(await s.claimIds(), []);
    await s.succeed(a);
    // Its parent had to end first; it was posted first.
    const b = await s.claimOne();
    assert.equal(b.job_id, 'b');
    assert.deepEqual(await s.claimIds(), []);
    await s.fail(b);
    assert.deepEqual(await s.runAll(), ['c', 'other']);
    assert.equal(await s.state('d'), 'CANCELLED');
    assert.deepEqual(await s.store.limits(['db']), [{ limit: 'db', concurrency: 1, running: 0, waiting: 0 }]);
  });

  each('many children of one job share a limit once it has ended', async (s) => {
    await s.store.limit('db', 2);
    const children = limited(20, 'db', 'child-', { after: [{ job_id: 'parent' }] });
    await s.postAll(['parent', ...children, { job_id: 'free', after: [{ job_id: 'parent' }] }]);
    await s.succeed(await s.claimOne());
    assert.deepEqual(await s.claimIds(), ['child-0', 'child-1', 'free']);
    assert.deepEqual(await s.claimIds(), []);
  });

  each('a job that is retried by hand takes a slot of its limit again', async (s) => {
    await s.store.limit('db', 1);
    await s.postAll(limited(3, 'db', 'job-'));
    await s.fail(await s.claimOne());
    const running = await s.claimOne();
    await s.store.retry('job-0');
    assert.deepEqual(await s.claimIds(), []);
    await s.succeed(running);
    assert.deepEqual(await s.runAll(), ['job-2', 'job-0']);
    await s.fail(await s.post('alone', { limit: 'db' }).then(() => s.claimOne()));
    await s.store.retry('alone');
    assert.equal((await s.claimOne()).limit, 'db');
    const [db] = await s.store.limits(['db']);
    assert.deepEqual([db?.running, db?.waiting], [1, 0]);
  });

  each('a job that waits for one limit holds up none of another, nor its group', async (s) => {
    await s.store.limit('x', 1);
    await s.store.limit('y', 1);
    await s.postAll([...limited(5, 'x', 'x-'), ...limited(3, 'y', 'y-'), 'free-0', 'free-1'], {
      group_id: 'g',
      concurrency: 3,
    });
    const first = await s.claim();
    assert.deepEqual(ids(first), ['x-0', 'y-0', 'free-0']);
    assert.deepEqual(await s.claimIds(), []);
    // The slot of the group goes to the first that can have all that it needs.
    await s.succeed(named(first, 'free-0'));
    const [free] = await s.claim();
    assert.equal(free?.job_id, 'free-1');
    await s.succeed(named(first, 'y-0'));
    assert.deepEqual(await s.claimIds(), ['y-1']);
    await s.succeed(named(first, 'x-0'));
    assert.deepEqual(await s.claimIds(), ['x-1']);
    assert.deepEqual(await s.claimIds(), []);
  });

  // Of a group with one slot: `x` needs the limit too, and comes before `y`, which does not.
  const waitForGroup = async (s: Subject) => {
    await s.store.limit('db', 1);
    await s.postAll(['running', { job_id: 'x', limit: 'db' }, 'y'], { group_id: 'g', concurrency: 1 });
    const [running] = await s.claim();
    assert.equal(running?.job_id, 'running');
    assert.deepEqual(await s.claimIds(), []);
    return running;
  };

  each('a free slot goes to the next if the first to wait for it lacks another one by then', async (s) => {
    const running = await waitForGroup(s);
    await s.post('other', { limit: 'db' });
    const other = await s.claimOne();
    assert.equal(other.job_id, 'other');
    await s.succeed(running);
    const y = await s.claimOne();
    assert.equal(y.job_id, 'y');
    await s.succeed(y);
    assert.deepEqual(await s.claimIds(), []);
    await s.succeed(other);
    assert.deepEqual(await s.claimIds(), ['x']);
  });

  for (const way of ['cancel', 'purge'] as const) {
    each(`a free slot goes to the next if the first to wait for it goes: ${way}`, async (s) => {
      const running = await waitForGroup(s);
      await s.succeed(running);
      await s.store[way]('x');
      assert.deepEqual(await s.claimIds(), ['y']);
    });
  }

  each('a large crowd behind a limit lets the others by, and runs to its end', async (s) => {
    await s.store.limit('db', 2);
    await s.postAll(limited(2_500, 'db', 'db-'));
    await s.postAll(range(10, 'other-'));
    assert.deepEqual(await s.claimIds(12), ['db-0', 'db-1', ...range(10, 'other-')]);
    const eta = Date.now() + 60_000;
    await s.postAll(limited(2_500, 'late', 'late-', { eta, queue: 'late' }));
    await s.store.limit('late', 3);
    s.advance(61_000);
    await s.post('behind', { queue: 'late' });
    const ran: string[] = [];
    // A claim may put off a part of such a crowd; it then says that there is more at once.
    for (let round = 0; round < 10 && ran.length < 4; round += 1) {
      ran.push(...(await s.claimIds(10, ['late'])));
    }
    assert.deepEqual(ran, ['late-0', 'late-1', 'late-2', 'behind']);
    assert.deepEqual(await s.claimIds(10, ['late']), []);
  });

  each('jobs that wait for a slot are pending, in order with the others', async (s) => {
    await s.store.limit('db', 1);
    await s.postAll([...limited(3, 'db', 'db-'), 'plain', { job_id: 'high', limit: 'db', priority: 1 }]);
    assert.deepEqual(await s.claimIds(1), ['high']);
    assert.deepEqual(await s.claimIds(), ['plain']);
    await s.post('last');
    assert.deepEqual(await s.pendingIds(), ['db-0', 'db-1', 'db-2', 'last']);
    assert.deepEqual(await s.states('db-0', 'db-2'), ['PENDING', 'PENDING']);
  });

  each('a job that waits for a slot is not ready: statistics do not count it', async (s) => {
    const oldest = async () => (await s.store.stats())[0]?.oldest_ready_ms;
    await s.store.limit('db', 1);
    await s.postAll(limited(3, 'db', 'job-'));
    s.advance(60_000);
    await s.post('high', { limit: 'db', priority: 1 });
    const age = await oldest();
    assert.ok(typeof age === 'number' && age >= 60_000 && age < 120_000, `${age}`);
    const held = await s.claimOne();
    assert.equal(held.job_id, 'high');
    assert.deepEqual(await s.claimIds(), []);
    assert.equal(await oldest(), null);
    await s.succeed(held);
    assert.ok(((await oldest()) ?? 0) >= 60_000);
  });

  shared('what one connection sets holds for all, and who waits hears of it', async (s) => {
    const other = await s.connect();
    await other.limit('db', 1);
    await s.postAll(limited(3, 'db', 'job-'));
    assert.deepEqual(await s.claimIds(), ['job-0']);
    assert.deepEqual(await other.limits(['db']), [{ limit: 'db', concurrency: 1, running: 1, waiting: 2 }]);
    const heard = listen(s.store);
    await other.limit('db', 2);
    await until('it hears that more may run', () => heard.hints.some(({ type }) => type === 'ready'));
    heard.stop();
    assert.deepEqual(await s.claimIds(), ['job-1']);
  });

  shared('a slot that becomes free is a hint to those who wait', async (s) => {
    const other = await s.connect();
    await s.store.limit('db', 1);
    await s.postAll([...limited(2, 'db', 'job-'), { job_id: 'elsewhere', limit: 'db', queue: 'elsewhere' }]);
    const held = await s.claimOne();
    assert.deepEqual(await s.claimIds(), []);
    const heard = listen(other);
    await s.succeed(held);
    await until('it hears of the slot', () => heard.hints.some(({ type }) => type === 'ready'));
    heard.stop();
  });

  shared(
    'several connections at once never exceed a limit, a group and a key, and leave nothing',
    async (s) => {
      const stores = [s.store, await s.connect(), await s.connect()];
      await s.store.limit('x', 2);
      await s.store.limit('y', 3);
      const jobs = range(120).map((job_id, n) =>
        newJob(job_id, {
          queue: `q-${n % 2}`,
          limit: n % 3 === 0 ? 'x' : 'y',
          ...(n % 5 === 0 ? {} : { key: `k-${n % 4}`, key_concurrency: 1 }),
        }),
      );
      await s.store.enqueue(jobs.slice(0, 80), { group_id: 'g', concurrency: 3 });
      await s.store.enqueue(jobs.slice(80));
      const most = await race(stores, jobs.length);
      assert.ok(within(most, 'limit x', 2) && within(most, 'limit y', 3) && within(most, 'group g', 3));
      for (const key of range(4, 'key k-')) assert.ok(within(most, key, 1));
      assert.deepEqual(await s.store.limits(['x', 'y']), [
        { limit: 'x', concurrency: 2, running: 0, waiting: 0 },
        { limit: 'y', concurrency: 3, running: 0, waiting: 0 },
      ]);
    },
  );

  /** Runs all jobs, claimed by all stores at once; for each of their pools the most that ran at once. */
  async function race(stores: readonly Store[], jobs: number): Promise<ReadonlyMap<string, number>> {
    const running = new Map<string, number>();
    const most = new Map<string, number>();
    let done = 0;
    await Promise.all(
      stores.map(async (store, n) => {
        while (done < jobs) {
          const queues = range(2, 'q-').map((queue) => ({ queue, limit: 3 }));
          const claimed = (await store.claim({ worker: `w${n}`, queues, limit: 4, lease_ms: LEASE_MS })).jobs;
          const pools = claimed.flatMap(({ limit, key, group_id }) => {
            return [`limit ${limit}`, `key ${key}`, `group ${group_id}`];
          });
          for (const pool of pools) {
            const now = (running.get(pool) ?? 0) + 1;
            running.set(pool, now);
            most.set(pool, Math.max(most.get(pool) ?? 0, now));
          }
          // Meanwhile the others claim.
          assert.deepEqual((await store.renew(claimed, LEASE_MS)).lost, []);
          // Counted down before it is asked for: the next claim may come before the answer.
          for (const pool of pools) running.set(pool, (running.get(pool) ?? 0) - 1);
          const outcome = { state: 'SUCCESS', result: n } as const;
          const states = await store.finish(claimed.map(({ lease }) => ({ lease, outcome })));
          done += states.filter((state) => state === 'SUCCESS').length;
        }
      }),
    );
    assert.equal(done, jobs);
    return most;
  }
}

function within(most: ReadonlyMap<string, number>, pool: string, concurrency: number): boolean {
  const seen = most.get(pool) ?? 0;
  assert.ok(seen >= 1 && seen <= concurrency, `${seen} of ${pool} ran at once`);
  return true;
}
