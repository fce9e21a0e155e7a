/** Posting jobs, and posting one again. */
import type { CheckedJob } from '../../check.ts';
import { GroupActive, JobActive, JobFinished, UnknownJob } from '../../errors.ts';
import type { JobState, NewGroup } from '../../store.ts';
import { type CoreRow, type JobRow, type Parent, toCore, toParents } from './rows.ts';
import { HOLD } from './schema.ts';
import type { Session } from './session.ts';
import { SQL } from './statements.ts';
import { isFinal } from './transitions.ts';

/** What the caller does not know of the jobs it has posted. */
export interface Posted {
  /** The seq of the first; those of the others follow on. */
  readonly first_seq: number;
  readonly now: number;
  /** Indexes of jobs that were cancelled at once, since a parent had failed. */
  readonly cancelled: readonly number[];
}

interface Plan {
  readonly parents: Parent[];
  waits: number;
  cancelled: boolean;
}

/**
 * `jobs` are in the order posted. `order` lists their indexes parents first; null if no job of the batch waits
 * for another.
 */
export function enqueue(
  session: Session,
  jobs: readonly CheckedJob[],
  order: readonly number[] | null,
  group: NewGroup | null,
): Posted {
  const outside = refuse(session, jobs, group);
  const group_seq = group === null ? null : session.nextSeq();
  const seqs = jobs.map(() => session.nextSeq());
  const plans = plan(jobs, seqs, order, outside);
  const slot = group?.concurrency === undefined ? null : group_seq;
  const held = slot === null ? new Set() : beyond(group?.concurrency ?? 0, jobs, plans, session.now);

  let unfinished = 0;
  for (const [index, job] of jobs.entries()) {
    const { parents, waits, cancelled } = at(plans, index);
    const seq = at(seqs, index);
    const hold = cancelled ? null : waits > 0 ? HOLD.parents : held.has(index) ? HOLD.slot : HOLD.none;
    session.run(
      SQL.insertJob,
      seq,
      job.job_id,
      job.task,
      job.queue,
      cancelled ? 'CANCELLED' : 'PENDING',
      hold,
      job.priority,
      Math.max(job.eta ?? 0, session.now),
      slot,
      cancelled ? 0 : waits,
      job.retries,
      group_seq,
      group?.group_id ?? null,
      session.now,
      job.eta,
      cancelled ? session.now : null,
      job.payload,
      parents.length === 0 ? null : JSON.stringify(parents),
    );
    session.count(job.queue, cancelled ? 'CANCELLED' : 'PENDING', 1);
    if (cancelled) session.happened.finished.push(job.job_id);
    else unfinished += 1;
    if (hold === HOLD.none) session.happened.ready = true;
  }
  for (const [index, { parents, waits, cancelled }] of plans.entries()) {
    if (cancelled || waits === 0) continue;
    for (const [parent_id, on_failure, parent_seq] of parents) {
      if (isUnfinished(parent_id, parent_seq)) {
        session.run(SQL.insertDependency, parent_seq, at(seqs, index), on_failure);
      }
    }
  }
  if (group !== null && group_seq !== null) {
    const finished_at = unfinished === 0 ? session.now : null;
    session.run(
      SQL.insertGroup,
      group_seq,
      group.group_id,
      group.concurrency ?? null,
      session.now,
      unfinished,
      finished_at,
    );
    if (slot !== null) session.run(SQL.insertSlots, slot, group.concurrency ?? 0);
  }
  const cancelled = [...plans.entries()].filter(([, { cancelled }]) => cancelled).map(([index]) => index);
  return { first_seq: seqs[0] ?? 0, now: session.now, cancelled };

  function isUnfinished(parent_id: string, parent_seq: number): boolean {
    const known = outside.get(parent_id);
    if (known !== undefined && known.seq === parent_seq) return !isFinal(known.state);
    return !at(plans, parent_seq - at(seqs, 0)).cancelled;
  }
}

type Known = { readonly seq: number; readonly state: JobState };

/** Throws if the batch cannot be accepted; the parents that are not part of it. Writes nothing. */
function refuse(
  session: Session,
  jobs: readonly CheckedJob[],
  group: NewGroup | null,
): ReadonlyMap<string, Known> {
  for (const { job_id } of jobs) {
    if (session.get(SQL.isActive, job_id) !== undefined) throw JobActive(job_id);
  }
  if (group !== null) {
    const newest = session.get<[number, string, number | null, number, unfinished: number]>(
      SQL.newestGroup,
      group.group_id,
    );
    if (newest !== undefined && newest[4] > 0) throw GroupActive(group.group_id);
  }
  const outside = new Map<string, Known>();
  if (jobs.every((job) => job.after.length === 0)) return outside;
  const batch = new Set(jobs.map((job) => job.job_id));
  for (const { after } of jobs) {
    for (const { job_id } of after) {
      if (batch.has(job_id) || outside.has(job_id)) continue;
      const run = session.get<[seq: number, state: JobState]>(SQL.newestRun, job_id);
      if (run === undefined) throw UnknownJob(job_id);
      outside.set(job_id, { seq: run[0], state: run[1] });
    }
  }
  return outside;
}

/** For each job its parents, how many of them it waits for, and whether one has already failed it. */
function plan(
  jobs: readonly CheckedJob[],
  seqs: readonly number[],
  order: readonly number[] | null,
  outside: ReadonlyMap<string, Known>,
): readonly Plan[] {
  const plans = jobs.map((): Plan => ({ parents: [], waits: 0, cancelled: false }));
  const indexes = order === null ? null : new Map(jobs.map(({ job_id }, index) => [job_id, index]));
  for (const index of order ?? jobs.keys()) {
    const own = at(plans, index);
    for (const { job_id, on_failure } of at(jobs, index).after) {
      const parent = indexes?.get(job_id);
      const known = outside.get(job_id);
      const state =
        parent === undefined ? known?.state : at(plans, parent).cancelled ? 'CANCELLED' : 'PENDING';
      const seq = parent === undefined ? known?.seq : at(seqs, parent);
      if (state === undefined || seq === undefined) throw UnknownJob(job_id);
      own.parents.push([job_id, on_failure, seq]);
      if (!isFinal(state)) own.waits += 1;
      else if (state !== 'SUCCESS' && on_failure === 'cancel') own.cancelled = true;
    }
  }
  return plans;
}

/** The jobs, by index, that are due and not among the first `capacity` of their queue: no slot is free for them. */
function beyond(
  capacity: number,
  jobs: readonly CheckedJob[],
  plans: readonly Plan[],
  now: number,
): ReadonlySet<number> {
  const ready = [...jobs.keys()].filter((index) => {
    const { waits, cancelled } = at(plans, index);
    return waits === 0 && !cancelled && (at(jobs, index).eta ?? 0) <= now;
  });
  // Stable: equal priorities stay in the order posted.
  ready.sort((one, other) => at(jobs, other).priority - at(jobs, one).priority);
  const taken = new Map<string, number>();
  return new Set(
    ready.filter((index) => {
      const { queue } = at(jobs, index);
      const before = taken.get(queue) ?? 0;
      taken.set(queue, before + 1);
      return before >= capacity;
    }),
  );
}

export function retry(session: Session, job_id: string): JobRow {
  const row = session.get<CoreRow>(SQL.newestCore, job_id);
  if (row === undefined) throw UnknownJob(job_id);
  const job = toCore(row);
  if (!isFinal(job.state)) throw JobActive(job_id);
  if (job.state === 'SUCCESS') throw JobFinished(job_id, job.state);
  if (job.group_seq !== null && session.get<[number]>(SQL.groupIsForgotten, job.group_seq)?.[0] === 1) {
    throw UnknownJob(job_id);
  }
  // Parents that have ended are not asked again; one that was set going again is waited for.
  let waits = 0;
  for (const [, on_failure, parent_seq] of toParents(job.parents)) {
    const state = session.get<CoreRow>(SQL.coreBySeq, parent_seq)?.[3];
    if (state === undefined || isFinal(state)) continue;
    waits += 1;
    session.run(SQL.insertDependency, parent_seq, job.seq, on_failure);
  }
  const hold = waits > 0 ? HOLD.parents : HOLD.none;
  session.run(SQL.restart, job.seq, hold, waits, session.nextSeq(), session.now);
  session.count(job.queue, job.state, -1);
  session.count(job.queue, 'PENDING', 1);
  if (job.group_seq !== null) session.run(SQL.jobOfGroupRestarted, job.group_seq);
  session.happened.ready = true;
  return jobBySeq(session, job.seq);
}

export function jobBySeq(session: Session, seq: number): JobRow {
  const row = session.get<JobRow>(SQL.jobBySeq, seq);
  if (row === undefined) throw new Error(`the store has lost job ${seq}`);
  return row;
}

function at<T>(items: readonly T[], index: number): T {
  const item = items[index];
  if (item === undefined) throw new Error(`there is no item ${index} of ${items.length}`);
  return item;
}
