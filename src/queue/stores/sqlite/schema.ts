/** The tables of the SQLite store, as numbered migrations: `PRAGMA user_version` counts those applied. */

/** Marks a file as one of ours (`PRAGMA application_id`): "dung". */
export const APPLICATION_ID = 0x64756e67;

/**
 * What a PENDING or RETRY job waits for. It leads the index that claims walk, so that none ever passes over jobs
 * that cannot be claimed.
 */
export const HOLD = {
  /** Nothing: it is claimable once it is due. */
  none: 0,
  /** Its turn, its ETA, its slots: the table `waiting` has the rest. */
  lane: 1,
  /** Parents that are not finished; `waits` counts them. */
  parents: 2,
} as const;

export const MIGRATIONS: readonly string[] = [
  `
  -- One row: what the store counts. It outlives every job.
  CREATE TABLE store (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    store_id   TEXT NOT NULL,
    last_seq   INTEGER NOT NULL,  -- of jobs, groups and places: one sequence
    last_fence INTEGER NOT NULL,
    -- Counted up so that other processes see what kind of thing has happened.
    readied    INTEGER NOT NULL,
    stopped    INTEGER NOT NULL,
    finished   INTEGER NOT NULL
  );
  INSERT INTO store VALUES (1, lower(hex(randomblob(16))), 0, 0, 0, 0, 0);

  CREATE TABLE jobs (
    seq              INTEGER PRIMARY KEY,
    job_id           TEXT NOT NULL,
    task             TEXT NOT NULL,
    queue            TEXT NOT NULL,
    state            TEXT NOT NULL,
    hold             INTEGER,           -- see HOLD; null: it does not wait
    priority         INTEGER NOT NULL,
    due_at           INTEGER NOT NULL,
    place            INTEGER NOT NULL,  -- seq, or where a retry has put it
    slot             INTEGER,           -- the slots it needs one of
    waits            INTEGER NOT NULL,  -- parents that are not finished
    retries          INTEGER NOT NULL,
    attempt          INTEGER NOT NULL,
    failures         INTEGER NOT NULL,
    crashes          INTEGER NOT NULL,  -- leases in a row that ran out
    fence            INTEGER,
    group_seq        INTEGER,
    group_id         TEXT,
    cancel_requested INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    eta              INTEGER,
    started_at       INTEGER,
    finished_at      INTEGER,
    worker           TEXT,
    error            TEXT NOT NULL,
    result           TEXT,
    payload          TEXT NOT NULL,
    parents          TEXT               -- JSON: [[job_id, on_failure, seq], ...]
  );
  CREATE UNIQUE INDEX jobs_active ON jobs (job_id) WHERE finished_at IS NULL;
  CREATE INDEX jobs_by_id ON jobs (job_id);
  CREATE INDEX jobs_waiting ON jobs (queue, hold, priority DESC, due_at, place) WHERE hold IS NOT NULL;
  CREATE INDEX jobs_held ON jobs (slot, queue, priority DESC, due_at, place) WHERE hold = 1;
  CREATE INDEX jobs_of_group ON jobs (group_id) WHERE group_id IS NOT NULL;
  CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL AND group_id IS NULL;
  -- The states that people look for and that are few among many. One index each: a list of states in its WHERE
  -- makes every change of state several times as dear.
  CREATE INDEX jobs_retrying ON jobs (state) WHERE state = 'RETRY';
  CREATE INDEX jobs_failed ON jobs (state) WHERE state = 'FAILURE';
  CREATE INDEX jobs_cancelled ON jobs (state) WHERE state = 'CANCELLED';

  -- A row per running attempt: heartbeats rewrite no job.
  CREATE TABLE leases (
    fence      INTEGER PRIMARY KEY,
    seq        INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    progress   TEXT
  );

  -- Edges to parents that are not finished.
  CREATE TABLE dependencies (
    parent_seq INTEGER NOT NULL,
    child_seq  INTEGER NOT NULL,
    on_failure TEXT NOT NULL,
    PRIMARY KEY (parent_seq, child_seq)
  ) WITHOUT ROWID;

  CREATE TABLE groups (
    seq         INTEGER PRIMARY KEY,
    group_id    TEXT NOT NULL,
    concurrency INTEGER,
    created_at  INTEGER NOT NULL,
    unfinished  INTEGER NOT NULL,
    finished_at INTEGER,
    forgotten   INTEGER NOT NULL  -- its jobs are being deleted, step by step
  );
  CREATE INDEX groups_by_id ON groups (group_id);
  CREATE INDEX groups_finished ON groups (forgotten DESC, finished_at) WHERE finished_at IS NOT NULL;

  -- How many jobs may run at once, and how many do. A group with a concurrency has slots under its seq.
  CREATE TABLE slots (
    slot     INTEGER PRIMARY KEY,
    capacity INTEGER NOT NULL,
    taken    INTEGER NOT NULL
  );

  CREATE TABLE counts (
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    jobs  INTEGER NOT NULL,
    PRIMARY KEY (queue, state)
  ) WITHOUT ROWID;

  CREATE TABLE paused_queues (queue TEXT PRIMARY KEY) WITHOUT ROWID;
  `,
  `
  -- What jobs share the slots of. It is there as long as it has unfinished jobs; a limit also while it is set.
  CREATE TABLE pools (
    pool        INTEGER PRIMARY KEY,
    kind        TEXT NOT NULL,     -- 'group', 'limit', 'key'
    name        TEXT NOT NULL,     -- of a group: its seq
    concurrency INTEGER,           -- how many may run at once; null: any number
    running     INTEGER NOT NULL,
    unfinished  INTEGER NOT NULL,
    -- When a job was last handed out: the turn of a key.
    served_at   INTEGER NOT NULL,
    served      INTEGER NOT NULL,
    UNIQUE (kind, name)
  );

  -- Jobs that are alike as to slots. It is there as long as it has unfinished jobs.
  CREATE TABLE lanes (
    lane       INTEGER PRIMARY KEY,
    queue      TEXT NOT NULL,
    priority   INTEGER NOT NULL,
    group_pool INTEGER NOT NULL,   -- 0: none
    limit_pool INTEGER NOT NULL,
    key_pool   INTEGER NOT NULL,
    unfinished INTEGER NOT NULL,
    UNIQUE (queue, priority, group_pool, limit_pool, key_pool)
  );

  -- A row per job that waits in a lane, and for no parent: see lanes.ts.
  CREATE TABLE waiting (
    seq      INTEGER PRIMARY KEY,
    lane     INTEGER NOT NULL,
    queue    TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due_at   INTEGER NOT NULL,
    place    INTEGER NOT NULL,
    turn_at  INTEGER NOT NULL,
    turn     INTEGER NOT NULL,
    held_by  INTEGER               -- null: in play; 0: behind another of its lane; else a pool
  );
  CREATE INDEX waiting_in_play ON waiting (queue, priority DESC, turn_at, turn, due_at, place) WHERE held_by IS NULL;
  CREATE INDEX waiting_due ON waiting (queue, due_at, place) WHERE held_by IS NULL;
  CREATE INDEX waiting_for_pool ON waiting (held_by, queue, priority DESC, turn_at, turn, due_at, place)
    WHERE held_by > 0;
  CREATE INDEX waiting_in_lane ON waiting (lane, due_at, place);
  CREATE INDEX waiting_held ON waiting (lane, due_at, place) WHERE held_by IS NOT NULL;

  DROP INDEX jobs_held;
  ALTER TABLE jobs RENAME COLUMN slot TO lane;  -- null: it needs no slot, or is finished
  ALTER TABLE jobs ADD COLUMN "limit" TEXT;
  ALTER TABLE jobs ADD COLUMN key TEXT;
  ALTER TABLE jobs ADD COLUMN key_concurrency INTEGER;

  -- Groups that had slots have pools; so far their unfinished jobs have the slots' number in place of a lane.
  INSERT INTO pools (kind, name, concurrency, running, unfinished, served_at, served)
    SELECT 'group', CAST(slot AS TEXT), capacity, taken, unfinished, 0, 0 FROM slots JOIN groups ON groups.seq = slot
    WHERE unfinished > 0;
  INSERT INTO lanes (queue, priority, group_pool, limit_pool, key_pool, unfinished)
    SELECT queue, priority, pool, 0, 0, count(*) FROM jobs JOIN pools ON kind = 'group' AND name = CAST(lane AS TEXT)
    WHERE finished_at IS NULL GROUP BY queue, priority, pool;
  UPDATE jobs SET lane = (
      SELECT lanes.lane FROM lanes JOIN pools ON pool = group_pool
      WHERE lanes.queue = jobs.queue AND lanes.priority = jobs.priority AND kind = 'group' AND name = CAST(jobs.lane AS TEXT)
        AND jobs.finished_at IS NULL
    ) WHERE lane IS NOT NULL;
  -- All in play: claims find out which of them have to be held.
  INSERT INTO waiting (seq, lane, queue, priority, due_at, place, turn_at, turn, held_by)
    SELECT seq, lane, queue, priority, due_at, place, due_at, place, NULL FROM jobs
    WHERE lane IS NOT NULL AND hold IN (0, 1);
  UPDATE jobs SET hold = 1 WHERE lane IS NOT NULL AND hold = 0;
  DROP TABLE slots;
  `,
];
