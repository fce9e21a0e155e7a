/** What every store does in the same way, whatever it keeps its jobs in. */

import type { Json } from '../../util/json.ts';
import type { CheckedJob } from '../check.ts';
import { InvalidCursor, InvalidJob } from '../errors.ts';
import type { Hint, Job, JobState, Lease, Outcome } from '../store.ts';

/** A job as it is right after it was accepted; `isCancelled`: a parent had already failed it. */
export function asPosted(
  job: CheckedJob,
  seq: number,
  now: number,
  group_id: string | null,
  isCancelled: boolean,
): Job {
  return {
    seq,
    job_id: job.job_id,
    task: job.task,
    queue: job.queue,
    payload: JSON.parse(job.payload),
    state: isCancelled ? 'CANCELLED' : 'PENDING',
    priority: job.priority,
    eta: job.eta,
    retries: job.retries,
    attempt: 0,
    failures: 0,
    fence: null,
    group_id,
    after: job.after,
    limit: job.limit,
    key: job.key,
    key_concurrency: job.key_concurrency,
    worker: null,
    error: '',
    result: null,
    progress: null,
    cancel_requested: false,
    created_at: now,
    due_at: Math.max(job.eta ?? 0, now),
    started_at: null,
    finished_at: isCancelled ? now : null,
  };
}

/** What a lease may carry besides is left out: a claimed job is one, too. */
export function toLease({ job_id, attempt, fence }: Lease): Lease {
  return { job_id, attempt, fence };
}

/**
 * For stores that carry out what one process asks in the order in which it asks: hints at the jobs that a call which
 * has just been made is to end. Who reads them now is answered together with that call, and not a round trip later.
 */
export function announce(
  ends: readonly { readonly lease: Lease; readonly outcome: Outcome }[],
  emit: (hint: Hint) => void,
): void {
  for (const { lease, outcome } of ends) {
    if (outcome.state === 'RETRY') continue;
    try {
      emit({ type: 'finished', job_id: lease.job_id });
    } catch (error) {
      // What listeners throw is not the call's business.
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}

/** A handler's result as JSON. Throws `InvalidJob` where there is none for it, whatever its type says. */
export function resultText(result: Json): string {
  const text: string | undefined = JSON.stringify(result);
  if (text === undefined) throw InvalidJob('a result must be JSON');
  return text;
}

export function noCounts(): Record<JobState, number> {
  return { PENDING: 0, STARTED: 0, RETRY: 0, SUCCESS: 0, FAILURE: 0, CANCELLED: 0 };
}

/** A place in a listing, for those that it is handed to: the seq of the last job of the page before. */
export function toCursor(seq: number): string {
  return Buffer.from(`before:${seq}`).toString('base64url');
}

/** Throws `InvalidCursor`. */
export function fromCursor(cursor: string): number {
  const [, seq] = /^before:([1-9]\d{0,15})$/.exec(Buffer.from(cursor, 'base64url').toString()) ?? [];
  if (seq === undefined || toCursor(Number(seq)) !== cursor) throw InvalidCursor();
  return Number(seq);
}
