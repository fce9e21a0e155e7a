/** What a worker runs. */
import type { Json } from '../util/json.ts';
import type { ClaimedJob } from './store.ts';

/** Why an attempt's signal was aborted. */
export type StopReason = 'cancelled' | 'lease_lost' | 'shutdown';

/** The reason of an attempt's aborted signal. */
export class AttemptStopped extends Error {
  readonly reason: StopReason;

  constructor(reason: StopReason) {
    super(
      {
        cancelled: 'the job was cancelled',
        lease_lost: 'the attempt has lost its lease',
        shutdown: 'the worker is shutting down',
      }[reason],
    );
    this.name = 'AttemptStopped';
    this.reason = reason;
  }
}

/** Thrown by a handler for what no retry can mend: the job fails at once. */
export class PermanentError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'PermanentError';
  }
}

export interface HandlerContext {
  /** Aborted, with an `AttemptStopped`, when the attempt must stop. */
  readonly signal: AbortSignal;
  /** Replaces the progress that the next heartbeat carries to the store. Cheap; call it as often as you like. */
  progress(progress: Json): void;
  /**
   * Asks the store now whether the lease is still held and no cancel was asked, and extends it. Rejects with
   * `AttemptStopped` otherwise; waits while the store is away. Await it before the step that makes the work
   * visible. What the store has said in the last `max_age_ms` (default 0) is enough, at most a tenth of the lease.
   */
  confirm(max_age_ms?: number): Promise<void>;
}

/** Claimed jobs that cannot be run here yet, and in how many ms to look again. */
export interface Early {
  readonly jobs: readonly ClaimedJob[];
  readonly delay_ms: number;
}

export interface Handler {
  /**
   * Asked of jobs that were just claimed, before any of them is begun: those that cannot be run here yet go back to
   * their queue for a while, their attempts not counted. Null: all can be run.
   */
  early?(jobs: readonly ClaimedJob[]): Early | null;
  /**
   * Does the work of one attempt and returns what is stored as its result. A `PermanentError` fails the job;
   * any other error is retried while the job has retries left.
   */
  run(job: ClaimedJob, context: HandlerContext): Promise<Json>;
  /** Undoes a `run` that succeeded but did not count: the lease was lost, or the job cancelled meanwhile. */
  discard?(job: ClaimedJob, result: Json): Promise<void>;
}
