/**
 * The contract of a store: where jobs live and change state. It is the only source of truth; a wake-up or
 * a broker beside it only makes things sooner.
 *
 * Every method is atomic: when its promise resolves the change is durable, when it rejects nothing has
 * changed. All times are the store's own, in milliseconds since 1970 (UTC); callers pass durations.
 * A store that cannot be reached rejects with `StoreUnavailable`; it comes back by itself.
 *
 * The conformance suite in test/queue/conformance.ts is this text as tests. Each backend passes it whole.
 */
import type { Json } from '../util/json.ts';

/**
 * The state of a job.
 *
 * - PENDING: waits for its turn, its ETA, its parents or a free slot of its group, its limit or its key
 * - STARTED: an attempt runs under a lease
 * - RETRY: an attempt failed, the next one is due later
 * - SUCCESS, FAILURE, CANCELLED: finished; nothing but `retry`, `purge` or a new post changes it
 */
export type JobState = 'PENDING' | 'STARTED' | 'RETRY' | 'SUCCESS' | 'FAILURE' | 'CANCELLED';

/** What a parent that failed or was cancelled does to a child that waits for it. */
export type OnFailure = 'run' | 'cancel';

/** An edge to a parent: the child waits until the parent is finished. */
export interface Dependency {
  readonly job_id: string;
  /** `cancel` (default): the child is cancelled too, and so are its own children. `run`: it runs anyway. */
  readonly on_failure?: OnFailure;
}

/** A job as it is posted. */
export interface NewJob {
  /** `^[A-Za-z0-9_:-]{1,128}$`. An id may be used again once its job is finished. */
  readonly job_id: string;
  /** The name of the handler's work; opaque here. */
  readonly task: string;
  readonly queue: string;
  /** Opaque to the queue; handed to the handler as it is. */
  readonly payload: Json;
  /** Higher runs first; integer, default 0. */
  readonly priority?: number;
  /** Not before this time (ms since 1970); in the past: now. */
  readonly eta?: number | null;
  /** How many times a failed attempt may be repeated; integer ≥ 0, default 0. */
  readonly retries?: number;
  /**
   * Parents: jobs of the same batch or jobs the store knows. One that is finished already counts by how it
   * ended; an unknown one is `UnknownJob`; a cycle is `InvalidJob`.
   */
  readonly after?: readonly Dependency[];
  /** A limit that it shares with others (see `limit`): a name of the form of a queue's; null or absent: none. */
  readonly limit?: string | null;
  /**
   * On whose behalf it runs: a name of the form of a queue's; null or absent: nobody's. Keys take turns: see
   * `claim`.
   */
  readonly key?: string | null;
  /**
   * How many jobs of the key may be STARTED at once, in all queues and processes; null or absent: no limit.
   * What the last of its jobs to be posted, or to be set to run again, says holds for all of them.
   */
  readonly key_concurrency?: number | null;
}

/** A group as it is posted, with its jobs. */
export interface NewGroup {
  /** Same form as a job id. */
  readonly group_id: string;
  /** How many jobs of the group may be STARTED at once, in all processes; absent: no limit. */
  readonly concurrency?: number;
}

/** A worker's time-limited hold on an attempt. Every field is needed to prove it. */
export interface Lease {
  readonly job_id: string;
  /** 1 for the first attempt. A released attempt is not counted: its number is given again. */
  readonly attempt: number;
  /** Unique to this claim, and larger than that of every earlier claim of this store: the fencing token. */
  readonly fence: number;
}

/** A job as the store has it. */
export interface Job {
  /** Orders jobs by when they were posted; unique to this run of the id. */
  readonly seq: number;
  readonly job_id: string;
  readonly task: string;
  readonly queue: string;
  readonly payload: Json;
  readonly state: JobState;
  readonly priority: number;
  readonly eta: number | null;
  readonly retries: number;
  /** Attempts begun so far; while STARTED the number of the current one. */
  readonly attempt: number;
  /** Attempts that ended in RETRY: what `retries` limits. A worker that died is not the job's failure. */
  readonly failures: number;
  /** The token of the current or the last attempt; null before the first. */
  readonly fence: number | null;
  readonly group_id: string | null;
  readonly after: readonly Dependency[];
  readonly limit: string | null;
  readonly key: string | null;
  readonly key_concurrency: number | null;
  /** The worker that holds or held the last attempt, as it called itself when it claimed. */
  readonly worker: string | null;
  /** The last attempt's error, "" if none. Kept while in RETRY and STARTED again; "" on SUCCESS. */
  readonly error: string;
  /** The handler's result, set on SUCCESS. */
  readonly result: Json;
  /** What the handler last reported; at most a heartbeat old. Null when not running. */
  readonly progress: Json;
  readonly cancel_requested: boolean;
  readonly created_at: number;
  /** When it may run next (ETA, backoff); for jobs that wait in a queue. */
  readonly due_at: number;
  /** Begin of the current or last attempt. */
  readonly started_at: number | null;
  readonly finished_at: number | null;
}

/** A job just claimed, with the proof of it. */
export interface ClaimedJob extends Job {
  readonly lease: Lease;
}

export interface ClaimRequest {
  /** What the worker is called: unique among running workers. (`Worker` puts a mark behind its name.) */
  readonly worker: string;
  /** The queues it listens on, with the most jobs it takes of each in this call. */
  readonly queues: readonly { readonly queue: string; readonly limit: number }[];
  /** The most jobs in all. Never more are handed out. */
  readonly limit: number;
  readonly lease_ms: number;
}

export interface Claimed {
  readonly jobs: readonly ClaimedJob[];
  /** When the next job of these queues falls due (ETA, backoff), if one waits for that; else null. */
  readonly next_due_at: number | null;
}

export interface Renewal {
  readonly lease: Lease;
  /** Shown as the job's progress; absent: left as it is. */
  readonly progress?: Json;
}

export interface Renewed {
  /** Leases that are no longer valid: stop at once, neither publish nor finish. */
  readonly lost: readonly Lease[];
  /** Leases still valid whose job was asked to cancel: stop, then finish as CANCELLED. */
  readonly cancelled: readonly Lease[];
}

/**
 * How an attempt ended.
 *
 * RETRY puts the job back, due `delay_ms` from now. If a cancel was asked meanwhile, RETRY and SUCCESS
 * become CANCELLED: whoever was told "cancelled" must not see a success.
 */
export type Outcome =
  | { readonly state: 'SUCCESS'; readonly result: Json }
  | { readonly state: 'FAILURE'; readonly error: string }
  | { readonly state: 'RETRY'; readonly error: string; readonly delay_ms: number }
  | { readonly state: 'CANCELLED'; readonly error?: string };

export interface Group {
  readonly group_id: string;
  readonly concurrency: number | null;
  readonly created_at: number;
  /** In the order posted. They stay those of this group even if an id was used again since. */
  readonly jobs: readonly Job[];
}

/** A limit that jobs share, as far as it is in use. */
export interface Limit {
  readonly limit: string;
  /** Null: no limit was set. */
  readonly concurrency: number | null;
  /** Jobs that count against it: STARTED, and not finished otherwise. */
  readonly running: number;
  readonly waiting: number;
}

export interface JobFilter {
  readonly state?: JobState;
  readonly task?: string;
  readonly queue?: string;
  readonly group_id?: string;
}

export interface Page<T> {
  readonly items: readonly T[];
  /** Pass it on to get the next page; null: this was the last one. */
  readonly cursor: string | null;
}

export interface QueueStats {
  readonly queue: string;
  readonly paused: boolean;
  /** Number of remembered jobs by state. */
  readonly counts: Readonly<Record<JobState, number>>;
  /** Age in ms of the job that has been ready the longest; null when none is ready. */
  readonly oldest_ready_ms: number | null;
}

/** Something that may be worth a look; may come late, twice, or not at all. */
export type Hint =
  /** Jobs may have become claimable. */
  | { readonly type: 'ready' }
  /** A running job may have been asked to cancel: renew now. */
  | { readonly type: 'cancel' }
  /**
   * A job may have finished; null: not known which. Of jobs that this process ends it may come while the call is
   * under way: what is asked of the store from then on is answered after it.
   */
  | { readonly type: 'finished'; readonly job_id: string | null };

export interface RecoverOptions {
  /** A job whose workers have died this many times in a row is a poison job: FAILURE. */
  readonly max_crashes: number;
}

export interface Recovered {
  /** Attempts whose lease had expired and that are to run again (as a new attempt, retries untouched). */
  readonly requeued: readonly Lease[];
  readonly poisoned: readonly Lease[];
  /** Expired leases of jobs that were asked to cancel: now CANCELLED. */
  readonly cancelled: readonly Lease[];
}

export interface Store {
  /** Made once when the store's data is created: tells two stores apart whose fences overlap. */
  readonly store_id: string;

  /**
   * Accepts all of the jobs or none, in order, and the group they form, if given. Returns them as stored.
   *
   * Throws `JobActive` if one of the ids is active or is twice in the batch, `GroupActive` if the group
   * is, `UnknownJob` for a parent, `InvalidJob` for a cycle, a group without jobs or a field that cannot be.
   */
  enqueue(jobs: readonly NewJob[], group?: NewGroup): Promise<readonly Job[]>;

  /**
   * Leases ready jobs: due, parents finished, queue not paused, a free slot in its group, its limit and its
   * key; by priority (high first), then turn, then due time, then order of posting. State, attempt and lease
   * are written in the same step. Its cost does not grow with the number of jobs that wait.
   *
   * A job's turn is the time it became due; with a key, if that is later, the time a job of its key was last
   * handed out. So whoever has posted a thousand jobs is served once before all that wait by then have been.
   *
   * Limits are exact, also when several processes claim at once: a slot is taken by the claim, and free again
   * when the attempt has ended in whatever way.
   */
  claim(request: ClaimRequest): Promise<Claimed>;

  /** Extends leases by `lease_ms` from now. A lease that has expired but was not recovered is still held. */
  renew(renewals: readonly Renewal[], lease_ms: number): Promise<Renewed>;

  /**
   * Ends attempts. For each lease, in order: the state the job is now in, or null where the lease was no
   * longer valid and nothing has changed. Releases dependents and group slots in the same step.
   */
  finish(
    ends: readonly { readonly lease: Lease; readonly outcome: Outcome }[],
  ): Promise<readonly (JobState | null)[]>;

  /**
   * Gives attempts back that were not run to their end: PENDING (or CANCELLED, if that was asked), in their old
   * place, the attempt not counted. With a delay they are due only so many ms from now, in the place that this
   * gives them. Invalid leases are passed over.
   */
  release(leases: readonly Lease[], delay_ms?: number): Promise<void>;

  /**
   * Cancels a job: at once when it waits, by request (see `renew`) when it runs. Returns the job after.
   * Throws `UnknownJob`, or `JobFinished` when it had ended.
   */
  cancel(job_id: string): Promise<Job>;

  /**
   * Cancels every unfinished job of a group. Throws `UnknownGroup`, or `GroupFinished` when all had ended. A large
   * group may be cancelled, and purged, in steps: if one fails the rest is as it was, and the call can be repeated.
   */
  cancelGroup(group_id: string): Promise<Group>;

  /**
   * Forgets every run of an id, in any state; an attempt that runs has lost its lease; children of an
   * unfinished job are treated as if it had been cancelled. Throws `UnknownJob`.
   */
  purge(job_id: string): Promise<void>;

  /** Forgets a group and its jobs, as `purge` does. Throws `UnknownGroup`. */
  purgeGroup(group_id: string): Promise<void>;

  /**
   * Runs a failed or cancelled job again as it was posted (ETA aside): PENDING, attempt 0, at the end of
   * its queue. It waits for those of its parents that are not finished; how the others ended no longer
   * matters. Throws `UnknownJob`, `JobActive`, or `JobFinished` after a SUCCESS.
   */
  retry(job_id: string): Promise<Job>;

  /** The newest run of an id. Throws `UnknownJob`. */
  get(job_id: string): Promise<Job>;

  /** For each id the state of its newest run, or null where there is none: for those who wait for many. */
  states(job_ids: readonly string[]): Promise<readonly (JobState | null)[]>;

  /** The newest group of an id. Throws `UnknownGroup`. */
  group(group_id: string): Promise<Group>;

  /**
   * For each id how many jobs of its newest group are not finished, or null where there is none: for those who wait. Its
   * cost does not grow with the number of jobs.
   */
  unfinished(group_ids: readonly string[]): Promise<readonly (number | null)[]>;

  /** PENDING and RETRY jobs of a queue in the order in which they will run, as far as can be known. */
  pending(queue: string, limit: number): Promise<readonly Job[]>;

  /** Newest first. Throws `InvalidCursor`. */
  list(filter: JobFilter, limit: number, cursor?: string): Promise<Page<Job>>;

  /** One entry per queue that has jobs or is paused. */
  stats(): Promise<readonly QueueStats[]>;

  /** No job of the queue is claimed until `resume`; running ones go on. */
  pause(queue: string): Promise<void>;
  resume(queue: string): Promise<void>;

  /**
   * How many jobs that name this limit may be STARTED at once, in all queues and processes; null: no limit. It
   * holds until it is set anew; jobs that run already go on. Throws `InvalidJob` for a name or a number that
   * cannot be.
   */
  limit(limit: string, concurrency: number | null): Promise<void>;

  /** For each name, in order, its limit: one that is not in use has no concurrency and no jobs. */
  limits(limits: readonly string[]): Promise<readonly Limit[]>;

  /** The leases that have not expired: who may still be writing. */
  leases(): Promise<readonly Lease[]>;

  /** Requeues, fails or cancels the jobs of expired leases. Any process may call it, at any time. */
  recover(options: RecoverOptions): Promise<Recovered>;

  /**
   * Forgets jobs that ended longer than `jobs_ms` ago, and groups that ended longer than `groups_ms` ago (when
   * the last of their unfinished jobs ended or was purged), with their jobs: a job of a group is kept as long
   * as its group, whose state it is part of. In small steps. Returns how many jobs were forgotten.
   */
  prune(retention: { readonly jobs_ms: number; readonly groups_ms: number }): Promise<number>;

  /** Calls the listener with hints until the returned function is called. */
  watch(listener: (hint: Hint) => void): () => void;

  /** Resolves when the store can be written. Rejects with `StoreUnavailable`. */
  ping(): Promise<void>;

  close(): Promise<void>;
}
