/** Posting jobs, and posting one again. */
import type { CheckedJob } from '../../check.ts';
import { GroupActive, JobActive, JobFinished, UnknownJob } from '../../errors.ts';
import { isFinished } from '../../finished.ts';
import type { JobState, NewGroup } from '../../store.ts';
import { type Demand, join, laneFor, type Place, setKeyConcurrency, wait, waitBehind } from './lanes.ts';
import { type Core, type CoreRow, type JobRow, type Parent, toCore, toParents } from './rows.ts';
import { HOLD } from './schema.ts';
import type { Session } from './session.ts';
import { SQL } from './statements.ts';

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
  const inLanes: InLane[] = [];
  let unfinished = 0;
  for (const [index, job] of jobs.entries()) {
    const { parents, waits, cancelled } = at(plans, index);
    const seq = at(seqs, index);
    const lane = cancelled ? null : laneFor(session, demandOf(job, group, group_seq));
    const due_at = Math.max(job.eta ?? 0, session.now);
    const hold = cancelled ? null : waits > 0 ? HOLD.parents : lane === null ? HOLD.none : HOLD.lane;
    session.run(
      SQL.insertJob,
      seq,
      job.job_id,
      job.task,
      job.queue,
      cancelled ? 'CANCELLED' : 'PENDING',
      hold,
      job.priority,
      due_at,
      lane,
      cancelled ? 0 : waits,
      job.retries,
      group_seq,
      group?.group_id ?? null,
      session.now,
      job.eta,
      cancelled ? session.now : null,
      job.payload,
      parents.length === 0 ? null : JSON.stringify(parents),
      job.limit,
      job.key,
      job.key_concurrency,
    );
    session.count(job.queue, cancelled ? 'CANCELLED' : 'PENDING', 1);
    if (cancelled) session.happened.finished.push(job.job_id);
    else unfinished += 1;
    if (hold === HOLD.none) session.happened.ready = true;
    if (lane !== null) inLanes.push({ lane, seq, due_at, place: seq, waits });
  }
  joinLanes(session, inLanes);
  limitKeys(session, jobs);
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
  }
  const cancelled = [...plans.entries()].filter(([, { cancelled }]) => cancelled).map(([index]) => index);
  return { first_seq: seqs[0] ?? 0, now: session.now, cancelled };

  function isUnfinished(parent_id: string, parent_seq: number): boolean {
    const known = outside.get(parent_id);
    if (known !== undefined && known.seq === parent_seq) return !isFinished(known.state);
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
      if (!isFinished(state)) own.waits += 1;
      else if (state !== 'SUCCESS' && on_failure === 'cancel') own.cancelled = true;
    }
  }
  return plans;
}

interface InLane extends Place {
  readonly lane: number;
  readonly waits: number;
}

/** Jobs of one batch, in the order posted. */
function joinLanes(session: Session, jobs: readonly InLane[]): void {
  const counts = new Map<number, number>();
  /** Lanes with a job of the batch that is due: what comes after it waits behind. */
  const ahead = new Set<number>();
  for (const job of jobs) {
    const { lane, due_at, waits } = job;
    counts.set(lane, (counts.get(lane) ?? 0) + 1);
    if (waits > 0) continue;
    const isDue = due_at <= session.now;
    if (isDue && ahead.has(lane)) waitBehind(session, lane, job);
    else wait(session, lane, job);
    if (isDue) ahead.add(lane);
  }
  for (const [lane, count] of counts) join(session, lane, count);
}

/** What the last of its jobs says holds for a key, also if that one was cancelled at once. */
function limitKeys(session: Session, jobs: readonly CheckedJob[]): void {
  const keys = new Map<string, number | null>();
  for (const { key, key_concurrency } of jobs) if (key !== null) keys.set(key, key_concurrency);
  for (const [key, concurrency] of keys) setKeyConcurrency(session, key, concurrency);
}

function demandOf(job: CheckedJob, group: NewGroup | null, seq: number | null): Demand {
  const { queue, priority, limit, key, key_concurrency } = job;
  const concurrency = group?.concurrency;
  return {
    queue,
    priority,
    group: seq === null || concurrency === undefined ? null : { seq, concurrency },
    limit,
    key,
    key_concurrency,
  };
}

export function retry(session: Session, job_id: string): JobRow {
  const row = session.get<CoreRow>(SQL.newestCore, job_id);
  if (row === undefined) throw UnknownJob(job_id);
  const job = toCore(row);
  if (!isFinished(job.state)) throw JobActive(job_id);
  if (job.state === 'SUCCESS') throw JobFinished(job_id, job.state);
  const demand = pastDemand(session, job);
  if (demand === null) throw UnknownJob(job_id);
  // Parents that have ended are not asked again; one that was set going again is waited for.
  let waits = 0;
  for (const [, on_failure, parent_seq] of toParents(job.parents)) {
    const state = session.get<CoreRow>(SQL.coreBySeq, parent_seq)?.[3];
    if (state === undefined || isFinished(state)) continue;
    waits += 1;
    session.run(SQL.insertDependency, parent_seq, job.seq, on_failure);
  }
  const lane = laneFor(session, demand);
  const hold = waits > 0 ? HOLD.parents : lane === null ? HOLD.none : HOLD.lane;
  const place = session.nextSeq();
  session.run(SQL.restart, job.seq, hold, waits, place, session.now, lane);
  session.count(job.queue, job.state, -1);
  session.count(job.queue, 'PENDING', 1);
  if (job.group_seq !== null) session.run(SQL.jobOfGroupRestarted, job.group_seq);
  session.happened.ready = true;
  if (lane !== null) {
    join(session, lane, 1);
    if (hold === HOLD.lane) wait(session, lane, { seq: job.seq, due_at: session.now, place });
  }
  if (demand.key !== null) setKeyConcurrency(session, demand.key, demand.key_concurrency);
  return jobBySeq(session, job.seq);
}

/** What a finished job needed slots of; null if its group is being forgotten. */
function pastDemand(session: Session, { seq, queue, group_seq }: Core): Demand | null {
  const row = session.get<
    [priority: number, limit: string | null, key: string | null, key_concurrency: number | null]
  >(SQL.demandOf, seq);
  if (row === undefined) throw new Error(`the store has lost job ${seq}`);
  const [priority, limit, key, key_concurrency] = row;
  const demand = { queue, priority, group: null, limit, key, key_concurrency };
  if (group_seq === null) return demand;
  const group = session.get<[concurrency: number | null, forgotten: number]>(SQL.groupBySeq, group_seq);
  if (group === undefined || group[1] === 1) return null;
  const [concurrency] = group;
  return { ...demand, group: concurrency === null ? null : { seq: group_seq, concurrency } };
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
