/** What people do to jobs, groups, queues and limits. */
import { entry, helper } from './define.ts';

export const CHANGES = [
  // Cancels jobs that are not finished: at once those that wait, by request those that run. False if there was none.
  helper(
    'cancel_jobs(p_seqs bigint[], p_now bigint) RETURNS boolean',
    `
DECLARE
  v_left bigint[] := p_seqs;
  v_asked bigint[];
  v_waiting bigint[] := '{}';
  v_some bigint[];
BEGIN
  -- A worker may claim one just now: then it runs, and is asked.
  LOOP
    WITH asked AS (UPDATE leases SET cancel_requested = true WHERE seq = ANY (v_left) RETURNING seq)
    SELECT v_asked || array_agg(seq) INTO v_asked FROM asked;
    WITH locked AS (SELECT seq FROM waiting WHERE seq = ANY (v_left) FOR UPDATE)
    SELECT array_agg(seq) INTO v_some FROM locked;
    v_waiting := v_waiting || v_some;
    EXIT WHEN coalesce(cardinality(v_asked), 0) + cardinality(v_waiting) = cardinality(p_seqs);
    SELECT array_agg(s.seq) INTO v_left FROM (
      SELECT unnest(v_left) EXCEPT SELECT unnest(v_asked || v_waiting)
    ) s (seq)
    WHERE NOT EXISTS (SELECT 1 FROM outcomes o WHERE o.seq = s.seq OFFSET 0)
      AND EXISTS (SELECT 1 FROM jobs j WHERE j.seq = s.seq OFFSET 0);
    EXIT WHEN v_left IS NULL;
  END LOOP;
  IF v_asked IS NOT NULL THEN PERFORM note('stopped'); END IF;
  IF cardinality(v_waiting) > 0 THEN PERFORM end_jobs(v_waiting, 'CANCELLED', '', NULL, p_now); END IF;
  RETURN v_asked IS NOT NULL OR cardinality(v_waiting) > 0;
END`,
  ),
  entry(
    `cancel(p_job_id text, p_offset bigint, OUT verdict text, OUT job bigint, OUT stopped boolean, OUT ready boolean,
       OUT finished text)`,
    `
BEGIN
  PERFORM lock_ties();
  SELECT seq INTO job FROM jobs WHERE job_id = p_job_id ORDER BY run DESC LIMIT 1;
  verdict := CASE WHEN job IS NULL THEN 'unknown' WHEN cancel_jobs(ARRAY[job], now_ms(p_offset)) THEN 'ok' ELSE 'finished' END;
  stopped := noted('stopped');
  ready := noted('ready');
  finished := noted_finished();
END`,
  ),
  entry(
    `cancel_group(p_group_id text, p_offset bigint, OUT verdict text, OUT stopped boolean, OUT ready boolean,
       OUT finished text)`,
    `
DECLARE
  g groups;
BEGIN
  PERFORM lock_ties();
  SELECT * INTO g FROM groups WHERE group_id = p_group_id AND NOT forgotten ORDER BY seq DESC LIMIT 1;
  verdict := CASE WHEN NOT FOUND THEN 'unknown' WHEN g.unfinished = 0 THEN 'finished' ELSE 'ok' END;
  IF verdict <> 'ok' THEN RETURN; END IF;
  PERFORM cancel_jobs(ARRAY(
    SELECT j.seq FROM jobs j WHERE j.group_id = p_group_id AND j.group_seq = g.seq
      AND NOT EXISTS (SELECT 1 FROM outcomes o WHERE o.seq = j.seq OFFSET 0)
  ), now_ms(p_offset));
  stopped := noted('stopped');
  ready := noted('ready');
  finished := noted_finished();
END`,
  ),
  helper(
    'purge_jobs(p_seqs bigint[], p_now bigint) RETURNS void',
    `
BEGIN
  IF EXISTS (SELECT 1 FROM leases WHERE seq = ANY (p_seqs)) THEN PERFORM note('stopped'); END IF;
  PERFORM end_jobs(p_seqs, 'CANCELLED', '', NULL, p_now);
  WITH gone AS (
    DELETE FROM outcomes WHERE seq = ANY (p_seqs) RETURNING queue, state
  )
  INSERT INTO tallies (queue, state, jobs) SELECT queue, state, -count(*) FROM gone GROUP BY 1, 2;
  DELETE FROM jobs WHERE seq = ANY (p_seqs);
END`,
  ),
  entry(
    `purge(p_job_id text, p_offset bigint, OUT verdict text, OUT stopped boolean, OUT ready boolean, OUT finished text)`,
    `
DECLARE
  v_seqs bigint[];
BEGIN
  PERFORM lock_ties();
  SELECT array_agg(seq) INTO v_seqs FROM jobs WHERE job_id = p_job_id;
  verdict := CASE WHEN v_seqs IS NULL THEN 'unknown' ELSE 'ok' END;
  IF verdict = 'ok' THEN PERFORM purge_jobs(v_seqs, now_ms(p_offset)); END IF;
  stopped := noted('stopped');
  ready := noted('ready');
  finished := noted_finished();
END`,
  ),
  entry(
    `purge_group(p_group_id text, p_offset bigint, OUT verdict text, OUT stopped boolean, OUT ready boolean,
       OUT finished text)`,
    `
DECLARE
  v_seqs bigint[];
BEGIN
  PERFORM lock_ties();
  SELECT array_agg(seq) INTO v_seqs FROM groups WHERE group_id = p_group_id;
  verdict := CASE WHEN v_seqs IS NULL THEN 'unknown' ELSE 'ok' END;
  IF verdict = 'ok' THEN
    PERFORM purge_jobs(ARRAY(SELECT seq FROM jobs WHERE group_id = p_group_id), now_ms(p_offset));
    DELETE FROM groups WHERE seq = ANY (v_seqs);
    DELETE FROM pools WHERE pool = ANY (v_seqs);
  END IF;
  stopped := noted('stopped');
  ready := noted('ready');
  finished := noted_finished();
END`,
  ),
  entry(
    'ping() RETURNS void',
    `
BEGIN
  PERFORM nextval('places');
END`,
  ),
  entry(
    'pause(p_queue text) RETURNS void',
    `
BEGIN
  INSERT INTO paused_queues VALUES (p_queue) ON CONFLICT DO NOTHING;
END`,
  ),
  entry(
    'resume(p_queue text) RETURNS void',
    `
BEGIN
  DELETE FROM paused_queues WHERE queue = p_queue;
END`,
  ),
  // Whether plain jobs that name a limit wait or run. Some may be on their way from one table to the other: one look at
  // both sees each of them.
  helper(
    'has_open(p_limit text) RETURNS boolean',
    `
BEGIN
  RETURN coalesce(
    (SELECT true FROM waiting WHERE open_limit = p_limit ORDER BY -seq LIMIT 1),
    EXISTS (SELECT 1 FROM leases WHERE open_limit = p_limit)
  );
END`,
  ),
  // Ties plain jobs that wait to the limit that they name: the last p_most of them, so that claims, which lock the first
  // ones, do not pass over any. Gives how many.
  helper(
    'tie_waiting(p_limit text, p_pool bigint, p_most integer, p_now bigint) RETURNS integer',
    `
DECLARE
  w waiting;
  v_jobs waiting[] := '{}';
BEGIN
  FOR w IN
    SELECT * FROM waiting WHERE open_limit = p_limit ORDER BY -seq LIMIT p_most FOR UPDATE
  LOOP
    w.limit_pool := p_pool;
    w.tied := true;
    w.open_limit := NULL;
    v_jobs := v_jobs || w;
  END LOOP;
  -- One by one: joined, a plan by the statistics of a small table would look through all that waits for each.
  FOR w IN SELECT * FROM enter_all(v_jobs, p_now) LOOP
    UPDATE waiting SET hold = w.hold, turn_at = w.turn_at, turn = w.turn, limit_pool = w.limit_pool, tied = w.tied,
      open_limit = w.open_limit
    WHERE seq = w.seq;
  END LOOP;
  UPDATE pools SET unfinished = unfinished + cardinality(v_jobs) WHERE pool = p_pool;
  RETURN cardinality(v_jobs);
END`,
  ),
  // The same of those that run: all of them.
  helper(
    'tie_running(p_limit text, p_pool bigint) RETURNS void',
    `
DECLARE
  v_fences bigint[];
BEGIN
  -- In the order in which heartbeats lock them.
  WITH locked AS (SELECT fence FROM leases WHERE open_limit = p_limit ORDER BY fence FOR UPDATE)
  SELECT array_agg(fence) INTO v_fences FROM locked;
  UPDATE leases SET limit_pool = p_pool, tied = true, open_limit = NULL WHERE fence = ANY (v_fences);
  UPDATE pools SET taken = taken + cardinality(v_fences), unfinished = unfinished + cardinality(v_fences)
  WHERE pool = p_pool AND v_fences IS NOT NULL;
END`,
  ),
  // Before set_limit, where there may be much to tie: what is posted from now on is tied. False: so it is already.
  entry(
    'begin_tying(p_limit text) RETURNS boolean',
    `
DECLARE
  v_pool bigint;
BEGIN
  PERFORM lock_ties();
  v_pool := pool_of('limit', p_limit);
  IF EXISTS (SELECT 1 FROM pools WHERE pool = v_pool AND capacity IS NOT NULL) THEN RETURN false; END IF;
  PERFORM lock_open_limits(true);
  UPDATE pools SET ties = true WHERE pool = v_pool;
  RETURN true;
END`,
  ),
  // Then what waits is, step by step, from the last to the first. Gives how many this one has tied.
  entry(
    'tie_some(p_limit text, p_most integer, p_offset bigint) RETURNS integer',
    `
BEGIN
  PERFORM lock_ties();
  RETURN tie_waiting(p_limit, pool_of('limit', p_limit), p_most, now_ms(p_offset));
END`,
  ),
  entry(
    // Processes of earlier versions, which may still run, give no offset.
    'set_limit(p_limit text, p_concurrency bigint, p_offset bigint DEFAULT 0, OUT ready boolean)',
    `
DECLARE
  v_pool bigint;
BEGIN
  PERFORM lock_ties();
  v_pool := pool_of('limit', p_limit);
  IF p_concurrency IS NOT NULL AND EXISTS (SELECT 1 FROM pools WHERE pool = v_pool AND capacity IS NULL) THEN
    PERFORM lock_open_limits(true);
    WHILE has_open(p_limit) LOOP
      PERFORM tie_waiting(p_limit, v_pool, NULL, now_ms(p_offset));
      PERFORM tie_running(p_limit, v_pool);
    END LOOP;
  END IF;
  UPDATE pools SET ties = false WHERE pool = v_pool AND ties;
  PERFORM set_capacity(v_pool, p_concurrency);
  PERFORM forget_pool(v_pool);
  ready := noted('ready');
END`,
  ),
].join('\n');
