/**
 * Who may run when slots are few: pools, lanes and turns.
 *
 * A pool is what jobs share the slots of: a group with a concurrency, a limit, a key. A lane is all jobs of a
 * queue that have the same priority and the same pools: as to slots they are alike, so that only the first of
 * them needs to be looked at. A job that has no pool has no lane, and nothing here touches it.
 *
 * A job of a lane that waits (for nothing but its turn, its ETA and its slots) has a row in `waiting`. Its
 * `held_by` says
 * - null: it is in play. Claims look at those that are due, in order of their turns.
 * - a pool: that one was full when a claim looked at it. It is the front of its lane.
 * - BEHIND: a job of its lane that comes before it is in play and due, or is held by a pool.
 * Only what is due is ever held.
 *
 * For each queue and pool: as many of the pool's jobs are in play and due, and come before all that it holds,
 * as it has free slots. So what is first of those in play is first of all. To keep it so,
 * - a slot that becomes free brings the first that the pool holds back in play, in each queue;
 * - so does, in its own queue, a job that leaves its place in play without having taken a slot;
 * - a job that is started or leaves brings the next of its lane in play.
 * Each of these touches one job a lane, however many wait; a job that a claim looks at and cannot start is
 * looked at again only after something of what it waits for has happened.
 *
 * Turns. Handing out a job moves the turn of all jobs of its key, but only the rows that a claim comes upon are
 * written anew: a turn that is on record is never too late, so what is first by the record is either first
 * indeed or moved back.
 */
import type { Session } from './session.ts';
import { SQL } from './statements.ts';

/** `held_by` of a job that waits behind another one of its lane. No pool has this number. */
const BEHIND = 0;
/** In place of a pool that a lane does not have. */
const NONE = 0;

/** What a job needs slots of. */
export interface Demand {
  readonly queue: string;
  readonly priority: number;
  /** Of a group that has a concurrency. */
  readonly group: { readonly seq: number; readonly concurrency: number } | null;
  readonly limit: string | null;
  readonly key: string | null;
  readonly key_concurrency: number | null;
}

interface Lane {
  readonly queue: string;
  readonly priority: number;
  /** NONE: it has no key. */
  readonly key: number;
  /** Those there are; the one that the fewest jobs share first, so that it is the one that holds them. */
  readonly pools: readonly number[];
}

interface Pool {
  readonly pool: number;
  readonly concurrency: number | null;
  readonly running: number;
  readonly served_at: number;
  readonly served: number;
}

type PoolRow = [
  pool: number,
  concurrency: number | null,
  running: number,
  served_at: number,
  served: number,
  unfinished: number,
];

/** A job in its lane. */
export interface Place {
  readonly seq: number;
  readonly due_at: number;
  readonly place: number;
}

interface Turn {
  readonly turn_at: number;
  /** Orders those of the same time. */
  readonly turn: number;
}

/** A job in play, with the turn on record. */
export interface InPlay extends Place, Turn {
  readonly lane: number;
}

/** The lane for jobs with these demands, found or made; null if they have none. They are to `join` it. */
export function laneFor(session: Session, demand: Demand): number | null {
  const { queue, priority, group, limit, key, key_concurrency } = demand;
  if (group === null && limit === null && key === null) return null;
  const pools = [
    group === null ? NONE : poolFor(session, 'group', String(group.seq), group.concurrency),
    limit === null ? NONE : poolFor(session, 'limit', limit, null),
    key === null ? NONE : poolFor(session, 'key', key, key_concurrency),
  ];
  const found =
    session.get<[lane: number]>(SQL.findLane, queue, priority, ...pools) ??
    session.change<[lane: number]>(SQL.insertLane, queue, priority, ...pools);
  if (found === undefined) throw new Error('the store has made no lane');
  return found[0];
}

function poolFor(session: Session, kind: string, name: string, concurrency: number | null): number {
  const found =
    session.get<PoolRow>(SQL.poolByName, kind, name) ??
    session.change<[pool: number]>(SQL.insertPool, kind, name, concurrency);
  if (found === undefined) throw new Error('the store has made no pool');
  return found[0];
}

/** Counts jobs that are not finished into a lane. */
export function join(session: Session, lane: number, jobs: number): void {
  session.run(SQL.joinLane, lane, jobs);
  for (const pool of laneBy(session, lane).pools) session.run(SQL.joinPool, pool, jobs);
}

/** Lets a job wait in its lane, behind those that come before it. */
export function wait(session: Session, lane: number, job: Place): void {
  const { due_at, place } = job;
  const isBehind =
    due_at <= session.now && session.get(SQL.isBehindAnother, lane, due_at, place) !== undefined;
  if (isBehind) {
    waitBehind(session, lane, job);
    return;
  }
  const { queue, priority, key } = laneBy(session, lane);
  const own = { turn_at: due_at, turn: place };
  const { turn_at, turn } = key === NONE ? own : laterOf(session, poolBy(session, key), own);
  session.run(SQL.insertWaiting, job.seq, lane, queue, priority, due_at, place, turn_at, turn, null);
  session.happened.ready = true;
}

/** For a job that is due, and known to come after another of its lane that waits and is due. */
export function waitBehind(session: Session, lane: number, { seq, due_at, place }: Place): void {
  const { queue, priority } = laneBy(session, lane);
  session.run(SQL.insertWaiting, seq, lane, queue, priority, due_at, place, due_at, place, BEHIND);
}

/**
 * Takes the slots for a job in play that is due and first of its queue; false if it has lost its place, since it
 * is not its turn or one of its pools is full.
 */
export function take(session: Session, job: InPlay): boolean {
  const lane = laneBy(session, job.lane);
  const pools = lane.pools.map((pool) => poolBy(session, pool));
  const key = pools.find(({ pool }) => pool === lane.key);
  const turn = key === undefined ? job : laterOf(session, key, job);
  const full = pools.find((pool) => !isFree(pool));
  if (turn !== job) {
    session.run(SQL.putInPlay, job.seq, turn.turn_at, turn.turn);
  } else if (full !== undefined) {
    hold(session, job, full.pool);
  } else {
    session.run(SQL.deleteWaiting, job.seq);
    for (const { pool } of pools) session.run(SQL.takeSlot, pool);
    if (key === undefined) bringNext(session, job.lane);
    else serve(session, job.lane, key.pool);
    return true;
  }
  for (const pool of pools) if (isFree(pool)) bringFirst(session, pool.pool, lane.queue);
  return false;
}

/**
 * The turn that a job of the key has by now: the one on record, if the key was not served since. It is never in
 * the future: after the clock was set back, what was served before must not wait until it is that late again.
 */
function laterOf<T extends Turn>(session: Session, { served_at, served }: Pool, onRecord: T): T | Turn {
  const { turn_at, turn } = onRecord;
  const at = Math.min(served_at, session.now);
  const isServedLater = at > turn_at || (at === turn_at && served > turn);
  return isServedLater ? { turn_at: at, turn: served } : onRecord;
}

/** Moves the turn of a key on, and brings the next of the lane in play at that turn. */
function serve(session: Session, lane: number, key: number): void {
  const served = session.nextSeq();
  session.run(SQL.serve, key, session.now, served);
  const next = session.get<[seq: number]>(SQL.firstOfLane, lane);
  // It was due before, so its turn is that of the key.
  if (next !== undefined) session.run(SQL.putInPlay, next[0], session.now, served);
}

function hold(session: Session, { seq, lane, due_at, place }: InPlay, pool: number): void {
  const first = session.get<[seq: number, due_at: number, place: number, held_by: number]>(
    SQL.firstOfLane,
    lane,
  );
  if (first !== undefined) {
    const [first_seq, first_due_at, first_place, held_by] = first;
    if (first_due_at < due_at || (first_due_at === due_at && first_place < place)) {
      session.run(SQL.hold, seq, BEHIND);
      return;
    }
    if (held_by !== BEHIND) session.run(SQL.hold, first_seq, BEHIND);
  }
  session.run(SQL.hold, seq, pool);
}

/** A job that waited in a lane waits no more, and was not started. */
export function stopWaiting(session: Session, seq: number, lane: number): void {
  const left = session.change<[held_by: number | null]>(SQL.deleteWaiting, seq);
  if (left === undefined) throw new Error(`job ${seq} does not wait in its lane`);
  const [held_by] = left;
  if (held_by === BEHIND) return;
  let brought = bringNext(session, lane);
  if (held_by === null) {
    const { queue, pools } = laneBy(session, lane);
    for (const pool of pools) {
      if (isFree(poolBy(session, pool)) && bringFirst(session, pool, queue)) brought = true;
    }
  }
  if (brought) session.happened.ready = true;
}

/** Frees the slots of an attempt that is over. */
export function freeSlots(session: Session, lane: number): void {
  for (const pool of laneBy(session, lane).pools) {
    session.run(SQL.freeSlot, pool);
    if (isFree(poolBy(session, pool))) bringFirstOfQueues(session, pool, 1);
  }
}

/** Counts a job out of its lane when it is finished. What nobody is in is forgotten. */
export function leave(session: Session, lane: number): void {
  const { pools } = laneBy(session, lane);
  session.run(SQL.joinLane, lane, -1);
  session.run(SQL.deleteEmptyLane, lane);
  for (const pool of pools) {
    session.run(SQL.joinPool, pool, -1);
    session.run(SQL.deleteEmptyPool, pool);
  }
}

/** Sets how many jobs of a key may run, if it has any. */
export function setKeyConcurrency(session: Session, key: string, concurrency: number | null): void {
  const row = session.get<PoolRow>(SQL.poolByName, 'key', key);
  if (row !== undefined) setConcurrency(session, toPool(row), concurrency);
}

export function limit(session: Session, name: string, concurrency: number | null): void {
  const row = session.get<PoolRow>(SQL.poolByName, 'limit', name);
  if (row !== undefined) {
    setConcurrency(session, toPool(row), concurrency);
    session.run(SQL.deleteEmptyPool, row[0]);
  } else if (concurrency !== null) {
    session.run(SQL.insertPool, 'limit', name, concurrency);
  }
}

function setConcurrency(session: Session, pool: Pool, concurrency: number | null): void {
  if (concurrency === pool.concurrency) return;
  session.run(SQL.setConcurrency, pool.pool, concurrency);
  const free = concurrency === null ? Number.POSITIVE_INFINITY : concurrency - pool.running;
  bringFirstOfQueues(session, pool.pool, free);
}

export interface LimitRow {
  readonly limit: string;
  readonly concurrency: number | null;
  readonly running: number;
  readonly waiting: number;
}

export function limits(session: Session, names: readonly string[]): LimitRow[] {
  return names.map((limit) => {
    const row = session.get<PoolRow>(SQL.poolByName, 'limit', limit);
    if (row === undefined) return { limit, concurrency: null, running: 0, waiting: 0 };
    const [, concurrency, running, , , unfinished] = row;
    return { limit, concurrency, running, waiting: unfinished - running };
  });
}

/** Whether a job of the lane could be started now. */
export function hasSlots(session: Session, lane: number): boolean {
  return laneBy(session, lane).pools.every((pool) => isFree(poolBy(session, pool)));
}

/** Brings the first job that is held in a lane in play. */
function bringNext(session: Session, lane: number): boolean {
  const next = session.get<[seq: number]>(SQL.firstOfLane, lane);
  if (next !== undefined) session.run(SQL.bring, next[0]);
  return next !== undefined;
}

/** Brings the first job of a queue that a pool holds in play. */
function bringFirst(session: Session, pool: number, queue: string): boolean {
  const first = session.get<[seq: number]>(SQL.firstOfPool, pool, queue);
  if (first !== undefined) session.run(SQL.bring, first[0]);
  return first !== undefined;
}

/** Brings up to `count` jobs of each queue that a pool holds in play. */
function bringFirstOfQueues(session: Session, pool: number, count: number): void {
  let next = session.get<[queue: string]>(SQL.nextQueueOfPool, pool, '');
  while (next !== undefined) {
    const [queue] = next;
    for (let brought = 0; brought < count && bringFirst(session, pool, queue); brought += 1) {
      session.happened.ready = true;
    }
    next = session.get<[queue: string]>(SQL.nextQueueOfPool, pool, queue);
  }
}

function isFree({ concurrency, running }: Pool): boolean {
  return concurrency === null || running < concurrency;
}

function laneBy(session: Session, lane: number): Lane {
  const row = session.get<[queue: string, priority: number, group: number, limit: number, key: number]>(
    SQL.lane,
    lane,
  );
  if (row === undefined) throw new Error(`the store has lost lane ${lane}`);
  const [queue, priority, group, limit, key] = row;
  return { queue, priority, key, pools: [key, group, limit].filter((pool) => pool !== NONE) };
}

function poolBy(session: Session, pool: number): Pool {
  const row = session.get<PoolRow>(SQL.pool, pool);
  if (row === undefined) throw new Error(`the store has lost pool ${pool}`);
  return toPool(row);
}

function toPool([pool, concurrency, running, served_at, served]: PoolRow): Pool {
  return { pool, concurrency, running, served_at, served };
}
