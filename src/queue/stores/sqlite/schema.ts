/** The tables of the SQLite store, as numbered migrations: `PRAGMA user_version` counts those applied. */

/** Marks a file as one of ours (`PRAGMA application_id`): "dung". */
export const APPLICATION_ID = 0x64756e67;

/**
 * Why a PENDING or RETRY job is not claimed. It leads the index that claims walk, so that none ever passes
 * over jobs that cannot be claimed.
 */
export const HOLD = {
  /** Nothing: it is claimable once it is due. */
  none: 0,
  /** Its slots are taken, and it was due. The end of a job that has one brings the next back to `none`. */
  slot: 1,
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
];
