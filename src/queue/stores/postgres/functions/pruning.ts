/** What time does: old jobs and groups are forgotten, sums are summed up. And what is read often. */
import { entry } from './define.ts';

export const PRUNING = [
  // Forgets some; null when there is nothing left to forget.
  entry(
    'prune(p_jobs_ms bigint, p_groups_ms bigint, p_step integer, p_offset bigint) RETURNS bigint',
    `
DECLARE
  v_count bigint;
  g groups;
  v_now bigint := now_ms(p_offset);
BEGIN
  WITH old AS (
    SELECT seq FROM outcomes WHERE finished_at < v_now - p_jobs_ms AND NOT grouped
    ORDER BY finished_at LIMIT p_step FOR UPDATE SKIP LOCKED
  ), ended AS (
    DELETE FROM outcomes WHERE seq = ANY (ARRAY(SELECT seq FROM old)) RETURNING queue, state
  ), posted AS (
    DELETE FROM jobs WHERE seq = ANY (ARRAY(SELECT seq FROM old))
  ), tallied AS (
    INSERT INTO tallies (queue, state, jobs) SELECT queue, state, -count(*) FROM ended GROUP BY 1, 2
  )
  SELECT count(*) INTO v_count FROM ended;
  IF v_count > 0 THEN RETURN v_count; END IF;

  PERFORM lock_ties();
  SELECT * INTO g FROM groups WHERE forgotten AND finished_at IS NOT NULL LIMIT 1;
  IF NOT FOUND THEN
    SELECT * INTO g FROM groups WHERE NOT forgotten AND finished_at < v_now - p_groups_ms ORDER BY finished_at LIMIT 1;
  END IF;
  IF NOT FOUND THEN RETURN NULL; END IF;
  WITH old AS (
    SELECT seq FROM jobs WHERE group_id = g.group_id AND group_seq = g.seq ORDER BY seq LIMIT p_step
  ), ended AS (
    DELETE FROM outcomes WHERE seq = ANY (ARRAY(SELECT seq FROM old)) RETURNING queue, state
  ), posted AS (
    DELETE FROM jobs WHERE seq = ANY (ARRAY(SELECT seq FROM old))
  ), tallied AS (
    INSERT INTO tallies (queue, state, jobs) SELECT queue, state, -count(*) FROM ended GROUP BY 1, 2
  )
  SELECT count(*) INTO v_count FROM ended;
  -- A large group is gone for its users with the first step.
  IF v_count < p_step THEN
    DELETE FROM groups WHERE seq = g.seq;
    DELETE FROM pools WHERE pool = g.seq;
  ELSE
    UPDATE groups SET forgotten = true WHERE seq = g.seq;
  END IF;
  RETURN v_count;
END`,
  ),
  entry(
    'sum_up(p_rows integer) RETURNS void',
    `
BEGIN
  IF (SELECT count(*) FROM (SELECT 1 FROM tallies LIMIT p_rows) t) < p_rows THEN RETURN; END IF;
  PERFORM lock_ties();
  WITH summed AS (DELETE FROM tallies RETURNING queue, state, jobs)
  INSERT INTO tallies (queue, state, jobs)
  SELECT queue, state, sum(jobs) FROM summed GROUP BY 1, 2 HAVING sum(jobs) <> 0;
END`,
  ),
  // In the order of the ids; null: there is no such job.
  entry(
    'states_of(p_ids text[]) RETURNS text[]',
    `
BEGIN
  RETURN ARRAY(
    SELECT (
      SELECT a.state FROM all_jobs a WHERE a.seq = (SELECT seq FROM jobs n WHERE n.job_id = i.job_id ORDER BY run DESC LIMIT 1)
    ) FROM unnest(p_ids) WITH ORDINALITY i (job_id, index) ORDER BY i.index
  );
END`,
  ),
  // In the order of the names. Under a limit that has a concurrency no job is open. All in one look: a job that goes from
  // one table to the other is in one of them.
  entry(
    `limits_of(p_limits text[]) RETURNS TABLE (concurrency bigint, running bigint, waiting bigint)`,
    `
BEGIN
  RETURN QUERY
    SELECT p.capacity,
      CASE WHEN p.capacity IS NULL
        THEN coalesce(p.taken, 0) + (SELECT count(*) FROM leases WHERE open_limit = l.name) ELSE p.taken END,
      CASE WHEN p.capacity IS NULL
        THEN coalesce(p.unfinished - p.taken, 0) + (
          SELECT count(*) FROM (SELECT 1 FROM waiting WHERE open_limit = l.name ORDER BY -seq OFFSET 0) w
        )
        ELSE p.unfinished - p.taken END
    FROM unnest(p_limits) WITH ORDINALITY l (name, index) LEFT JOIN pools p ON p.kind = 'limit' AND p.name = l.name
    ORDER BY l.index;
END`,
  ),
  // Since when the oldest job of a queue that is ready is due.
  entry(
    'oldest_ready(p_queue text, p_now bigint) RETURNS bigint',
    `
DECLARE
  v_priority bigint;
  v_due_at bigint;
  v_oldest bigint;
BEGIN
  v_priority := 2147483648;
  LOOP
    SELECT priority, due_at INTO v_priority, v_due_at FROM waiting
    WHERE hold = 0 AND queue = p_queue AND priority < v_priority ORDER BY priority DESC, due_at LIMIT 1;
    EXIT WHEN NOT FOUND;
    IF v_due_at <= p_now THEN v_oldest := least(v_oldest, v_due_at); END IF;
  END LOOP;
  v_priority := 2147483648;
  LOOP
    SELECT priority, due_at INTO v_priority, v_due_at FROM waiting
    WHERE hold & 3 > 0 AND queue = p_queue AND priority < v_priority ORDER BY priority DESC, due_at LIMIT 1;
    EXIT WHEN NOT FOUND;
    IF v_due_at <= p_now AND EXISTS (
      SELECT 1 FROM waiting WHERE hold = 1 AND queue = p_queue AND turn_at <= p_now LIMIT 1
    ) THEN
      v_oldest := least(v_oldest, v_due_at);
    END IF;
  END LOOP;
  RETURN v_oldest;
END`,
  ),
].join('\n');
