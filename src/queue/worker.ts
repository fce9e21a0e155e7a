/**
 * A worker: claims jobs as it has room for them, runs them under leases that it renews, and ends them.
 *
 * An attempt is in one of these states, in this order:
 *
 * - running: the handler works; every heartbeat renews the lease and carries its progress
 * - stopping: its signal is aborted (cancelled, lease lost, shutdown), the handler has yet to return
 * - ending: the handler has returned, its place is free again; its outcome is on the way to the store, before
 *   the claim that fills its place
 *
 * While the store is away attempts go on: only the store says that a lease is lost, and it refuses what comes
 * too late.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { LONGEST_TIMER_MS } from '../util/duration.ts';
import type { Json } from '../util/json.ts';
import { Attempt, toJson } from './attempt.ts';
import { QueueError } from './errors.ts';
import { PermanentError, type StopReason } from './handler.ts';
import { identityOf } from './identity.ts';
import type { ClaimedJob, ClaimRequest, Job, JobState, Lease, Outcome, Page } from './store.ts';
import {
  type Backoff,
  type QueueLimit,
  retryDelay,
  type WorkerEvent,
  type WorkerOptions,
} from './worker-options.ts';

export type { Backoff, QueueLimit, WorkerEvent, WorkerOptions };
export { retryDelay };

/** Between two tries while the store is away, ms; it doubles up to the second figure. */
const STORE_RETRY_MS = { first: 50, most: 2_000 };
/** How long a shutdown tries to give back what did not stop, ms. If that fails, the leases run out. */
const GIVE_BACK_MS = 1_000;
/** How many running jobs are looked through at once. */
const STARTED_AT_ONCE = 500;

interface End {
  readonly attempt: Attempt;
  readonly outcome: Outcome;
  readonly error: unknown;
  resolve(state: JobState | null): void;
  reject(error: unknown): void;
}

export class Worker {
  readonly #options: Required<Omit<WorkerOptions, 'onEvent'>> & Pick<WorkerOptions, 'onEvent'>;
  /** What the store knows it by. */
  readonly #identity: string;
  readonly #attempts = new Set<Attempt>();
  /** Handlers that have not returned, in all and by queue. */
  #busy = 0;
  readonly #busyByQueue = new Map<string, number>();
  #state: 'new' | 'working' | 'draining' | 'stopped' = 'new';
  #shutdown: Promise<void> | undefined;
  /** Aborted by `stop`: nothing is waited for any more. */
  readonly #hurry = new AbortController();
  /** Aborted when all is over: nothing is tried any more. */
  readonly #over = new AbortController();
  #unwatch: (() => void) | undefined;
  #pollTimer: NodeJS.Timeout | undefined;
  #heartbeat: NodeJS.Timeout | undefined;
  #claiming = false;
  #claimAgain = false;
  /** The queues of which the last claim has left nothing: only a hint tells of more. */
  #emptied: ReadonlySet<string> = new Set();
  #claimFailures = 0;
  /** A claim has failed: it may have been carried out, and its jobs be held by nobody who knows. */
  #mayHoldMore = false;
  #renewing = false;
  #renewAgain = false;
  #ends: End[] = [];
  #turnOverIsDue = false;
  #storeIsLost = false;
  /** Called when the last attempt is over. */
  #onIdle: (() => void) | undefined;

  constructor(options: WorkerOptions) {
    this.#options = {
      lease_ms: 10_000,
      heartbeat_ms: 3_000,
      poll_ms: 1_000,
      backoff: { base_ms: 1_000, max_ms: 300_000 },
      abort_grace_ms: 5_000,
      random: Math.random,
      ...options,
    };
    this.#identity = identityOf(options.name);
  }

  /** The jobs it holds now. */
  get size(): number {
    return this.#attempts.size;
  }

  start(): void {
    if (this.#state !== 'new') return;
    this.#state = 'working';
    this.#unwatch = this.#options.store.watch((hint) => {
      if (hint.type === 'ready') this.#claim();
      if (hint.type === 'cancel') this.#renew();
    });
    this.#beatIn(this.#options.heartbeat_ms);
    this.#claim();
  }

  /**
   * Begins no more jobs and resolves when those that run are over. What still runs after `timeout_ms` is
   * aborted and given back to its queue, the attempt not counted; a handler that does not heed its signal is
   * left to itself `abort_grace_ms` later, its lease no longer valid.
   */
  drain(timeout_ms: number): Promise<void> {
    if (this.#shutdown === undefined) {
      this.#state = 'draining';
      this.#shutdown = this.#shutDown(timeout_ms);
    }
    return this.#shutdown;
  }

  /** Aborts what runs and gives it back; also when it was draining. */
  stop(): Promise<void> {
    this.#hurry.abort();
    return this.drain(0);
  }

  async #shutDown(timeout_ms: number): Promise<void> {
    clearTimeout(this.#pollTimer);
    if (!(await this.#idleWithin(timeout_ms, this.#hurry.signal))) {
      for (const attempt of this.#attempts) attempt.stop('shutdown');
      if (!(await this.#idleWithin(this.#options.abort_grace_ms))) {
        const deaf = [...this.#attempts].filter(({ ended }) => !ended);
        for (const attempt of deaf) attempt.abandoned = true;
        await Promise.race([
          this.#giveBack(deaf),
          delay(GIVE_BACK_MS, undefined, { signal: this.#over.signal }).catch(() => {}),
        ]);
      }
    }
    this.#state = 'stopped';
    this.#over.abort();
    this.#unwatch?.();
    clearTimeout(this.#heartbeat);
    clearTimeout(this.#pollTimer);
  }

  async #idleWithin(timeout_ms: number, hurry?: AbortSignal): Promise<boolean> {
    if (this.#isIdle()) return true;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const giveUp = () => resolve(false);
    const timer = setTimeout(giveUp, Math.min(timeout_ms, LONGEST_TIMER_MS));
    if (hurry?.aborted) giveUp();
    hurry?.addEventListener('abort', giveUp);
    this.#onIdle = () => resolve(true);
    const idle = await promise;
    this.#onIdle = undefined;
    hurry?.removeEventListener('abort', giveUp);
    clearTimeout(timer);
    return idle;
  }

  #isIdle(): boolean {
    return this.#attempts.size === 0 && !this.#claiming;
  }

  // --- claiming

  /** Claims as much as there is room for; one call at a time. */
  #claim(): void {
    if (this.#state !== 'working') return;
    this.#claimAgain = true;
    if (this.#claiming) return;
    this.#claiming = true;
    void this.#claimAll().then((pause_ms) => {
      this.#claiming = false;
      if (this.#isIdle()) this.#onIdle?.();
      if (this.#state !== 'working') return;
      clearTimeout(this.#pollTimer);
      this.#pollTimer = setTimeout(() => this.#claim(), pause_ms);
    });
  }

  /** Resolves with how long to wait, ms, before looking again. */
  async #claimAll(): Promise<number> {
    const { store, lease_ms, poll_ms, random } = this.#options;
    // Not all workers at once.
    let pause_ms = poll_ms * (0.75 + 0.5 * random());
    while (this.#claimAgain && this.#state === 'working') {
      this.#claimAgain = false;
      this.#emptied = new Set();
      const room = this.#room();
      // None: the next attempt that ends looks again.
      if (room === undefined) return pause_ms;
      try {
        if (this.#mayHoldMore) await this.#giveBackUnknown();
        const asked = performance.now();
        const { jobs, next_due_at } = await store.claim({ worker: this.#identity, lease_ms, ...room });
        this.#storeAnswered();
        this.#claimFailures = 0;
        await this.#begin(jobs.map((job) => new Attempt(job, asked)));
        if (jobs.length === room.limit) this.#claimAgain = true;
        // Where something falls due later or the claim was cut short, it is as well to look more often.
        else if (next_due_at === null) this.#emptied = emptied(room.queues, jobs);
        // By this process's clock: if it is early it looks again, if it is late the poll was sooner.
        if (next_due_at !== null) pause_ms = Math.min(pause_ms, Math.max(1, next_due_at - Date.now()));
      } catch (error) {
        this.#storeFailed(error);
        this.#mayHoldMore = true;
        this.#claimFailures += 1;
        return retryPause(this.#claimFailures);
      }
    }
    return pause_ms;
  }

  /**
   * Gives back what a claim has handed out whose answer never came: otherwise it would wait for its lease to run out,
   * and count as a job whose worker has died.
   */
  async #giveBackUnknown(): Promise<void> {
    const { store } = this.#options;
    const known = new Set([...this.#attempts].map(({ lease }) => lease.fence));
    const unknown: Lease[] = [];
    let cursor: string | undefined;
    do {
      const page: Page<Job> = await store.list({ state: 'STARTED' }, STARTED_AT_ONCE, cursor);
      for (const { job_id, attempt, fence, worker } of page.items) {
        if (worker === this.#identity && fence !== null && !known.has(fence))
          unknown.push({ job_id, attempt, fence });
      }
      cursor = page.cursor ?? undefined;
    } while (cursor !== undefined);
    if (unknown.length > 0) await store.release(unknown);
    this.#mayHoldMore = false;
  }

  #queues(): readonly QueueLimit[] {
    const { queues } = this.#options;
    return typeof queues === 'function' ? queues() : queues;
  }

  /** What it can take, no more: a job held by a busy worker is a job that nobody runs. */
  #room(): Pick<ClaimRequest, 'queues' | 'limit'> | undefined {
    const { concurrency } = this.#options;
    const free = this.#queues()
      .map(({ queue, concurrency }) => {
        return { queue, limit: concurrency - (this.#busyByQueue.get(queue) ?? 0) };
      })
      .filter(({ limit }) => limit > 0);
    const total = free.reduce((sum, { limit }) => sum + limit, 0);
    const limit = Math.min(concurrency - this.#busy, total);
    return limit > 0 ? { queues: free, limit } : undefined;
  }

  async #begin(attempts: readonly Attempt[]): Promise<void> {
    // Its shutdown has begun while they were on their way.
    if (this.#state !== 'working') {
      await this.#giveBack(attempts);
      return;
    }
    const early = this.#options.handler.early?.(attempts.map(({ job }) => job)) ?? null;
    const later = new Set(early?.jobs);
    for (const attempt of attempts) if (!later.has(attempt.job)) this.#run(attempt);
    if (early === null || later.size === 0) return;
    await this.#persist(async () => {
      await this.#options.store.release(
        early.jobs.map(({ lease }) => lease),
        early.delay_ms,
      );
    });
  }

  // --- running

  #run(attempt: Attempt): void {
    const { job } = attempt;
    this.#attempts.add(attempt);
    this.#occupy(job.queue, 1);
    this.#tell({ type: 'started', job });
    void this.#attempt(attempt)
      .catch((error: unknown) => this.#tell({ type: 'failed', job, error }))
      .then(() => {
        this.#attempts.delete(attempt);
        if (this.#isIdle()) this.#onIdle?.();
      });
  }

  #occupy(queue: string, change: 1 | -1): void {
    this.#busy += change;
    this.#busyByQueue.set(queue, (this.#busyByQueue.get(queue) ?? 0) + change);
  }

  async #attempt(attempt: Attempt): Promise<void> {
    const { job } = attempt;
    let result: Json;
    try {
      result = await this.#handle(attempt);
    } catch (error) {
      if (attempt.abandoned) return;
      if (attempt.stopped === 'lease_lost') this.#tell({ type: 'lost', job });
      else if (attempt.stopped === 'shutdown') await this.#giveBack([attempt]);
      else if (attempt.stopped === 'cancelled') await this.#end(attempt, { state: 'CANCELLED' }, error);
      else await this.#end(attempt, this.#failure(job, error), error);
      return;
    }
    const state = await this.#end(attempt, { state: 'SUCCESS', result }, undefined);
    if (state === 'SUCCESS' || (state === null && (await this.#hasCounted(attempt)))) {
      this.#tell({ type: 'succeeded', job, result });
      return;
    }
    if (state === null) this.#tell({ type: 'lost', job });
    try {
      await this.#options.handler.discard?.(job, result);
    } catch (error) {
      this.#tell({ type: 'discard_failed', job, error });
    }
  }

  async #handle(attempt: Attempt): Promise<Json> {
    try {
      const result = await this.#options.handler.run(attempt.job, {
        signal: attempt.signal,
        progress: (progress) => attempt.report(progress),
        confirm: (max_age_ms = 0) => this.#confirm(attempt, max_age_ms),
      });
      return asResult(result);
    } finally {
      attempt.ended = true;
      this.#occupy(attempt.job.queue, -1);
      this.#turnOver();
    }
  }

  async #confirm(attempt: Attempt, max_age_ms: number): Promise<void> {
    const { store, lease_ms } = this.#options;
    attempt.signal.throwIfAborted();
    if (performance.now() - attempt.held_at < Math.min(max_age_ms, lease_ms / 10)) return;
    for (;;) {
      let asked = performance.now();
      // While the store is away nobody can tell; what has been done so far is worth waiting for.
      const renewed = await this.#persist(() => {
        attempt.signal.throwIfAborted();
        asked = performance.now();
        return store.renew([{ lease: attempt.lease }], lease_ms);
      });
      if (renewed === undefined) attempt.stop('shutdown');
      else if (renewed.lost.length > 0) attempt.stop('lease_lost');
      else if (renewed.cancelled.length > 0) attempt.stop('cancelled');
      attempt.signal.throwIfAborted();
      // An answer older than the lease (the process was stopped meanwhile) says nothing any more.
      if (performance.now() - asked < lease_ms) {
        attempt.held_at = asked;
        return;
      }
    }
  }

  #failure(job: ClaimedJob, error: unknown): Outcome {
    const message = messageOf(error);
    if (error instanceof PermanentError || job.failures >= job.retries) {
      return { state: 'FAILURE', error: message };
    }
    const { backoff, random } = this.#options;
    return { state: 'RETRY', error: message, delay_ms: retryDelay(job.failures, backoff, random) };
  }

  // --- heartbeats

  #beatIn(delay_ms: number): void {
    clearTimeout(this.#heartbeat);
    if (this.#state === 'stopped') return;
    this.#heartbeat = setTimeout(() => this.#renew(), delay_ms);
  }

  #renew(): void {
    this.#renewAgain = true;
    if (this.#renewing) return;
    this.#renewing = true;
    void this.#renewAll().then((next_ms) => {
      this.#renewing = false;
      this.#beatIn(next_ms);
    });
  }

  /** Resolves with when to do it again, ms. */
  async #renewAll(): Promise<number> {
    const { store, lease_ms, heartbeat_ms } = this.#options;
    while (this.#renewAgain) {
      this.#renewAgain = false;
      const attempts = new Map(
        [...this.#attempts]
          .filter(({ stopped }) => stopped !== 'lease_lost')
          .map((attempt) => [attempt.lease.fence, attempt]),
      );
      if (attempts.size === 0) return heartbeat_ms;
      try {
        const renewals = [...attempts.values()].map(({ renewal }) => renewal);
        const asked = performance.now();
        const { lost, cancelled } = await store.renew(renewals, lease_ms);
        this.#storeAnswered();
        for (const attempt of attempts.values()) attempt.held_at = asked;
        // One whose outcome the store has taken meanwhile is gone from the set, and is not stopped.
        for (const { fence } of lost) this.#stop(attempts.get(fence), 'lease_lost');
        for (const { fence } of cancelled) this.#stop(attempts.get(fence), 'cancelled');
      } catch (error) {
        this.#storeFailed(error);
        return heartbeat_ms / 4;
      }
    }
    return heartbeat_ms;
  }

  #stop(attempt: Attempt | undefined, reason: StopReason): void {
    if (attempt !== undefined && this.#attempts.has(attempt)) attempt.stop(reason);
  }

  // --- ending

  /** Brings an outcome to the store, with others that end about now; the state the job is in then. */
  #end(attempt: Attempt, outcome: Outcome, error: unknown): Promise<JobState | null> {
    return new Promise((resolve, reject) => {
      this.#ends.push({ attempt, outcome, error, resolve, reject });
      this.#turnOver();
    });
  }

  /** Not at once: attempts that end in the same tick go together, their outcomes before the claim of others. */
  #turnOver(): void {
    if (this.#turnOverIsDue) return;
    this.#turnOverIsDue = true;
    setImmediate(() => {
      this.#turnOverIsDue = false;
      void this.#finish(this.#ends.splice(0));
      // A place that is free again is of use where jobs may have been left for want of one.
      if (!this.#queues().every(({ queue }) => this.#emptied.has(queue))) this.#claim();
    });
  }

  async #finish(ends: readonly End[]): Promise<void> {
    if (ends.length === 0) return;
    const pairs = ends.map(({ attempt, outcome }) => ({ lease: attempt.lease, outcome }));
    try {
      const states = await this.#persist(() => this.#options.store.finish(pairs));
      for (const [index, end] of ends.entries()) {
        const state = states?.[index] ?? null;
        this.#tellEnd(end, state);
        end.resolve(state);
      }
    } catch (error) {
      for (const end of ends) end.reject(error);
    }
  }

  /**
   * A refused success may have counted all the same: the store took it, but its answer was lost, and the second
   * try was the one refused.
   */
  async #hasCounted({ job, lease }: Attempt): Promise<boolean> {
    try {
      const now = await this.#persist(() => this.#options.store.get(job.job_id));
      return now?.fence === lease.fence && now.state === 'SUCCESS';
    } catch (error) {
      if (error instanceof QueueError && error.code === 'unknown_job') return false;
      throw error;
    }
  }

  async #giveBack(attempts: readonly Attempt[]): Promise<void> {
    if (attempts.length === 0) return;
    const leases = attempts.map(({ lease }) => lease);
    const given = await this.#persist(async () => {
      await this.#options.store.release(leases);
      return true;
    });
    for (const { job } of attempts) this.#tell({ type: given === true ? 'released' : 'lost', job });
  }

  /** Tries until the store takes it, or the worker is over: undefined. */
  async #persist<T>(action: () => Promise<T>): Promise<T | undefined> {
    for (let failures = 1; ; failures += 1) {
      try {
        const value = await action();
        this.#storeAnswered();
        return value;
      } catch (error) {
        if (!isStoreUnavailable(error)) throw error;
        this.#storeFailed(error);
      }
      if (this.#over.signal.aborted) return undefined;
      await delay(retryPause(failures), undefined, { signal: this.#over.signal }).catch(() => {});
    }
  }

  // --- telling

  #tellEnd({ attempt: { job }, outcome, error }: End, state: JobState | null): void {
    if (state === 'CANCELLED') this.#tell({ type: 'cancelled', job });
    else if (outcome.state === 'SUCCESS') return;
    else if (state === null) this.#tell({ type: 'lost', job });
    else if (outcome.state === 'RETRY') {
      this.#tell({ type: 'retrying', job, error, delay_ms: outcome.delay_ms });
    } else this.#tell({ type: 'failed', job, error });
  }

  #tell(event: WorkerEvent): void {
    try {
      this.#options.onEvent?.(event);
    } catch (error) {
      // Not this job's failure: let it surface where uncaught errors do.
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  #storeFailed(error: unknown): void {
    if (this.#storeIsLost) return;
    this.#storeIsLost = true;
    this.#tell({ type: 'store_lost', error });
  }

  #storeAnswered(): void {
    if (!this.#storeIsLost) return;
    this.#storeIsLost = false;
    this.#tell({ type: 'store_back' });
  }
}

/** Those that gave fewer than they were asked for, of a claim that gave fewer than it was asked for. */
function emptied(asked: ClaimRequest['queues'], jobs: readonly ClaimedJob[]): ReadonlySet<string> {
  const given = Map.groupBy(jobs, ({ queue }) => queue);
  const left = asked.filter(({ queue, limit }) => (given.get(queue)?.length ?? 0) < limit);
  return new Set(left.map(({ queue }) => queue));
}

function retryPause(failures: number): number {
  return Math.min(STORE_RETRY_MS.most, STORE_RETRY_MS.first * 2 ** Math.min(failures - 1, 30));
}

function asResult(result: Json): Json {
  try {
    return toJson(result);
  } catch (error) {
    throw new PermanentError(`the handler's result is not JSON: ${messageOf(error)}`, { cause: error });
  }
}

function isStoreUnavailable(error: unknown): boolean {
  return error instanceof QueueError && error.code === 'store_unavailable';
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
