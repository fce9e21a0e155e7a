/** How a job ends, with all that hangs on it: its slots, its group, its children. All run under lock_ties(). */
import { helper } from './define.ts';

export const ENDING = [
  // Moves one job to its outcome; false if it is finished already or not there.
  helper(
    'end_one(p_seq bigint, p_state text, p_error text, p_result text, p_now bigint) RETURNS boolean',
    `
DECLARE
  w waiting;
  l leases;
  j jobs;
  v_pool bigint;
BEGIN
  -- It may be on its way from one to the other: a plain job is claimed and put back without the lock.
  LOOP
    DELETE FROM waiting WHERE seq = p_seq RETURNING * INTO w;
    EXIT WHEN FOUND;
    DELETE FROM leases WHERE seq = p_seq RETURNING * INTO l;
    EXIT WHEN FOUND;
    IF EXISTS (SELECT 1 FROM outcomes WHERE seq = p_seq) THEN RETURN false; END IF;
    IF NOT EXISTS (SELECT 1 FROM jobs WHERE seq = p_seq) THEN RETURN false; END IF;
  END LOOP;
  SELECT * INTO j FROM jobs WHERE seq = p_seq;
  IF l.seq IS NOT NULL THEN
    INSERT INTO outcomes (seq, finished_at, due_at, started_at, fence, attempt, failures, grouped, cancel_requested, state, queue, worker, error, result)
    VALUES (p_seq, p_now, l.due_at, l.started_at, l.fence, l.attempt, l.failures, j.group_seq IS NOT NULL,
      l.cancel_requested, p_state, j.queue, l.worker,
      p_error, p_result);
    PERFORM tally(j.queue, 'STARTED', p_state);
    PERFORM free_slots(l);
  ELSE
    INSERT INTO outcomes (seq, finished_at, due_at, started_at, fence, attempt, failures, grouped, state, queue, worker, error, result)
    VALUES (p_seq, p_now, w.due_at, w.started_at, w.fence, w.attempt, w.failures, j.group_seq IS NOT NULL, p_state, j.queue, w.worker,
      p_error, p_result);
    PERFORM tally(j.queue, CASE WHEN w.retrying THEN 'RETRY' ELSE 'PENDING' END, p_state);
    IF w.hold = 4 THEN DELETE FROM dependencies WHERE child_seq = p_seq; END IF;
    PERFORM leave(w);
  END IF;
  IF j.group_seq IS NOT NULL THEN
    UPDATE groups SET unfinished = unfinished - 1, finished_at = CASE unfinished WHEN 1 THEN p_now END
    WHERE seq = j.group_seq;
  END IF;
  FOREACH v_pool IN ARRAY ARRAY[
    coalesce(l.limit_pool, w.limit_pool), coalesce(l.key_pool, w.key_pool)
  ] LOOP
    CONTINUE WHEN v_pool = 0;
    UPDATE pools SET unfinished = unfinished - 1 WHERE pool = v_pool;
    PERFORM forget_pool(v_pool);
  END LOOP;
  PERFORM note_finished(j.job_id);
  RETURN true;
END`,
  ),
  // A parent has finished that this one need not fear.
  helper(
    'parent_finished(p_child bigint, p_now bigint) RETURNS void',
    `
DECLARE
  w waiting;
BEGIN
  UPDATE waiting SET waits = waits - 1 WHERE seq = p_child RETURNING * INTO w;
  IF w.waits = 0 THEN
    w := enter(w, p_now);
    UPDATE waiting SET hold = w.hold, turn_at = w.turn_at, turn = w.turn WHERE seq = p_child;
  END IF;
END`,
  ),
  // Ends a job, and cancels or releases those that waited for it, and so on.
  helper(
    'end_job(p_seq bigint, p_state text, p_error text, p_result text, p_now bigint) RETURNS void',
    `
DECLARE
  -- Not recursive: a chain may be long.
  v_cancelled bigint[] := '{}';
  v_at integer := 0;
  v_edge record;
BEGIN
  IF NOT end_one(p_seq, p_state, p_error, p_result, p_now) THEN RETURN; END IF;
  FOR v_edge IN DELETE FROM dependencies WHERE parent_seq = p_seq RETURNING child_seq, on_failure LOOP
    IF p_state = 'SUCCESS' OR v_edge.on_failure = 'run' THEN
      PERFORM parent_finished(v_edge.child_seq, p_now);
    ELSE
      v_cancelled := v_cancelled || v_edge.child_seq;
    END IF;
  END LOOP;
  WHILE v_at < cardinality(v_cancelled) LOOP
    v_at := v_at + 1;
    p_seq := v_cancelled[v_at];
    CONTINUE WHEN NOT end_one(p_seq, 'CANCELLED', '', NULL, p_now);
    FOR v_edge IN DELETE FROM dependencies WHERE parent_seq = p_seq RETURNING child_seq, on_failure LOOP
      IF v_edge.on_failure = 'run' THEN
        PERFORM parent_finished(v_edge.child_seq, p_now);
      ELSE
        v_cancelled := v_cancelled || v_edge.child_seq;
      END IF;
    END LOOP;
  END LOOP;
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
  w := enter(w, p_now);
  INSERT INTO waiting SELECT w.*;
  PERFORM tally(l.queue, 'STARTED', CASE WHEN p_retrying THEN 'RETRY' ELSE 'PENDING' END);
  -- Whoever waits for the next has to know of this one.
  PERFORM note('ready');
END`,
  ),
].join('\n');
