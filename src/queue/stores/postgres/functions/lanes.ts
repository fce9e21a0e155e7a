/**
 * Slots, lanes and turns. Jobs that need the same slots in the same queue are a lane: one is claimable when any is. Of
 * those that are due and cannot have their slots, the first of a lane is its front, held on one pool that is full; the
 * rest wait behind it. What has to hold, so that a claim that reads what is in play in order hands out what it must:
 *
 * - In every lane, before what waits behind (hold 3) there is a front (2) or a due job in play (1).
 * - A pool that has free slots has as many of its fronts in play in each queue, the first ones, or AT_ONCE.
 *
 * So: whoever leaves play or stops being a front brings the next of its lane into play; a slot that becomes free, and
 * a job that leaves play without one, brings the first front of that pool into play, one of each queue.
 * Where there are more free slots than that, so does a job that takes one.
 *
 * The position of a job with a key is its turn, which moves back whenever the key is served. It is put right
 * when the job is looked at: whoever moves back is looked at again there.
 *
 * All of these run under lock_ties().
 */
import { helper } from './define.ts';

/** The most fronts of a pool that come into play at once, of each queue: many may wait for what is lifted in one call. */
const AT_ONCE = 100;

export const LANES = [
  helper(
    'lock_ties() RETURNS void',
    `
BEGIN
  PERFORM pg_advisory_xact_lock((1684368999::bigint << 32) | 'store'::regclass::oid::bigint);
END`,
  ),
  // Held by posts of plain jobs that name limits, shared, from before they look whether these tie their jobs; alone by
  // whoever makes a limit do so. Whoever needs both locks takes lock_ties() first.
  helper(
    'lock_open_limits(p_alone boolean) RETURNS void',
    `
DECLARE
  v_lock bigint := (1684368998::bigint << 32) | 'store'::regclass::oid::bigint;
BEGIN
  IF p_alone THEN
    PERFORM pg_advisory_xact_lock(v_lock);
  ELSE
    PERFORM pg_advisory_xact_lock_shared(v_lock);
  END IF;
END`,
  ),
  `CREATE OR REPLACE FUNCTION now_ms(p_offset bigint) RETURNS bigint LANGUAGE sql AS
   'SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + p_offset';`,
  // What a call has done, for its answer; forgotten at the end of the transaction.
  helper(
    'note(p_what text) RETURNS void',
    `
BEGIN
  PERFORM set_config('dungbeetle.' || p_what, 'yes', true);
END`,
  ),
  helper(
    'noted(p_what text) RETURNS boolean',
    `
BEGIN
  RETURN coalesce(current_setting('dungbeetle.' || p_what, true), '') = 'yes';
END`,
  ),
  helper(
    'note_finished(p_job_ids text[]) RETURNS void',
    `
DECLARE
  v_ids text := ltrim(noted_finished() || ' ' || array_to_string(p_job_ids, ' '));
BEGIN
  -- Of so many it is enough to know that there were some.
  PERFORM set_config('dungbeetle.finished', CASE WHEN v_ids LIKE '*%' OR length(v_ids) > 4000 THEN '*' ELSE v_ids END, true);
END`,
  ),
  helper(
    'noted_finished() RETURNS text',
    `
BEGIN
  RETURN coalesce(current_setting('dungbeetle.finished', true), '');
END`,
  ),
  helper(
    'tally(p_queue text, p_from text, p_to text) RETURNS void',
    `
BEGIN
  INSERT INTO tallies (queue, state, jobs)
  SELECT p_queue, t.state, t.jobs FROM (VALUES (p_from, -1), (p_to, 1)) t (state, jobs) WHERE t.state IS NOT NULL;
END`,
  ),

  // A job's true turn, in its turn_at and turn.
  helper(
    'in_turn(INOUT w waiting)',
    `
DECLARE
  v_key pools;
BEGIN
  w.turn_at := w.due_at;
  w.turn := w.place;
  IF w.key_pool <> 0 THEN
    SELECT * INTO v_key FROM pools WHERE pool = w.key_pool;
    IF (v_key.served_at, v_key.served) > (w.due_at, w.place) THEN
      w.turn_at := v_key.served_at;
      w.turn := v_key.served;
    END IF;
  END IF;
END`,
  ),
  // The first job of a lane with this hold, null if there is none. The hold is a parameter for the sake of the plan: no
  // index but the one of lanes can serve it.
  helper(
    `first_of_lane(p_queue text, p_group_pool bigint, p_limit_pool bigint, p_key_pool bigint, p_hold smallint)
       RETURNS waiting`,
    `
DECLARE
  w waiting;
BEGIN
  SELECT * INTO w FROM waiting
  WHERE group_pool = p_group_pool AND limit_pool = p_limit_pool AND key_pool = p_key_pool AND queue = p_queue
    AND hold = p_hold AND hold % 4 > 0
  ORDER BY priority DESC, due_at, place LIMIT 1;
  RETURN w;
END`,
  ),
  // Whether a job comes before another of its lane.
  helper(
    'is_before(w waiting, o waiting) RETURNS boolean',
    `
BEGIN
  RETURN w.priority > o.priority OR (w.priority = o.priority AND (w.due_at, w.place) < (o.due_at, o.place));
END`,
  ),
  // Whether a job that is due has one of its lane before it that is a front, or is due and in play.
  helper(
    'is_behind(w waiting) RETURNS boolean',
    `
DECLARE
  v_in_play smallint := 1;
BEGIN
  RETURN coalesce(is_before(first_of_lane(w.queue, w.group_pool, w.limit_pool, w.key_pool, 2::smallint), w), false)
    OR EXISTS (
      SELECT 1 FROM waiting o
      WHERE o.group_pool = w.group_pool AND o.limit_pool = w.limit_pool AND o.key_pool = w.key_pool AND o.queue = w.queue
        AND o.hold = v_in_play AND o.hold % 4 > 0 AND o.priority = w.priority
        AND (o.due_at, o.place) < (w.due_at, w.place)
    );
END`,
  ),
  // Hold and turn of a job that is about to wait, with no parents to wait for.
  helper(
    'enter(INOUT w waiting, p_now bigint)',
    `
BEGIN
  w := in_turn(w);
  w.pool := NULL;
  IF w.group_pool = 0 AND w.limit_pool = 0 AND w.key_pool = 0 THEN
    w.hold := 0;
  ELSIF w.due_at <= p_now AND is_behind(w) THEN
    w.hold := 3;
    RETURN;
  ELSE
    w.hold := 1;
  END IF;
  -- Also of one that is due later: whoever waits for the next has to know that this may be it.
  PERFORM note('ready');
END`,
  ),
  // The same for many, of which none is in its table as one of a lane yet.
  helper(
    'enter_all(p_jobs waiting[], p_now bigint) RETURNS SETOF waiting',
    `
DECLARE
  w waiting;
  v_last waiting;
BEGIN
  FOR w IN
    SELECT * FROM unnest(p_jobs) ORDER BY queue, group_pool, limit_pool, key_pool, priority, due_at, place
  LOOP
    IF w.due_at <= p_now AND w.group_pool + w.limit_pool + w.key_pool > 0 AND w.priority = v_last.priority
      AND (w.queue, w.group_pool, w.limit_pool, w.key_pool)
        = (v_last.queue, v_last.group_pool, v_last.limit_pool, v_last.key_pool) THEN
      -- Behind the last one, be that in play or itself behind another.
      w.hold := 3;
    ELSE
      w := enter(w, p_now);
    END IF;
    v_last := w;
    RETURN NEXT w;
  END LOOP;
END`,
  ),
  helper(
    'into_play(w waiting) RETURNS void',
    `
BEGIN
  w := in_turn(w);
  UPDATE waiting SET hold = 1, pool = NULL, turn_at = w.turn_at, turn = w.turn WHERE seq = w.seq;
  PERFORM note('ready');
END`,
  ),
  helper(
    'wake_lane(p_queue text, p_group_pool bigint, p_limit_pool bigint, p_key_pool bigint) RETURNS void',
    `
DECLARE
  v_front waiting := first_of_lane(p_queue, p_group_pool, p_limit_pool, p_key_pool, 2::smallint);
  v_behind waiting := first_of_lane(p_queue, p_group_pool, p_limit_pool, p_key_pool, 3::smallint);
BEGIN
  -- What came while another was in play may be before the front.
  IF v_front.seq IS NULL OR is_before(v_behind, v_front) THEN v_front := v_behind; END IF;
  IF v_front.seq IS NOT NULL THEN PERFORM into_play(v_front); END IF;
END`,
  ),
  // The first p_count of a pool's fronts, of each queue; none while it is full. Never more than AT_ONCE: claims
  // wake the next one for each that they take (see wake_followers).
  helper(
    'wake_pool(p_pool bigint, p_count bigint) RETURNS void',
    `
DECLARE
  w waiting;
  v_moved waiting;
  v_queue text := '';
  v_most bigint;
  v_left bigint;
BEGIN
  SELECT least(p_count, ${AT_ONCE}, capacity - taken) INTO v_most FROM pools WHERE pool = p_pool;
  IF NOT FOUND OR v_most <= 0 THEN RETURN; END IF;
  LOOP
    SELECT queue INTO v_queue FROM waiting
    WHERE hold = 2 AND pool = p_pool AND queue > v_queue ORDER BY queue LIMIT 1;
    EXIT WHEN NOT FOUND;
    v_left := v_most;
    WHILE v_left > 0 LOOP
      SELECT * INTO w FROM waiting
      WHERE hold = 2 AND pool = p_pool AND queue = v_queue
      ORDER BY priority DESC, turn_at, turn, due_at, place LIMIT 1;
      EXIT WHEN NOT FOUND;
      v_moved := in_turn(w);
      IF (v_moved.turn_at, v_moved.turn) > (w.turn_at, w.turn) THEN
        UPDATE waiting SET turn_at = v_moved.turn_at, turn = v_moved.turn WHERE seq = w.seq;
      ELSE
        PERFORM into_play(w);
        v_left := v_left - 1;
      END IF;
    END LOOP;
  END LOOP;
END`,
  ),
  // To be called when a job has taken its slots: brings the next fronts of its pools into play where there are
  // more free slots than wake_pool brings fronts into play at once.
  helper(
    'wake_followers(w waiting) RETURNS void',
    `
DECLARE
  v_pool bigint;
BEGIN
  FOR v_pool IN
    SELECT pool FROM pools p
    WHERE pool IN (w.group_pool, w.limit_pool, w.key_pool) AND (capacity IS NULL OR capacity - taken >= ${AT_ONCE})
      AND EXISTS (SELECT 1 FROM waiting f WHERE f.hold = 2 AND f.pool = p.pool OFFSET 0)
  LOOP
    PERFORM wake_pool(v_pool, 1);
  END LOOP;
END`,
  ),
  helper(
    'free_slots(l leases) RETURNS void',
    `
BEGIN
  UPDATE pools SET taken = taken - 1 WHERE pool IN (l.group_pool, l.limit_pool, l.key_pool);
  PERFORM wake_pool(l.group_pool, 1);
  PERFORM wake_pool(l.limit_pool, 1);
  PERFORM wake_pool(l.key_pool, 1);
END`,
  ),
  // The pool of a limit or a key, made if it is not there.
  helper(
    'pool_of(p_kind text, p_name text) RETURNS bigint',
    `
DECLARE
  v_pool bigint;
BEGIN
  SELECT pool INTO v_pool FROM pools WHERE kind = p_kind AND name = p_name;
  IF NOT FOUND THEN
    v_pool := nextval('places');
    INSERT INTO pools (pool, kind, name) VALUES (v_pool, p_kind, p_name);
  END IF;
  RETURN v_pool;
END`,
  ),
  helper(
    'set_capacity(p_pool bigint, p_capacity bigint) RETURNS void',
    `
DECLARE
  v_old pools;
BEGIN
  SELECT * INTO v_old FROM pools WHERE pool = p_pool;
  IF v_old.capacity IS NOT DISTINCT FROM p_capacity THEN RETURN; END IF;
  UPDATE pools SET capacity = p_capacity WHERE pool = p_pool;
  IF v_old.capacity IS NULL THEN RETURN; END IF;
  -- By as many as there are more slots free than before.
  PERFORM wake_pool(p_pool, p_capacity - greatest(v_old.capacity, v_old.taken));
END`,
  ),
  // Counts new jobs of a limit or a key, whose capacity it is from now on if it is a key. Gives the pool.
  helper(
    'join_pool(p_kind text, p_name text, p_jobs bigint, p_capacity bigint) RETURNS bigint',
    `
DECLARE
  v_pool bigint;
BEGIN
  INSERT INTO pools AS p (pool, kind, name, capacity, unfinished)
  VALUES (nextval('places'), p_kind, p_name, p_capacity, p_jobs)
  ON CONFLICT (kind, name) DO UPDATE SET unfinished = p.unfinished + p_jobs RETURNING p.pool INTO v_pool;
  IF p_kind = 'key' THEN PERFORM set_capacity(v_pool, p_capacity); END IF;
  RETURN v_pool;
END`,
  ),
  // A limit is kept while it has a concurrency or unfinished jobs, a key while it has unfinished jobs.
  helper(
    'forget_pool(p_pool bigint) RETURNS void',
    `
BEGIN
  DELETE FROM pools
  WHERE pool = p_pool AND unfinished = 0 AND (kind = 'key' OR (kind = 'limit' AND capacity IS NULL AND NOT ties));
END`,
  ),
].join('\n');
