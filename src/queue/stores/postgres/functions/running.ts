/** What a worker does with an attempt that it holds. */
import { entry, helper } from './define.ts';

export const RUNNING = [
  // Leases that are given twice are left to the caller. Gives the indexes of those that were held, from 1, and what became
  // of them.
  entry(
    `finish(p_fences bigint[], p_ids text[], p_attempts integer[], p_states text[], p_errors text[], p_results text[],
       p_delays bigint[], p_offset bigint, OUT indexes integer[], OUT states text[], OUT ready boolean, OUT finished text)`,
    `
DECLARE
  v_now bigint;
  v_tied boolean;
  v_end record;
  v_state text;
  v_gone bigint;
BEGIN
  -- The lock comes before any row: whether it is needed is asked first.
  v_tied := EXISTS (SELECT 1 FROM leases WHERE tied::integer > 0)
    AND EXISTS (SELECT 1 FROM leases WHERE fence = ANY (p_fences) AND tied);
  IF v_tied THEN PERFORM lock_ties(); END IF;
  v_now := now_ms(p_offset);
  WITH ended AS (
    SELECT l.*, e.index, e.delay, e.result, e.error AS last_error, CASE
      WHEN e.state IN ('SUCCESS', 'RETRY') AND l.cancel_requested THEN 'CANCELLED' ELSE e.state END AS state
    FROM unnest(p_fences, p_ids, p_attempts, p_states, p_errors, p_results, p_delays)
      WITH ORDINALITY e (fence, job_id, attempt, state, error, result, delay, index),
    LATERAL (
      SELECT seq, due_at, place, started_at, fence, priority, attempt, failures, cancel_requested, queue, worker, open_limit,
        x.ctid AS row
      FROM leases x
      WHERE x.fence = e.fence AND x.job_id = e.job_id AND x.attempt = e.attempt AND NOT x.tied FOR UPDATE
    ) l
  ), gone AS (
    DELETE FROM leases WHERE ctid = ANY (ARRAY(SELECT row FROM ended)) RETURNING 1
  ), kept AS (
    INSERT INTO outcomes (seq, finished_at, due_at, started_at, fence, attempt, failures, grouped,
      cancel_requested, state, queue, worker, error, result)
    SELECT seq, v_now, due_at, started_at, fence, attempt, failures, false, cancel_requested, state, queue, worker, last_error,
      CASE state WHEN 'SUCCESS' THEN result END
    FROM ended WHERE state <> 'RETRY'
  ), again AS (
    INSERT INTO waiting (seq, due_at, place, turn_at, turn, fence, started_at, priority, attempt, failures, hold, retrying,
      queue, worker, error, open_limit)
    SELECT seq, v_now + delay, place, v_now + delay, place, fence, started_at, priority, attempt, failures + 1, 0, true,
      queue, worker, last_error, open_limit
    FROM ended WHERE state = 'RETRY'
  ), tallied AS (
    INSERT INTO tallies (queue, state, jobs)
    SELECT queue, state, count(*) FROM ended GROUP BY 1, 2
    UNION ALL SELECT queue, 'STARTED', -count(*) FROM ended GROUP BY 1
  )
  SELECT coalesce(array_agg(index), '{}'), coalesce(array_agg(state), '{}'), coalesce(bool_or(state = 'RETRY'), false),
    (SELECT count(*) FROM gone)
  INTO indexes, states, ready, v_gone FROM ended;
  finished := '';
  IF v_gone < cardinality(indexes) THEN
    -- Renewed between the look at it and its lock: it is at another place.
    DELETE FROM leases WHERE fence = ANY (ARRAY(SELECT p_fences[i] FROM unnest(indexes) i));
  END IF;
  IF cardinality(indexes) < cardinality(p_fences) THEN
    IF v_tied THEN
      FOR v_end IN
        SELECT e.* FROM unnest(p_fences, p_ids, p_attempts, p_states, p_errors, p_results, p_delays)
          WITH ORDINALITY e (fence, job_id, attempt, state, error, result, delay, index)
        WHERE EXISTS (
          SELECT 1 FROM leases l WHERE l.fence = e.fence AND l.job_id = e.job_id AND l.attempt = e.attempt AND l.tied
        )
        ORDER BY e.index
      LOOP
        v_state := finish_one(v_end.fence, v_end.state, v_end.error, v_end.result, v_end.delay, v_now);
        IF v_state IS NOT NULL THEN
          indexes := indexes || v_end.index::integer;
          states := states || v_state;
        END IF;
      END LOOP;
      ready := ready OR noted('ready');
      finished := noted_finished();
    ELSIF EXISTS (SELECT 1 FROM leases WHERE fence = ANY (p_fences) AND tied) THEN
      -- Tied since it was asked. All is undone, and the caller tries again.
      RAISE EXCEPTION 'a job was tied to another' USING ERRCODE = '40001';
    END IF;
  END IF;
END`,
  ),
  helper(
    'finish_one(p_fence bigint, p_state text, p_error text, p_result text, p_delay bigint, p_now bigint) RETURNS text',
    `
DECLARE
  l leases;
BEGIN
  SELECT * INTO l FROM leases WHERE fence = p_fence FOR UPDATE;
  IF NOT FOUND THEN RETURN NULL; END IF;
  IF p_state IN ('SUCCESS', 'RETRY') AND l.cancel_requested THEN p_state := 'CANCELLED'; END IF;
  IF p_state = 'RETRY' THEN
    l.due_at := p_now + p_delay;
    l.error := p_error;
    l.failures := l.failures + 1;
    l.crashes := 0;
    PERFORM put_back(l, true, p_now);
  ELSE
    PERFORM end_jobs(ARRAY[l.seq], p_state, p_error, CASE p_state WHEN 'SUCCESS' THEN p_result END, p_now);
  END IF;
  RETURN p_state;
END`,
  ),
  // Those still held, in order; lost ones are not among them. Progress: JSON, or null to leave it.
  entry(
    `renew(p_fences bigint[], p_ids text[], p_attempts integer[], p_progress text[], p_lease_ms bigint, p_offset bigint,
       OUT held bigint[], OUT cancelled bigint[])`,
    `
DECLARE
  v_cancelled boolean;
  v_expires_at bigint := now_ms(p_offset) + p_lease_ms;
BEGIN
  held := '{}';
  cancelled := '{}';
  FOR v_index IN 1..cardinality(p_fences) LOOP
    UPDATE leases SET expires_at = v_expires_at, progress = coalesce(p_progress[v_index], progress)
    WHERE fence = p_fences[v_index] AND job_id = p_ids[v_index] AND attempt = p_attempts[v_index]
    RETURNING cancel_requested INTO v_cancelled;
    CONTINUE WHEN NOT FOUND;
    held := held || p_fences[v_index];
    IF v_cancelled THEN cancelled := cancelled || p_fences[v_index]; END IF;
  END LOOP;
END`,
  ),
  entry(
    `release(p_fences bigint[], p_ids text[], p_attempts integer[], p_delay bigint, p_offset bigint, OUT ready boolean,
       OUT finished text)`,
    `
DECLARE
  l leases;
  v_now bigint;
BEGIN
  PERFORM lock_ties();
  v_now := now_ms(p_offset);
  FOR v_index IN 1..cardinality(p_fences) LOOP
    SELECT * INTO l FROM leases
    WHERE fence = p_fences[v_index] AND job_id = p_ids[v_index] AND attempt = p_attempts[v_index] FOR UPDATE;
    CONTINUE WHEN NOT FOUND;
    IF l.cancel_requested THEN
      PERFORM end_jobs(ARRAY[l.seq], 'CANCELLED', '', NULL, v_now);
    ELSE
      l.attempt := l.attempt - 1;
      IF p_delay > 0 THEN l.due_at := v_now + p_delay; END IF;
      l.crashes := 0;
      PERFORM put_back(l, false, v_now);
    END IF;
  END LOOP;
  ready := noted('ready');
  finished := noted_finished();
END`,
  ),
  // One row for each expired lease.
  entry(
    `recover(p_max_crashes integer, p_offset bigint)
       RETURNS TABLE (how text, job_id text, attempt integer, fence bigint, ready boolean,
         finished text)`,
    `
DECLARE
  l leases;
  v_now bigint := now_ms(p_offset);
BEGIN
  IF NOT EXISTS (SELECT 1 FROM leases x WHERE x.expires_at <= v_now) THEN RETURN; END IF;
  PERFORM lock_ties();
  -- One that is being finished or renewed just now is not lost.
  FOR l IN SELECT * FROM leases x WHERE x.expires_at <= v_now ORDER BY x.expires_at, x.fence FOR UPDATE SKIP LOCKED LOOP
    job_id := l.job_id;
    attempt := l.attempt;
    fence := l.fence;
    IF l.cancel_requested THEN
      how := 'cancelled';
      PERFORM end_jobs(ARRAY[l.seq], 'CANCELLED', '', NULL, v_now);
    ELSIF l.crashes + 1 >= p_max_crashes THEN
      how := 'poisoned';
      PERFORM end_jobs(ARRAY[l.seq], 'FAILURE', format('its worker died %s, at last "%s" (attempt %s)',
        CASE l.crashes WHEN 0 THEN 'once' ELSE (l.crashes + 1) || ' times in a row' END, l.worker, l.attempt), NULL, v_now);
    ELSE
      how := 'requeued';
      l.error := format('worker "%s" died or lost its connection (attempt %s)', l.worker, l.attempt);
      l.crashes := l.crashes + 1;
      PERFORM put_back(l, false, v_now);
    END IF;
    ready := noted('ready');
    finished := noted_finished();
    RETURN NEXT;
  END LOOP;
END`,
  ),
].join('\n');
