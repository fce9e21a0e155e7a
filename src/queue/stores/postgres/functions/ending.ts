/**
 * How jobs end, with all that hangs on them: their slots, their groups, their children. All run under lock_ties().
 *
 * Many may end at once, and each statement is for all of them: a row that is updated once for each job, or a search that
 * passes what this transaction has deleted for each job, would make the cost of a group the square of its size. What is
 * joined to other tables is looked up row by row (OFFSET 0), whatever the planner takes the sizes to be.
 */
import { helper } from './define.ts';

export const ENDING = [
  // Moves jobs to their outcomes, and gives those moved: not those that are finished already or not there.
  helper(
    'settle(p_seqs bigint[], p_state text, p_error text, p_result text, p_now bigint) RETURNS bigint[]',
    `
DECLARE
  v_left bigint[] := p_seqs;
  v_moved ended[];
  v_ended ended[] := '{}';
  v_waited bigint[];
  v_of record;
  v_unfinished bigint;
BEGIN
  LOOP
    WITH waited AS (
      DELETE FROM waiting WHERE seq = ANY (v_left) RETURNING *
    ), ran AS (
      DELETE FROM leases WHERE seq = ANY (v_left) RETURNING *
    ), gone AS (
      SELECT seq, due_at, started_at, fence, group_pool, limit_pool, key_pool, attempt, failures, hold, false AS asked,
        CASE WHEN retrying THEN 'RETRY' ELSE 'PENDING' END AS state, queue, worker FROM waited
      UNION ALL
      SELECT seq, due_at, started_at, fence, group_pool, limit_pool, key_pool, attempt, failures, NULL, cancel_requested,
        'STARTED', queue, worker FROM ran
    ), known AS (
      SELECT g.*, j.job_id, j.group_seq FROM gone g,
        LATERAL (SELECT job_id, group_seq FROM jobs x WHERE x.seq = g.seq OFFSET 0) j
    ), kept AS (
      INSERT INTO outcomes (seq, finished_at, due_at, started_at, fence, attempt, failures, grouped, cancel_requested, state,
        queue, worker, error, result)
      SELECT seq, p_now, due_at, started_at, fence, attempt, failures, group_seq IS NOT NULL, asked, p_state, queue, worker,
        p_error, p_result
      FROM known
    ), tallied AS (
      INSERT INTO tallies (queue, state, jobs)
      SELECT queue, state, -count(*) FROM known GROUP BY 1, 2
      UNION ALL SELECT queue, p_state, count(*) FROM known GROUP BY 1
    )
    SELECT array_agg(ROW(seq, group_pool, limit_pool, key_pool, group_seq, hold, queue, job_id)::ended)
    INTO v_moved FROM known;
    v_ended := v_ended || v_moved;
    EXIT WHEN cardinality(v_ended) = cardinality(p_seqs);
    -- Some may be on their way from one to the other: a plain job is claimed and put back without the lock.
    SELECT array_agg(s.seq) INTO v_left FROM unnest(v_left) s (seq)
    WHERE NOT EXISTS (SELECT 1 FROM outcomes o WHERE o.seq = s.seq OFFSET 0)
      AND EXISTS (SELECT 1 FROM jobs j WHERE j.seq = s.seq OFFSET 0);
    EXIT WHEN v_left IS NULL;
  END LOOP;
  IF cardinality(v_ended) = 0 THEN RETURN '{}'; END IF;

  PERFORM note_finished(ARRAY(SELECT e.job_id FROM unnest(v_ended) e));
  v_waited := ARRAY(SELECT e.seq FROM unnest(v_ended) e WHERE e.hold = 4);
  IF cardinality(v_waited) > 0 THEN DELETE FROM dependencies WHERE child_seq = ANY (v_waited); END IF;
  FOR v_of IN
    SELECT e.group_seq, count(*) AS jobs FROM unnest(v_ended) e WHERE e.group_seq IS NOT NULL GROUP BY 1
  LOOP
    UPDATE groups SET unfinished = unfinished - v_of.jobs, finished_at = CASE unfinished WHEN v_of.jobs THEN p_now END
    WHERE seq = v_of.group_seq;
  END LOOP;
  FOR v_of IN
    SELECT DISTINCT e.queue, e.group_pool, e.limit_pool, e.key_pool FROM unnest(v_ended) e WHERE e.hold IN (1, 2)
  LOOP
    PERFORM wake_lane(v_of.queue, v_of.group_pool, v_of.limit_pool, v_of.key_pool);
  END LOOP;
  FOR v_of IN
    SELECT p.pool, count(*) AS jobs, count(*) FILTER (WHERE e.hold IS NULL) AS freed,
      count(*) FILTER (WHERE e.hold IS NULL OR e.hold = 1) AS openings
    FROM unnest(v_ended) e, LATERAL (VALUES (e.group_pool), (e.limit_pool), (e.key_pool)) p (pool)
    WHERE p.pool <> 0 GROUP BY 1
  LOOP
    UPDATE pools SET taken = taken - v_of.freed,
      unfinished = CASE kind WHEN 'group' THEN unfinished ELSE unfinished - v_of.jobs END
    WHERE pool = v_of.pool RETURNING unfinished INTO v_unfinished;
    IF v_unfinished = 0 THEN PERFORM forget_pool(v_of.pool); END IF;
    IF v_of.openings > 0 THEN PERFORM wake_pool(v_of.pool, v_of.openings); END IF;
  END LOOP;
  RETURN ARRAY(SELECT e.seq FROM unnest(v_ended) e);
END`,
  ),
  // Jobs that have ended no longer hold up those that wait for them.
  helper(
    'let_go_of_children(p_parents bigint[], p_now bigint) RETURNS void',
    `
DECLARE
  v_freed record;
  v_ready waiting[] := '{}';
  v_some waiting[];
  v_entered record;
BEGIN
  FOR v_freed IN
    WITH edges AS (DELETE FROM dependencies WHERE parent_seq = ANY (p_parents) RETURNING child_seq)
    SELECT c.parents, array_agg(c.child_seq) AS children
    FROM (SELECT child_seq, count(*) AS parents FROM edges GROUP BY 1) c GROUP BY 1
  LOOP
    WITH freed AS (
      UPDATE waiting w SET waits = waits - v_freed.parents WHERE seq = ANY (v_freed.children) RETURNING w
    )
    SELECT array_agg(w) INTO v_some FROM freed WHERE (w).waits = 0;
    v_ready := v_ready || v_some;
  END LOOP;
  FOR v_entered IN
    SELECT e.hold, CASE e.hold WHEN 1 THEN e.turn_at END AS turn_at, CASE e.hold WHEN 1 THEN e.turn END AS turn,
      array_agg(e.seq) AS seqs
    FROM enter_all(v_ready, p_now) e GROUP BY 1, 2, 3
  LOOP
    UPDATE waiting SET hold = v_entered.hold, turn_at = coalesce(v_entered.turn_at, turn_at),
      turn = coalesce(v_entered.turn, turn)
    WHERE seq = ANY (v_entered.seqs);
  END LOOP;
END`,
  ),
  // Ends jobs, and cancels or releases those that waited for them, and so on.
  helper(
    'end_jobs(p_seqs bigint[], p_state text, p_error text, p_result text, p_now bigint) RETURNS void',
    `
DECLARE
  v_ended bigint[] := settle(p_seqs, p_state, p_error, p_result, p_now);
  v_doomed bigint[];
BEGIN
  IF NOT EXISTS (SELECT 1 FROM dependencies WHERE parent_seq = ANY (v_ended)) THEN RETURN; END IF;
  IF p_state <> 'SUCCESS' THEN
    WITH RECURSIVE doomed (seq) AS (
      SELECT e.seq FROM unnest(v_ended) e (seq)
      UNION
      SELECT c.child_seq FROM doomed d,
        LATERAL (SELECT child_seq FROM dependencies x WHERE x.parent_seq = d.seq AND x.on_failure = 'cancel' OFFSET 0) c
    )
    SELECT array_agg(seq) INTO v_doomed FROM (SELECT seq FROM doomed EXCEPT SELECT unnest(v_ended)) d;
    IF v_doomed IS NOT NULL THEN v_ended := v_ended || settle(v_doomed, 'CANCELLED', '', NULL, p_now); END IF;
  END IF;
  PERFORM let_go_of_children(v_ended, p_now);
END`,
  ),
  // A STARTED job waits again, due when the lease's due_at says.
  helper(
    'put_back(l leases, p_retrying boolean, p_now bigint) RETURNS void',
    `
DECLARE
  w waiting;
BEGIN
  DELETE FROM leases WHERE fence = l.fence;
  PERFORM free_slots(l);
  w.seq := l.seq;
  w.due_at := l.due_at;
  w.place := l.place;
  w.group_pool := l.group_pool;
  w.limit_pool := l.limit_pool;
  w.key_pool := l.key_pool;
  w.fence := l.fence;
  w.started_at := l.started_at;
  w.priority := l.priority;
  w.attempt := l.attempt;
  w.failures := l.failures;
  w.crashes := l.crashes;
  w.waits := 0;
  w.retrying := p_retrying;
  w.tied := l.tied;
  w.queue := l.queue;
  w.worker := l.worker;
  w.error := l.error;
  w.open_limit := l.open_limit;
  w := enter(w, p_now);
  INSERT INTO waiting SELECT w.*;
  PERFORM tally(l.queue, 'STARTED', CASE WHEN p_retrying THEN 'RETRY' ELSE 'PENDING' END);
  -- Whoever waits for the next has to know of this one.
  PERFORM note('ready');
END`,
  ),
].join('\n');
