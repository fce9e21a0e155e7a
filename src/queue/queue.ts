/** The queue as its users see it: posting jobs, asking after them, waiting for them. */
import { randomUUID } from 'node:crypto';
import { isFinished } from './finished.ts';
import { GroupWaiters } from './group-wait.ts';
import type {
  Dependency,
  Group,
  Job,
  JobFilter,
  Limit,
  NewGroup,
  NewJob,
  OnFailure,
  Page,
  QueueStats,
  Store,
} from './store.ts';
import { Waiters } from './wait.ts';

/** A job as users post it: the id is made up where they have none. */
export type PostedJob = Omit<NewJob, 'job_id'> & { readonly job_id?: string };

export interface WaitOptions {
  /** Answer with the job as it is after this time, ms. */
  readonly timeout_ms: number;
  readonly signal?: AbortSignal;
}

export class Queue {
  readonly store: Store;
  readonly #waiters: Waiters;
  readonly #groupWaiters: GroupWaiters;

  constructor(store: Store) {
    this.store = store;
    this.#waiters = new Waiters(store, isFinished);
    this.#groupWaiters = new GroupWaiters(store);
  }

  /** Posts one job. Throws as `Store.enqueue`. */
  async enqueue(job: PostedJob): Promise<Job> {
    const [stored] = await this.enqueueAll([job]);
    if (stored === undefined) throw new Error('the store returned no job for one that it accepted');
    return stored;
  }

  /** Posts jobs, all or none, as a group if one is given. */
  async enqueueAll(jobs: readonly PostedJob[], group?: NewGroup): Promise<readonly Job[]> {
    const named = jobs.map((job) => ({ ...job, job_id: job.job_id ?? `job_${randomUUID()}` }));
    return this.store.enqueue(named, group);
  }

  /** Posts jobs that run one after the other, in the order given. */
  async enqueueChain(jobs: readonly PostedJob[], on_failure: OnFailure = 'cancel'): Promise<readonly Job[]> {
    let parent: Dependency | undefined;
    return this.enqueueAll(
      jobs.map((job) => {
        const job_id = job.job_id ?? `job_${randomUUID()}`;
        const after = [...(job.after ?? []), ...(parent === undefined ? [] : [parent])];
        parent = { job_id, on_failure };
        return { ...job, job_id, after };
      }),
    );
  }

  /**
   * The newest run of a job once it is finished, or as it is when the time is up or the signal aborts.
   * Throws `UnknownJob`.
   */
  wait(job_id: string, { timeout_ms, signal }: WaitOptions): Promise<Job> {
    return this.#waiters.wait(job_id, timeout_ms, signal);
  }

  /**
   * Resolves when all jobs of the newest group of an id are finished or forgotten, when the time is up, or when the
   * signal aborts. Throws `UnknownGroup`. It costs as much for a group of ten thousand jobs as for one of two.
   */
  waitForGroup(group_id: string, { timeout_ms, signal }: WaitOptions): Promise<void> {
    return this.#groupWaiters.wait(group_id, timeout_ms, signal);
  }

  get(job_id: string): Promise<Job> {
    return this.store.get(job_id);
  }
  group(group_id: string): Promise<Group> {
    return this.store.group(group_id);
  }
  pending(queue: string, limit: number): Promise<readonly Job[]> {
    return this.store.pending(queue, limit);
  }
  list(filter: JobFilter, limit: number, cursor?: string): Promise<Page<Job>> {
    return this.store.list(filter, limit, cursor);
  }
  stats(): Promise<readonly QueueStats[]> {
    return this.store.stats();
  }
  cancel(job_id: string): Promise<Job> {
    return this.store.cancel(job_id);
  }
  cancelGroup(group_id: string): Promise<Group> {
    return this.store.cancelGroup(group_id);
  }
  purge(job_id: string): Promise<void> {
    return this.store.purge(job_id);
  }
  purgeGroup(group_id: string): Promise<void> {
    return this.store.purgeGroup(group_id);
  }
  retry(job_id: string): Promise<Job> {
    return this.store.retry(job_id);
  }
  pause(queue: string): Promise<void> {
    return this.store.pause(queue);
  }
  resume(queue: string): Promise<void> {
    return this.store.resume(queue);
  }
  limit(limit: string, concurrency: number | null): Promise<void> {
    return this.store.limit(limit, concurrency);
  }
  limits(limits: readonly string[]): Promise<readonly Limit[]> {
    return this.store.limits(limits);
  }
  ping(): Promise<void> {
    return this.store.ping();
  }
}
