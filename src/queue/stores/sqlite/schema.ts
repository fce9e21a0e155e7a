/** The tables of the SQLite store, as numbered migrations: `PRAGMA user_version` counts those applied. */

/**
 * Why a PENDING or RETRY job does not run yet. It decides which partial index the job is in, and so that no
 * claim ever walks over jobs that cannot be claimed.
 */
export const PHASE = {
  /** It does not wait: it runs, or is finished. */
  none: 0,
  /** Claimable. */
  ready: 1,
  /** Until `due_at`. */
  delayed: 2,
  /** For parents: `waiting` counts those that are not finished. */
  parents: 3,
  /** For a free slot of its group. */
  slot: 4,
} as const;

export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE meta (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    store_id TEXT NOT NULL,
    fence    INTEGER NOT NULL
  );
  INSERT INTO meta VALUES (1, lower(hex(randomblob(16))), 0);

  CREATE TABLE groups (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    group_id    TEXT NOT NULL,
    concurrency INTEGER,
    created_at  INTEGER NOT NULL
  );
  CREATE INDEX groups_by_id ON groups (group_id, seq);

  CREATE TABLE jobs (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id           TEXT NOT NULL,
    task             TEXT NOT NULL,
    queue            TEXT NOT NULL,
    payload          TEXT NOT NULL,
    state            TEXT NOT NULL,
    phase            INTEGER NOT NULL,
    priority         INTEGER NOT NULL,
    eta              INTEGER,
    retries          INTEGER NOT NULL,
    attempt          INTEGER NOT NULL DEFAULT 0,
    crashes          INTEGER NOT NULL DEFAULT 0,
    fence            INTEGER,
    group_seq        INTEGER,
    after            TEXT,
    waiting          INTEGER NOT NULL DEFAULT 0,
    worker           TEXT,
    error            TEXT NOT NULL DEFAULT '',
    result           TEXT,
    progress         TEXT,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    created_at       INTEGER NOT NULL,
    due_at           INTEGER NOT NULL,
    started_at       INTEGER,
    finished_at      INTEGER,
    lease_expires_at INTEGER
  );
  CREATE UNIQUE INDEX jobs_active ON jobs (job_id) WHERE finished_at IS NULL;
  CREATE INDEX jobs_by_id ON jobs (job_id, seq);
  CREATE INDEX jobs_ready ON jobs (queue, priority DESC, due_at, seq) WHERE phase = 1;
  CREATE INDEX jobs_delayed ON jobs (due_at, seq) WHERE phase = 2;
  CREATE INDEX jobs_delayed_by_queue ON jobs (queue, due_at) WHERE phase = 2;
  CREATE INDEX jobs_in_slot_order ON jobs (group_seq, priority DESC, due_at, seq) WHERE phase = 4;
  CREATE INDEX jobs_leased ON jobs (lease_expires_at) WHERE lease_expires_at IS NOT NULL;
  CREATE INDEX jobs_by_group ON jobs (group_seq, seq) WHERE group_seq IS NOT NULL;
  -- Who holds a slot of a group, or has been given one.
  CREATE INDEX jobs_in_slots ON jobs (group_seq) WHERE group_seq IS NOT NULL AND (phase = 1 OR state = 'STARTED');
  CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;

  CREATE TABLE dependencies (
    parent_seq INTEGER NOT NULL,
    child_seq  INTEGER NOT NULL,
    on_failure TEXT NOT NULL,
    PRIMARY KEY (parent_seq, child_seq)
  ) WITHOUT ROWID;
  CREATE INDEX dependencies_by_child ON dependencies (child_seq);

  CREATE TABLE paused_queues (queue TEXT PRIMARY KEY) WITHOUT ROWID;
  `,
];
