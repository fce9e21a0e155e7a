/** A store in Redis or Valkey: for any number of processes on any number of machines. */
import { randomBytes } from 'node:crypto';
import { type CheckedJob, checkBatch, checkLimit, checkQueue } from '../check.ts';
import {
  GroupActive,
  GroupFinished,
  InvalidJob,
  JobActive,
  JobFinished,
  UnknownGroup,
  UnknownJob,
} from '../errors.ts';
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
import { settingsOf, warnings } from './redis/advice.ts';
import { type Answer, keyOf, type Mode, ScriptClient } from './redis/client.ts';
import { failure } from './redis/failures.ts';
import { Hints } from './redis/hints.ts';
import type { RedisStoreOptions } from './redis/options.ts';
import { type JobReply, type Tail, toJob } from './redis/records.ts';
import { STATES } from './redis/script/constants.ts';
import { fromText, toText } from './redis/texts.ts';

export type { RedisStoreOptions };

/** The most jobs of one batch: it is accepted in one step, during which Redis does nothing else. */
const LARGEST_BATCH = 50_000;
/** A payload of more characters is kept apart from the record that each change of state writes anew. */
const SMALL_PAYLOAD = 1_024;
/** Thirty thousand years, ms: a time that is later than any that is due still has its place in the order. */
const LONGEST_DELAY = 1e15;
/** How many expired leases one step recovers: other calls come in between. */
const RECOVERED_PER_STEP = 500;

/**
 * Opens or creates a store. Throws `StoreUnavailable` if the server cannot be reached in time, refuses the
 * password, or keeps the data of a newer version.
 *
 * @example
 * const store = await openRedisStore({ addresses: ['127.0.0.1:6379'], password: 'secret' });
 * const queue = new Queue(store);
 * await store.close();
 */
export async function openRedisStore(options: RedisStoreOptions): Promise<Store> {
  const origin = randomBytes(6).toString('hex');
  let hints: Hints | undefined;
  const client = await ScriptClient.open(options, origin, {
    onNews: (news) => hints?.tell(news),
    onWarning: (message) => options.onWarning?.(message),
  });
  hints = new Hints(options, keyOf(options, 'news'), origin, (channel, message) =>
    client.client.publish(channel, message),
  );
  const { onWarning } = options;
  if (onWarning !== undefined) {
    try {
      for (const warning of warnings(await settingsOf(client.client))) onWarning(warning);
    } catch (error) {
      await client.close();
      throw failure(error, client.where);
    }
  }
  return new RedisStore(client, hints, options);
}

type Args = readonly (string | number)[];

class RedisStore implements Store {
  readonly store_id: string;
  readonly #client: ScriptClient;
  readonly #hints: Hints;
  readonly #timeout_ms: number;

  constructor(client: ScriptClient, hints: Hints, { command_timeout_ms = 5_000 }: RedisStoreOptions) {
    this.#client = client;
    this.#hints = hints;
    this.#timeout_ms = command_timeout_ms;
    this.store_id = client.store_id;
  }

  async enqueue(posted: readonly NewJob[], group?: NewGroup): Promise<readonly Job[]> {
    const { jobs, order } = checkBatch(posted, group);
    if (jobs.length === 0) return [];
    if (jobs.length > LARGEST_BATCH) throw InvalidJob(`a batch holds at most ${LARGEST_BATCH} jobs`);
    const args: (string | number)[] = [
      'enqueue',
      group?.group_id ?? '',
      group?.concurrency ?? 0,
      jobs.length,
    ];
    for (const job of jobs) pushJob(args, job, group?.group_id ?? null);
    args.push(order?.length ?? 0);
    for (const index of order ?? []) args.push(index + 1);
    const [first_seq, now, cancelled] = await this.#call('room', args);
    const doomed = new Set(items<number>(cancelled));
    return jobs.map((job, index) =>
      asPosted(job, Number(first_seq) + index, Number(now), group?.group_id ?? null, doomed.has(index)),
    );
  }

  async claim({ worker, queues, limit, lease_ms }: ClaimRequest): Promise<Claimed> {
    const args: (string | number)[] = ['claim', toText(worker), Math.round(lease_ms), limit, queues.length];
    for (const { queue, limit } of queues) args.push(toText(queue), limit);
    const [jobs, next] = await this.#call('lease', args);
    return {
      jobs: items<JobReply>(jobs).map((reply) => {
        const job = toJob(reply);
        const { job_id, attempt, fence } = job;
        if (fence === null) throw new Error(`job "${job_id}" was claimed without a fence`);
        return { ...job, lease: { job_id, attempt, fence } };
      }),
      next_due_at: Number(next) < 0 ? null : Number(next),
    };
  }

  async renew(renewals: readonly Renewal[], lease_ms: number): Promise<Renewed> {
    if (renewals.length === 0) return { lost: [], cancelled: [] };
    const args: (string | number)[] = ['renew', Math.round(lease_ms), renewals.length];
    for (const { lease, progress } of renewals) {
      pushLease(args, lease);
      args.push(progress === undefined ? '' : JSON.stringify(progress));
    }
    const [lost, cancelled] = await this.#call('lease', args);
    const of = (indexes: unknown) =>
      items<number>(indexes).flatMap((index) => leasesOf(renewals[index]?.lease));
    return { lost: of(lost), cancelled: of(cancelled) };
  }

  async finish(
    ends: readonly { readonly lease: Lease; readonly outcome: Outcome }[],
  ): Promise<readonly (JobState | null)[]> {
    if (ends.length === 0) return [];
    const args: (string | number)[] = ['finish', ends.length];
    for (const { lease, outcome } of ends) {
      pushLease(args, lease);
      args.push(STATES.indexOf(outcome.state), ...outcomeArgs(outcome));
    }
    const ended = this.#call('always', args);
    announce(ends, (hint) => this.#hints.emit(hint));
    const [states] = await ended;
    return items<number>(states).map(toState);
  }

  async release(leases: readonly Lease[], delay_ms = 0): Promise<void> {
    if (leases.length === 0) return;
    const args: (string | number)[] = ['release', Math.max(0, Math.ceil(delay_ms)), leases.length];
    for (const lease of leases) pushLease(args, lease);
    await this.#call('lease', args);
  }

  async cancel(job_id: string): Promise<Job> {
    const [job] = await this.#call('always', ['cancel', toText(job_id)]);
    return toJob(job as JobReply);
  }

  /** In steps, as `purgeGroup`: other calls come in between. One that fails on its way can be made again. */
  async cancelGroup(group_id: string): Promise<Group> {
    let place: readonly [seq: number, before: number] = [0, 0];
    for (;;) {
      const [seq, before, group] = await this.#call('always', ['cancelGroup', toText(group_id), ...place]);
      if (Number(seq) === 0) return toGroup(group_id, items<unknown>(group).slice(1));
      place = [Number(seq), Number(before)];
    }
  }

  async purge(job_id: string): Promise<void> {
    await this.#call('always', ['purge', toText(job_id)]);
  }

  async purgeGroup(group_id: string): Promise<void> {
    let place: readonly [seq: number, before: number, newest: number] = [0, 0, 0];
    do {
      const [seq, before, newest] = await this.#call('always', ['purgeGroup', toText(group_id), ...place]);
      place = [Number(seq), Number(before), Number(newest)];
    } while (place[2] > 0);
  }

  async retry(job_id: string): Promise<Job> {
    const [job] = await this.#call('room', ['retry', toText(job_id)]);
    return toJob(job as JobReply);
  }

  async get(job_id: string): Promise<Job> {
    const [job] = await this.#call('read', ['get', toText(job_id)]);
    return toJob(job as JobReply);
  }

  async states(job_ids: readonly string[]): Promise<readonly (JobState | null)[]> {
    if (job_ids.length === 0) return [];
    const [states] = await this.#call('read', ['states', job_ids.length, ...job_ids.map(toText)]);
    return items<number>(states).map(toState);
  }

  async group(group_id: string): Promise<Group> {
    return toGroup(group_id, await this.#call('read', ['group', toText(group_id)]));
  }

  async unfinished(group_ids: readonly string[]): Promise<readonly (number | null)[]> {
    if (group_ids.length === 0) return [];
    const [left] = await this.#call('read', ['unfinished', group_ids.length, ...group_ids.map(toText)]);
    return items<number>(left).map((count) => (count < 0 ? null : count));
  }

  async pending(queue: string, limit: number): Promise<readonly Job[]> {
    if (limit <= 0) return [];
    const [jobs] = await this.#call('read', ['pending', toText(queue), limit]);
    return items<JobReply>(jobs).map(toJob);
  }

  async list(filter: JobFilter, limit: number, cursor?: string): Promise<Page<Job>> {
    let before = cursor === undefined ? Number.MAX_SAFE_INTEGER : fromCursor(cursor);
    const { state, task, queue, group_id } = filter;
    const found: Job[] = [];
    const by = [
      state === undefined ? -1 : STATES.indexOf(state),
      task === undefined ? '' : taskPrefix(task),
      queue === undefined ? '' : toText(queue),
      group_id === undefined ? '' : toText(group_id),
    ];
    // One more than asked for says whether there is a next page.
    while (before > 0 && found.length <= limit) {
      const [jobs, rest] = await this.#call('read', ['list', ...by, limit + 1 - found.length, before]);
      found.push(...items<JobReply>(jobs).map(toJob));
      before = Number(rest);
    }
    if (found.length <= limit) return { items: found, cursor: null };
    const page = found.slice(0, limit);
    return { items: page, cursor: toCursor(page.at(-1)?.seq ?? 0) };
  }

  async stats(): Promise<readonly QueueStats[]> {
    const [counted, paused, oldest] = await this.#call('read', ['stats']);
    const queues = new Map<string, { counts: Record<JobState, number>; oldest: number | null }>();
    const of = (queue: string) => {
      let entry = queues.get(queue);
      if (entry === undefined) {
        entry = { counts: noCounts(), oldest: null };
        queues.set(queue, entry);
      }
      return entry;
    };
    for (const [key, jobs] of pairs(counted)) {
      const state = STATES[Number(String(key).slice(0, 1))];
      if (state !== undefined) of(fromText(String(key).slice(1))).counts[state] = Number(jobs);
    }
    const isPaused = new Set(items<Buffer>(paused).map((queue) => fromText(String(queue))));
    for (const queue of isPaused) of(queue);
    for (const [queue, age] of pairs(oldest)) of(fromText(String(queue))).oldest = Number(age);
    return [...queues]
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([queue, { counts, oldest }]) => {
        return { queue, paused: isPaused.has(queue), counts, oldest_ready_ms: oldest };
      });
  }

  async pause(queue: string): Promise<void> {
    checkQueue(queue);
    await this.#call('room', ['pause', toText(queue)]);
  }

  async resume(queue: string): Promise<void> {
    await this.#call('always', ['resume', toText(queue)]);
  }

  async limit(limit: string, concurrency: number | null): Promise<void> {
    checkLimit(limit, concurrency);
    await this.#call('room', ['limit', toText(limit), concurrency ?? 0]);
  }

  async limits(limits: readonly string[]): Promise<readonly Limit[]> {
    if (limits.length === 0) return [];
    const [found] = await this.#call('read', ['limits', limits.length, ...limits.map(toText)]);
    return items<readonly number[]>(found).map(([concurrency = 0, running = 0, waiting = 0], index) => {
      return { limit: limits[index] ?? '', concurrency: concurrency || null, running, waiting };
    });
  }

  async leases(): Promise<readonly Lease[]> {
    const [leases] = await this.#call('read', ['leases']);
    return items<readonly [Buffer, number, number]>(leases).map(([job_id, attempt, fence]) => {
      return { job_id: fromText(String(job_id)), attempt, fence };
    });
  }

  async recover({ max_crashes }: RecoverOptions): Promise<Recovered> {
    const recovered: Record<keyof Recovered, Lease[]> = { requeued: [], poisoned: [], cancelled: [] };
    for (;;) {
      const [found] = await this.#call('lease', ['recover', max_crashes, RECOVERED_PER_STEP]);
      const step = items<readonly [Buffer, Buffer, number, number]>(found);
      for (const [kind, job_id, attempt, fence] of step) {
        recovered[String(kind) as keyof Recovered].push({ job_id: fromText(String(job_id)), attempt, fence });
      }
      if (step.length < RECOVERED_PER_STEP) return recovered;
    }
  }

  async prune({
    jobs_ms,
    groups_ms,
  }: {
    readonly jobs_ms: number;
    readonly groups_ms: number;
  }): Promise<number> {
    let forgotten = 0;
    for (;;) {
      const [step] = await this.#call('lease', ['prune', jobs_ms, groups_ms]);
      if (Number(step) < 0) return forgotten;
      forgotten += Number(step);
    }
  }

  watch(listener: (hint: Hint) => void): () => void {
    return this.#hints.watch(listener);
  }

  async ping(): Promise<void> {
    await this.#call('room', ['ping']);
    await this.#hints.listening(this.#timeout_ms);
  }

  async close(): Promise<void> {
    await this.#client.close();
    this.#hints.close();
  }

  async #call(mode: Mode, args: Args): Promise<readonly unknown[]> {
    const [verdict, ...rest]: Answer = await this.#client.call(mode, args);
    if (String(verdict) === '+') return rest;
    const [code, detail, more] = rest.map((item) => (Buffer.isBuffer(item) ? item.toString() : item));
    throw refusal(String(code), fromText(String(detail)), more);
  }
}

function refusal(code: string, id: string, more: unknown): Error {
  switch (code) {
    case 'job_active':
      return JobActive(id);
    case 'job_finished':
      return JobFinished(id, STATES[Number(more)] ?? '');
    case 'unknown_job':
      return UnknownJob(id);
    case 'group_active':
      return GroupActive(id);
    case 'group_finished':
      return GroupFinished(id);
    case 'unknown_group':
      return UnknownGroup(id);
    default:
      return new Error(`the Redis store answered with "${code}"`);
  }
}

function pushJob(args: (string | number)[], job: CheckedJob, group_id: string | null): void {
  const { job_id, task, queue, limit, key, key_concurrency, priority, eta, retries, payload, after } = job;
  const isSmall = payload.length <= SMALL_PAYLOAD;
  const tail: Tail = [task, retries, group_id, after.map(({ job_id, on_failure }) => [job_id, on_failure])];
  const text = JSON.stringify(tail);
  args.push(
    job_id,
    toText(queue),
    limit === null ? '' : toText(limit),
    key === null ? '' : toText(key),
    key_concurrency ?? 0,
    priority,
    eta ?? '',
    isSmall ? '' : payload,
    isSmall ? `${text.slice(0, -1)},${payload}]` : text,
    after.length,
  );
  for (const { job_id, on_failure } of after) args.push(job_id, on_failure === 'cancel' ? 'c' : 'r');
}

function pushLease(args: (string | number)[], { job_id, attempt, fence }: Lease): void {
  args.push(job_id, attempt, fence);
}

function leasesOf(lease: Lease | undefined): Lease[] {
  return lease === undefined ? [] : [toLease(lease)];
}

function outcomeArgs(outcome: Outcome): readonly [text: string, delay_ms: number] {
  if (outcome.state === 'SUCCESS') {
    return [resultText(outcome.result), 0];
  }
  const delay_ms =
    outcome.state === 'RETRY' ? Math.min(Math.max(0, Math.ceil(outcome.delay_ms)), LONGEST_DELAY) : 0;
  return [toText(outcome.error ?? ''), delay_ms];
}

function toGroup(group_id: string, [concurrency, created_at, jobs]: readonly unknown[]): Group {
  return {
    group_id,
    concurrency: Number(concurrency) || null,
    created_at: Number(created_at),
    jobs: items<JobReply>(jobs).map(toJob),
  };
}

function toState(index: number): JobState | null {
  return STATES[index] ?? null;
}

/** How the tail of a job's record begins. */
function taskPrefix(task: string): string {
  return `[${JSON.stringify(task)},`;
}

/** The script's lists are of one kind each. */
function items<T>(list: unknown): readonly T[] {
  return list as readonly T[];
}

function pairs(list: unknown): (readonly [unknown, unknown])[] {
  const flat = items<unknown>(list);
  return flat.flatMap((key, index) => (index % 2 === 0 ? [[key, flat[index + 1]] as const] : []));
}
