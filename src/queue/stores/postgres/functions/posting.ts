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
  IF NOT EXISTS (SELECT 1 FROM jobs WHERE job_id = ANY (p_ids)) THEN
    RETURN array_fill(1, ARRAY[cardinality(p_ids)]);
  END IF;
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

  // Those of the limits whose jobs are tied. The others tie nothing until the end. Null: no job names one.
  helper(
    'limited(p_limits text[]) RETURNS text[]',
    `
DECLARE
  v_limits text[] := array_remove(p_limits, NULL);
BEGIN
  IF coalesce(cardinality(v_limits), 0) = 0 THEN RETURN '{}'; END IF;
  PERFORM lock_open_limits(false);
  RETURN ARRAY(
    SELECT name FROM pools WHERE kind = 'limit' AND name = ANY (v_limits) AND (capacity IS NOT NULL OR ties)
  );
END`,
  ),

  // Jobs without parents, group and key. Those whose ids are active are left out, and unless p_each then all are. Gives the
  // indexes of those posted, from 1, and their seqs. If some of the limits tie their jobs nothing is posted.
  entry(
    `post(p_ids text[], p_tasks text[], p_queues text[], p_payloads text[], p_priorities integer[], p_etas bigint[],
       p_retries bigint[], p_limits text[], p_each boolean, p_offset bigint, OUT indexes integer[], OUT seqs bigint[],
       OUT now_at bigint, OUT limits text[])`,
    `
DECLARE
  v_runs integer[];
BEGIN
  limits := limited(p_limits);
  IF cardinality(limits) > 0 THEN RETURN; END IF;
  v_runs := next_runs(p_ids);
  now_at := now_ms(p_offset);
  IF NOT p_each AND 0 = ANY (v_runs) THEN
    indexes := '{}';
    seqs := '{}';
    RETURN;
  END IF;
  WITH given AS (
    SELECT nextval('places') AS seq, g.*, greatest(coalesce(g.eta, 0), now_at) AS due_at FROM (
      SELECT * FROM unnest(p_ids, p_tasks, p_queues, p_payloads, p_priorities, p_etas, p_retries, p_limits, v_runs)
        WITH ORDINALITY u (job_id, task, queue, payload, priority, eta, retries, limit_name, run, index)
      WHERE u.run > 0 ORDER BY u.index
    ) g
  ), posted AS (
    INSERT INTO jobs (seq, job_id, run, task, queue, payload, priority, eta, retries, created_at, limit_name)
    SELECT seq, job_id, run, task, queue, payload, priority, eta, retries, now_at, limit_name FROM given
  ), waits AS (
    INSERT INTO waiting (seq, queue, hold, priority, due_at, place, turn_at, turn, open_limit)
    SELECT seq, queue, 0, priority, due_at, seq, due_at, seq, limit_name FROM given
  ), tallied AS (
    INSERT INTO tallies (queue, state, jobs) SELECT queue, 'PENDING', count(*) FROM given GROUP BY queue
  )
  SELECT coalesce(array_agg(index), '{}'), coalesce(array_agg(seq), '{}') INTO indexes, seqs FROM given;
END`,
  ),

  // The same for one job, in fewer steps: most posts are of one. Null: its id is active, or its limit ties it.
  entry(
    `post_one(p_id text, p_task text, p_queue text, p_payload text, p_priority integer, p_eta bigint, p_retries bigint,
       p_limit text, p_offset bigint, OUT seq bigint, OUT now_at bigint, OUT is_limited boolean)`,
    `
DECLARE
  v_run integer;
BEGIN
  is_limited := p_limit IS NOT NULL AND cardinality(limited(ARRAY[p_limit])) > 0;
  IF is_limited THEN RETURN; END IF;
  v_run := (next_runs(ARRAY[p_id]))[1];
  IF v_run = 0 THEN RETURN; END IF;
  now_at := now_ms(p_offset);
  seq := nextval('places');
  WITH posted AS (
    INSERT INTO jobs (seq, job_id, run, task, queue, payload, priority, eta, retries, created_at, limit_name)
    VALUES (post_one.seq, p_id, v_run, p_task, p_queue, p_payload, p_priority, p_eta, p_retries, post_one.now_at, p_limit)
  ), waits AS (
    INSERT INTO waiting (seq, queue, hold, priority, due_at, place, turn_at, turn, open_limit)
    VALUES (post_one.seq, p_queue, 0, p_priority, greatest(coalesce(p_eta, 0), post_one.now_at), post_one.seq,
      greatest(coalesce(p_eta, 0), post_one.now_at), post_one.seq, p_limit)
  )
  INSERT INTO tallies (queue, state, jobs) VALUES (p_queue, 'PENDING', 1);
END`,
  ),

  // The states of parents, in order, which end under the lock from now on if they are not finished: 'PENDING' also of
  // those that run. Null: there is no such job.
  helper(
    'tie(p_seqs bigint[]) RETURNS text[]',
    `
DECLARE
  v_left bigint[] := p_seqs;
  v_states text[];
BEGIN
  LOOP
    UPDATE waiting SET tied = true WHERE seq = ANY (v_left) AND NOT tied;
    UPDATE leases SET tied = true WHERE seq = ANY (v_left) AND NOT tied;
    SELECT array_agg(CASE
      WHEN EXISTS (SELECT 1 FROM waiting w WHERE w.seq = s.seq AND w.tied OFFSET 0)
        OR EXISTS (SELECT 1 FROM leases l WHERE l.seq = s.seq AND l.tied OFFSET 0) THEN 'PENDING'
      ELSE coalesce(
        (SELECT state FROM outcomes o WHERE o.seq = s.seq),
        CASE WHEN EXISTS (SELECT 1 FROM jobs j WHERE j.seq = s.seq OFFSET 0) THEN 'on its way' END
      ) END ORDER BY s.index)
    INTO v_states FROM unnest(p_seqs) WITH ORDINALITY s (seq, index);
    -- One may have been claimed or put back between the two.
    SELECT array_agg(s.seq) INTO v_left FROM unnest(p_seqs, v_states) s (seq, state) WHERE s.state = 'on its way';
    EXIT WHEN v_left IS NULL;
  END LOOP;
  RETURN v_states;
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
  -- An edge is at one index of these: the index of its child; its parent's rank, or its seq and state.
  v_children integer[];
  v_names text[];
  v_on_failures text[];
  v_ranks integer[];
  v_outside bigint[];
  v_states text[];
  v_doomed boolean[] := array_fill(false, ARRAY[cardinality(p_ids)]);
  v_parents text[];
  v_waits integer[];
  v_pool record;
  v_job record;
  v_edge record;
  v_jobs waiting[] := '{}';
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
  SELECT array_agg(e.child), array_agg(e.name), array_agg(e.on_failure), array_agg(e.rank), array_agg(
    CASE WHEN e.rank IS NULL THEN (SELECT seq FROM jobs WHERE job_id = e.name ORDER BY run DESC LIMIT 1) END
  ) INTO v_children, v_names, v_on_failures, v_ranks, v_outside
  FROM (
    SELECT a.child, e.value ->> 0 AS name, e.value ->> 1 AS on_failure, (e.value ->> 2)::integer AS rank
    FROM unnest(p_after) WITH ORDINALITY a (edges, child),
      jsonb_array_elements(a.edges::jsonb) WITH ORDINALITY e (value, index)
    ORDER BY a.child, e.index
  ) e;
  v_states := tie(v_outside);
  SELECT e.name INTO which FROM unnest(v_names, v_ranks, v_states) e (name, rank, state)
  WHERE e.rank IS NULL AND e.state IS NULL LIMIT 1;
  IF FOUND THEN
    verdict := 'unknown';
    RETURN;
  END IF;

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
  FOR v_pool IN
    SELECT 'limit' AS kind, l.name, NULL::bigint AS capacity, count(*) AS jobs
    FROM unnest(p_limits) l (name) WHERE l.name IS NOT NULL GROUP BY l.name
    UNION ALL
    -- What the last one says of a key holds.
    SELECT 'key', k.name, (array_agg(k.capacity ORDER BY k.rank DESC))[1], count(*)
    FROM unnest(p_keys, p_concurrencies, p_ranks) k (name, capacity, rank) WHERE k.name IS NOT NULL GROUP BY k.name
  LOOP
    PERFORM join_pool(v_pool.kind, v_pool.name, v_pool.jobs, v_pool.capacity);
  END LOOP;

  -- Parents that have ended doom their children, and so on: each comes before its own.
  FOR v_edge IN
    SELECT * FROM unnest(v_children, v_ranks, v_states, v_on_failures) e (child, rank, state, on_failure)
    WHERE e.on_failure = 'cancel'
  LOOP
    IF v_edge.state IN ('FAILURE', 'CANCELLED') OR v_doomed[v_edge.rank] THEN
      v_doomed[p_ranks[v_edge.child]] := true;
    END IF;
  END LOOP;
  WITH edges AS (
    SELECT e.child, e.index, e.name, e.on_failure, coalesce(e.seq, seqs[e.rank]) AS parent,
      coalesce(e.state = 'PENDING', NOT v_doomed[e.rank]) AS is_open
    FROM unnest(v_children, v_names, v_on_failures, v_ranks, v_outside, v_states)
      WITH ORDINALITY e (child, name, on_failure, rank, seq, state, index)
  ), kept AS (
    INSERT INTO dependencies SELECT parent, seqs[p_ranks[child]], on_failure FROM edges WHERE is_open
  ), of_child AS (
    SELECT e.child, count(*) FILTER (WHERE e.is_open) AS waits,
      jsonb_agg(jsonb_build_array(e.name, e.on_failure, e.parent) ORDER BY e.index) FILTER (WHERE e.name IS NOT NULL) AS parents
    FROM (
      SELECT * FROM edges
      UNION ALL SELECT c.child, NULL, NULL, NULL, NULL, NULL FROM generate_subscripts(p_ids, 1) c (child)
    ) e GROUP BY e.child
  )
  SELECT array_agg(waits ORDER BY child), array_agg(parents::text ORDER BY child) INTO v_waits, v_parents FROM of_child;
  INSERT INTO jobs (seq, job_id, run, task, queue, payload, priority, eta, retries, created_at, group_seq, group_id,
    limit_name, key, key_concurrency, parents)
  SELECT seqs[j.rank], j.job_id, j.run, j.task, j.queue, j.payload, j.priority, j.eta, j.retries, now_at, v_group_seq,
    p_group, j.limit_name, j.key, j.concurrency, j.parents
  FROM unnest(p_ids, p_tasks, p_queues, p_payloads, p_priorities, p_etas, p_retries, p_limits, p_keys, p_concurrencies,
    p_ranks, v_runs, v_parents)
    j (job_id, task, queue, payload, priority, eta, retries, limit_name, key, concurrency, rank, run, parents);
  FOR v_job IN
    SELECT j.*, (SELECT pool FROM pools WHERE kind = 'limit' AND name = j.limit_name) AS limit_pool,
      (SELECT pool FROM pools WHERE kind = 'key' AND name = j.key) AS key_pool
    FROM unnest(p_queues, p_priorities, p_etas, p_limits, p_keys, p_ranks, v_waits)
      j (queue, priority, eta, limit_name, key, rank, waits)
  LOOP
    w := new_wait(seqs[v_job.rank], v_job.queue, v_job.priority, greatest(coalesce(v_job.eta, 0), now_at));
    w.group_pool := v_group_pool;
    w.limit_pool := coalesce(v_job.limit_pool, 0);
    w.key_pool := coalesce(v_job.key_pool, 0);
    w.waits := v_job.waits;
    IF w.waits > 0 OR v_doomed[v_job.rank] THEN w.hold := 4; END IF;
    v_jobs := v_jobs || w;
  END LOOP;
  INSERT INTO waiting
  SELECT * FROM unnest(v_jobs) j WHERE j.hold = 4
  UNION ALL SELECT * FROM enter_all(ARRAY(SELECT j FROM unnest(v_jobs) j WHERE j.hold IS NULL), now_at);
  SELECT coalesce(array_agg(d.rank), '{}') INTO cancelled
  FROM unnest(v_doomed) WITH ORDINALITY d (is_doomed, rank) WHERE d.is_doomed;
  IF cardinality(cancelled) > 0 THEN
    PERFORM end_jobs(ARRAY(SELECT seqs[d.rank] FROM unnest(cancelled) d (rank)), 'CANCELLED', '', NULL, now_at);
  END IF;
  verdict := 'ok';
  ready := noted('ready');
  finished := noted_finished();
END`,
  ),
  // A tied job that is new, or as good as new; what it waits for is left to the caller.
  helper(
    'new_wait(p_seq bigint, p_queue text, p_priority integer, p_due_at bigint) RETURNS waiting',
    `
DECLARE
  w waiting;
BEGIN
  w.seq := p_seq;
  w.queue := p_queue;
  w.priority := p_priority;
  w.due_at := p_due_at;
  w.place := p_seq;
  w.turn_at := p_due_at;
  w.turn := p_seq;
  w.attempt := 0;
  w.failures := 0;
  w.crashes := 0;
  w.waits := 0;
  w.retrying := false;
  w.tied := true;
  w.error := '';
  RETURN w;
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
  v_parents bigint[];
  v_on_failures text[];
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
  w := new_wait(j.seq, j.queue, j.priority, v_now);
  w.place := nextval('places');
  w.turn := w.place;
  -- Parents that have ended are not asked again; one that was set going again is waited for.
  SELECT array_agg((e.value ->> 2)::bigint), array_agg(e.value ->> 1) INTO v_parents, v_on_failures
  FROM jsonb_array_elements(j.parents::jsonb) e;
  WITH open AS (
    INSERT INTO dependencies SELECT e.seq, j.seq, e.on_failure
    FROM unnest(v_parents, v_on_failures, tie(v_parents)) e (seq, on_failure, state) WHERE e.state = 'PENDING'
    RETURNING 1
  )
  SELECT count(*) INTO w.waits FROM open;
  w.group_pool := coalesce((SELECT pool FROM pools WHERE pool = j.group_seq), 0);
  w.limit_pool := CASE WHEN j.limit_name IS NULL THEN 0 ELSE join_pool('limit', j.limit_name, 1, NULL) END;
  w.key_pool := CASE WHEN j.key IS NULL THEN 0 ELSE join_pool('key', j.key, 1, j.key_concurrency) END;
  IF w.waits > 0 THEN
    w.hold := 4;
  ELSE
    w := enter(w, v_now);
  END IF;
  INSERT INTO waiting SELECT w.*;
  PERFORM tally(j.queue, o.state, 'PENDING');
  UPDATE groups SET unfinished = unfinished + 1, finished_at = NULL WHERE groups.seq = j.group_seq;
  verdict := 'ok';
  seq := j.seq;
  ready := noted('ready');
  finished := noted_finished();
END`,
  ),
].join('\n');
