/** What people do to jobs: cancel, purge, pause; and what time does: prune. */
import { GroupFinished, JobFinished, UnknownGroup, UnknownJob } from '../../errors.ts';
import { isFinished } from '../../finished.ts';
import { jobBySeq } from './posting.ts';
import { type GroupRows, groupOf } from './reads.ts';
import { type CoreRow, type JobRow, toCore } from './rows.ts';
import type { Session } from './session.ts';
import { SQL } from './statements.ts';
import { coreBySeq, end, requestCancel } from './transitions.ts';

/** How many jobs one step of `prune` deletes: other calls come in between. */
const PRUNED_PER_STEP = 500;

export function cancel(session: Session, job_id: string): JobRow {
  const row = session.get<CoreRow>(SQL.newestCore, job_id);
  if (row === undefined) throw UnknownJob(job_id);
  const job = toCore(row);
  if (isFinished(job.state)) throw JobFinished(job_id, job.state);
  requestCancel(session, job);
  return jobBySeq(session, job.seq);
}

export function cancelGroup(session: Session, group_id: string): GroupRows {
  const group = groupOf(session, group_id);
  if (group.unfinished === 0) throw GroupFinished(group_id);
  for (const [seq] of session.all<[seq: number]>(SQL.unfinishedOfGroup, group_id, group.seq)) {
    const job = coreBySeq(session, seq);
    // One of the others may have taken it along as its child.
    if (job !== undefined && !isFinished(job.state)) requestCancel(session, job);
  }
  return { ...group, jobs: session.all<JobRow>(SQL.jobsOfGroup, group_id, group.seq) };
}

export function purge(session: Session, job_id: string): void {
  const runs = session.all<CoreRow>(SQL.runsOfId, job_id).map(toCore);
  if (runs.length === 0) throw UnknownJob(job_id);
  for (const { seq } of runs) purgeRun(session, seq);
}

export function purgeGroup(session: Session, group_id: string): void {
  const groups = session.all<[seq: number]>(SQL.groupsOfId, group_id);
  if (groups.length === 0) throw UnknownGroup(group_id);
  for (const [seq] of session.all<[seq: number]>(SQL.jobsOfGroupId, group_id)) purgeRun(session, seq);
  for (const [seq] of groups) session.run(SQL.deleteGroup, seq);
}

function purgeRun(session: Session, seq: number): void {
  const job = coreBySeq(session, seq);
  if (job === undefined) return;
  if (!isFinished(job.state)) end(session, job, 'CANCELLED');
  if (job.state === 'STARTED') session.happened.stopped = true;
  deleteJob(session, seq);
}

function deleteJob(session: Session, seq: number): void {
  const row = session.change<[queue: string, state: Parameters<Session['count']>[1]]>(SQL.deleteJob, seq);
  if (row !== undefined) session.count(row[0], row[1], -1);
}

export function pause(session: Session, queue: string): void {
  session.run(SQL.pause, queue);
}

export function resume(session: Session, queue: string): void {
  session.run(SQL.resume, queue);
  session.happened.ready = true;
}

export interface Retention {
  readonly jobs_ms: number;
  readonly groups_ms: number;
}

/** Forgets some; null when there is nothing left to forget. */
export function prune(session: Session, { jobs_ms, groups_ms }: Retention): number | null {
  const jobs = session.all<[seq: number]>(SQL.forgettableJobs, session.now - jobs_ms, PRUNED_PER_STEP);
  for (const [seq] of jobs) deleteJob(session, seq);
  if (jobs.length > 0) return jobs.length;
  const group =
    session.get<[seq: number, group_id: string]>(SQL.forgottenGroup) ??
    session.get<[seq: number, group_id: string]>(SQL.forgettableGroup, session.now - groups_ms);
  if (group === undefined) {
    session.run(SQL.deleteEmptyCounts);
    return null;
  }
  const [group_seq, group_id] = group;
  const members = session.all<[seq: number]>(SQL.someOfGroup, group_id, group_seq, PRUNED_PER_STEP);
  for (const [seq] of members) deleteJob(session, seq);
  // A large group is gone for its users with the first step.
  if (members.length < PRUNED_PER_STEP) session.run(SQL.deleteGroup, group_seq);
  else session.run(SQL.forgetGroup, group_seq);
  return members.length;
}
