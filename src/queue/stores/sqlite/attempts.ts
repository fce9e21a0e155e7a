/** The way of an attempt: claimed, renewed, ended, given back, recovered. */
import type {
  ClaimRequest,
  JobState,
  Lease,
  Outcome,
  Recovered,
  RecoverOptions,
  Renewed,
} from '../../store.ts';
import { take } from './lanes.ts';
import { type Candidate, firstOf, Line } from './lines.ts';
import { jobBySeq } from './posting.ts';
import { priorities } from './reads.ts';
import { type Core, type CoreRow, type JobRow, toCore } from './rows.ts';
import { HOLD } from './schema.ts';
import type { Session } from './session.ts';
import { SQL } from './statements.ts';
import { end, putBack } from './transitions.ts';

/** How many jobs one claim may look at in vain before it answers with what it has: so that none takes long. */
const LOOKS_PER_CLAIM = 1_000;

export interface ClaimedRows {
  readonly jobs: readonly JobRow[];
  readonly next_due_at: number | null;
}

export function claim(session: Session, request: ClaimRequest): ClaimedRows {
  const open = request.queues.filter(({ queue }) => session.get(SQL.isPaused, queue) === undefined);
  const lines = open
    .filter(({ limit }) => limit > 0)
    .map(({ queue, limit }) => new Line(session, queue, Math.min(limit, request.limit)));
  const jobs: JobRow[] = [];
  let looks = 0;
  while (jobs.length < request.limit && looks < LOOKS_PER_CLAIM) {
    const first = firstOf(lines);
    if (first === undefined) break;
    const { line, candidate } = first;
    if (candidate.in_play === null || take(session, candidate.in_play)) {
      jobs.push(start(session, candidate, request));
      line.left -= 1;
    } else {
      looks += 1;
    }
    line.pass(candidate);
  }
  const next_due_at = looks < LOOKS_PER_CLAIM ? nextDue(session, open) : session.now;
  return { jobs, next_due_at };
}

function start(session: Session, candidate: Candidate, { worker, lease_ms }: ClaimRequest): JobRow {
  const { seq, queue, state } = candidate;
  const fence = session.nextFence();
  session.run(SQL.claim, seq, fence, worker, session.now);
  session.run(SQL.insertLease, fence, seq, session.now + lease_ms);
  session.count(queue, state, -1);
  session.count(queue, 'STARTED', 1);
  // Read by itself: RETURNING costs more than both.
  return jobBySeq(session, seq);
}

/** When the first of the jobs that are not due yet is. */
function nextDue(session: Session, queues: readonly { readonly queue: string }[]): number | null {
  let next: number | null = null;
  for (const { queue } of queues) {
    for (const hold of [HOLD.none, HOLD.lane]) {
      for (const priority of priorities(session, queue, hold)) {
        const due = session.get<[number]>(SQL.dueAfter, queue, hold, priority, session.now);
        if (due !== undefined && (next === null || due[0] < next)) next = due[0];
      }
    }
  }
  return next;
}

/** The running job of a lease that is still valid. */
function held(session: Session, lease: Lease): Core | undefined {
  const row = session.get<CoreRow>(SQL.held, lease.fence);
  if (row === undefined) return undefined;
  const job = toCore(row);
  return job.job_id === lease.job_id && job.attempt === lease.attempt ? job : undefined;
}

export interface RenewalRow {
  readonly lease: Lease;
  /** JSON; null: left as it is. */
  readonly progress: string | null;
}

export function renew(session: Session, renewals: readonly RenewalRow[], lease_ms: number): Renewed {
  const lost: Lease[] = [];
  const cancelled: Lease[] = [];
  const expires_at = session.now + lease_ms;
  for (const { lease, progress } of renewals) {
    const job = held(session, lease);
    if (job === undefined) {
      lost.push(lease);
      continue;
    }
    if (job.cancel_requested) cancelled.push(lease);
    if (progress === null) session.run(SQL.renew, lease.fence, expires_at);
    else session.run(SQL.renewWithProgress, lease.fence, expires_at, progress);
  }
  return { lost, cancelled };
}

/** An outcome as it is handed to the thread: the result as JSON. */
export type OutcomeRow =
  | Exclude<Outcome, { readonly state: 'SUCCESS' }>
  | { readonly state: 'SUCCESS'; readonly result: string };

export function finish(
  session: Session,
  ends: readonly { readonly lease: Lease; readonly outcome: OutcomeRow }[],
): (JobState | null)[] {
  return ends.map(({ lease, outcome }) => {
    const job = held(session, lease);
    return job === undefined ? null : finishOne(session, job, outcome);
  });
}

function finishOne(session: Session, job: Core, outcome: OutcomeRow): JobState {
  if (outcome.state === 'FAILURE') {
    end(session, job, 'FAILURE', outcome.error);
    return 'FAILURE';
  }
  if (outcome.state === 'CANCELLED' || job.cancel_requested) {
    end(session, job, 'CANCELLED', outcome.state === 'SUCCESS' ? '' : (outcome.error ?? ''));
    return 'CANCELLED';
  }
  if (outcome.state === 'SUCCESS') {
    end(session, job, 'SUCCESS', '', outcome.result);
    return 'SUCCESS';
  }
  const due_at = session.now + Math.max(0, Math.ceil(outcome.delay_ms));
  session.run(SQL.retryLater, job.seq, due_at, outcome.error);
  putBack(session, job, 'RETRY');
  return 'RETRY';
}

export function release(session: Session, leases: readonly Lease[], delay_ms: number): void {
  for (const lease of leases) {
    const job = held(session, lease);
    if (job === undefined) continue;
    if (job.cancel_requested) {
      end(session, job, 'CANCELLED');
      continue;
    }
    session.run(SQL.release, job.seq, delay_ms > 0 ? session.now + Math.ceil(delay_ms) : null);
    putBack(session, job, 'PENDING');
  }
}

export function recover(session: Session, { max_crashes }: RecoverOptions): Recovered {
  const requeued: Lease[] = [];
  const poisoned: Lease[] = [];
  const cancelled: Lease[] = [];
  for (const job of session.all<CoreRow>(SQL.expired, session.now).map(toCore)) {
    const { seq, job_id, attempt, fence, worker, crashes } = job;
    if (fence === null) throw new Error(`job ${seq} runs without a fence`);
    const lease = { job_id, attempt, fence };
    if (job.cancel_requested) {
      cancelled.push(lease);
      end(session, job, 'CANCELLED');
    } else if (crashes + 1 >= max_crashes) {
      poisoned.push(lease);
      const times = crashes + 1 === 1 ? 'once' : `${crashes + 1} times in a row`;
      end(session, job, 'FAILURE', `its worker died ${times}, at last "${worker}" (attempt ${attempt})`);
    } else {
      requeued.push(lease);
      session.run(SQL.requeue, seq, `worker "${worker}" died or lost its connection (attempt ${attempt})`);
      putBack(session, job, 'PENDING');
    }
  }
  // Whoever still works on one of these should hear of it.
  if (requeued.length + poisoned.length + cancelled.length > 0) session.happened.stopped = true;
  return { requeued, poisoned, cancelled };
}

export function leases(session: Session): Lease[] {
  return session
    .all<[job_id: string, attempt: number, fence: number]>(SQL.leases, session.now)
    .map(([job_id, attempt, fence]) => ({ job_id, attempt, fence }));
}
