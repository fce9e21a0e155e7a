/** What the conformance tests work on: a fresh store, and short words for what they do with it. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { QueueError, type QueueErrorCode } from '../../../src/queue/errors.ts';
import type {
  ClaimedJob,
  Hint,
  Job,
  JobState,
  Lease,
  NewGroup,
  NewJob,
  Outcome,
  Store,
} from '../../../src/queue/store.ts';

/** A store under test, with nothing in it. */
export interface Opened {
  readonly store: Store;
  /** Another connection to the same data, as another process would have it. */
  connect(): Promise<Store>;
  /** Moves the clock of all connections, ms. */
  advance(ms: number): void;
}

export interface StoreHarness {
  /** Opens a fresh store, whose connections are closed and whose data is removed after the test. */
  open(t: TestContext): Promise<Opened>;
  /** What the store cannot do, and why. */
  readonly skip?: { readonly connections?: string };
}

export type Suite = (name: string, body: (subject: Subject) => Promise<void>) => void;

export interface Suites {
  readonly each: Suite;
  /** Tests that need a second connection. */
  readonly shared: Suite;
}

export function suites(harness: StoreHarness): Suites {
  const each: Suite = (name, body) => {
    test(name, async (t) => body(new Subject(await harness.open(t))));
  };
  const { connections } = harness.skip ?? {};
  const shared: Suite = connections === undefined ? each : (name) => void test(name, { skip: connections });
  return { each, shared };
}

export const LEASE_MS = 10_000;
export const QUEUE = 'default';

export class Subject {
  readonly store: Store;
  readonly connect: () => Promise<Store>;
  readonly advance: (ms: number) => void;

  constructor({ store, connect, advance }: Opened) {
    this.store = store;
    this.connect = connect;
    this.advance = advance;
  }

  async post(job_id: string, more: Partial<NewJob> = {}): Promise<Job> {
    return only(await this.store.enqueue([newJob(job_id, more)]));
  }

  /** Posts jobs in one batch: ids, or jobs in part. */
  postAll(jobs: readonly (string | (Partial<NewJob> & { job_id: string }))[], group?: NewGroup) {
    return this.store.enqueue(
      jobs.map((job) => (typeof job === 'string' ? newJob(job) : newJob(job.job_id, job))),
      group,
    );
  }

  async claim(limit = 100, queues: readonly string[] = [QUEUE]): Promise<readonly ClaimedJob[]> {
    const { jobs } = await this.store.claim({
      worker: 'worker-1',
      queues: queues.map((queue) => ({ queue, limit })),
      limit,
      lease_ms: LEASE_MS,
    });
    return jobs;
  }

  /** The ids that a claim hands out, in order. They are then running. */
  async claimIds(limit = 100, queues: readonly string[] = [QUEUE]): Promise<string[]> {
    return ids(await this.claim(limit, queues));
  }

  /** Claims one job, and fails if there is none. */
  async claimOne(queue = QUEUE): Promise<ClaimedJob> {
    return only(await this.claim(1, [queue]));
  }

  async nextDueAt(queue = QUEUE): Promise<number | null> {
    const request = { worker: 'worker-1', queues: [{ queue, limit: 0 }], limit: 0, lease_ms: LEASE_MS };
    return (await this.store.claim(request)).next_due_at;
  }

  async finish(held: { readonly lease: Lease }, outcome: Outcome): Promise<JobState | null> {
    return only(await this.store.finish([{ lease: held.lease, outcome }]));
  }

  succeed(held: { readonly lease: Lease }): Promise<JobState | null> {
    return this.finish(held, { state: 'SUCCESS', result: 'done' });
  }

  fail(held: { readonly lease: Lease }): Promise<JobState | null> {
    return this.finish(held, { state: 'FAILURE', error: 'it broke' });
  }

  retryLater(held: { readonly lease: Lease }, delay_ms = 0): Promise<JobState | null> {
    return this.finish(held, { state: 'RETRY', error: 'not now', delay_ms });
  }

  /** Claims and ends one job after the other until there are none; their ids in the order in which they ran. */
  async runAll(queues: readonly string[] = [QUEUE]): Promise<string[]> {
    const ran: string[] = [];
    for (;;) {
      const [job] = await this.claim(1, queues);
      if (job === undefined) return ran;
      ran.push(job.job_id);
      await this.succeed(job);
    }
  }

  async state(job_id: string): Promise<JobState> {
    return (await this.store.get(job_id)).state;
  }

  async states(...job_ids: readonly string[]): Promise<JobState[]> {
    return Promise.all(job_ids.map((job_id) => this.state(job_id)));
  }

  recover(max_crashes = 3) {
    return this.store.recover({ max_crashes });
  }

  async pendingIds(queue = QUEUE, limit = 1_000): Promise<string[]> {
    return ids(await this.store.pending(queue, limit));
  }
}

export function newJob(job_id: string, more: Partial<NewJob> = {}): NewJob {
  return { task: 'task', queue: QUEUE, payload: null, ...more, job_id };
}

export function ids(jobs: readonly Job[]): string[] {
  return jobs.map(({ job_id }) => job_id);
}

export function only<T>(items: readonly T[]): T {
  const [item] = items;
  assert.ok(item !== undefined && items.length === 1, `there are ${items.length}, not one`);
  return item;
}

export function range(count: number, prefix = 'job-'): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${index}`);
}

/** One job of a list; fails if it is not there. */
export function named<T extends Job>(jobs: readonly T[], job_id: string): T {
  const job = jobs.find((job) => job.job_id === job_id);
  assert.ok(job !== undefined, `no job "${job_id}" among ${ids(jobs)}`);
  return job;
}

export async function rejects(promise: Promise<unknown>, code: QueueErrorCode): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof QueueError, `not a QueueError: ${error}`);
    assert.equal(error.code, code, error.message);
    return true;
  });
}

/** The hints of a store from now on. */
export function listen(store: Store): { readonly hints: Hint[]; readonly stop: () => void } {
  const hints: Hint[] = [];
  return { hints, stop: store.watch((hint) => hints.push(hint)) };
}
