/** What a worker is told, and what it tells. */
import type { Json } from '../util/json.ts';
import type { Handler } from './handler.ts';
import type { ClaimedJob, Store } from './store.ts';

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
  /** Stands with its jobs in the store, behind it a mark that is this worker's alone. */
  readonly name: string;
  /** The queues it listens on; a function is asked before each claim. */
  readonly queues: readonly QueueLimit[] | (() => readonly QueueLimit[]);
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
  /** On shutdown: how long a handler may take to return once its signal is aborted. Default 5 s. */
  readonly abort_grace_ms?: number;
  /** In [0, 1): the jitter of retries and polls. */
  readonly random?: () => number;
  /** Called at once, in order. What it throws is an uncaught exception, and changes nothing here. */
  onEvent?(event: WorkerEvent): void;
}

/** Before the retry after `failures` earlier failures, ms: half of it fixed, half random, never all together. */
export function retryDelay(failures: number, { base_ms, max_ms }: Backoff, random: () => number): number {
  const longest = Math.min(max_ms, base_ms * 2 ** Math.min(failures, 30));
  return (longest / 2) * (1 + random());
}
