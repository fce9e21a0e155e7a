/** The way of an attempt: claimed, renewed, ended, given back, recovered. */
export const ATTEMPTS = `
-- What can be claimed of a queue, in turn: one priority after the other, highest first.
function F.open_line(queue, left)
  return {
    queue = queue, left = left, index = 0, ahead = {}, first = 1, more = false,
    priorities = call('ZRANGE', K .. 'priorities:' .. queue, 0, -1),
  }
end
function F.read_line(line, due)
  F.flush_members(line.key)
  local wanted = min(line.left, $CANDIDATES)
  local found = call('ZRANGEBYLEX', line.key, line.last and '(' .. line.last or '-', due, 'LIMIT', 0, wanted)
  line.more = #found == wanted
  line.ahead, line.first = {}, 1
  line.last = found[#found] or line.last
  for index, member in ipairs(found) do line.ahead[index] = F.member_seq(member) end
  F.load_all(line.ahead)
end
function F.first_of(line, due)
  if line.left <= 0 then return nil end
  if line.again then
    F.flush()
    local fresh = F.open_line(line.queue, line.left)
    for name, value in pairs(fresh) do line[name] = value end
    line.again, line.last, line.priority = false, nil, nil
  end
  while true do
    local seq = line.ahead[line.first]
    if seq then return seq end
    if line.more then
      F.read_line(line, due)
    else
      line.index = line.index + 1
      local priority = line.priorities[line.index]
      if not priority then return nil end
      line.priority, line.key = tonumber(priority), F.ready_key(line.queue, priority)
      line.ahead, line.first, line.more, line.last = {}, 1, true, nil
    end
  end
end

function F.is_ahead(one, other)
  if one[$PRIORITY] ~= other[$PRIORITY] then return one[$PRIORITY] > other[$PRIORITY] end
  local one_at, one_place = F.turn_of(one)
  local other_at, other_place = F.turn_of(other)
  if one_at ~= other_at then return one_at < other_at end
  if one_place ~= other_place then return one_place < other_place end
  if one[$DUE] ~= other[$DUE] then return one[$DUE] < other[$DUE] end
  return one[$PLACE] < other[$PLACE]
end

-- A job has come into play while the claim walks. What has been read ahead may lack it: then all is read again,
-- since whatever has been passed is no longer there.
function F.add_to_line(line, seq, head)
  if head[$PRIORITY] ~= line.priority then
    local is_to_come = false
    if not line.priority or head[$PRIORITY] < line.priority then
      for index = line.index + 1, #line.priorities do
        is_to_come = is_to_come or tonumber(line.priorities[index]) == head[$PRIORITY]
      end
    end
    line.again = line.again or not is_to_come
    return
  end
  if line.more then
    local last = line.first <= #line.ahead and line.ahead[#line.ahead]
    if not last then line.again = true end
    if not last or not F.is_ahead(head, heads[last]) then return end
  end
  local index = line.first
  while line.ahead[index] and F.is_ahead(heads[line.ahead[index]], head) do index = index + 1 end
  table.insert(line.ahead, index, seq)
end

function F.start(seq, head, worker, lease_ms)
  F.take_slots(seq, head)
  F.leave(seq, head, true)
  F.bring_next(seq, head)
  F.set_state(seq, head, $STARTED)
  head[$ATTEMPT] = head[$ATTEMPT] + 1
  head[$FENCE], head[$WORKER], head[$STARTED_AT] = F.next_fence(), worker, now
  S.lease_times[seq], S.gone_leases[seq] = now + lease_ms, nil
end

-- Starts a job that needs slots, if it is its turn and they are free; else puts it where it belongs.
function F.look_at(seq, head, worker, lease_ms)
  if F.is_turn_over(head) then
    F.set_ready(seq, head, false)
    F.put_in_play(seq, head)
    F.pass_by(seq, head)
    return false
  end
  local full
  for _, id in ipairs(S.job_pools[seq]) do
    if not F.is_free(F.pool_of(id)) then
      full = id
      break
    end
  end
  if not full then
    F.start(seq, head, worker, lease_ms)
    return true
  end
  F.set_ready(seq, head, false)
  local lane = S.job_lanes[seq]
  local front = F.entry(LANES, lane)
  local is_other = front and front[$FRONT_SEQ] ~= seq
  if is_other and F.is_before(front[$FRONT_PRIORITY], front[$FRONT_DUE], front[$FRONT_PLACE], head[$PRIORITY], head[$DUE], head[$PLACE]) then
    F.put_in_lane(seq, head)
  else
    if is_other and front[$FRONT_HELD] ~= '' then
      local other = F.load(front[$FRONT_SEQ])
      F.pools_of(front[$FRONT_SEQ], other)
      F.take_off_slot(front[$FRONT_SEQ], other, front[$FRONT_HELD])
      F.put_in_lane(front[$FRONT_SEQ], other)
    end
    F.put_on_slot(seq, head, full)
  end
  F.pass_by(seq, head)
  return false
end

-- When the first of the jobs that are not due yet is, of these lines.
function F.next_due(lines)
  local soonest
  local later = '[' .. pack('>I7', now + 1)
  for _, line in ipairs(lines) do
    for _, priority in ipairs(call('ZRANGE', K .. 'priorities:' .. line.queue, 0, -1)) do
      local key = F.ready_key(line.queue, priority)
      local member = call('ZRANGEBYLEX', key, later, '+', 'LIMIT', 0, 1)[1]
      if member then
        local due = unpack_bytes('>I7', member)
        if not soonest or due < soonest then soonest = due end
      elseif call('EXISTS', key) == 0 then
        call('ZREM', K .. 'priorities:' .. line.queue, priority)
      end
    end
  end
  return soonest
end

ops.claim = function()
  local worker, lease_ms, limit = F.arg(), F.number(), F.number()
  local queues, wanted = {}, {}
  for index = 1, F.number() do queues[index], wanted[index] = F.arg(), F.number() end
  F.flush()
  local paused = #queues > 0 and call('HMGET', K .. 'paused', unpack(queues)) or {}
  local lines, by_queue = {}, {}
  for index, queue in ipairs(queues) do
    if not paused[index] then
      local line = F.open_line(queue, min(wanted[index], limit))
      lines[#lines + 1] = line
      by_queue[queue] = line
    end
  end
  -- Who is idle has heard of these jobs when they were posted, and found no slot.
  local was_readied = S.readied
  S.on_play = function(seq, head)
    local line = by_queue[head[$QUEUE]]
    if line then F.add_to_line(line, seq, head) end
  end
  local due = '(' .. pack('>I7', now + 1)
  local taken, looks = {}, 0
  while #taken < limit and looks < $LOOKS do
    local best, best_line
    for _, line in ipairs(lines) do
      local seq = F.first_of(line, due)
      if seq and (not best or F.is_ahead(heads[seq], heads[best])) then best, best_line = seq, line end
    end
    if not best then break end
    best_line.first = best_line.first + 1
    local head = heads[best]
    if not F.pools_of(best, head) then
      F.start(best, head, worker, lease_ms)
      taken[#taken + 1] = best
      best_line.left = best_line.left - 1
    elseif F.look_at(best, head, worker, lease_ms) then
      taken[#taken + 1] = best
      best_line.left = best_line.left - 1
    else
      looks = looks + 1
    end
  end
  S.on_play = nil
  S.readied = was_readied
  F.flush()
  local jobs = {}
  for index, seq in ipairs(taken) do jobs[index] = F.job_reply(seq, heads[seq]) end
  local next_due_at = looks < $LOOKS and F.next_due(lines) or (looks >= $LOOKS and now)
  return {'+', jobs, next_due_at or -1}
end

-- The running job of a lease that is still valid.
function F.held(id, attempt, fence)
  local seq = F.seq_of(F.newest_of(IDS, id))
  local head = seq and F.load(seq)
  if not head or head[$STATE] ~= $STARTED or head[$FENCE] ~= fence or head[$ATTEMPT] ~= attempt then return nil end
  return seq, head
end
-- Reads 'size' leases, each with as many texts behind it; fetches their jobs at once.
function F.read_leases(texts)
  local size = F.number()
  local leases, ids, seqs = {}, {}, {}
  for index = 1, size do
    local lease = {id = F.arg(), attempt = F.number(), fence = F.number()}
    for text = 1, texts do lease[text] = F.arg() end
    leases[index], ids[index] = lease, lease.id
  end
  F.load_newest(ids)
  for _, id in ipairs(ids) do seqs[#seqs + 1] = F.seq_of(F.newest_of(IDS, id)) end
  F.load_all(seqs)
  return leases
end

ops.renew = function()
  local lease_ms = F.number()
  local lost, cancelled = {}, {}
  for index, lease in ipairs(F.read_leases(1)) do
    local seq, head = F.held(lease.id, lease.attempt, lease.fence)
    if not seq then
      lost[#lost + 1] = index - 1
    else
      if head[$CANCEL] == 1 then cancelled[#cancelled + 1] = index - 1 end
      S.changed = true
      S.lease_times[seq] = now + lease_ms
      if lease[1] ~= '' then
        F.set_field(PROGRESSES, seq, lease[1])
        if head[$PROGRESS] == 0 then
          head[$PROGRESS] = 1
          F.touch(seq)
        end
      end
    end
  end
  return {'+', lost, cancelled}
end

ops.finish = function()
  local states = {}
  for index, lease in ipairs(F.read_leases(3)) do
    local seq, head = F.held(lease.id, lease.attempt, lease.fence)
    local state, text = tonumber(lease[1]), lease[2]
    if not seq then
      states[index] = -1
    elseif state == $FAILURE then
      F.finish_job(seq, head, $FAILURE, text)
    elseif state == $CANCELLED or head[$CANCEL] == 1 then
      F.finish_job(seq, head, $CANCELLED, state ~= $SUCCESS and text or '')
    elseif state == $SUCCESS then
      F.finish_job(seq, head, $SUCCESS, '', text)
    else
      head[$DUE], head[$ERROR], head[$FAILURES], head[$CRASHES] = now + tonumber(lease[3]), text, head[$FAILURES] + 1, 0
      F.put_back(seq, head, $RETRY)
    end
    states[index] = states[index] or head[$STATE]
  end
  return {'+', states}
end

ops.release = function()
  local delay = F.number()
  for _, lease in ipairs(F.read_leases(0)) do
    local seq, head = F.held(lease.id, lease.attempt, lease.fence)
    if seq then
      if head[$CANCEL] == 1 then
        F.finish_job(seq, head, $CANCELLED)
      else
        head[$ATTEMPT], head[$CRASHES] = head[$ATTEMPT] - 1, 0
        if delay > 0 then head[$DUE] = now + delay end
        F.put_back(seq, head, $PENDING)
      end
    end
  end
  return {'+'}
end

-- One step: at most so many.
ops.recover = function()
  local max_crashes, limit = F.number(), F.number()
  F.flush()
  local seqs = call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, limit)
  for index, seq in ipairs(seqs) do seqs[index] = tonumber(seq) end
  F.load_all(seqs)
  local recovered = {}
  for index, seq in ipairs(seqs) do
    local head = heads[seq]
    local kind
    local attempt, worker, crashes = head[$ATTEMPT], head[$WORKER], head[$CRASHES] + 1
    if head[$CANCEL] == 1 then
      kind = 'cancelled'
      F.finish_job(seq, head, $CANCELLED)
    elseif crashes >= max_crashes then
      kind = 'poisoned'
      local times = crashes == 1 and 'once' or crashes .. ' times in a row'
      F.finish_job(seq, head, $FAILURE, 'its worker died ' .. times .. ', at last "' .. worker .. '" (attempt ' .. attempt .. ')')
    else
      kind = 'requeued'
      head[$ERROR] = 'worker "' .. worker .. '" died or lost its connection (attempt ' .. attempt .. ')'
      head[$CRASHES] = crashes
      F.put_back(seq, head, $PENDING)
    end
    recovered[index] = {kind, head[$ID], attempt, head[$FENCE]}
  end
  if #seqs > 0 then S.stopped = true end
  return {'+', recovered}
end

ops.leases = function()
  F.flush()
  local leases = {}
  local seqs = call('ZRANGEBYSCORE', LEASES, '(' .. now, '+inf')
  for index, seq in ipairs(seqs) do seqs[index] = tonumber(seq) end
  F.load_all(seqs)
  for index, seq in ipairs(seqs) do
    local head = heads[seq]
    leases[index] = {head[$ID], head[$ATTEMPT], head[$FENCE]}
  end
  return {'+', leases}
end
`;
