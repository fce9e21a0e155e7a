/** What people do to jobs, groups, queues and limits. */
import { entry, helper } from './define.ts';

export const CHANGES = [
  // Cancels a job that is not finished: at once when it waits, by request when it runs. False if it is finished.
  helper(
    'cancel_one(p_seq bigint, p_now bigint) RETURNS boolean',
    `
BEGIN
  UPDATE leases SET cancel_requested = true WHERE seq = p_seq;
  IF FOUND THEN
    PERFORM note('stopped');
    RETURN true;
  END IF;
  IF EXISTS (SELECT 1 FROM outcomes WHERE seq = p_seq) THEN RETURN false; END IF;
  -- A worker may claim it just now: then it runs, and is asked.
  IF EXISTS (SELECT 1 FROM waiting WHERE seq = p_seq FOR UPDATE) THEN
    PERFORM end_job(p_seq, 'CANCELLED', '', NULL, p_now);
    RETURN true;
  END IF;
  IF NOT EXISTS (SELECT 1 FROM jobs WHERE seq = p_seq) THEN RETURN false; END IF;
  RETURN cancel_one(p_seq, p_now);
END`,
  ),
  entry(
    `cancel(p_job_id text, p_offset bigint, OUT verdict text, OUT job bigint, OUT stopped boolean, OUT ready boolean,
       OUT finished text)`,
    `
BEGIN
  PERFORM lock_ties();
  SELECT seq INTO job FROM jobs WHERE job_id = p_job_id ORDER BY run DESC LIMIT 1;
  verdict := CASE WHEN job IS NULL THEN 'unknown' WHEN cancel_one(job, now_ms(p_offset)) THEN 'ok' ELSE 'finished' END;
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
  v_seq bigint;
  v_now bigint;
BEGIN
  PERFORM lock_ties();
  v_now := now_ms(p_offset);
  SELECT * INTO g FROM groups WHERE group_id = p_group_id AND NOT forgotten ORDER BY seq DESC LIMIT 1;
  verdict := CASE WHEN NOT FOUND THEN 'unknown' WHEN g.unfinished = 0 THEN 'finished' ELSE 'ok' END;
  IF verdict <> 'ok' THEN RETURN; END IF;
  FOR v_seq IN
    SELECT j.seq FROM jobs j WHERE j.group_id = p_group_id AND j.group_seq = g.seq
      AND NOT EXISTS (SELECT 1 FROM outcomes o WHERE o.seq = j.seq)
    ORDER BY j.seq
  LOOP
    PERFORM cancel_one(v_seq, v_now);
  END LOOP;
  stopped := noted('stopped');
  ready := noted('ready');
  finished := noted_finished();
END`,
  ),
  helper(
    'purge_run(p_seq bigint, p_now bigint) RETURNS void',
    `
DECLARE
  v_queue text;
  v_state text;
BEGIN
  IF EXISTS (SELECT 1 FROM leases WHERE seq = p_seq) THEN PERFORM note('stopped'); END IF;
  PERFORM end_job(p_seq, 'CANCELLED', '', NULL, p_now);
  DELETE FROM outcomes WHERE seq = p_seq RETURNING state INTO v_state;
  DELETE FROM jobs WHERE seq = p_seq RETURNING queue INTO v_queue;
  IF FOUND THEN PERFORM tally(v_queue, v_state, NULL); END IF;
END`,
  ),
  entry(
    `purge(p_job_id text, p_offset bigint, OUT verdict text, OUT stopped boolean, OUT ready boolean, OUT finished text)`,
    `
DECLARE
  v_seq bigint;
  v_now bigint;
BEGIN
  PERFORM lock_ties();
  v_now := now_ms(p_offset);
  verdict := 'unknown';
  FOR v_seq IN SELECT seq FROM jobs WHERE job_id = p_job_id ORDER BY run LOOP
    verdict := 'ok';
    PERFORM purge_run(v_seq, v_now);
  END LOOP;
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
  v_seq bigint;
  v_now bigint;
BEGIN
  PERFORM lock_ties();
  v_now := now_ms(p_offset);
  verdict := 'unknown';
  IF EXISTS (SELECT 1 FROM groups WHERE group_id = p_group_id) THEN
    verdict := 'ok';
    FOR v_seq IN SELECT seq FROM jobs WHERE group_id = p_group_id ORDER BY seq LOOP
      PERFORM purge_run(v_seq, v_now);
    END LOOP;
    FOR v_seq IN DELETE FROM groups WHERE group_id = p_group_id RETURNING seq LOOP
      DELETE FROM pools WHERE pool = v_seq;
    END LOOP;
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
  entry(
    'set_limit(p_limit text, p_concurrency bigint, OUT ready boolean)',
    `
DECLARE
  v_pool bigint;
BEGIN
  PERFORM lock_ties();
  v_pool := pool_of('limit', p_limit);
  PERFORM set_capacity(v_pool, p_concurrency);
  PERFORM forget_pool(v_pool);
  ready := noted('ready');
END`,
  ),
].join('\n');
