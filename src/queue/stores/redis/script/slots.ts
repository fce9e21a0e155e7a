/**
 * Slots. A group with a concurrency, a limit and a key are *pools* of slots; a job that is STARTED has one of each
 * pool it names. Jobs of one queue that name the same pools are a *lane*: a slot that is good for one is good for
 * all of them. A waiting job is
 *
 * - in play: in the index that claims walk (`ready`). All jobs without pools are, and all that are not due yet
 * - on a slot: the front of its lane; one of its pools was full when a claim looked at it. It is held on that pool
 * - in its lane: behind a front, the first of the lane in order, which is in play or on a slot
 * - waiting for parents
 *
 * Whoever leaves as the front of a lane has the best of the lane in its place. A slot that becomes free brings
 * back into play the first front held on its pool, of each queue; so does a job in play that leaves or moves back
 * without taking a slot of a pool that has one, for its queue. Where many slots become free at once, WOKEN fronts of
 * each queue are brought back; as long as that many are free, each job that takes one brings back the next. So of
 * those that could take a free slot there are always as many in play as slots are free, or WOKEN, and they are the
 * first in order. Each event touches a few jobs, however many wait.
 *
 * A job's place in `ready` is its turn when it came into play. If its key was served since, the claim that looks at
 * it moves it to where it now belongs.
 */
export const SLOTS = String.raw`

-- A pool that is not stored has no concurrency and no jobs.
function F.pool_of(id)
  local pool = F.entry(POOLS, id)
  if not pool then
    pool = {0, 0, 0, 0, 0}
    S.kinds[POOLS].values[id] = pool
  end
  return pool
end
function F.save_pool(id, pool)
  local kind = string.byte(id)
  local in_use = kind == 103 or pool[$UNFINISHED] > 0 or (kind == 108 and pool[$CONCURRENCY] > 0)
  F.set_entry(POOLS, id, in_use and pool)
end
function F.free_of(pool)
  return pool[$CONCURRENCY] == 0 and math.huge or pool[$CONCURRENCY] - pool[$TAKEN]
end
function F.is_free(pool)
  return F.free_of(pool) > 0
end

-- The ids of a job's pools, or nil, and its lane.
S.job_pools, S.job_lanes = {}, {}
function F.pools_of(seq, head)
  local ids = S.job_pools[seq]
  if ids == nil then
    ids = {}
    if head[$SLOTS] == 1 then ids[1] = 'g' .. head[$GROUP] end
    if head[$LIMIT] ~= '' then ids[#ids + 1] = 'l' .. head[$LIMIT] end
    if head[$KEY] ~= '' then ids[#ids + 1] = 'k' .. head[$KEY] end
    if #ids == 0 then ids = false end
    S.job_pools[seq] = ids
    if ids then S.job_lanes[seq] = head[$QUEUE] .. '\1' .. concat(ids, '\1') end
  end
  return ids
end

function F.is_before(one_priority, one_due, one_place, other_priority, other_due, other_place)
  if one_priority ~= other_priority then return one_priority > other_priority end
  if one_due ~= other_due then return one_due < other_due end
  return one_place < other_place
end
function F.set_front(lane, seq, head, held)
  F.entry(LANES, lane)
  F.set_entry(LANES, lane, {seq, head[$PRIORITY], head[$DUE], head[$PLACE], held})
end


function F.is_served_later(pool, turn_at, turn)
  return pool[$SERVED_AT] > turn_at or (pool[$SERVED_AT] == turn_at and pool[$SERVED] > turn)
end
function F.turn_of(head)
  if head[$TURN] > 0 then return head[$TURN_AT], head[$TURN] end
  return head[$DUE], head[$PLACE]
end
-- Whether its key was served since its turn was set.
function F.is_turn_over(head)
  if head[$KEY] == '' then return false end
  local turn_at, turn = F.turn_of(head)
  return F.is_served_later(F.pool_of('k' .. head[$KEY]), turn_at, turn)
end
function F.set_turn(head)
  head[$TURN_AT], head[$TURN] = 0, 0
  if head[$KEY] == '' then return end
  local pool = F.pool_of('k' .. head[$KEY])
  if F.is_served_later(pool, head[$DUE], head[$PLACE]) then
    head[$TURN_AT], head[$TURN] = pool[$SERVED_AT], pool[$SERVED]
  end
end
function F.held_key(pool_id, queue)
  return K .. 'held:' .. pool_id .. '\1' .. queue
end
function F.held_member(seq, head)
  local turn_at, turn = F.turn_of(head)
  return pack('>I4I7I7I7I7I7', $HIGHEST_PRIORITY - head[$PRIORITY], turn_at, turn, head[$DUE], head[$PLACE], seq)
end

function F.put_in_play(seq, head)
  F.set_turn(head)
  head[$HOLD] = $PLAY
  F.touch(seq)
  F.set_ready(seq, head, true)
  S.readied = true
  -- While a claim walks.
  if S.on_play then S.on_play(seq, head) end
end

function F.behind(seq, head, present)
  F.set_member(K .. 'behind:' .. head[$QUEUE], F.order_member(seq, head), present)
end
function F.put_in_lane(seq, head)
  head[$HOLD], head[$TURN_AT], head[$TURN] = $LANE, 0, 0
  F.touch(seq)
  call('ZADD', K .. 'lane:' .. S.job_lanes[seq], 0, F.order_member(seq, head))
  F.behind(seq, head, true)
end
function F.put_on_slot(seq, head, pool_id)
  head[$HOLD] = $SLOT
  F.touch(seq)
  call('ZADD', F.held_key(pool_id, head[$QUEUE]), 0, F.held_member(seq, head))
  call('SADD', K .. 'held_queues:' .. pool_id, head[$QUEUE])
  F.behind(seq, head, true)
  F.set_front(S.job_lanes[seq], seq, head, pool_id)
end
function F.take_off_slot(seq, head, pool_id)
  local key = F.held_key(pool_id, head[$QUEUE])
  call('ZREM', key, F.held_member(seq, head))
  if call('EXISTS', key) == 0 then call('SREM', K .. 'held_queues:' .. pool_id, head[$QUEUE]) end
  F.behind(seq, head, false)
end

-- Brings the first front held on a pool back into play: of one queue. One whose key was served since it was held
-- is moved to its turn first; another may then be the first.
function F.bring_back(pool_id, queue)
  local key = F.held_key(pool_id, queue)
  while true do
    local first = call('ZRANGE', key, 0, 0)[1]
    if not first then return false end
    local seq = F.member_seq(first)
    local head = F.load(seq)
    F.pools_of(seq, head)
    if F.is_turn_over(head) then
      F.set_turn(head)
      F.touch(seq)
      call('ZREM', key, first)
      call('ZADD', key, 0, F.held_member(seq, head))
    else
      F.take_off_slot(seq, head, pool_id)
      F.set_front(S.job_lanes[seq], seq, head, '')
      F.put_in_play(seq, head)
      return true
    end
  end
end
-- As many of each queue, up to WOKEN.
function F.bring_back_all(pool_id, slots)
  for _, queue in ipairs(call('SMEMBERS', K .. 'held_queues:' .. pool_id)) do
    local left = min(slots, $WOKEN)
    while left > 0 and F.bring_back(pool_id, queue) do left = left - 1 end
  end
end
-- For a job that has left its place in play, without a slot, to those that are next.
function F.pass_by(seq, head, except)
  for _, id in ipairs(F.pools_of(seq, head)) do
    if id ~= except and F.is_free(F.pool_of(id)) then F.bring_back(id, head[$QUEUE]) end
  end
end

-- For a job that has left its place in play with its slots: where more were free than fronts were brought back.
function F.bring_next(seq, head)
  for _, id in ipairs(F.pools_of(seq, head) or {}) do
    if F.free_of(F.pool_of(id)) >= $WOKEN then F.bring_back(id, head[$QUEUE]) end
  end
end

-- Where a job begins to wait: when it is posted, its parents are finished, or it is put back.
function F.enter(seq, head)
  if head[$DUE] <= now and F.pools_of(seq, head) then
    local lane = S.job_lanes[seq]
    local front = F.entry(LANES, lane)
    if not front then
      F.set_front(lane, seq, head, '')
    elseif F.is_before(front[$FRONT_PRIORITY], front[$FRONT_DUE], front[$FRONT_PLACE], head[$PRIORITY], head[$DUE], head[$PLACE]) then
      return F.put_in_lane(seq, head)
    end
  end
  F.put_in_play(seq, head)
end

-- The front of a lane is gone.
function F.follow(lane)
  local key = K .. 'lane:' .. lane
  local first = call('ZRANGE', key, 0, 0)[1]
  if not first then return F.set_entry(LANES, lane, false) end
  call('ZREM', key, first)
  local seq = F.member_seq(first)
  local head = F.load(seq)
  F.pools_of(seq, head)
  F.behind(seq, head, false)
  F.set_front(lane, seq, head, '')
  F.put_in_play(seq, head)
end

-- Takes a waiting job out of where it waits, but for its parents. 'started': it has taken its slots.
function F.leave(seq, head, started)
  local hold = head[$HOLD]
  local pools = F.pools_of(seq, head)
  local front = pools and F.entry(LANES, S.job_lanes[seq])
  if hold == $PLAY then
    F.set_ready(seq, head, false)
  elseif hold == $SLOT then
    F.take_off_slot(seq, head, front[$FRONT_HELD])
  elseif hold == $LANE then
    call('ZREM', K .. 'lane:' .. S.job_lanes[seq], F.order_member(seq, head))
    F.behind(seq, head, false)
  elseif hold == $PARENT_HOLD then
    F.set_member(K .. 'blocked:' .. head[$QUEUE], F.order_member(seq, head), false)
  end
  head[$HOLD], head[$TURN_AT], head[$TURN] = $NONE, 0, 0
  F.touch(seq)
  if not pools then return end
  if front and front[$FRONT_SEQ] == seq then F.follow(S.job_lanes[seq]) end
  if hold == $PLAY and not started and head[$DUE] <= now then F.pass_by(seq, head) end
end

function F.take_slots(seq, head)
  for _, id in ipairs(F.pools_of(seq, head) or {}) do
    local pool = F.pool_of(id)
    pool[$TAKEN] = pool[$TAKEN] + 1
    if string.byte(id) == 107 then pool[$SERVED_AT], pool[$SERVED] = now, F.next_seq() end
    F.save_pool(id, pool)
  end
end
function F.free_slots(seq, head)
  for _, id in ipairs(F.pools_of(seq, head) or {}) do
    local pool = F.pool_of(id)
    pool[$TAKEN] = pool[$TAKEN] - 1
    F.save_pool(id, pool)
    if F.is_free(pool) then F.bring_back_all(id, 1) end
  end
end
-- Counts an unfinished job of a limit and a key, or one less.
function F.count_unfinished(seq, head, jobs)
  for _, id in ipairs(F.pools_of(seq, head) or {}) do
    local pool = F.pool_of(id)
    pool[$UNFINISHED] = pool[$UNFINISHED] + jobs
    if string.byte(id) == 107 and pool[$UNFINISHED] == 0 then
      pool[$CONCURRENCY], pool[$SERVED_AT], pool[$SERVED] = 0, 0, 0
    end
    F.save_pool(id, pool)
  end
end
-- 0: as many as there are.
function F.set_concurrency(id, concurrency)
  local pool = F.pool_of(id)
  local before = math.max(0, F.free_of(pool))
  pool[$CONCURRENCY] = concurrency
  F.save_pool(id, pool)
  local free = F.free_of(pool)
  if before < free then F.bring_back_all(id, free - before) end
end
`;
