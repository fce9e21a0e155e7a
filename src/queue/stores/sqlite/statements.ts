/** Every statement of the SQLite store. Parameters are named; times are ms since 1970. */

export const SQL = {
  storeId: `SELECT store_id FROM meta`,
  nextFence: `UPDATE meta SET fence = fence + 1 RETURNING fence`,

  insertGroup: `
    INSERT INTO groups (group_id, concurrency, created_at) VALUES ($group_id, $concurrency, $now) RETURNING seq`,
  newestGroup: `SELECT * FROM groups WHERE group_id = $group_id ORDER BY seq DESC LIMIT 1`,
  groupsOfId: `SELECT * FROM groups WHERE group_id = $group_id`,
  groupBySeq: `SELECT * FROM groups WHERE seq = $seq`,
  groupIsActive: `SELECT 1 FROM jobs WHERE group_seq = $group_seq AND finished_at IS NULL LIMIT 1`,
  jobsOfGroup: `
    SELECT jobs.*, groups.group_id FROM jobs LEFT JOIN groups ON groups.seq = jobs.group_seq
    WHERE jobs.group_seq = $group_seq ORDER BY jobs.seq`,
  deleteGroup: `DELETE FROM groups WHERE seq = $seq`,
  slotsInUse: `
    SELECT count(*) AS count FROM jobs WHERE group_seq = $group_seq AND (phase = 1 OR state = 'STARTED')`,
  fillSlots: `
    UPDATE jobs SET phase = 1 WHERE seq IN (
      SELECT seq FROM jobs WHERE group_seq = $group_seq AND phase = 4
      ORDER BY priority DESC, due_at, seq LIMIT $free)`,

  insertJob: `
    INSERT INTO jobs (job_id, task, queue, payload, state, phase, priority, eta, retries, group_seq, after, waiting,
                      created_at, due_at)
    VALUES ($job_id, $task, $queue, $payload, 'PENDING', $phase, $priority, $eta, $retries, $group_seq, $after,
            $waiting, $now, $due_at)
    RETURNING seq`,
  insertDependency: `
    INSERT INTO dependencies (parent_seq, child_seq, on_failure) VALUES ($parent_seq, $child_seq, $on_failure)`,

  setWaiting: `UPDATE jobs SET waiting = $waiting WHERE seq = $seq`,

  newestJob: `
    SELECT jobs.*, groups.group_id FROM jobs LEFT JOIN groups ON groups.seq = jobs.group_seq
    WHERE jobs.job_id = $job_id ORDER BY jobs.seq DESC LIMIT 1`,
  jobBySeq: `
    SELECT jobs.*, groups.group_id FROM jobs LEFT JOIN groups ON groups.seq = jobs.group_seq
    WHERE jobs.seq = $seq`,
  runsOfId: `SELECT seq FROM jobs WHERE job_id = $job_id ORDER BY seq`,
  held: `SELECT * FROM jobs WHERE job_id = $job_id AND finished_at IS NULL AND state = 'STARTED' AND fence = $fence`,

  becomeDue: `
    SELECT seq, group_seq FROM jobs WHERE phase = 2 AND due_at <= $now ORDER BY due_at, seq LIMIT $limit`,
  nextDue: `SELECT due_at FROM jobs WHERE phase = 2 AND queue = $queue ORDER BY due_at LIMIT 1`,
  setPhase: `UPDATE jobs SET phase = $phase WHERE seq = $seq`,
  isPaused: `SELECT 1 FROM paused_queues WHERE queue = $queue`,
  ready: `
    SELECT seq, priority, due_at FROM jobs WHERE queue = $queue AND phase = 1
    ORDER BY priority DESC, due_at, seq LIMIT $limit`,
  claim: `
    UPDATE jobs SET state = 'STARTED', phase = 0, attempt = attempt + 1, fence = $fence, worker = $worker,
      started_at = $now, lease_expires_at = $lease_expires_at, progress = NULL
    WHERE seq = $seq`,

  renew: `UPDATE jobs SET lease_expires_at = $lease_expires_at WHERE seq = $seq`,
  renewWithProgress: `
    UPDATE jobs SET lease_expires_at = $lease_expires_at, progress = $progress WHERE seq = $seq`,

  finish: `
    UPDATE jobs SET state = $state, phase = 0, error = $error, result = $result, progress = NULL, crashes = 0,
      finished_at = $now, lease_expires_at = NULL
    WHERE seq = $seq`,
  retryLater: `
    UPDATE jobs SET state = 'RETRY', phase = 2, error = $error, progress = NULL, crashes = 0, due_at = $due_at,
      lease_expires_at = NULL
    WHERE seq = $seq`,
  release: `
    UPDATE jobs SET state = 'PENDING', phase = 2,
      attempt = attempt - 1, progress = NULL, started_at = NULL, lease_expires_at = NULL
    WHERE seq = $seq`,
  requeue: `
    UPDATE jobs SET state = 'RETRY', phase = 2, crashes = crashes + 1, error = $error, progress = NULL,
      lease_expires_at = NULL
    WHERE seq = $seq`,
  requestCancel: `UPDATE jobs SET cancel_requested = 1 WHERE seq = $seq`,
  restart: `
    UPDATE jobs SET state = 'PENDING', phase = 2, attempt = 0, crashes = 0, error = '', result = NULL,
      cancel_requested = 0, eta = NULL, due_at = $now, started_at = NULL, finished_at = NULL
    WHERE seq = $seq`,

  children: `SELECT child_seq, on_failure FROM dependencies WHERE parent_seq = $seq`,
  forgetEdgesOf: `DELETE FROM dependencies WHERE parent_seq = $seq`,
  forgetEdgesTo: `DELETE FROM dependencies WHERE child_seq = $seq`,
  parentDone: `UPDATE jobs SET waiting = waiting - 1 WHERE seq = $seq RETURNING waiting`,
  deleteJob: `DELETE FROM jobs WHERE seq = $seq`,

  expired: `
    SELECT * FROM jobs WHERE lease_expires_at IS NOT NULL AND lease_expires_at <= $now
    ORDER BY lease_expires_at LIMIT $limit`,
  leases: `
    SELECT job_id, attempt, fence FROM jobs WHERE lease_expires_at IS NOT NULL AND lease_expires_at > $now`,

  pending: `
    SELECT jobs.*, groups.group_id FROM jobs LEFT JOIN groups ON groups.seq = jobs.group_seq
    WHERE jobs.queue = $queue AND jobs.phase = $phase
    ORDER BY priority DESC, due_at, jobs.seq LIMIT $limit`,
  pendingDelayed: `
    SELECT jobs.*, groups.group_id FROM jobs LEFT JOIN groups ON groups.seq = jobs.group_seq
    WHERE jobs.queue = $queue AND jobs.phase = 2 ORDER BY due_at, priority DESC, jobs.seq LIMIT $limit`,
  list: `
    SELECT jobs.*, groups.group_id FROM jobs LEFT JOIN groups ON groups.seq = jobs.group_seq
    WHERE jobs.seq < $before
      AND ($state IS NULL OR jobs.state = $state)
      AND ($task IS NULL OR jobs.task = $task)
      AND ($queue IS NULL OR jobs.queue = $queue)
      AND ($group_id IS NULL OR groups.group_id = $group_id)
    ORDER BY jobs.seq DESC LIMIT $limit`,
  stats: `SELECT queue, state, count(*) AS count FROM jobs GROUP BY queue, state`,
  pausedQueues: `SELECT queue FROM paused_queues`,
  oldestReady: `SELECT min(due_at) AS due_at FROM jobs WHERE queue = $queue AND phase = 1`,
  pause: `INSERT OR IGNORE INTO paused_queues VALUES ($queue)`,
  resume: `DELETE FROM paused_queues WHERE queue = $queue`,

  prunableJobs: `
    SELECT seq FROM jobs WHERE finished_at IS NOT NULL AND finished_at < $before AND group_seq IS NULL
    ORDER BY finished_at LIMIT $limit`,
  prunableGroups: `
    SELECT DISTINCT group_seq FROM jobs AS old
    WHERE finished_at IS NOT NULL AND finished_at < $before AND group_seq IS NOT NULL
      AND NOT EXISTS (
        SELECT 1 FROM jobs WHERE jobs.group_seq = old.group_seq
          AND (jobs.finished_at IS NULL OR jobs.finished_at >= $before))
    LIMIT $limit`,
} as const;
