/**
 * The tables of the Postgres store, as numbered migrations: `migrations` has the number of each that was applied.
 *
 * What is posted is written once, into `jobs`. What becomes of it is in exactly one of three tables: `waiting`,
 * `leases` (it runs) or `outcomes` (it has ended). So the way of a job costs no table more than an insert and a
 * delete, no version of a payload is ever copied, and the indexes that claims read hold only what can be claimed.
 *
 * Every call is one statement, a call of a function (functions/), and so a transaction by itself: no session is ever idle
 * inside a transaction, and a pooler may hand each call to another session.
 *
 * There is one lock, `lock_ties()`, for all that ties jobs to each other: pools of slots (groups with a concurrency,
 * limits that have one, keys), dependencies, groups, and what people do to jobs. It is taken before any row is locked.
 * The plain way of a job goes without it: post, claim (SKIP LOCKED), renew and finish lock nothing but rows of their own.
 * A row of `waiting` or `leases` says whether its job is `tied`; a job that is becomes part of what the lock guards.
 */
import { CHANGES } from './functions/changes.ts';
import { CLAIM } from './functions/claim.ts';
import { ENDING } from './functions/ending.ts';
import { LANES } from './functions/lanes.ts';
import { POSTING } from './functions/posting.ts';
import { PRUNING } from './functions/pruning.ts';
import { RUNNING } from './functions/running.ts';

const TABLES = `
CREATE SEQUENCE places;  -- of jobs, groups, pools and turns: one sequence
CREATE SEQUENCE fences;

CREATE TABLE store (store_id text NOT NULL);
INSERT INTO store VALUES (replace(gen_random_uuid()::text, '-', ''));

-- As posted. Only eta changes (see run_again).
CREATE TABLE jobs (
  seq             bigint PRIMARY KEY,
  created_at      bigint NOT NULL,
  eta             bigint,
  retries         bigint NOT NULL,
  group_seq       bigint,
  key_concurrency bigint,
  priority        integer NOT NULL,
  run             integer NOT NULL,  -- how often the id was used: at most one of its runs is not finished, the last
  job_id          text COLLATE "C" NOT NULL,
  task            text COLLATE "C" NOT NULL,
  queue           text COLLATE "C" NOT NULL,
  group_id        text COLLATE "C",
  limit_name      text COLLATE "C",
  key             text COLLATE "C",
  parents         text,              -- JSON: [[job_id, on_failure, seq], ...]
  payload         text NOT NULL      -- JSON
);
CREATE UNIQUE INDEX jobs_by_id ON jobs (job_id, run);
CREATE INDEX jobs_of_group ON jobs (group_id, group_seq, seq) WHERE group_id IS NOT NULL;

-- PENDING and RETRY. Why a job is not claimed, its hold:
--   0 nothing, once it is due, and it needs no slot
--   1 in play: the same of one that needs slots; whether they are free is seen when it is claimed
--   2 front: the first of its lane, waits for a slot of one pool
--   3 behind a front of its lane, or behind one of its lane that is in play
--   4 waits for parents
CREATE TABLE waiting (
  seq        bigint PRIMARY KEY,
  due_at     bigint NOT NULL,
  place      bigint NOT NULL,
  turn_at    bigint NOT NULL,            -- with turn: its position; of one with a key at least what is true
  turn       bigint NOT NULL,
  group_pool bigint NOT NULL DEFAULT 0,  -- the pools it needs a slot of, 0: none; with the queue: its lane
  limit_pool bigint NOT NULL DEFAULT 0,
  key_pool   bigint NOT NULL DEFAULT 0,
  pool       bigint,                     -- of a front: the one that was full
  fence      bigint,                     -- of the last attempt, as the rest below
  started_at bigint,
  priority   integer NOT NULL,
  attempt    integer NOT NULL DEFAULT 0,
  failures   integer NOT NULL DEFAULT 0,
  crashes    integer NOT NULL DEFAULT 0,
  waits      integer NOT NULL DEFAULT 0, -- parents that are not finished
  hold       smallint NOT NULL,
  retrying   boolean NOT NULL DEFAULT false,
  tied       boolean NOT NULL DEFAULT false,
  queue      text COLLATE "C" NOT NULL,
  worker     text,
  error      text NOT NULL DEFAULT ''
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_scale_factor = 0.2);
-- Plans are made when there are few jobs, and kept: so each search has to fit one index only, whatever the statistics
-- say. That is why the same condition (hold IN (1, 2, 3)) is written in two ways, neither of which follows from another.
CREATE INDEX waiting_plain ON waiting (queue, priority DESC, due_at, place) WHERE hold = 0;
CREATE INDEX waiting_in_play ON waiting (queue, priority DESC, turn_at, turn, due_at, place) WHERE hold = 1;
CREATE INDEX waiting_fronts ON waiting (pool, queue, priority DESC, turn_at, turn, due_at, place) WHERE hold = 2;
CREATE INDEX waiting_in_lane ON waiting (group_pool, limit_pool, key_pool, queue, hold, priority DESC, due_at, place)
  WHERE hold % 4 > 0;
CREATE INDEX waiting_tied ON waiting (queue, priority DESC, due_at, place) WHERE hold & 3 > 0;
CREATE INDEX waiting_for_parents ON waiting (queue, priority DESC, due_at, place) WHERE hold = 4;
CREATE INDEX waiting_retrying ON waiting (seq) WHERE retrying;

-- STARTED: a row per attempt. Heartbeats rewrite it in place.
CREATE TABLE leases (
  fence      bigint PRIMARY KEY,
  seq        bigint NOT NULL,
  expires_at bigint NOT NULL,
  started_at bigint NOT NULL,
  due_at     bigint NOT NULL,
  place      bigint NOT NULL,
  group_pool bigint NOT NULL,
  limit_pool bigint NOT NULL,
  key_pool   bigint NOT NULL,
  priority   integer NOT NULL,
  attempt    integer NOT NULL,
  failures   integer NOT NULL,
  crashes    integer NOT NULL,
  tied       boolean NOT NULL,
  cancel_requested boolean NOT NULL DEFAULT false,
  job_id     text COLLATE "C" NOT NULL,
  queue      text COLLATE "C" NOT NULL,
  worker     text NOT NULL,
  error      text NOT NULL,
  progress   text                       -- JSON
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX leases_by_job ON leases (seq);

-- SUCCESS, FAILURE, CANCELLED: written once.
CREATE TABLE outcomes (
  seq         bigint PRIMARY KEY,
  finished_at bigint NOT NULL,
  due_at      bigint NOT NULL,
  started_at  bigint,
  fence       bigint,
  attempt     integer NOT NULL,
  failures    integer NOT NULL,
  grouped     boolean NOT NULL,
  cancel_requested boolean NOT NULL DEFAULT false,
  state       text COLLATE "C" NOT NULL,
  queue       text COLLATE "C" NOT NULL,
  worker      text,
  error       text NOT NULL,
  result      text                      -- JSON
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX outcomes_by_age ON outcomes (finished_at) WHERE NOT grouped;
CREATE INDEX outcomes_failed ON outcomes (seq) WHERE state = 'FAILURE';
CREATE INDEX outcomes_cancelled ON outcomes (seq) WHERE state = 'CANCELLED';
ALTER TABLE jobs SET (autovacuum_vacuum_scale_factor = 0.05);

CREATE VIEW all_jobs AS
SELECT j.seq, j.job_id, j.task, j.queue, j.payload,
  CASE WHEN o.seq IS NOT NULL THEN o.state WHEN l.seq IS NOT NULL THEN 'STARTED'
    WHEN w.retrying THEN 'RETRY' ELSE 'PENDING' END AS state,
  j.priority, j.eta, j.retries,
  coalesce(o.attempt, l.attempt, w.attempt) AS attempt, coalesce(o.failures, l.failures, w.failures) AS failures,
  coalesce(o.fence, l.fence, w.fence) AS fence, j.group_id, j.parents, j.limit_name, j.key, j.key_concurrency,
  coalesce(o.worker, l.worker, w.worker) AS worker, coalesce(o.error, l.error, w.error) AS error, o.result, l.progress,
  coalesce(o.cancel_requested, l.cancel_requested, false) AS cancel_requested, j.created_at,
  coalesce(o.due_at, l.due_at, w.due_at) AS due_at, coalesce(o.started_at, l.started_at, w.started_at) AS started_at,
  o.finished_at, j.group_seq
FROM jobs j LEFT JOIN outcomes o ON o.seq = j.seq LEFT JOIN leases l ON l.seq = j.seq LEFT JOIN waiting w ON w.seq = j.seq;

-- Edges to parents that are not finished.
CREATE TABLE dependencies (
  parent_seq bigint NOT NULL,
  child_seq  bigint NOT NULL,
  on_failure text NOT NULL,
  PRIMARY KEY (parent_seq, child_seq)
);
CREATE INDEX dependencies_of_child ON dependencies (child_seq);

CREATE TABLE groups (
  seq         bigint PRIMARY KEY,
  group_id    text COLLATE "C" NOT NULL,
  concurrency bigint,
  created_at  bigint NOT NULL,
  unfinished  bigint NOT NULL,
  finished_at bigint,
  forgotten   boolean NOT NULL DEFAULT false  -- its jobs are being deleted, step by step
);
CREATE INDEX groups_by_id ON groups (group_id, seq);
CREATE INDEX groups_by_age ON groups (forgotten DESC, finished_at) WHERE finished_at IS NOT NULL;

-- What jobs share, with how many of them run: groups that have a concurrency (their seq), limits, keys.
CREATE TABLE pools (
  pool       bigint PRIMARY KEY,
  kind       text COLLATE "C" NOT NULL,      -- group, limit, key
  name       text COLLATE "C" NOT NULL,
  capacity   bigint,                         -- null: no limit
  taken      bigint NOT NULL DEFAULT 0,
  unfinished bigint NOT NULL DEFAULT 0,      -- of limits and keys
  served_at  bigint NOT NULL DEFAULT 0,      -- of keys: their last turn
  served     bigint NOT NULL DEFAULT 0,
  UNIQUE (kind, name)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- Jobs by state, as a sum: a row that all count in would be one that all wait for.
CREATE TABLE tallies (
  queue text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL,
  jobs  bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE paused_queues (queue text COLLATE "C" PRIMARY KEY);

-- A job that has just ended.
CREATE TYPE ended AS (
  seq        bigint,
  group_pool bigint,
  limit_pool bigint,
  key_pool   bigint,
  group_seq  bigint,
  hold       smallint,  -- null: it ran
  queue      text,
  job_id     text
);
`;

const LEASES_TIED = `
-- Tells at once that there are none, as is most often so. Its condition is written so that no other search fits it.
CREATE INDEX leases_tied ON leases (tied) WHERE tied::integer > 0;
`;

/** Here came functions, which the last migration replaces. */
const EARLIER_FUNCTIONS = '';

/**
 * A limit without a concurrency ties nothing: its jobs are plain, and say in `open_limit` where they count. When it is
 * given one they are tied (see set_limit); from then on no job is plain that names it. Each is a migration by itself: one
 * that waits for a table must not hold another, which those it waits for may be about to use.
 */
const OPEN_LIMITS = [
  'ALTER TABLE leases ADD COLUMN open_limit text COLLATE "C"',
  'ALTER TABLE waiting ADD COLUMN open_limit text COLLATE "C"',
  // From the last to the first; written so that no search by it fits the primary key.
  'CREATE INDEX waiting_open ON waiting (open_limit, (-seq)) WHERE open_limit IS NOT NULL',
  // Jobs that are posted now are tied although it has no capacity yet: it is about to have one.
  'ALTER TABLE pools ADD COLUMN ties boolean NOT NULL DEFAULT false',
];

/** They replace those that came with earlier versions. */
const FUNCTIONS = [
  'DROP FUNCTION IF EXISTS claim_plain;',
  'DROP FUNCTION IF EXISTS set_limit(text, bigint);',
  LANES,
  ENDING,
  POSTING,
  CLAIM,
  RUNNING,
  CHANGES,
  PRUNING,
].join('\n');

/** Each runs in a transaction of its own with the store's schema as its search_path. */
export const MIGRATIONS: readonly string[] = [
  TABLES,
  LEASES_TIED,
  EARLIER_FUNCTIONS,
  ...OPEN_LIMITS,
  EARLIER_FUNCTIONS,
  FUNCTIONS,
];
