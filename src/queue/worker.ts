/**
 * A worker: claims jobs as it has room for them, runs them under leases that it renews, and ends them.
 *
 * A run is in one of these states, in this order:
 *
 * - running: the handler works; every heartbeat renews the lease and carries its progress
 * - stopping: its signal is aborted (cancelled, lease lost, shutdown), the handler has yet to return
 * - ending: the handler has returned; its outcome is on the way to the store
 *
 * and counts against the worker's concurrency until its handler has returned, so that its outcome and the
 * claim of its successor can be one step of the store. While the store is away runs go on: only the store
 * says that a lease is lost, and it refuses what comes too late.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Json } from '../util/json.ts';
import { QueueError } from './errors.ts';
import { AttemptStopped, type Handler, PermanentError, type StopReason } from './handler.ts';
import type { ClaimedJob, JobState, Lease, Outcome, Store } from './store.ts';

export interface QueueLimit {
  readonly queue: string;
  /** The most jobs of the queue that this worker runs at once. */
  readonly concurrency: number;
}

/** What a worker tells of itself, for logs and metrics. */
export type WorkerEvent =
  | { readonly type: 'started'; readonly job: ClaimedJob }
  | { readonly type: 'succeeded'; readonly job: ClaimedJob; readonly result: Json }
  | { readonly type: 'failed'; readonly job: ClaimedJob; readonly error: unknown }
  | {
      readonly type: 'retrying';
      readonly job: ClaimedJob;
      readonly error: unknown;
      readonly delay_ms: number;
    }
  | { readonly type: 'cancelled'; readonly job: ClaimedJob }
  /** The lease was lost: another attempt owns the job. */
  | { readonly type: 'lost'; readonly job: ClaimedJob }
  /** Given back on shutdown. */
  | { readonly type: 'released'; readonly job: ClaimedJob }
  | { readonly type: 'discard_failed'; readonly job: ClaimedJob; readonly error: unknown }
  /** Told once; the worker goes on trying. */
  | { readonly type: 'store_lost'; readonly error: unknown }
  | { readonly type: 'store_back' };

export interface Backoff {
  /** Delay before the first retry, ms; it doubles with each. */
  readonly base_ms: number;
  readonly max_ms: number;
}

export interface WorkerOptions {
  readonly store: Store;
  /** Unique among running workers. */
  readonly name: string;
  readonly queues: readonly QueueLimit[];
  /** The most jobs that run at once, of all queues. */
  readonly concurrency: number;
  readonly handler: Handler;
  /** How long an attempt is held without a heartbeat. Default 10 s. */
  readonly lease_ms?: number;
  /** How often leases are renewed. Default 3 s; three may fail before a lease is lost. */
  readonly heartbeat_ms?: number;
  /** How often to look for work when no hint comes. Default 1 s. */
  readonly poll_ms?: number;
  /** Default: 1 s, at most 5 min. */
  readonly backoff?: Backoff;
  /** In [0, 1): the jitter of retries. */
  readonly random?: () => number;
  onEvent?(event: WorkerEvent): void;
}

/** After an abort, how long a handler may take to return before its lease is given back without it. */
const ABORT_GRACE_MS = 5_000;
/** Between two tries while the store is away; doubles up to the second figure. */
const STORE_RETRY_MS = { first: 50, most: 2_000 };
/** Longest delay of a timer: Node fires at once beyond 2^31 ms. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

interface Run {
  readonly job: ClaimedJob;
  readonly abort: AbortController;
  progress: Json | undefined;
}

interface End {
  readonly run: Run;
  readonly outcome: Outcome;
  readonly error: unknown;
  resolve(state: JobState | null): void;
}

export class Worker {
  readonly #options: Required<Omit<WorkerOptions, 'onEvent'>> & Pick<WorkerOptions, 'onEvent'>;
  readonly #runs = new Set<Run>();
  /** Handlers that have not returned, in all and by queue. */
  #busy = 0;
  readonly #busyByQueue = new Map<string, number>();
  readonly #stopping = new AbortController();
  #state: 'new' | 'working' | 'draining' | 'stopped' = 'new';
  #unwatch: (() => void) | undefined;
  #pollTimer: NodeJS.Timeout | undefined;
  #heartbeat: NodeJS.Timeout | undefined;
  #claiming = false;
  #claimAgain = false;
  #turnOverIsDue = false;
  #renewing = false;
  #renewAgain = false;
  #ends: End[] = [];
  #finishing = false;
  #storeIsLost = false;
  /** Told whenever a run is over. */
  #onIdle: (() => void) | undefined;

  constructor(options: WorkerOptions) {
    this.#options = {
      lease_ms: 10_000,
      heartbeat_ms: 3_000,
      poll_ms: 1_000,
      backoff: { base_ms: 1_000, max_ms: 300_000 },
      random: Math.random,
      ...options,
    };
  }

  /** The jobs it holds now. */
  get size(): number {
    return this.#runs.size;
  }

  start(): void {
    if (this.#state !== 'new') return;
    this.#state = 'working';
    this.#unwatch = this.#options.store.watch((hint) => {
      if (hint.type === 'ready') this.#claim();
      if (hint.type === 'cancel') this.#renew();
    });
    this.#heartbeat = setInterval(() => this.#renew(), this.#options.heartbeat_ms);
    this.#claim();
  }

  /**
   * Begins no more jobs and resolves when those that run are over. What still runs after `timeout_ms` is
   * aborted and given back to its queue, the attempt not counted.
   */
  async drain(timeout_ms: number): Promise<void> {
    if (this.#state === 'stopped') return;
    if (this.#state === 'working') this.#state = 'draining';
    clearTimeout(this.#pollTimer);
    if (!(await this.#idleWithin(timeout_ms))) {
      for (const run of this.#runs) this.#abort(run, 'shutdown');
      if (!(await this.#idleWithin(ABORT_GRACE_MS))) {
        // A handler that ignores its signal: whatever it does later, its lease is no longer valid.
        await this.#giveBack([...this.#runs]);
      }
    }
    this.#close();
  }

  /** Aborts what runs and gives it back. */
  stop(): Promise<void> {
    return this.drain(0);
  }

  #close(): void {
    this.#state = 'stopped';
    this.#unwatch?.();
    clearInterval(this.#heartbeat);
    clearTimeout(this.#pollTimer);
    this.#stopping.abort();
  }

  async #idleWithin(timeout_ms: number): Promise<boolean> {
    if (this.#isIdle()) return true;
    let timer: NodeJS.Timeout | undefined;
    const idle = await new Promise<boolean>((resolve) => {
      this.#onIdle = () => resolve(true);
      timer = setTimeout(() => resolve(false), Math.min(timeout_ms, LONGEST_TIMER_MS));
    });
    clearTimeout(timer);
    this.#onIdle = undefined;
    return idle;
  }

  #isIdle(): boolean {
    return this.#runs.size === 0 && !this.#claiming;
  }

  // --- claiming

  /** Claims as much as there is room for; one call at a time. */
  #claim(): void {
    if (this.#state !== 'working') return;
    if (this.#claiming) {
      this.#claimAgain = true;
      return;
    }
    this.#claiming = true;
    void this.#claimWhileThereIsWork()
      .catch((error: unknown) => {
        this.#storeFailed(error);
        return STORE_RETRY_MS.most / 4;
      })
      .then((pause_ms) => {
        this.#claiming = false;
        if (this.#isIdle()) this.#onIdle?.();
        if (this.#state !== 'working') return;
        clearTimeout(this.#pollTimer);
        this.#pollTimer = setTimeout(() => this.#claim(), pause_ms);
      });
  }

  /** Resolves with how long to wait, ms, before looking again. */
  async #claimWhileThereIsWork(): Promise<number> {
    const { store, name, lease_ms, poll_ms, concurrency } = this.#options;
    for (;;) {
      this.#claimAgain = false;
      const limit = concurrency - this.#busy;
      const queues = this.#options.queues
        .map(({ queue, concurrency }) => ({
          queue,
          limit: concurrency - (this.#busyByQueue.get(queue) ?? 0),
        }))
        .filter((queue) => queue.limit > 0);
      // A run that ends claims again; nothing to wait for but that.
      if (limit <= 0 || queues.length === 0 || this.#state !== 'working') return poll_ms;
      const { jobs, next_due_at } = await store.claim({ worker: name, queues, limit, lease_ms });
      this.#storeAnswered();
      for (const job of jobs) this.#run(job);
      if (jobs.length > 0 || this.#claimAgain) continue;
      // By this process's clock: if it is early, it looks again; if it is late, the poll was sooner.
      const until_due = next_due_at === null ? poll_ms : Math.max(1, next_due_at - Date.now());
      return Math.min(poll_ms, until_due);
    }
  }

  // --- running

  #run(job: ClaimedJob): void {
    const run: Run = { job, abort: new AbortController(), progress: undefined };
    this.#runs.add(run);
    this.#occupy(job.queue, 1);
    this.#tell({ type: 'started', job });
    this.#attempt(run)
      .catch((error: unknown) => this.#tell({ type: 'failed', job, error }))
      .finally(() => {
        this.#runs.delete(run);
        if (this.#isIdle()) this.#onIdle?.();
      });
  }

  #occupy(queue: string, change: 1 | -1): void {
    this.#busy += change;
    this.#busyByQueue.set(queue, (this.#busyByQueue.get(queue) ?? 0) + change);
  }

  /** Not at once: runs that end in the same tick go together, their outcomes before the claim of others. */
  #turnOver(): void {
    if (this.#turnOverIsDue) return;
    this.#turnOverIsDue = true;
    setImmediate(() => {
      this.#turnOverIsDue = false;
      this.#finish();
      this.#claim();
    });
  }

  async #attempt(run: Run): Promise<void> {
    const { job } = run;
    let result: Json;
    try {
      result = await this.#handle(run);
    } catch (error) {
      const stopped = stopReason(run);
      if (stopped === 'lease_lost') this.#tell({ type: 'lost', job });
      else if (stopped === 'shutdown') await this.#giveBack([run]);
      else if (stopped === 'cancelled') await this.#end(run, { state: 'CANCELLED' }, error);
      else await this.#end(run, this.#failure(job, error), error);
      return;
    }
    const state = await this.#end(run, { state: 'SUCCESS', result }, undefined);
    if (state === 'SUCCESS') return;
    try {
      await this.#options.handler.discard?.(job, result);
    } catch (error) {
      this.#tell({ type: 'discard_failed', job, error });
    }
  }

  async #handle(run: Run): Promise<Json> {
    try {
      return await this.#options.handler.run(run.job, {
        signal: run.abort.signal,
        progress: (progress) => {
          run.progress = progress;
        },
        confirm: () => this.#confirm(run),
      });
    } finally {
      this.#occupy(run.job.queue, -1);
      this.#turnOver();
    }
  }

  #failure(job: ClaimedJob, error: unknown): Outcome {
    const message = messageOf(error);
    if (error instanceof PermanentError || job.lease.attempt > job.retries) {
      return { state: 'FAILURE', error: message };
    }
    const { base_ms, max_ms } = this.#options.backoff;
    const longest = Math.min(max_ms, base_ms * 2 ** Math.min(job.lease.attempt - 1, 30));
    // Half of it is fixed, half random: never at once, and never all together.
    return { state: 'RETRY', error: message, delay_ms: (longest / 2) * (1 + this.#options.random()) };
  }

  async #confirm(run: Run): Promise<void> {
    run.abort.signal.throwIfAborted();
    const { lease } = run.job;
    const { lost, cancelled } = await this.#options.store.renew([{ lease }], this.#options.lease_ms);
    if (lost.length > 0) this.#abort(run, 'lease_lost');
    if (cancelled.length > 0) this.#abort(run, 'cancelled');
    run.abort.signal.throwIfAborted();
  }

  #abort(run: Run, reason: StopReason): void {
    if (!run.abort.signal.aborted) run.abort.abort(new AttemptStopped(reason));
  }

  // --- heartbeats

  #renew(): void {
    if (this.#runs.size === 0) return;
    if (this.#renewing) {
      this.#renewAgain = true;
      return;
    }
    this.#renewing = true;
    void this.#renewAll()
      .catch((error: unknown) => this.#storeFailed(error))
      .then(() => {
        this.#renewing = false;
        if (this.#renewAgain) {
          this.#renewAgain = false;
          this.#renew();
        }
      });
  }

  async #renewAll(): Promise<void> {
    const runs = new Map([...this.#runs].map((run) => [run.job.lease.fence, run]));
    const renewals = [...runs.values()].map(({ job: { lease }, progress }) =>
      progress === undefined ? { lease } : { lease, progress },
    );
    const { lost, cancelled } = await this.#options.store.renew(renewals, this.#options.lease_ms);
    this.#storeAnswered();
    const abort = (leases: readonly Lease[], reason: StopReason) => {
      for (const { fence } of leases) {
        const run = runs.get(fence);
        // One whose outcome the store has taken meanwhile is no longer ours to stop.
        if (run !== undefined && this.#runs.has(run)) this.#abort(run, reason);
      }
    };
    abort(lost, 'lease_lost');
    abort(cancelled, 'cancelled');
  }

  // --- ending

  /** Brings an outcome to the store, with others that end about now; the state the job is in then. */
  #end(run: Run, outcome: Outcome, error: unknown): Promise<JobState | null> {
    return new Promise((resolve) => {
      this.#ends.push({ run, outcome, error, resolve });
      this.#turnOver();
    });
  }

  #finish(): void {
    if (this.#finishing) return;
    this.#finishing = true;
    void this.#finishAll().finally(() => {
      this.#finishing = false;
    });
  }

  async #finishAll(): Promise<void> {
    while (this.#ends.length > 0) {
      const ends = this.#ends.splice(0);
      const states = await this.#persist(() =>
        this.#options.store.finish(ends.map(({ run, outcome }) => ({ lease: run.job.lease, outcome }))),
      );
      for (const [index, end] of ends.entries()) {
        const state = states?.[index] ?? null;
        this.#tellEnd(end, state);
        end.resolve(state);
      }
    }
  }

  async #giveBack(runs: readonly Run[]): Promise<void> {
    await this.#persist(() => this.#options.store.release(runs.map(({ job }) => job.lease)));
    for (const { job } of runs) this.#tell({ type: 'released', job });
  }

  /** Tries until the store takes it, or the worker is stopped: then the lease runs out by itself. */
  async #persist<T>(action: () => Promise<T>): Promise<T | undefined> {
    for (let pause = STORE_RETRY_MS.first; ; pause = Math.min(pause * 2, STORE_RETRY_MS.most)) {
      try {
        const value = await action();
        this.#storeAnswered();
        return value;
      } catch (error) {
        this.#storeFailed(error);
        if (!(error instanceof QueueError) || error.code !== 'store_unavailable') throw error;
      }
      if (this.#stopping.signal.aborted) return undefined;
      await delay(pause, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
    }
  }

  #tellEnd({ run: { job }, outcome, error }: End, state: JobState | null): void {
    if (state === null) this.#tell({ type: 'lost', job });
    else if (state === 'CANCELLED') this.#tell({ type: 'cancelled', job });
    else if (outcome.state === 'SUCCESS') this.#tell({ type: 'succeeded', job, result: outcome.result });
    else if (outcome.state === 'RETRY')
      this.#tell({ type: 'retrying', job, error, delay_ms: outcome.delay_ms });
    else this.#tell({ type: 'failed', job, error });
  }

  #tell(event: WorkerEvent): void {
    this.#options.onEvent?.(event);
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

function stopReason(run: Run): StopReason | undefined {
  const reason: unknown = run.abort.signal.aborted ? run.abort.signal.reason : undefined;
  return reason instanceof AttemptStopped ? reason.reason : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
