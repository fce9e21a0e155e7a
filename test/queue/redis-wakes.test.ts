/** What the Redis store does where many slots become free at once: more than it brings back into play. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { ClaimedJob, NewJob } from '../../src/queue/store.ts';
import type { Service } from '../support/services.ts';
import { type Run, Simulation } from './conformance/simulation.ts';
import { ids, newJob, range, Subject } from './conformance/subject.ts';
import { onShared, open } from './redis.ts';

const QUEUES = ['p', 'q'];

/** A store beside the simulation: whatever is done to both must hand out the same. */
class Both {
  readonly s: Subject;
  readonly #model = new Simulation();
  readonly #running: { readonly job: ClaimedJob; readonly run: Run }[] = [];
  #offset = 0;

  constructor(s: Subject) {
    this.s = s;
  }

  async post(jobs: readonly NewJob[]): Promise<void> {
    this.#pass();
    await this.s.store.enqueue(jobs);
    this.#model.enqueue(jobs, undefined);
  }

  async limit(name: string, concurrency: number | null): Promise<void> {
    this.#pass();
    await this.s.store.limit(name, concurrency);
    if (concurrency === null) this.#model.limits.delete(name);
    else this.#model.limits.set(name, concurrency);
  }

  /** How many it has handed out: a claim that was cut short goes on at once. */
  async claim(limit: number, queues: readonly string[] = QUEUES): Promise<number> {
    this.#pass();
    const jobs: ClaimedJob[] = [];
    for (let more = true; more && jobs.length < limit; ) {
      const left = limit - jobs.length;
      const request = queues.map((queue) => ({ queue, limit: left }));
      const step = await this.s.store.claim({ worker: 'w', queues: request, limit: left, lease_ms: 60_000 });
      jobs.push(...step.jobs);
      more = step.next_due_at !== null;
    }
    const runs = this.#model.claim(queues, limit);
    assert.deepEqual(
      ids(jobs),
      runs.map(({ job_id }) => job_id),
    );
    for (const [index, job] of jobs.entries()) {
      const run = runs[index];
      assert.ok(run);
      run.lease = { fence: job.lease.fence, expires_at: Number.POSITIVE_INFINITY };
      this.#running.push({ job, run });
    }
    return jobs.length;
  }

  /** Ends those that have run the longest. */
  async end(count: number): Promise<void> {
    this.#pass();
    const outcome = { state: 'SUCCESS', result: null } as const;
    const leases = this.#running.splice(0, count).map(({ job }) => job.lease);
    await this.s.store.finish(leases.map((lease) => ({ lease, outcome })));
    for (const lease of leases) assert.equal(this.#model.finish(lease, outcome), 'SUCCESS');
  }

  async cancel(job_id: string): Promise<void> {
    this.#pass();
    await this.s.store.cancel(job_id);
    const run = this.#model.newest(job_id);
    assert.ok(run);
    this.#model.cancel(run);
  }

  /** No two calls happen at the same time. */
  #pass(): void {
    this.#offset += 1;
    this.s.advance(1);
    this.#model.now = Date.now() + this.#offset;
  }
}

async function opened(t: TestContext, server: Service): Promise<Both> {
  return new Both(new Subject(await open(t, server)));
}

onShared(
  'of hundreds that wait for a limit the next in order is always the next to run',
  async (t, server) => {
    const both = await opened(t, server);
    await both.limit('l', 1);
    const jobs = range(600).map((job_id, n) => {
      return newJob(job_id, {
        queue: QUEUES[n % 2] ?? '',
        limit: 'l',
        key: `key-${n % 400}`,
        priority: n % 7 === 0 ? 1 : 0,
      });
    });
    await both.post(jobs);
    assert.equal(await both.claim(10), 1);
    await both.limit('l', null);
    await both.post(
      range(5, 'late-').map((job_id) => newJob(job_id, { queue: 'p', limit: 'l', key: job_id })),
    );
    await both.post([newJob('urgent', { queue: 'q', limit: 'l', key: 'urgent', priority: 9 })]);
    for (let n = 0; n < 6; n += 1) {
      assert.equal(await both.claim(23), 23);
      assert.equal(await both.claim(7, ['q']), 7);
      await both.end(20);
    }
    // Of those in play, and of those that are not.
    const waiting = await both.s.pendingIds('p');
    for (const id of [0, 1, 5, 120, 121].map((n) => waiting[n])) await both.cancel(id ?? '');
    assert.equal(await both.claim(11, ['p']), 11);
    await both.limit('l', 3);
    assert.equal(await both.claim(100), 0);
    await both.end(200);
    assert.equal(await both.claim(100), 3);
    await both.limit('l', 203);
    assert.equal(await both.claim(50, ['p']), 50);
    await both.post([newJob('again', { queue: 'q', limit: 'l', key: 'key-2' })]);
    assert.equal(await both.claim(200), 150);
    assert.equal(await both.claim(1), 0);
    await both.limit('l', null);
    while ((await both.claim(40)) > 0) await both.end(30);
    await both.end(1_000);
    assert.deepEqual(await both.s.store.limits(['l']), [
      { limit: 'l', concurrency: null, running: 0, waiting: 0 },
    ]);
  },
);

onShared(
  'those that another pool holds up keep nobody from the slots of a limit that was lifted',
  async (t, server) => {
    const both = await opened(t, server);
    await both.limit('first', 1);
    await both.limit('second', 1);
    const busy = range(300, 'busy-').map((job_id, n) => {
      return newJob(job_id, { queue: 'p', limit: 'first', key: `key-${n % 150}`, key_concurrency: 1 });
    });
    const others = range(150, 'other-').map((job_id) => {
      return newJob(job_id, { queue: 'p', limit: 'first', key: job_id });
    });
    const holders = range(150, 'holder-').map((job_id, n) => {
      return newJob(job_id, { queue: 'q', limit: 'second', key: `key-${n}`, key_concurrency: 1 });
    });
    await both.post([...busy, ...others, ...holders]);
    assert.equal(await both.claim(10), 2);
    await both.limit('second', null);
    // Each takes its key's only slot.
    assert.equal(await both.claim(200, ['q']), 148);
    await both.limit('first', null);
    assert.equal(await both.claim(500, ['p']), 150);
    await both.end(1_000);
    let ran = 0;
    for (let more = 1; more > 0; ran += more) {
      more = await both.claim(200);
      await both.end(1_000);
    }
    assert.equal(ran, 300);
  },
);
