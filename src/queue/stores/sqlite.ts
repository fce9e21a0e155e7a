/** A store in a SQLite file: durable, for any number of processes on one machine. */
import { resolve } from 'node:path';
import { checkBatch, checkLimit, checkQueue } from '../check.ts';
import type {
  Claimed,
  ClaimRequest,
  Group,
  Hint,
  Job,
  JobFilter,
  JobState,
  Lease,
  Limit,
  NewGroup,
  NewJob,
  Outcome,
  Page,
  QueueStats,
  Recovered,
  RecoverOptions,
  Renewal,
  Renewed,
  Store,
} from '../store.ts';
import { announce, asPosted, fromCursor, noCounts, resultText, toCursor, toLease } from './common.ts';
import type { OutcomeRow } from './sqlite/attempts.ts';
import { Client } from './sqlite/client.ts';
import type { GroupRows } from './sqlite/reads.ts';
import { toJob } from './sqlite/rows.ts';

export interface SqliteStoreOptions {
  /** The file, made if it is not there; ":memory:" for one that ends with the process. */
  readonly path: string;
  /** How long a call waits for other processes' locks before it is `StoreUnavailable`, ms. Default 10 s. */
  readonly busy_timeout_ms?: number;
  /** How often to look for other processes' changes if the file system says nothing of them, ms. Default 500. */
  readonly poll_ms?: number;
  /** Added to the store's clock, ms: lets tests move time. */
  readonly clockOffset?: () => number;
}

/**
 * Opens or creates a store. Throws `StoreUnavailable` if the file cannot be used, or is not a store that this
 * version understands.
 *
 * @example
 * const store = await openSqliteStore({ path: 'queue.db' });
 * const queue = new Queue(store);
 * await store.close();
 */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<Store> {
  const { path, busy_timeout_ms = 10_000, poll_ms = 500, clockOffset = () => 0 } = options;
  const client = await Client.open(
    { path: path === ':memory:' ? path : resolve(path), busy_timeout_ms, poll_ms },
    clockOffset,
  );
  return new SqliteStore(client);
}

class SqliteStore implements Store {
  readonly store_id: string;
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
    this.store_id = client.store_id;
  }

  async enqueue(posted: readonly NewJob[], group?: NewGroup): Promise<readonly Job[]> {
    const { jobs, order } = checkBatch(posted, group);
    const accepted = await this.#client.call('enqueue', jobs, order, group ?? null);
    const { first_seq, now } = accepted;
    const cancelled = new Set(accepted.cancelled);
    return jobs.map((job, index) =>
      asPosted(job, first_seq + index, now, group?.group_id ?? null, cancelled.has(index)),
    );
  }

  async claim(request: ClaimRequest): Promise<Claimed> {
    const { jobs, next_due_at } = await this.#client.call('claim', request);
    return {
      jobs: jobs.map((row) => {
        const job = toJob(row);
        const { job_id, attempt, fence } = job;
        if (fence === null) throw new Error(`job "${job_id}" was claimed without a fence`);
        return { ...job, lease: { job_id, attempt, fence } };
      }),
      next_due_at,
    };
  }

  renew(renewals: readonly Renewal[], lease_ms: number): Promise<Renewed> {
    const rows = renewals.map(({ lease, progress }) => {
      return { lease: toLease(lease), progress: progress === undefined ? null : JSON.stringify(progress) };
    });
    return this.#client.call('renew', rows, lease_ms);
  }

  async finish(
    ends: readonly { readonly lease: Lease; readonly outcome: Outcome }[],
  ): Promise<readonly (JobState | null)[]> {
    const rows = ends.map(({ lease, outcome }) => ({ lease: toLease(lease), outcome: toRow(outcome) }));
    const ended = this.#client.call('finish', rows);
    announce(ends, (hint) => this.#client.emit(hint));
    return ended;
  }

  release(leases: readonly Lease[], delay_ms = 0): Promise<void> {
    return this.#client.call('release', leases.map(toLease), delay_ms);
  }

  async cancel(job_id: string): Promise<Job> {
    return toJob(await this.#client.call('cancel', job_id));
  }

  async cancelGroup(group_id: string): Promise<Group> {
    return toGroup(await this.#client.call('cancelGroup', group_id));
  }

  purge(job_id: string): Promise<void> {
    return this.#client.call('purge', job_id);
  }

  purgeGroup(group_id: string): Promise<void> {
    return this.#client.call('purgeGroup', group_id);
  }

  async retry(job_id: string): Promise<Job> {
    return toJob(await this.#client.call('retry', job_id));
  }

  async get(job_id: string): Promise<Job> {
    return toJob(await this.#client.call('get', job_id));
  }

  states(job_ids: readonly string[]): Promise<readonly (JobState | null)[]> {
    return this.#client.call('states', job_ids);
  }

  async group(group_id: string): Promise<Group> {
    return toGroup(await this.#client.call('group', group_id));
  }

  unfinished(group_ids: readonly string[]): Promise<readonly (number | null)[]> {
    return this.#client.call('unfinished', group_ids);
  }

  async pending(queue: string, limit: number): Promise<readonly Job[]> {
    return (await this.#client.call('pending', queue, Math.max(0, limit))).map(toJob);
  }

  async list(filter: JobFilter, limit: number, cursor?: string): Promise<Page<Job>> {
    let before: number | null = cursor === undefined ? Number.MAX_SAFE_INTEGER : fromCursor(cursor);
    const items: Job[] = [];
    // One more than asked for says whether there is a next page.
    while (before !== null && items.length <= limit) {
      const step: { jobs: readonly Parameters<typeof toJob>[0][]; before: number | null } =
        await this.#client.call('list', filter, limit + 1 - items.length, before);
      items.push(...step.jobs.map(toJob));
      before = step.before;
    }
    if (items.length <= limit) return { items, cursor: null };
    const page = items.slice(0, limit);
    return { items: page, cursor: toCursor(page.at(-1)?.seq ?? 0) };
  }

  async stats(): Promise<readonly QueueStats[]> {
    const { counts, paused, oldest, now } = await this.#client.call('stats');
    const oldestOf = new Map(oldest);
    return [...new Set([...counts.map(([queue]) => queue), ...paused])].sort().map((queue) => {
      const of = noCounts();
      for (const [name, state, jobs] of counts) if (name === queue) of[state] = jobs;
      const due_at = oldestOf.get(queue) ?? null;
      return {
        queue,
        paused: paused.includes(queue),
        counts: of,
        oldest_ready_ms: due_at === null ? null : now - due_at,
      };
    });
  }

  async pause(queue: string): Promise<void> {
    checkQueue(queue);
    await this.#client.call('pause', queue);
  }

  resume(queue: string): Promise<void> {
    return this.#client.call('resume', queue);
  }

  async limit(limit: string, concurrency: number | null): Promise<void> {
    checkLimit(limit, concurrency);
    await this.#client.call('limit', limit, concurrency);
  }

  limits(limits: readonly string[]): Promise<readonly Limit[]> {
    return this.#client.call('limits', limits);
  }

  leases(): Promise<readonly Lease[]> {
    return this.#client.call('leases');
  }

  recover(options: RecoverOptions): Promise<Recovered> {
    return this.#client.call('recover', options);
  }

  async prune(retention: { readonly jobs_ms: number; readonly groups_ms: number }): Promise<number> {
    let forgotten = 0;
    for (;;) {
      const step = await this.#client.call('prune', retention);
      if (step === null) return forgotten;
      forgotten += step;
    }
  }

  watch(listener: (hint: Hint) => void): () => void {
    return this.#client.watch(listener);
  }

  async ping(): Promise<void> {
    await this.#client.call('ping');
  }

  close(): Promise<void> {
    return this.#client.close();
  }
}

function toRow(outcome: Outcome): OutcomeRow {
  return outcome.state === 'SUCCESS' ? { state: 'SUCCESS', result: resultText(outcome.result) } : outcome;
}

function toGroup({ group_id, concurrency, created_at, jobs }: GroupRows): Group {
  return { group_id, concurrency, created_at, jobs: jobs.map(toJob) };
}
