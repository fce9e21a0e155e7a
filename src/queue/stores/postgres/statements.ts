/**
 * Every statement of the Postgres store once it is open. Those that change something are one call of a function each:
 * see functions/. Names are qualified, since a pooler's sessions have the search_path of whoever used them before.
 */
import { quoteName } from './migrate.ts';
import { COLUMNS } from './rows.ts';

/** What a listing looks through, newest first; `$1` is where it begins, `$2` how much of it. */
const LISTED = {
  all: 'SELECT seq FROM @jobs WHERE seq < $1 AND $3::text IS NULL',
  ofGroup: 'SELECT seq FROM @jobs WHERE seq < $1 AND group_id = $3',
  waiting: 'SELECT seq FROM @waiting WHERE seq < $1 AND $3::text IS NULL',
  retrying: 'SELECT seq FROM @waiting WHERE seq < $1 AND retrying AND $3::text IS NULL',
  running: 'SELECT seq FROM @leases WHERE seq < $1 AND $3::text IS NULL',
  failed: `SELECT seq FROM @outcomes WHERE seq < $1 AND state = 'FAILURE' AND $3::text IS NULL`,
  cancelled: `SELECT seq FROM @outcomes WHERE seq < $1 AND state = 'CANCELLED' AND $3::text IS NULL`,
} as const;

export type Listed = keyof typeof LISTED;

const SQL = {
  now: 'SELECT @now_ms($1)',

  post: 'SELECT indexes, seqs, now_at, limits FROM @post($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)',
  postOne: 'SELECT seq, now_at, is_limited FROM @post_one($1, $2, $3, $4, $5, $6, $7, $8, $9)',
  postTied: `
    SELECT verdict, which, seqs, cancelled, now_at, ready, finished
    FROM @post_tied($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
  runAgain: 'SELECT verdict, seq, ready, finished FROM @run_again($1, $2)',

  claim: 'SELECT * FROM @claim($1, $2, $3, $4, $5, $6)',
  finish: 'SELECT indexes, states, ready, finished FROM @finish($1, $2, $3, $4, $5, $6, $7, $8)',
  renew: 'SELECT held, cancelled FROM @renew($1, $2, $3, $4, $5, $6)',
  release: 'SELECT ready, finished FROM @release($1, $2, $3, $4, $5)',
  recover: 'SELECT how, job_id, attempt, fence, ready, finished FROM @recover($1, $2)',
  leases: 'SELECT job_id, attempt, fence FROM @leases WHERE expires_at > @now_ms($1) ORDER BY fence',

  cancel: 'SELECT verdict, job, stopped, ready, finished FROM @cancel($1, $2)',
  cancelGroup: 'SELECT verdict, stopped, ready, finished FROM @cancel_group($1, $2)',
  purge: 'SELECT verdict, stopped, ready, finished FROM @purge($1, $2)',
  purgeGroup: 'SELECT verdict, stopped, ready, finished FROM @purge_group($1, $2)',
  pause: 'SELECT @pause($1)',
  resume: 'SELECT @resume($1)',
  beginTying: 'SELECT @begin_tying($1)',
  tieSome: 'SELECT @tie_some($1, $2, $3)',
  setLimit: 'SELECT ready FROM @set_limit($1, $2, $3)',
  prune: 'SELECT @prune($1, $2, $3, $4)',
  sumUp: 'SELECT @sum_up($1)',
  // What was claimed stays in the indexes that claims read until it is vacuumed away.
  vacuum: 'VACUUM (SKIP_LOCKED, INDEX_CLEANUP on, TRUNCATE off) @waiting, @leases',
  // The same of what prune has deleted: otherwise new jobs are written behind it, until autovacuum comes along.
  vacuumHistory: 'VACUUM (SKIP_LOCKED, INDEX_CLEANUP on, TRUNCATE off) @jobs, @outcomes',
  /** How many there were when somebody last counted; -1: nobody has. */
  roughlyJobs: "SELECT reltuples::float8 FROM pg_catalog.pg_class WHERE oid = '@jobs'::regclass",
  // Refused by a server that cannot be written.
  ping: 'SELECT @ping()',

  newestJob: `
    SELECT ${COLUMNS} FROM @all_jobs WHERE seq = (SELECT seq FROM @jobs WHERE job_id = $1 ORDER BY run DESC LIMIT 1)`,
  jobBySeq: `SELECT ${COLUMNS} FROM @all_jobs WHERE seq = $1`,
  states: 'SELECT @states_of($1)',
  newestGroup: `
    SELECT seq, group_id, concurrency, created_at, unfinished FROM @groups
    WHERE group_id = $1 AND NOT forgotten ORDER BY seq DESC LIMIT 1`,
  unfinished: `
    SELECT (
      SELECT g.unfinished FROM @groups g WHERE g.group_id = asked.id AND NOT g.forgotten ORDER BY g.seq DESC LIMIT 1
    ) FROM unnest($1::text[]) WITH ORDINALITY asked (id, n) ORDER BY asked.n`,
  jobsOfGroup: `SELECT ${COLUMNS} FROM @all_jobs WHERE group_id = $1 AND group_seq = $2 ORDER BY seq`,
  // By hold: what is due of each priority, then what is due later, then what waits for parents.
  pending: `
    WITH RECURSIVE now AS (SELECT @now_ms($3) AS ms), kinds (tied) AS (VALUES (false), (true)), priorities AS (
      SELECT k.tied, p.priority FROM kinds k, LATERAL (
        (SELECT priority FROM @waiting WHERE NOT k.tied AND hold = 0 AND queue = $1 ORDER BY priority DESC LIMIT 1)
        UNION ALL
        (SELECT priority FROM @waiting WHERE k.tied AND hold & 3 > 0 AND queue = $1 ORDER BY priority DESC LIMIT 1)
      ) p
      UNION ALL
      SELECT o.tied, p.priority FROM priorities o, LATERAL (
        (SELECT priority FROM @waiting WHERE NOT o.tied AND hold = 0 AND queue = $1 AND priority < o.priority
          ORDER BY priority DESC LIMIT 1)
        UNION ALL
        (SELECT priority FROM @waiting WHERE o.tied AND hold & 3 > 0 AND queue = $1 AND priority < o.priority
          ORDER BY priority DESC LIMIT 1)
      ) p
    ), found AS (
      SELECT w.seq, w.priority, w.due_at, w.place, w.due_at > now.ms AS later FROM now, priorities p, LATERAL (
        (SELECT * FROM @waiting WHERE NOT p.tied AND hold = 0 AND queue = $1 AND priority = p.priority AND due_at <= now.ms
          ORDER BY due_at, place LIMIT $2)
        UNION ALL
        (SELECT * FROM @waiting WHERE NOT p.tied AND hold = 0 AND queue = $1 AND priority = p.priority AND due_at > now.ms
          ORDER BY due_at, place LIMIT $2)
        UNION ALL
        (SELECT * FROM @waiting WHERE p.tied AND hold & 3 > 0 AND queue = $1 AND priority = p.priority
          AND due_at <= now.ms ORDER BY due_at, place LIMIT $2)
        UNION ALL
        (SELECT * FROM @waiting WHERE p.tied AND hold & 3 > 0 AND queue = $1 AND priority = p.priority
          AND due_at > now.ms ORDER BY due_at, place LIMIT $2)
      ) w
    ), ordered AS (
      (SELECT seq, 0 AS part, row_number() OVER (ORDER BY later, CASE WHEN later THEN due_at ELSE 0 END, priority DESC,
        due_at, place) AS n FROM found ORDER BY n LIMIT $2)
      UNION ALL
      (SELECT seq, 1, row_number() OVER (ORDER BY priority DESC, due_at, place) AS n FROM (
        SELECT * FROM @waiting WHERE hold = 4 AND queue = $1 ORDER BY priority DESC, due_at, place LIMIT $2
      ) p)
      ORDER BY 2, 3 LIMIT $2
    )
    SELECT ${COLUMNS.replaceAll(/\b(\w+)\b/g, 'a.$1')} FROM ordered o JOIN @all_jobs a ON a.seq = o.seq ORDER BY o.part, o.n`,
  listed: `
    SELECT ${COLUMNS} FROM @all_jobs WHERE seq < $1 AND seq >= $2
      AND ($3::text IS NULL OR group_id = $3) AND ($4::text IS NULL OR task = $4) AND ($5::text IS NULL OR queue = $5)
      AND ($6::text IS NULL OR state = $6)
    ORDER BY seq DESC LIMIT $7`,
  counts: 'SELECT queue, state, sum(jobs)::bigint FROM @tallies GROUP BY queue, state HAVING sum(jobs) > 0',
  // A queue that is paused has none that is ready.
  oldest: `
    SELECT q.queue, @oldest_ready(q.queue, now.ms), now.ms FROM unnest($1::text[]) q (queue), (SELECT @now_ms($2) AS ms) now
    WHERE NOT EXISTS (SELECT 1 FROM @paused_queues p WHERE p.queue = q.queue)`,
  pausedQueues: 'SELECT queue FROM @paused_queues',
  limits: 'SELECT concurrency, running, waiting FROM @limits_of($1)',
} as const;

export type Statements = Readonly<Record<keyof typeof SQL, string>> & {
  /** The lower end of a window of a listing. */
  readonly window: Readonly<Record<Listed, string>>;
};

/** `@` before a name stands for the schema; a window is of at most `$2` jobs. */
export function statementsOf(schema: string): Statements {
  const prefix = `${quoteName(schema)}.`;
  const qualify = (sql: string) => sql.replaceAll(/@(?=[a-z])/g, () => prefix);
  const map = <K extends string>(texts: Readonly<Record<K, string>>): Record<K, string> => {
    const entries = Object.entries<string>(texts).map(([name, sql]) => [name, qualify(sql)]);
    return Object.fromEntries(entries);
  };
  const windows = Object.entries(LISTED).map(([name, sql]) => [
    name,
    `SELECT min(seq), count(*) FROM (${sql} ORDER BY seq DESC LIMIT $2) s`,
  ]);
  return { ...map(SQL), window: map(Object.fromEntries(windows) as Record<Listed, string>) };
}
