/** Posting jobs, and setting one to run again. */
import { entry, helper } from './define.ts';

export const POSTING = [
  // For each id the number of its next run; 0 where its last run is not finished. Those stay finished until the end.
  helper(
    'next_runs(p_ids text[]) RETURNS integer[]',
    `
DECLARE
  v_runs integer[];
  v_finished bigint[];
  v_locked bigint;
BEGIN
  LOOP
    SELECT array_agg(CASE WHEN n.seq IS NULL THEN 1 WHEN o.seq IS NULL THEN 0 ELSE n.run + 1 END ORDER BY i.index),
      array_agg(o.seq) FILTER (WHERE o.seq IS NOT NULL)
    INTO v_runs, v_finished
    FROM unnest(p_ids) WITH ORDINALITY i (job_id, index)
    LEFT JOIN LATERAL (
      SELECT j.seq, j.run FROM jobs j WHERE j.job_id = i.job_id ORDER BY j.run DESC LIMIT 1
    ) n ON true
    LEFT JOIN outcomes o ON o.seq = n.seq;
    EXIT WHEN v_finished IS NULL;
    -- So that none of them is set to run again before the next run is there.
    SELECT count(*) INTO v_locked FROM (
      SELECT 1 FROM outcomes WHERE seq = ANY (v_finished) ORDER BY seq FOR KEY SHARE
    ) locked;
    EXIT WHEN v_locked = cardinality(v_finished);
  END LOOP;
  RETURN v_runs;
END`,
  ),

  // Jobs without parents, group, limit and key. Those whose ids are active are left out, and unless p_each then all are.
  // Gives the indexes of those posted, from 1, and their seqs.
  entry(
    `post(p_ids text[], p_tasks text[], p_queues text[], p_payloads text[], p_priorities integer[], p_etas bigint[],
       p_retries bigint[], p_each boolean, p_offset bigint, OUT indexes integer[], OUT seqs bigint[], OUT now_at bigint)`,
    `
DECLARE
  v_runs integer[] := next_runs(p_ids);
BEGIN
  now_at := now_ms(p_offset);
  WITH given AS (
    SELECT nextval('places') AS seq, g.*, greatest(coalesce(g.eta, 0), now_at) AS due_at FROM (
      SELECT * FROM unnest(p_ids, p_tasks, p_queues, p_payloads, p_priorities, p_etas, p_retries, v_runs)
        WITH ORDINALITY u (job_id, task, queue, payload, priority, eta, retries, run, index)
      WHERE u.run > 0 AND (p_each OR NOT 0 = ANY (v_runs)) ORDER BY u.index
    ) g
  ), posted AS (
    INSERT INTO jobs (seq, job_id, run, task, queue, payload, priority, eta, retries, created_at)
    SELECT seq, job_id, run, task, queue, payload, priority, eta, retries, now_at FROM given
  ), waits AS (
    INSERT INTO waiting (seq, queue, hold, priority, due_at, place, turn_at, turn)
    SELECT seq, queue, 0, priority, due_at, seq, due_at, seq FROM given
  ), tallied AS (
    INSERT INTO tallies (queue, state, jobs) SELECT queue, 'PENDING', count(*) FROM given GROUP BY queue
  )
  SELECT coalesce(array_agg(index), '{}'), coalesce(array_agg(seq), '{}') INTO indexes, seqs FROM given;
END`,
  ),

  // The state of a parent that ends under the lock from now on, if it is not finished; null: there is no such job.
  helper(
    'tie(p_seq bigint) RETURNS text',
    `
DECLARE
  v_state text;
BEGIN
  LOOP
    UPDATE waiting SET tied = true WHERE seq = p_seq;
    IF FOUND THEN RETURN 'PENDING'; END IF;
    UPDATE leases SET tied = true WHERE seq = p_seq;
    IF FOUND THEN RETURN 'STARTED'; END IF;
    SELECT state INTO v_state FROM outcomes WHERE seq = p_seq;
    IF FOUND THEN RETURN v_state; END IF;
    IF NOT EXISTS (SELECT 1 FROM jobs WHERE seq = p_seq) THEN RETURN NULL; END IF;
  END LOOP;
END`,
  ),
  // Jobs that have to do with others, parents first; p_ranks: their places in the order posted, from 1. p_after: of each JSON
  // [[job_id, on_failure, rank of a parent of the same batch or null], ...] or null.
  entry(
    `post_tied(p_ids text[], p_tasks text[], p_queues text[], p_payloads text[], p_priorities integer[], p_etas bigint[],
       p_retries bigint[], p_limits text[], p_keys text[], p_concurrencies bigint[], p_after text[], p_ranks integer[],
       p_group text, p_group_concurrency bigint, p_offset bigint,
       OUT verdict text, OUT which text, OUT seqs bigint[], OUT cancelled integer[], OUT now_at bigint, OUT ready boolean,
       OUT finished text)`,
    `
DECLARE
  v_runs integer[];
  v_group_seq bigint;
  v_group_pool bigint := 0;
  v_outside jsonb := '{}';
  v_job record;
  v_edge record;
  v_parent bigint;
  v_state text;
  v_parents jsonb;
  v_doomed boolean[] := array_fill(false, ARRAY[cardinality(p_ids)]);
  v_pool bigint;
  w waiting;
BEGIN
  PERFORM lock_ties();
  v_runs := next_runs(p_ids);
  now_at := now_ms(p_offset);
  IF 0 = ANY (v_runs) THEN
    verdict := 'active';
    which := p_ids[array_position(v_runs, 0)];
    RETURN;
  END IF;
  IF EXISTS (
    SELECT 1 FROM (
      SELECT unfinished FROM groups WHERE group_id = p_group AND NOT forgotten ORDER BY seq DESC LIMIT 1
    ) g WHERE g.unfinished > 0
  ) THEN
    verdict := 'group_active';
    RETURN;
  END IF;
  FOR v_edge IN
    SELECT DISTINCT e.value ->> 0 AS job_id FROM unnest(p_after) a (edges), jsonb_array_elements(a.edges::jsonb) e
    WHERE a.edges IS NOT NULL AND e.value ->> 2 IS NULL
  LOOP
    SELECT seq INTO v_parent FROM jobs WHERE job_id = v_edge.job_id ORDER BY run DESC LIMIT 1;
    v_state := CASE WHEN FOUND THEN tie(v_parent) END;
    IF v_state IS NULL THEN
      verdict := 'unknown';
      which := v_edge.job_id;
      RETURN;
    END IF;
    v_outside := v_outside || jsonb_build_object(v_edge.job_id, jsonb_build_array(v_parent, v_state));
  END LOOP;

  IF p_group IS NOT NULL THEN
    v_group_seq := nextval('places');
    INSERT INTO groups (seq, group_id, concurrency, created_at, unfinished)
    VALUES (v_group_seq, p_group, p_group_concurrency, now_at, cardinality(p_ids));
    IF p_group_concurrency IS NOT NULL THEN
      v_group_pool := v_group_seq;
      INSERT INTO pools (pool, kind, name, capacity)
      VALUES (v_group_pool, 'group', v_group_seq::text, p_group_concurrency);
    END IF;
  END IF;
  SELECT array_agg(nextval('places')) INTO seqs FROM generate_subscripts(p_ids, 1);
  INSERT INTO tallies (queue, state, jobs) SELECT q.queue, 'PENDING', count(*) FROM unnest(p_queues) q (queue) GROUP BY 1;
  -- What the last one says of a key holds.
  FOR v_job IN
    SELECT k.key, k.concurrency FROM unnest(p_keys, p_concurrencies, p_ranks) k (key, concurrency, rank)
    WHERE k.key IS NOT NULL ORDER BY k.rank
  LOOP
    v_pool := pool_of('key', v_job.key);
    UPDATE pools SET unfinished = unfinished + 1 WHERE pool = v_pool;
    PERFORM set_capacity(v_pool, v_job.concurrency);
  END LOOP;
  FOR v_job IN
    SELECT * FROM unnest(p_ids, p_tasks, p_queues, p_payloads, p_priorities, p_etas, p_retries, p_limits, p_keys,
      p_concurrencies, p_after, p_ranks, v_runs)
      j (job_id, task, queue, payload, priority, eta, retries, limit_name, key, concurrency, after, rank, run)
  LOOP
    w := NULL;
    w.seq := seqs[v_job.rank];
    w.waits := 0;
    v_parents := NULL;
    IF v_job.after IS NOT NULL THEN
      v_parents := '[]';
      FOR v_edge IN
        SELECT e.value ->> 0 AS job_id, e.value ->> 1 AS on_failure, (e.value ->> 2)::integer AS rank
        FROM jsonb_array_elements(v_job.after::jsonb) WITH ORDINALITY e (value, index) ORDER BY e.index
      LOOP
        IF v_edge.rank IS NULL THEN
          v_parent := (v_outside -> v_edge.job_id ->> 0)::bigint;
          v_state := v_outside -> v_edge.job_id ->> 1;
        ELSE
          v_parent := seqs[v_edge.rank];
          v_state := CASE WHEN v_doomed[v_edge.rank] THEN 'CANCELLED' ELSE 'PENDING' END;
        END IF;
        v_parents := v_parents || jsonb_build_array(jsonb_build_array(v_edge.job_id, v_edge.on_failure, v_parent));
        IF v_state IN ('PENDING', 'STARTED') THEN
          w.waits := w.waits + 1;
          INSERT INTO dependencies VALUES (v_parent, w.seq, v_edge.on_failure);
        ELSIF v_state <> 'SUCCESS' AND v_edge.on_failure = 'cancel' THEN
          v_doomed[v_job.rank] := true;
        END IF;
      END LOOP;
    END IF;
    INSERT INTO jobs (seq, job_id, run, task, queue, payload, priority, eta, retries, created_at, group_seq, group_id,
      limit_name, key, key_concurrency, parents)
    VALUES (w.seq, v_job.job_id, v_job.run, v_job.task, v_job.queue, v_job.payload, v_job.priority, v_job.eta,
      v_job.retries, now_at, v_group_seq, p_group, v_job.limit_name, v_job.key, v_job.concurrency, v_parents::text);
    w.queue := v_job.queue;
    w.priority := v_job.priority;
    w.due_at := greatest(coalesce(v_job.eta, 0), now_at);
    w.place := w.seq;
    w.group_pool := v_group_pool;
    w.limit_pool := 0;
    w.key_pool := 0;
    IF v_job.limit_name IS NOT NULL THEN
      w.limit_pool := pool_of('limit', v_job.limit_name);
      UPDATE pools SET unfinished = unfinished + 1 WHERE pool = w.limit_pool;
    END IF;
    IF v_job.key IS NOT NULL THEN w.key_pool := pool_of('key', v_job.key); END IF;
    PERFORM begin_to_wait(w, now_at);
    IF v_doomed[v_job.rank] THEN PERFORM end_job(w.seq, 'CANCELLED', '', NULL, now_at); END IF;
  END LOOP;
  SELECT coalesce(array_agg(d.rank), '{}') INTO cancelled
  FROM unnest(v_doomed) WITH ORDINALITY d (is_doomed, rank) WHERE d.is_doomed;
  verdict := 'ok';
  ready := noted('ready');
  finished := noted_finished();
END`,
  ),
  // A job that is new, or as good as new.
  helper(
    'begin_to_wait(w waiting, p_now bigint) RETURNS void',
    `
BEGIN
  w.turn_at := w.due_at;
  w.turn := w.place;
  w.attempt := 0;
  w.failures := 0;
  w.crashes := 0;
  w.retrying := false;
  w.tied := true;
  w.error := '';
  w.hold := 4;
  IF w.waits = 0 THEN w := enter(w, p_now); END IF;
  INSERT INTO waiting SELECT w.*;
END`,
  ),
  // Runs a failed or cancelled job again.
  entry(
    `run_again(p_job_id text, p_offset bigint, OUT verdict text, OUT seq bigint, OUT ready boolean, OUT finished text)`,
    `
DECLARE
  j jobs;
  o outcomes;
  w waiting;
  v_edge record;
  v_now bigint;
BEGIN
  PERFORM lock_ties();
  LOOP
    SELECT * INTO j FROM jobs WHERE job_id = p_job_id ORDER BY run DESC LIMIT 1;
    IF NOT FOUND THEN
      verdict := 'unknown';
      RETURN;
    END IF;
    SELECT * INTO o FROM outcomes WHERE outcomes.seq = j.seq FOR UPDATE;
    -- Another run may have begun while the row was locked; it may have been forgotten, or finished just now.
    EXIT WHEN NOT EXISTS (SELECT 1 FROM jobs WHERE job_id = p_job_id AND run > j.run) AND (
      o.seq IS NOT NULL
      OR EXISTS (SELECT 1 FROM waiting WHERE waiting.seq = j.seq)
      OR EXISTS (SELECT 1 FROM leases WHERE leases.seq = j.seq)
    );
  END LOOP;
  IF o.seq IS NULL OR o.state = 'SUCCESS' THEN
    verdict := CASE WHEN o.seq IS NULL THEN 'active' ELSE 'finished' END;
    RETURN;
  END IF;
  IF EXISTS (SELECT 1 FROM groups WHERE groups.seq = j.group_seq AND forgotten) THEN
    verdict := 'unknown';
    RETURN;
  END IF;
  v_now := now_ms(p_offset);
  DELETE FROM outcomes WHERE outcomes.seq = j.seq;
  UPDATE jobs SET eta = NULL WHERE jobs.seq = j.seq AND eta IS NOT NULL;
  w.seq := j.seq;
  w.queue := j.queue;
  w.priority := j.priority;
  w.due_at := v_now;
  w.place := nextval('places');
  w.waits := 0;
  -- Parents that have ended are not asked again; one that was set going again is waited for.
  FOR v_edge IN
    SELECT (e.value ->> 2)::bigint AS parent, e.value ->> 1 AS on_failure FROM jsonb_array_elements(j.parents::jsonb) e
  LOOP
    IF tie(v_edge.parent) IN ('PENDING', 'STARTED') THEN
      w.waits := w.waits + 1;
      INSERT INTO dependencies VALUES (v_edge.parent, j.seq, v_edge.on_failure);
    END IF;
  END LOOP;
  w.group_pool := coalesce((SELECT pool FROM pools WHERE pool = j.group_seq), 0);
  w.limit_pool := 0;
  w.key_pool := 0;
  IF j.limit_name IS NOT NULL THEN
    w.limit_pool := pool_of('limit', j.limit_name);
    UPDATE pools SET unfinished = unfinished + 1 WHERE pool = w.limit_pool;
  END IF;
  IF j.key IS NOT NULL THEN
    w.key_pool := pool_of('key', j.key);
    UPDATE pools SET unfinished = unfinished + 1 WHERE pool = w.key_pool;
    PERFORM set_capacity(w.key_pool, j.key_concurrency);
  END IF;
  PERFORM begin_to_wait(w, v_now);
  PERFORM tally(j.queue, o.state, 'PENDING');
  UPDATE groups SET unfinished = unfinished + 1, finished_at = NULL WHERE groups.seq = j.group_seq;
  verdict := 'ok';
  seq := j.seq;
  ready := noted('ready');
  finished := noted_finished();
END`,
  ),
].join('\n');
