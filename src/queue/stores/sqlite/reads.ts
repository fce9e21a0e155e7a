/** Looking at jobs without changing any. */
import { UnknownGroup, UnknownJob } from '../../errors.ts';
import type { JobFilter, JobState } from '../../store.ts';
import { hasSlots } from './lanes.ts';
import type { JobRow } from './rows.ts';
import { HOLD } from './schema.ts';
import type { Session } from './session.ts';
import { LISTING, SQL } from './statements.ts';

/** How many jobs a listing looks at in one step: other calls come in between. */
const WINDOW = 2_000;
/** How many jobs in play are read at once. */
const CHUNK = 10;

export function storeId(session: Session): string {
  const row = session.get<[store_id: string]>(SQL.storeId);
  if (row === undefined) throw new Error('the store has lost its own row');
  return row[0];
}

export function get(session: Session, job_id: string): JobRow {
  const row = session.get<JobRow>(SQL.newestJob, job_id);
  if (row === undefined) throw UnknownJob(job_id);
  return row;
}

export function states(session: Session, job_ids: readonly string[]): (JobState | null)[] {
  return job_ids.map(
    (job_id) => session.get<[seq: number, state: JobState]>(SQL.newestRun, job_id)?.[1] ?? null,
  );
}

export interface GroupRows {
  readonly seq: number;
  readonly group_id: string;
  readonly concurrency: number | null;
  readonly created_at: number;
  readonly unfinished: number;
  readonly jobs: readonly JobRow[];
}

type GroupRow = Omit<GroupRows, 'jobs'>;

/** The newest group of an id, without its jobs. */
export function groupOf(session: Session, id: string): GroupRow {
  const found = findGroup(session, id);
  if (found === undefined) throw UnknownGroup(id);
  return found;
}

function findGroup(session: Session, id: string): GroupRow | undefined {
  const row = session.get<
    [seq: number, group_id: string, concurrency: number | null, created_at: number, unfinished: number]
  >(SQL.newestGroup, id);
  if (row === undefined) return undefined;
  const [seq, group_id, concurrency, created_at, unfinished] = row;
  return { seq, group_id, concurrency, created_at, unfinished };
}

export function group(session: Session, group_id: string): GroupRows {
  const found = groupOf(session, group_id);
  return { ...found, jobs: session.all<JobRow>(SQL.jobsOfGroup, group_id, found.seq) };
}

export function unfinished(session: Session, group_ids: readonly string[]): (number | null)[] {
  return group_ids.map((id) => findGroup(session, id)?.unfinished ?? null);
}

/**
 * First what is due, also if it waits for a slot: it is next when one is free. Then what falls due later, by
 * when; and last what waits for parents, since nobody knows how long.
 */
export function pending(session: Session, queue: string, limit: number): JobRow[] {
  const due: JobRow[] = [];
  const later: JobRow[] = [];
  for (const hold of [HOLD.none, HOLD.lane]) {
    let found = 0;
    for (const priority of priorities(session, queue, hold)) {
      const rows = session.all<JobRow>(SQL.waitingDue, queue, hold, priority, session.now, limit - found);
      due.push(...rows);
      found += rows.length;
      // Lower ones come later than so many of these, and what is not due later still.
      if (found === limit) break;
      later.push(...session.all<JobRow>(SQL.waitingLater, queue, hold, priority, session.now, limit));
    }
  }
  due.sort(
    (one, other) =>
      priorityOf(other) - priorityOf(one) || dueAt(one) - dueAt(other) || placeOf(one) - placeOf(other),
  );
  later.sort(
    (one, other) =>
      dueAt(one) - dueAt(other) || priorityOf(other) - priorityOf(one) || placeOf(one) - placeOf(other),
  );
  const known = [...due, ...later].slice(0, limit);
  if (known.length === limit) return known;
  return [...known, ...session.all<JobRow>(SQL.waitingForParents, queue, limit - known.length)];
}

function priorityOf(row: JobRow): number {
  return row[6];
}

function dueAt(row: JobRow): number {
  return row[20];
}

function placeOf(row: JobRow): number {
  return row[23];
}

export function* priorities(session: Session, queue: string, hold: number): Generator<number> {
  let row = session.get<[priority: number]>(SQL.highestPriorityOf, queue, hold);
  while (row !== undefined) {
    yield row[0];
    row = session.get<[priority: number]>(SQL.nextPriorityOf, queue, hold, row[0]);
  }
}

export interface ListedRows {
  readonly jobs: readonly JobRow[];
  /** Where the next step goes on; null: there are no more. */
  readonly before: number | null;
}

/** One step of a listing: at most `limit` jobs below `before`, of a window of bounded size. */
export function list(session: Session, filter: JobFilter, limit: number, before: number): ListedRows {
  const { group_id, state } = filter;
  const listing = group_id === undefined ? listingOf(state) : LISTING.ofGroup;
  const key = group_id ?? null;
  const low = session.get<[seq: number]>(listing.window, before, WINDOW - 1, key)?.[0] ?? 0;
  const { task = null, queue = null } = filter;
  const jobs = session.all<JobRow>(listing.page, before, low, key, task, queue, state ?? null, limit);
  const last = jobs.at(-1);
  if (jobs.length === limit && last !== undefined) return { jobs, before: last[0] };
  return { jobs, before: low === 0 ? null : low };
}

function listingOf(state: JobState | undefined) {
  switch (state) {
    case 'STARTED':
      return LISTING.running;
    case 'RETRY':
      return LISTING.retrying;
    case 'FAILURE':
      return LISTING.failed;
    case 'CANCELLED':
      return LISTING.cancelled;
    default:
      return LISTING.all;
  }
}

export interface StatsRows {
  readonly counts: readonly (readonly [queue: string, state: JobState, jobs: number])[];
  readonly paused: readonly string[];
  /** By queue: since when its oldest ready job is due; null where none is ready. */
  readonly oldest: readonly (readonly [queue: string, due_at: number | null])[];
  readonly now: number;
}

export function stats(session: Session): StatsRows {
  const counts = session.all<[queue: string, state: JobState, jobs: number]>(SQL.countsByQueue);
  const paused = session.all<[queue: string]>(SQL.pausedQueues).map(([queue]) => queue);
  const oldest = [...new Set(counts.map(([queue]) => queue))].map((queue) => {
    return [queue, paused.includes(queue) ? null : oldestReady(session, queue)] as const;
  });
  return { counts, paused, oldest, now: session.now };
}

function oldestReady(session: Session, queue: string): number | null {
  let oldest: number | null = null;
  for (const priority of priorities(session, queue, HOLD.none)) {
    // In order of due_at: the first one says it.
    const first = session.get<[due_at: number]>(SQL.dueAfter, queue, HOLD.none, priority, 0);
    if (first === undefined || first[0] > session.now) continue;
    if (oldest === null || first[0] < oldest) oldest = first[0];
  }
  const inPlay = oldestInPlay(session, queue);
  return oldest === null || (inPlay !== null && inPlay < oldest) ? inPlay : oldest;
}

/** Those that no claim has yet looked at may find their slots taken: they are not ready. */
function oldestInPlay(session: Session, queue: string): number | null {
  let last: readonly [due_at: number, place: number] = [0, 0];
  for (;;) {
    const rows = session.all<[due_at: number, place: number, lane: number]>(
      SQL.dueInPlay,
      queue,
      session.now,
      ...last,
      CHUNK,
    );
    for (const [due_at, , lane] of rows) if (hasSlots(session, lane)) return due_at;
    const end = rows.at(-1);
    if (end === undefined) return null;
    last = [end[0], end[1]];
  }
}
