/** Claiming: see lanes.ts for what is in play. */
import { entry, helper } from './define.ts';

export const CLAIM = [
  // Starts up to p_limit plain jobs that are due, of a bound on only those that come before it, in order; p_lefts: how
  // many of each queue; p_priority: the highest of them, null if it is not known. Others' rows are passed over;
  // is_contended says that there were some.
  helper(
    `claim_plain(p_queues text[], INOUT p_lefts integer[], p_limit integer, p_priority bigint, p_bound waiting,
       p_worker text, p_lease_ms bigint, p_now bigint, INOUT p_fences bigint[], OUT is_contended boolean)`,
    `
DECLARE
  v_priority bigint := p_priority;
  v_left integer := p_limit;
  v_due_at bigint;
  v_place bigint;
  v_new bigint[];
  v_taken text[];
  v_others boolean;
BEGIN
  is_contended := false;
  IF v_priority IS NULL AND v_left > 0 THEN
    SELECT max((
      SELECT priority FROM waiting WHERE hold = 0 AND queue = q.queue ORDER BY priority DESC LIMIT 1
    )) INTO v_priority
    FROM unnest(p_queues, p_lefts) q (queue, jobs) WHERE q.jobs > 0;
  END IF;
  WHILE v_left > 0 LOOP
    EXIT WHEN v_priority IS NULL OR v_priority < p_bound.priority;
    IF v_priority = p_bound.priority THEN
      v_due_at := p_bound.turn_at;
      v_place := p_bound.turn;
    ELSE
      v_due_at := p_now;
      v_place := 9223372036854775807;
    END IF;
    WITH gone AS (
      -- A row that has been changed since is not found at its place: it counts as another's.
      DELETE FROM waiting WHERE ctid = ANY (ARRAY(
        SELECT c.ctid FROM unnest(p_queues, p_lefts) q (queue, jobs), LATERAL (
          SELECT w.ctid, w.due_at, w.place FROM waiting w
          WHERE hold = 0 AND w.queue = q.queue AND priority = v_priority::integer
            AND due_at <= v_due_at AND (due_at, place) <= (v_due_at, v_place)
          ORDER BY due_at, place LIMIT greatest(0, least(q.jobs, v_left)) FOR UPDATE SKIP LOCKED
        ) c ORDER BY c.due_at, c.place LIMIT v_left
      )) RETURNING *
    ), started AS (
      INSERT INTO leases (fence, seq, expires_at, started_at, due_at, place, group_pool, limit_pool, key_pool, priority,
        attempt, failures, crashes, tied, job_id, queue, worker, error, open_limit)
      SELECT nextval('fences'), g.seq, p_now + p_lease_ms, p_now, g.due_at, g.place, 0, 0, 0, g.priority, g.attempt + 1,
        g.failures, g.crashes, g.tied, (SELECT job_id FROM jobs j WHERE j.seq = g.seq), g.queue, p_worker, g.error,
        g.open_limit
      FROM (SELECT * FROM gone ORDER BY due_at, place) g
      RETURNING fence, queue
    ), tallied AS (
      INSERT INTO tallies (queue, state, jobs)
      SELECT g.queue, t.state, t.jobs FROM (SELECT queue, retrying, count(*) AS jobs FROM gone GROUP BY 1, 2) g,
        LATERAL (VALUES (CASE WHEN g.retrying THEN 'RETRY' ELSE 'PENDING' END, -g.jobs), ('STARTED', g.jobs)) t (state, jobs)
    )
    SELECT array_agg(fence), array_agg(queue) INTO v_new, v_taken FROM started;
    p_fences := p_fences || v_new;
    v_left := v_left - coalesce(cardinality(v_new), 0);
    IF cardinality(p_queues) = 1 THEN
      p_lefts[1] := p_lefts[1] - coalesce(cardinality(v_new), 0);
    ELSE
      SELECT array_agg(q.jobs - (SELECT count(*) FROM unnest(v_taken) t (queue) WHERE t.queue = q.queue)::integer ORDER BY q.index)
      INTO p_lefts FROM unnest(p_queues, p_lefts) WITH ORDINALITY q (queue, jobs, index);
    END IF;
    EXIT WHEN v_left = 0;
    SELECT bool_or((
      SELECT true FROM waiting
      WHERE hold = 0 AND queue = q.queue AND priority = v_priority::integer AND due_at <= v_due_at
        AND (due_at, place) <= (v_due_at, v_place) LIMIT 1
    )), max((
      SELECT priority FROM waiting WHERE hold = 0 AND queue = q.queue AND priority < v_priority
      ORDER BY priority DESC LIMIT 1
    )) INTO v_others, v_priority
    FROM unnest(p_queues, p_lefts) q (queue, jobs) WHERE q.jobs > 0;
    is_contended := is_contended OR coalesce(v_others, false);
  END LOOP;
END`,
  ),
  // The first due job in play of the queues that have some left.
  helper(
    'first_in_play(p_queues text[], p_lefts integer[], p_now bigint) RETURNS waiting',
    `
DECLARE
  w waiting;
  v_first waiting;
  v_priority bigint;
BEGIN
  FOR v_index IN 1..cardinality(p_queues) LOOP
    CONTINUE WHEN p_lefts[v_index] <= 0;
    v_priority := 2147483648;
    -- What is due comes first within a priority.
    LOOP
      SELECT * INTO w FROM waiting WHERE hold = 1 AND queue = p_queues[v_index] AND priority < v_priority
      ORDER BY priority DESC, turn_at, turn, due_at, place LIMIT 1;
      EXIT WHEN NOT FOUND OR w.turn_at <= p_now;
      v_priority := w.priority;
    END LOOP;
    IF FOUND AND (v_first.seq IS NULL OR w.priority > v_first.priority OR (w.priority = v_first.priority
      AND (w.turn_at, w.turn, w.due_at, w.place) < (v_first.turn_at, v_first.turn, v_first.due_at, v_first.place))) THEN
      v_first := w;
    END IF;
  END LOOP;
  RETURN v_first;
END`,
  ),
  // Starts a job in play, or moves it to where it belongs: then null.
  helper(
    'claim_in_play(w waiting, p_worker text, p_lease_ms bigint, p_now bigint) RETURNS bigint',
    `
DECLARE
  v_moved waiting := in_turn(w);
  v_front waiting;
  v_full bigint;
  v_fence bigint;
  v_pool bigint;
BEGIN
  IF (v_moved.turn_at, v_moved.turn) > (w.turn_at, w.turn) THEN
    UPDATE waiting SET turn_at = v_moved.turn_at, turn = v_moved.turn WHERE seq = w.seq;
    -- Fronts that were to come after it may now come before it.
    PERFORM wake_pool(w.group_pool, 1);
    PERFORM wake_pool(w.limit_pool, 1);
    PERFORM wake_pool(w.key_pool, 1);
    RETURN NULL;
  END IF;
  SELECT pool INTO v_full FROM pools
  WHERE pool IN (w.group_pool, w.limit_pool, w.key_pool) AND taken >= capacity ORDER BY pool LIMIT 1;
  IF FOUND THEN
    v_front := first_of_lane(w.queue, w.group_pool, w.limit_pool, w.key_pool, 2::smallint);
    IF is_before(v_front, w) THEN
      UPDATE waiting SET hold = 3 WHERE seq = w.seq;
    ELSE
      UPDATE waiting SET hold = 3, pool = NULL WHERE seq = v_front.seq;
      UPDATE waiting SET hold = 2, pool = v_full WHERE seq = w.seq;
    END IF;
    FOREACH v_pool IN ARRAY ARRAY[w.group_pool, w.limit_pool, w.key_pool] LOOP
      IF v_pool <> v_full THEN PERFORM wake_pool(v_pool, 1); END IF;
    END LOOP;
    RETURN NULL;
  END IF;
  DELETE FROM waiting WHERE seq = w.seq;
  UPDATE pools SET taken = taken + 1 WHERE pool IN (w.group_pool, w.limit_pool, w.key_pool);
  IF w.key_pool <> 0 THEN
    UPDATE pools SET served_at = p_now, served = nextval('places') WHERE pool = w.key_pool;
  END IF;
  v_fence := nextval('fences');
  INSERT INTO leases (fence, seq, expires_at, started_at, due_at, place, group_pool, limit_pool, key_pool, priority,
    attempt, failures, crashes, tied, job_id, queue, worker, error)
  VALUES (v_fence, w.seq, p_now + p_lease_ms, p_now, w.due_at, w.place, w.group_pool, w.limit_pool, w.key_pool, w.priority,
    w.attempt + 1, w.failures, w.crashes, true, (SELECT job_id FROM jobs WHERE seq = w.seq), w.queue, p_worker, w.error);
  PERFORM tally(w.queue, CASE WHEN w.retrying THEN 'RETRY' ELSE 'PENDING' END, 'STARTED');
  PERFORM wake_lane(w.queue, w.group_pool, w.limit_pool, w.key_pool);
  PERFORM wake_followers(w);
  RETURN v_fence;
END`,
  ),
  // When the first of the jobs that are not due yet is.
  helper(
    'next_due(p_queues text[], p_now bigint) RETURNS bigint',
    `
DECLARE
  v_queue text;
  v_plain bigint;
  v_in_play bigint;
  v_next bigint;
BEGIN
  FOREACH v_queue IN ARRAY p_queues LOOP
    v_plain := 2147483648;
    v_in_play := 2147483648;
    LOOP
      SELECT (
        SELECT priority FROM waiting WHERE hold = 0 AND queue = v_queue AND priority < v_plain
        ORDER BY priority DESC LIMIT 1
      ), (
        SELECT priority FROM waiting WHERE hold = 1 AND queue = v_queue AND priority < v_in_play
        ORDER BY priority DESC LIMIT 1
      ) INTO v_plain, v_in_play;
      EXIT WHEN v_plain IS NULL AND v_in_play IS NULL;
      v_next := least(v_next, (
        SELECT due_at FROM waiting
        WHERE hold = 0 AND queue = v_queue AND priority = v_plain::integer AND due_at > p_now ORDER BY due_at LIMIT 1
      ), (
        SELECT turn_at FROM waiting
        WHERE hold = 1 AND queue = v_queue AND priority = v_in_play::integer AND turn_at > p_now ORDER BY turn_at LIMIT 1
      ));
    END LOOP;
  END LOOP;
  RETURN v_next;
END`,
  ),
  // Starts jobs where some are in play, or they may be of several priorities; p_queues: those that have jobs.
  helper(
    `claim_mixed(p_queues text[], p_lefts integer[], p_limit integer, p_priority bigint, p_in_play boolean,
       p_worker text, p_lease_ms bigint, p_offset bigint)
       RETURNS TABLE (next_due_at bigint, seq bigint, job_id text, task text, queue text, payload text, priority integer,
         eta bigint, retries bigint, attempt integer, failures integer, fence bigint, group_id text, parents text,
         limit_name text, key text, key_concurrency bigint, error text, created_at bigint, due_at bigint,
         started_at bigint)`,
    `
DECLARE
  v_now bigint;
  v_lefts integer[] := p_lefts;
  v_fences bigint[] := '{}';
  v_fence bigint;
  v_bound waiting;
  v_looks integer := 0;
  v_again boolean := false;
  v_step record;
BEGIN
  IF p_in_play AND p_limit > 0 THEN
    PERFORM lock_ties();
    v_now := now_ms(p_offset);
    LOOP
      v_bound := first_in_play(p_queues, v_lefts, v_now);
      v_step := claim_plain(p_queues, v_lefts, p_limit - cardinality(v_fences), NULL, v_bound, p_worker, p_lease_ms, v_now,
        v_fences);
      v_lefts := v_step.p_lefts;
      v_fences := v_step.p_fences;
      v_again := v_again OR v_step.is_contended;
      EXIT WHEN v_bound.seq IS NULL OR cardinality(v_fences) >= p_limit;
      CONTINUE WHEN v_lefts[array_position(p_queues, v_bound.queue)] <= 0;
      v_looks := v_looks + 1;
      IF v_looks > 1000 THEN
        v_again := true;
        EXIT;
      END IF;
      v_fence := claim_in_play(v_bound, p_worker, p_lease_ms, v_now);
      CONTINUE WHEN v_fence IS NULL;
      v_fences := v_fences || v_fence;
      v_lefts[array_position(p_queues, v_bound.queue)] := v_lefts[array_position(p_queues, v_bound.queue)] - 1;
    END LOOP;
  ELSE
    v_now := now_ms(p_offset);
    v_step := claim_plain(p_queues, v_lefts, p_limit, p_priority, NULL, p_worker, p_lease_ms, v_now, v_fences);
    v_fences := v_step.p_fences;
    v_again := v_step.is_contended;
  END IF;
  next_due_at := CASE WHEN v_again THEN v_now ELSE next_due(p_queues, v_now) END;
  RETURN NEXT;
  IF cardinality(v_fences) = 0 THEN RETURN; END IF;
  RETURN QUERY
    SELECT NULL::bigint, j.seq, j.job_id::text, j.task::text, j.queue::text, j.payload, j.priority, j.eta, j.retries,
      l.attempt, l.failures, l.fence, j.group_id::text, j.parents, j.limit_name::text, j.key::text, j.key_concurrency,
      l.error, j.created_at, l.due_at, l.started_at
    FROM unnest(v_fences) f (fence),
      LATERAL (SELECT * FROM leases x WHERE x.fence = f.fence OFFSET 0) l,
      LATERAL (SELECT * FROM jobs x WHERE x.seq = l.seq OFFSET 0) j;
END`,
  ),
  // The jobs claimed in order, after a row that has only the time of the next one.
  entry(
    `claim(p_queues text[], p_limits integer[], p_limit integer, p_worker text, p_lease_ms bigint, p_offset bigint)
       RETURNS TABLE (next_due_at bigint, seq bigint, job_id text, task text, queue text, payload text, priority integer,
         eta bigint, retries bigint, attempt integer, failures integer, fence bigint, group_id text, parents text,
         limit_name text, key text, key_concurrency bigint, error text, created_at bigint, due_at bigint,
         started_at bigint)`,
    `
DECLARE
  v_now bigint := now_ms(p_offset);
  v_queues text[];
  v_lefts integer[];
  v_more boolean;
  v_more_due boolean;  -- perhaps: of lower priorities, behind those that are not due
  v_due bigint;
  v_priority integer;
  v_lowest integer;
  v_next bigint;
  v_in_play boolean;
BEGIN
  -- What there is, as far as it may be claimed, and one more to know whether that is all. The lock comes before any row:
  -- whether it is needed is asked first.
  SELECT array_agg(q.queue), array_agg(q.jobs), bool_or(w.seen > q.jobs), bool_or(w.seen > q.jobs AND w.due < q.jobs),
    least(sum(least(w.due, q.jobs)), p_limit), max(w.priority), min(w.lowest), min(w.next), bool_or(w.in_play)
  INTO v_queues, v_lefts, v_more, v_more_due, v_due, v_priority, v_lowest, v_next, v_in_play
  FROM (SELECT u.queue, least(u.jobs, p_limit) AS jobs FROM unnest(p_queues, p_limits) u (queue, jobs)) q, LATERAL (
    SELECT count(*) AS seen, count(*) FILTER (WHERE due_at <= v_now) AS due, max(priority) AS priority,
      min(priority) AS lowest, min(due_at) FILTER (WHERE due_at > v_now) AS next,
      EXISTS (SELECT 1 FROM waiting x WHERE x.hold = 1 AND x.queue = q.queue) AS in_play
    FROM (
      SELECT x.priority, x.due_at FROM waiting x WHERE x.hold = 0 AND x.queue = q.queue
      ORDER BY x.priority DESC, x.due_at, x.place LIMIT q.jobs::bigint + 1
    ) first
  ) w
  WHERE (w.seen > 0 OR w.in_play) AND NOT EXISTS (SELECT 1 FROM paused_queues p WHERE p.queue = q.queue);
  IF v_queues IS NULL THEN
    RETURN NEXT;
    RETURN;
  END IF;
  IF v_in_play OR v_priority <> v_lowest OR v_more_due THEN
    RETURN QUERY SELECT * FROM claim_mixed(v_queues, v_lefts, p_limit, v_priority, v_in_play, p_worker, p_lease_ms,
      p_offset);
    RETURN;
  END IF;
  IF v_more THEN v_next := next_due(v_queues, v_now); END IF;
  RETURN QUERY
    WITH gone AS (
      -- A row that has been changed since is not found at its place: it counts as another's.
      DELETE FROM waiting WHERE ctid = ANY (ARRAY(
        SELECT c.ctid FROM unnest(v_queues, v_lefts) q (queue, jobs), LATERAL (
          SELECT w.ctid, w.due_at, w.place FROM waiting w
          WHERE hold = 0 AND w.queue = q.queue AND priority = v_priority AND due_at <= v_now
          ORDER BY due_at, place LIMIT q.jobs FOR UPDATE SKIP LOCKED
        ) c ORDER BY c.due_at, c.place LIMIT p_limit
      )) RETURNING queue, seq, due_at, place, attempt, failures, crashes, retrying, tied, error, open_limit
    ), claimed AS (
      SELECT nextval('fences') AS fence, g.queue, g.due_at, g.place, g.attempt + 1 AS attempt, g.failures, g.crashes,
        g.retrying, g.tied, g.error, g.open_limit, j.*
      FROM (SELECT * FROM gone ORDER BY due_at, place) g, LATERAL (
        SELECT seq, job_id, task, payload, eta, retries, group_id, parents, limit_name, key, key_concurrency, created_at
        FROM jobs x WHERE x.seq = g.seq OFFSET 0
      ) j
    ), started AS (
      INSERT INTO leases (fence, seq, expires_at, started_at, due_at, place, group_pool, limit_pool, key_pool, priority,
        attempt, failures, crashes, tied, job_id, queue, worker, error, open_limit)
      SELECT fence, seq, v_now + p_lease_ms, v_now, due_at, place, 0, 0, 0, v_priority, attempt, failures, crashes, tied,
        job_id, queue, p_worker, error, open_limit
      FROM claimed
    ), tallied AS (
      INSERT INTO tallies (queue, state, jobs)
      SELECT c.queue, t.state, t.jobs
      FROM (SELECT queue, count(*) AS jobs, count(*) FILTER (WHERE retrying) AS retrying FROM claimed GROUP BY queue) c,
        LATERAL (VALUES ('PENDING', retrying - jobs), ('RETRY', -retrying), ('STARTED', jobs)) t (state, jobs)
      WHERE t.jobs <> 0
    )
    -- Fewer than were due: others are at them.
    SELECT CASE WHEN (SELECT count(*) FROM claimed) < v_due THEN v_now ELSE v_next END, NULL::bigint,
      NULL, NULL, NULL, NULL, NULL::integer, NULL::bigint, NULL::bigint, NULL::integer, NULL::integer, NULL::bigint, NULL,
      NULL, NULL, NULL, NULL::bigint, NULL, NULL::bigint, NULL::bigint, NULL::bigint
    UNION ALL
    SELECT NULL, seq, job_id::text, task::text, queue::text, payload, v_priority, eta, retries, attempt, failures, fence,
      group_id::text, parents, limit_name::text, key::text, key_concurrency, error, created_at, due_at, v_now
    FROM claimed;
END`,
  ),
].join('\n');
