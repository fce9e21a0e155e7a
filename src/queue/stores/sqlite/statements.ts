/**
 * Every statement of the SQLite store. Parameters are numbered, times are ms since 1970, rows are read as
 * arrays in the order of the columns. Those of claim, renew and finish touch as many rows as they return.
 */

/** A job as its users see it: see rows.ts. */
const JOB = `
  seq, job_id, task, queue, payload, state, priority, eta, retries, attempt, failures, fence, group_id, parents,
  worker, error, result, (SELECT progress FROM leases WHERE leases.fence = jobs.fence), cancel_requested,
  created_at, due_at, started_at, finished_at, place, "limit", key, key_concurrency`;
/** What a change of a job's state has to know: see rows.ts. */
const CORE = `
  jobs.seq, job_id, queue, state, hold, lane, attempt, failures, crashes, jobs.fence, group_seq, cancel_requested,
  parents, worker`;
/** Where a job that was given back waits from now on: see HOLD. */
const HOLD_AGAIN = `CASE WHEN lane IS NULL THEN 0 ELSE 1 END`;
const POOL = `pool, concurrency, running, served_at, served, unfinished`;
/** The part of the claim index that can be claimed once due. */
const CLAIMABLE = `queue = ?1 AND hold = 0`;

export const SQL = {
  // --- the store's own row
  counters: `SELECT last_seq, last_fence, readied, stopped, finished FROM store`,
  saveCounters: `UPDATE store SET last_seq = ?1, last_fence = ?2, readied = ?3, stopped = ?4, finished = ?5`,
  storeId: `SELECT store_id FROM store`,
  count: `
    INSERT INTO counts (queue, state, jobs) VALUES (?1, ?2, ?3)
    ON CONFLICT (queue, state) DO UPDATE SET jobs = jobs + excluded.jobs`,

  // --- posting
  isActive: `SELECT 1 FROM jobs WHERE job_id = ?1 AND finished_at IS NULL`,
  newestRun: `SELECT seq, state FROM jobs WHERE job_id = ?1 ORDER BY seq DESC LIMIT 1`,
  newestGroup: `
    SELECT seq, group_id, concurrency, created_at, unfinished FROM groups
    WHERE group_id = ?1 AND forgotten = 0 ORDER BY seq DESC LIMIT 1`,
  insertGroup: `INSERT INTO groups VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)`,
  insertJob: `
    INSERT INTO jobs (seq, job_id, task, queue, state, hold, priority, due_at, place, lane, waits, retries, attempt,
      failures, crashes, group_seq, group_id, cancel_requested, created_at, eta, finished_at, error, payload, parents,
      "limit", key, key_concurrency)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?1, ?9, ?10, ?11, 0, 0, 0, ?12, ?13, 0, ?14, ?15, ?16, '', ?17, ?18, ?19,
      ?20, ?21)`,
  insertDependency: `INSERT OR IGNORE INTO dependencies (parent_seq, child_seq, on_failure) VALUES (?1, ?2, ?3)`,

  // --- claiming
  isPaused: `SELECT 1 FROM paused_queues WHERE queue = ?1`,
  highestPriority: `SELECT priority FROM jobs WHERE ${CLAIMABLE} ORDER BY priority DESC LIMIT 1`,
  nextPriority: `SELECT priority FROM jobs WHERE ${CLAIMABLE} AND priority < ?2 ORDER BY priority DESC LIMIT 1`,
  claimable: `
    SELECT seq, state, due_at, place FROM jobs WHERE ${CLAIMABLE} AND priority = ?2 AND (due_at, place) > (?3, ?4)
    ORDER BY due_at, place LIMIT ?5`,
  dueAfter: `
    SELECT due_at FROM jobs WHERE queue = ?1 AND hold = ?2 AND priority = ?3 AND due_at > ?4
    ORDER BY due_at LIMIT 1`,
  claim: `
    UPDATE jobs SET state = 'STARTED', hold = NULL, attempt = attempt + 1, fence = ?2, worker = ?3, started_at = ?4
    WHERE seq = ?1`,
  insertLease: `INSERT INTO leases (fence, seq, expires_at) VALUES (?1, ?2, ?3)`,

  // --- lanes and pools: see lanes.ts
  findLane: `
    SELECT lane FROM lanes
    WHERE queue = ?1 AND priority = ?2 AND group_pool = ?3 AND limit_pool = ?4 AND key_pool = ?5`,
  insertLane: `
    INSERT INTO lanes (queue, priority, group_pool, limit_pool, key_pool, unfinished) VALUES (?1, ?2, ?3, ?4, ?5, 0)
    RETURNING lane`,
  lane: `SELECT queue, priority, group_pool, limit_pool, key_pool FROM lanes WHERE lane = ?1`,
  joinLane: `UPDATE lanes SET unfinished = unfinished + ?2 WHERE lane = ?1`,
  deleteEmptyLane: `DELETE FROM lanes WHERE lane = ?1 AND unfinished = 0`,
  poolByName: `SELECT ${POOL} FROM pools WHERE kind = ?1 AND name = ?2`,
  pool: `SELECT ${POOL} FROM pools WHERE pool = ?1`,
  insertPool: `
    INSERT INTO pools (kind, name, concurrency, running, unfinished, served_at, served)
    VALUES (?1, ?2, ?3, 0, 0, 0, 0) RETURNING pool`,
  joinPool: `UPDATE pools SET unfinished = unfinished + ?2 WHERE pool = ?1`,
  deleteEmptyPool: `
    DELETE FROM pools WHERE pool = ?1 AND unfinished = 0 AND (kind <> 'limit' OR concurrency IS NULL)`,
  setConcurrency: `UPDATE pools SET concurrency = ?2 WHERE pool = ?1`,
  takeSlot: `UPDATE pools SET running = running + 1 WHERE pool = ?1`,
  freeSlot: `UPDATE pools SET running = running - 1 WHERE pool = ?1`,
  serve: `UPDATE pools SET served_at = ?2, served = ?3 WHERE pool = ?1`,
  insertWaiting: `
    INSERT INTO waiting (seq, lane, queue, priority, due_at, place, turn_at, turn, held_by)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)`,
  deleteWaiting: `DELETE FROM waiting WHERE seq = ?1 RETURNING held_by`,
  isBehindAnother: `SELECT 1 FROM waiting WHERE lane = ?1 AND (due_at, place) < (?2, ?3) LIMIT 1`,
  highestInPlay: `
    SELECT priority FROM waiting WHERE queue = ?1 AND held_by IS NULL ORDER BY priority DESC LIMIT 1`,
  nextInPlay: `
    SELECT priority FROM waiting WHERE queue = ?1 AND held_by IS NULL AND priority < ?2
    ORDER BY priority DESC LIMIT 1`,
  firstInPlay: `
    SELECT seq, (SELECT state FROM jobs WHERE jobs.seq = waiting.seq), lane, due_at, place, turn_at, turn FROM waiting
    WHERE queue = ?1 AND held_by IS NULL AND priority = ?2 AND turn_at <= ?3
    ORDER BY turn_at, turn, due_at, place LIMIT 1`,
  putInPlay: `UPDATE waiting SET held_by = NULL, turn_at = ?2, turn = ?3 WHERE seq = ?1`,
  bring: `UPDATE waiting SET held_by = NULL WHERE seq = ?1`,
  hold: `UPDATE waiting SET held_by = ?2 WHERE seq = ?1`,
  firstOfLane: `
    SELECT seq, due_at, place, held_by FROM waiting WHERE lane = ?1 AND held_by IS NOT NULL
    ORDER BY due_at, place LIMIT 1`,
  firstOfPool: `
    SELECT seq FROM waiting WHERE held_by = ?1 AND held_by > 0 AND queue = ?2
    ORDER BY priority DESC, turn_at, turn, due_at, place LIMIT 1`,
  nextQueueOfPool: `
    SELECT queue FROM waiting WHERE held_by = ?1 AND held_by > 0 AND queue > ?2 ORDER BY queue LIMIT 1`,
  dueInPlay: `
    SELECT due_at, place, lane FROM waiting
    WHERE queue = ?1 AND held_by IS NULL AND due_at <= ?2 AND (due_at, place) > (?3, ?4)
    ORDER BY due_at, place LIMIT ?5`,

  // --- running
  held: `SELECT ${CORE} FROM leases CROSS JOIN jobs ON jobs.seq = leases.seq WHERE leases.fence = ?1`,
  renew: `UPDATE leases SET expires_at = ?2 WHERE fence = ?1`,
  renewWithProgress: `UPDATE leases SET expires_at = ?2, progress = ?3 WHERE fence = ?1`,
  deleteLease: `DELETE FROM leases WHERE fence = ?1`,
  retryLater: `
    UPDATE jobs SET state = 'RETRY', hold = ${HOLD_AGAIN}, due_at = ?2, error = ?3, failures = failures + 1, crashes = 0
    WHERE seq = ?1`,
  release: `
    UPDATE jobs SET state = 'PENDING', hold = ${HOLD_AGAIN}, attempt = attempt - 1, crashes = 0,
      due_at = coalesce(?2, due_at)
    WHERE seq = ?1`,
  requeue: `
    UPDATE jobs SET state = 'PENDING', hold = ${HOLD_AGAIN}, error = ?2, crashes = crashes + 1 WHERE seq = ?1`,
  placeOf: `SELECT due_at, place FROM jobs WHERE seq = ?1`,
  // The running attempts are few: no index on the time saves a write per heartbeat.
  expired: `
    SELECT ${CORE} FROM leases CROSS JOIN jobs ON jobs.seq = leases.seq WHERE leases.expires_at <= ?1
    ORDER BY leases.expires_at`,
  leases: `
    SELECT job_id, attempt, leases.fence FROM leases CROSS JOIN jobs ON jobs.seq = leases.seq
    WHERE leases.expires_at > ?1`,

  // --- ending
  finish: `
    UPDATE jobs SET state = ?2, hold = NULL, lane = NULL, waits = 0, crashes = 0, error = ?3, result = ?4, finished_at = ?5
    WHERE seq = ?1`,
  jobOfGroupFinished: `
    UPDATE groups SET unfinished = unfinished - 1, finished_at = CASE unfinished WHEN 1 THEN ?2 END WHERE seq = ?1`,
  children: `SELECT child_seq, on_failure FROM dependencies WHERE parent_seq = ?1`,
  forgetChildren: `DELETE FROM dependencies WHERE parent_seq = ?1`,
  forgetEdge: `DELETE FROM dependencies WHERE parent_seq = ?1 AND child_seq = ?2`,
  parentFinished: `UPDATE jobs SET waits = waits - 1 WHERE seq = ?1 RETURNING waits, lane, due_at, place`,
  setHold: `UPDATE jobs SET hold = ?2 WHERE seq = ?1`,

  // --- changing
  newestCore: `SELECT ${CORE} FROM jobs WHERE job_id = ?1 ORDER BY seq DESC LIMIT 1`,
  coreBySeq: `SELECT ${CORE} FROM jobs WHERE seq = ?1`,
  requestCancel: `UPDATE jobs SET cancel_requested = 1 WHERE seq = ?1`,
  restart: `
    UPDATE jobs SET state = 'PENDING', hold = ?2, waits = ?3, place = ?4, due_at = ?5, lane = ?6, eta = NULL, attempt = 0,
      failures = 0, crashes = 0, fence = NULL, worker = NULL, started_at = NULL, finished_at = NULL, error = '',
      result = NULL, cancel_requested = 0
    WHERE seq = ?1`,
  jobOfGroupRestarted: `UPDATE groups SET unfinished = unfinished + 1, finished_at = NULL WHERE seq = ?1`,
  groupBySeq: `SELECT concurrency, forgotten FROM groups WHERE seq = ?1`,
  demandOf: `SELECT priority, "limit", key, key_concurrency FROM jobs WHERE seq = ?1`,
  unfinishedOfGroup: `SELECT seq FROM jobs WHERE group_id = ?1 AND group_seq = ?2 AND finished_at IS NULL`,
  pause: `INSERT OR IGNORE INTO paused_queues (queue) VALUES (?1)`,
  resume: `DELETE FROM paused_queues WHERE queue = ?1`,

  // --- forgetting
  runsOfId: `SELECT ${CORE} FROM jobs WHERE job_id = ?1 ORDER BY seq`,
  groupsOfId: `SELECT seq FROM groups WHERE group_id = ?1`,
  jobsOfGroupId: `SELECT seq FROM jobs WHERE group_id = ?1`,
  deleteJob: `DELETE FROM jobs WHERE seq = ?1 RETURNING queue, state`,
  deleteGroup: `DELETE FROM groups WHERE seq = ?1`,
  deleteEmptyCounts: `DELETE FROM counts WHERE jobs = 0`,
  forgettableJobs: `
    SELECT seq FROM jobs WHERE finished_at < ?1 AND group_id IS NULL ORDER BY finished_at LIMIT ?2`,
  forgottenGroup: `SELECT seq, group_id FROM groups WHERE forgotten = 1 AND finished_at IS NOT NULL LIMIT 1`,
  forgettableGroup: `
    SELECT seq, group_id FROM groups WHERE forgotten = 0 AND finished_at < ?1 ORDER BY finished_at LIMIT 1`,
  forgetGroup: `UPDATE groups SET forgotten = 1 WHERE seq = ?1`,
  someOfGroup: `SELECT seq FROM jobs WHERE group_id = ?1 AND group_seq = ?2 LIMIT ?3`,

  // --- reading
  newestJob: `SELECT ${JOB} FROM jobs WHERE job_id = ?1 ORDER BY seq DESC LIMIT 1`,
  jobBySeq: `SELECT ${JOB} FROM jobs WHERE seq = ?1`,
  jobsOfGroup: `SELECT ${JOB} FROM jobs WHERE group_id = ?1 AND group_seq = ?2 ORDER BY seq`,
  waitingDue: `
    SELECT ${JOB} FROM jobs WHERE queue = ?1 AND hold = ?2 AND priority = ?3 AND due_at <= ?4
    ORDER BY due_at, place LIMIT ?5`,
  waitingLater: `
    SELECT ${JOB} FROM jobs WHERE queue = ?1 AND hold = ?2 AND priority = ?3 AND due_at > ?4
    ORDER BY due_at, place LIMIT ?5`,
  highestPriorityOf: `SELECT priority FROM jobs WHERE queue = ?1 AND hold = ?2 ORDER BY priority DESC LIMIT 1`,
  nextPriorityOf: `
    SELECT priority FROM jobs WHERE queue = ?1 AND hold = ?2 AND priority < ?3 ORDER BY priority DESC LIMIT 1`,
  waitingForParents: `
    SELECT ${JOB} FROM jobs WHERE queue = ?1 AND hold = 2 ORDER BY priority DESC, due_at, place LIMIT ?2`,
  countsByQueue: `SELECT queue, state, jobs FROM counts WHERE jobs > 0 ORDER BY queue`,
  pausedQueues: `SELECT queue FROM paused_queues ORDER BY queue`,
} as const;

/**
 * The two statements of a listing over some of the jobs, newest first: where a window of at most ?2 jobs below
 * ?1 ends, and what is in it. A rare task among a million jobs is found window by window, and other calls
 * come in between.
 */
function listing(some: string) {
  return {
    window: `SELECT seq FROM jobs WHERE seq < ?1 AND ${some} ORDER BY seq DESC LIMIT 1 OFFSET ?2`,
    page: `
      SELECT ${JOB} FROM jobs WHERE seq < ?1 AND seq >= ?2 AND ${some}
        AND (?4 IS NULL OR task = ?4) AND (?5 IS NULL OR queue = ?5) AND (?6 IS NULL OR state = ?6)
      ORDER BY seq DESC LIMIT ?7`,
  };
}

/** ?3 is the group's id, or null. */
export const LISTING = {
  all: listing(`?3 IS NULL`),
  ofGroup: listing(`group_id = ?3`),
  retrying: listing(`state = 'RETRY' AND ?3 IS NULL`),
  failed: listing(`state = 'FAILURE' AND ?3 IS NULL`),
  cancelled: listing(`state = 'CANCELLED' AND ?3 IS NULL`),
  running: listing(`seq IN (SELECT seq FROM leases) AND ?3 IS NULL`),
} as const;
