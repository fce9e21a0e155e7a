/**
 * How a job leaves a state, with all that hangs on it: its lease, its slots, its group, its children, the
 * counts. Whoever changes a job's state does it here.
 */
import type { FinishedState } from '../../finished.ts';
import { freeSlots, leave, stopWaiting, wait } from './lanes.ts';
import { type Core, type CoreRow, toCore, toParents } from './rows.ts';
import { HOLD } from './schema.ts';
import type { Session } from './session.ts';
import { SQL } from './statements.ts';

/** Ends a job that waits or runs, and cancels or releases those that waited for it, and so on. */
export function end(
  session: Session,
  job: Core,
  state: FinishedState,
  error = '',
  result: string | null = null,
): void {
  endOne(session, job, state, error, result);
  // Not recursive: a chain may be long.
  const ended: { job: Core; state: FinishedState }[] = [{ job, state }];
  for (const parent of ended) {
    const children = session.all<[seq: number, on_failure: string]>(SQL.children, parent.job.seq);
    if (children.length === 0) continue;
    session.run(SQL.forgetChildren, parent.job.seq);
    for (const [seq, on_failure] of children) {
      if (parent.state === 'SUCCESS' || on_failure === 'run') {
        parentFinished(session, seq);
      } else {
        const child = coreBySeq(session, seq);
        if (child === undefined) continue;
        endOne(session, child, 'CANCELLED', '', null);
        ended.push({ job: child, state: 'CANCELLED' });
      }
    }
  }
}

function parentFinished(session: Session, seq: number): void {
  const row = session.change<[waits: number, lane: number | null, due_at: number, place: number]>(
    SQL.parentFinished,
    seq,
  );
  if (row === undefined) return;
  const [waits, lane, due_at, place] = row;
  if (waits > 0) return;
  session.run(SQL.setHold, seq, lane === null ? HOLD.none : HOLD.lane);
  if (lane !== null) wait(session, lane, { seq, due_at, place });
  session.happened.ready = true;
}

function endOne(
  session: Session,
  job: Core,
  state: FinishedState,
  error: string,
  result: string | null,
): void {
  const { seq, lane } = job;
  session.run(SQL.finish, seq, state, error, result, session.now);
  session.count(job.queue, job.state, -1);
  session.count(job.queue, state, 1);
  session.happened.finished.push(job.job_id);
  if (job.group_seq !== null) session.run(SQL.jobOfGroupFinished, job.group_seq, session.now);
  if (job.state === 'STARTED') {
    endLease(session, job);
  } else if (job.hold === HOLD.parents) {
    for (const [, , parent_seq] of toParents(job.parents)) session.run(SQL.forgetEdge, parent_seq, seq);
  } else if (lane !== null) {
    stopWaiting(session, seq, lane);
  }
  if (lane !== null) leave(session, lane);
}

/** To be called when a STARTED job was put back to wait, after its own row has been changed. */
export function putBack(session: Session, job: Core, state: 'PENDING' | 'RETRY'): void {
  const { seq, lane } = job;
  session.count(job.queue, job.state, -1);
  session.count(job.queue, state, 1);
  session.happened.ready = true;
  endLease(session, job);
  if (lane === null) return;
  const row = session.get<[due_at: number, place: number]>(SQL.placeOf, seq);
  if (row === undefined) throw new Error(`the store has lost job ${seq}`);
  const [due_at, place] = row;
  wait(session, lane, { seq, due_at, place });
}

function endLease(session: Session, { fence, lane }: Core): void {
  if (fence !== null) session.run(SQL.deleteLease, fence);
  if (lane !== null) freeSlots(session, lane);
}

/** Cancels a job that is not finished: at once when it waits, by request when it runs. */
export function requestCancel(session: Session, job: Core): void {
  if (job.state !== 'STARTED') {
    end(session, job, 'CANCELLED');
  } else if (!job.cancel_requested) {
    session.run(SQL.requestCancel, job.seq);
    session.happened.stopped = true;
  }
}

export function coreBySeq(session: Session, seq: number): Core | undefined {
  const row = session.get<CoreRow>(SQL.coreBySeq, seq);
  return row === undefined ? undefined : toCore(row);
}
