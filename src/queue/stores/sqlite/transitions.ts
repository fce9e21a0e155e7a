/**
 * How a job leaves a state, with all that hangs on it: its lease, its slot, its group, its children, the
 * counts. Whoever changes a job's state does it here.
 *
 * Slots. A job that needs one is looked at when it is claimed: if none is free it is put on hold, and so out
 * of the index that claims walk. For each queue, what is on hold comes after what is not; so it is enough
 * that a slot that becomes free, or a job that leaves without having taken one, brings back the first of
 * each queue (or of its own). At least as many jobs as there are free slots are then claimable in each
 * queue, and they are the first in order.
 */
import type { JobState } from '../../store.ts';
import { type Core, type CoreRow, toCore, toParents } from './rows.ts';
import { HOLD } from './schema.ts';
import type { Session } from './session.ts';
import { SQL } from './statements.ts';

export type FinalState = 'SUCCESS' | 'FAILURE' | 'CANCELLED';

/** Ends a job that waits or runs, and cancels or releases those that waited for it, and so on. */
export function end(
  session: Session,
  job: Core,
  state: FinalState,
  error = '',
  result: string | null = null,
): void {
  endOne(session, job, state, error, result);
  // Not recursive: a chain may be long.
  const ended: { job: Core; state: FinalState }[] = [{ job, state }];
  for (const parent of ended) {
    const children = session.all<[seq: number, on_failure: string]>(SQL.children, parent.job.seq);
    if (children.length === 0) continue;
    session.run(SQL.forgetChildren, parent.job.seq);
    for (const [seq, on_failure] of children) {
      if (parent.state === 'SUCCESS' || on_failure === 'run') {
        const waits = session.change<[waits: number]>(SQL.parentFinished, seq)?.[0];
        if (waits === 0) {
          session.run(SQL.setHold, seq, HOLD.none);
          session.happened.ready = true;
        }
      } else {
        const child = coreBySeq(session, seq);
        if (child === undefined) continue;
        endOne(session, child, 'CANCELLED', '', null);
        ended.push({ job: child, state: 'CANCELLED' });
      }
    }
  }
}

function endOne(session: Session, job: Core, state: FinalState, error: string, result: string | null): void {
  session.run(SQL.finish, job.seq, state, error, result, session.now);
  session.count(job.queue, job.state, -1);
  session.count(job.queue, state, 1);
  session.happened.finished.push(job.job_id);
  if (job.group_seq !== null) session.run(SQL.jobOfGroupFinished, job.group_seq, session.now);
  if (job.state === 'STARTED') {
    endLease(session, job);
  } else if (job.hold === HOLD.parents) {
    for (const [, , parent_seq] of toParents(job.parents)) session.run(SQL.forgetEdge, parent_seq, job.seq);
  } else if (job.hold === HOLD.none && job.slot !== null) {
    unholdFirst(session, job.slot, job.queue);
  }
}

/** To be called when a STARTED job was put back to wait, after its own row has been changed. */
export function putBack(session: Session, job: Core, state: 'PENDING' | 'RETRY'): void {
  session.count(job.queue, job.state, -1);
  session.count(job.queue, state, 1);
  session.happened.ready = true;
  endLease(session, job);
}

function endLease(session: Session, { fence, slot }: Core): void {
  if (fence !== null) session.run(SQL.deleteLease, fence);
  if (slot === null) return;
  session.run(SQL.freeSlot, slot);
  let queue = '';
  for (;;) {
    const next = session.get<[queue: string]>(SQL.nextQueueHeld, slot, queue);
    if (next === undefined) return;
    queue = next[0];
    unholdFirst(session, slot, queue);
  }
}

function unholdFirst(session: Session, slot: number, queue: string): void {
  const first = session.get<[seq: number]>(SQL.firstHeld, slot, queue);
  if (first === undefined) return;
  session.run(SQL.setHold, first[0], HOLD.none);
  session.happened.ready = true;
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

export function isFinal(state: JobState): state is FinalState {
  return state === 'SUCCESS' || state === 'FAILURE' || state === 'CANCELLED';
}
