/** Looking at jobs without changing any. */
export const READS = `
ops.ping = function()
  S.changed, S.counted = true, true
  return {'+'}
end

ops.get = function()
  local id = F.arg()
  local seq = F.seq_of(F.newest_of(IDS, id))
  local head = seq and F.load(seq)
  if not head then return F.refuse('unknown_job', id) end
  return {'+', F.job_reply(seq, head)}
end

ops.states = function()
  local ids, seqs, states = {}, {}, {}
  for index = 1, F.number() do ids[index] = F.arg() end
  F.load_newest(ids)
  for _, id in ipairs(ids) do seqs[#seqs + 1] = F.seq_of(F.newest_of(IDS, id)) end
  F.load_all(seqs)
  for index, id in ipairs(ids) do
    local seq = F.seq_of(F.newest_of(IDS, id))
    states[index] = seq and heads[seq] and heads[seq][$STATE] or -1
  end
  return {'+', states}
end

function F.in_order(one, other)
  local a, b = heads[one], heads[other]
  return F.is_before(a[$PRIORITY], a[$DUE], a[$PLACE], b[$PRIORITY], b[$DUE], b[$PLACE])
end
function F.by_due(one, other)
  local a, b = heads[one], heads[other]
  if a[$DUE] ~= b[$DUE] then return a[$DUE] < b[$DUE] end
  return F.in_order(one, other)
end

-- First what is due, also if it waits for a slot: it is next when one is free. Then what falls due later, by when;
-- and last what waits for parents, since nobody knows how long.
ops.pending = function()
  local queue, limit = F.arg(), F.number()
  F.flush()
  local due, later, blocked = {}, {}, {}
  local function add(list, found)
    for _, member in ipairs(found) do list[#list + 1] = F.member_seq(member) end
  end
  local bound = pack('>I7', now + 1)
  for _, priority in ipairs(call('ZRANGE', K .. 'priorities:' .. queue, 0, -1)) do
    local key = F.ready_key(queue, priority)
    add(due, call('ZRANGEBYLEX', key, '-', '(' .. bound, 'LIMIT', 0, limit - #due))
    -- Lower ones come later than so many of these, and what is not due later still.
    if #due == limit then break end
    add(later, call('ZRANGEBYLEX', key, '[' .. bound, '+', 'LIMIT', 0, limit))
  end
  add(due, call('ZRANGEBYLEX', K .. 'behind:' .. queue, '-', '+', 'LIMIT', 0, limit))
  add(blocked, call('ZRANGEBYLEX', K .. 'blocked:' .. queue, '-', '+', 'LIMIT', 0, limit))
  F.load_all(due)
  F.load_all(later)
  table.sort(due, F.in_order)
  table.sort(later, F.by_due)
  local jobs = {}
  for _, list in ipairs({due, later, blocked}) do
    for _, seq in ipairs(list) do
      if #jobs < limit then jobs[#jobs + 1] = F.job_reply(seq, F.load(seq)) end
    end
  end
  return {'+', jobs}
end

-- The next seqs below 'before', newest first, and where the step after this one goes on: 0 if there is none.
function F.seqs_of_state(state, before, size)
  local found = call('ZREVRANGEBYLEX', K .. 'state:' .. state, '(' .. pack('>I7', before), '-', 'LIMIT', 0, size)
  local seqs = {}
  for index, member in ipairs(found) do seqs[index] = F.member_seq(member) end
  return seqs, #seqs == size and seqs[size] or 0
end
function F.seqs_running(before, size)
  local seqs, some = {}, {}
  for _, seq in ipairs(call('ZRANGE', LEASES, 0, -1)) do
    if tonumber(seq) < before then seqs[#seqs + 1] = tonumber(seq) end
  end
  table.sort(seqs, function(one, other) return one > other end)
  for index = 1, min(size, #seqs) do some[index] = seqs[index] end
  return some, #seqs > size and some[size] or 0
end
function F.seqs_of_groups(id, before, size)
  local groups = F.newest_of(GROUP_IDS, id) and F.runs_of(GROUP_IDS, id) or {}
  local seqs = {}
  for index = #groups, 1, -1 do
    local group = F.entry(GROUPS, groups[index])
    for seq = min(groups[index] + group[$G_JOBS], before - 1), groups[index] + 1, -1 do
      if #seqs == size then return seqs, seqs[size] end
      seqs[#seqs + 1] = seq
    end
  end
  return seqs, 0
end
function F.seqs_of_all(before, size)
  local seqs = {}
  while #seqs < size do
    local top = pack('>I7', floor((before - 1) / $CHUNK))
    local chunk = call('ZREVRANGEBYLEX', K .. 'chunk_order', '[' .. top, '-', 'LIMIT', 0, 1)[1]
    if not chunk then return seqs, 0 end
    local low = F.member_seq(chunk) * $CHUNK
    for seq = min(before - 1, low + $CHUNK - 1), low, -1 do seqs[#seqs + 1] = seq end
    before = low
    if low == 0 then return seqs, 0 end
  end
  return seqs, before
end

-- One step of a listing, of at most 'limit' jobs below 'before'. It looks at so many at most.
ops.list = function()
  local state, task, queue, group_id = F.number(), F.arg(), F.arg(), F.arg()
  local limit, before = F.number(), F.number()
  F.flush()
  before = min(before, S.last_seq + 1)
  local is_plain = task == '' and queue == '' and group_id == '' and state == -1
  local size = is_plain and min(limit, $WINDOW) or $WINDOW
  local seqs, rest
  if group_id ~= '' then
    seqs, rest = F.seqs_of_groups(group_id, before, size)
  elseif state == $STARTED then
    seqs, rest = F.seqs_running(before, size)
  elseif state == $RETRY or state >= $FAILURE then
    seqs, rest = F.seqs_of_state(state, before, size)
  else
    seqs, rest = F.seqs_of_all(before, size)
  end
  F.load_all(seqs)
  local jobs = {}
  for _, seq in ipairs(seqs) do
    local head = heads[seq]
    if head
      and (state == -1 or head[$STATE] == state)
      and (queue == '' or head[$QUEUE] == queue)
      and (task == '' or string.sub(S.tails[seq], 1, #task) == task)
    then
      jobs[#jobs + 1] = F.job_reply(seq, head)
      if #jobs == limit then
        rest = seq
        break
      end
    end
  end
  return {'+', jobs, rest}
end

ops.stats = function()
  F.flush()
  local counted_jobs = call('HGETALL', K .. 'counts')
  local paused = call('HKEYS', K .. 'paused')
  local is_paused, seen, oldest = {}, {}, {}
  for _, queue in ipairs(paused) do is_paused[queue] = true end
  for index = 1, #counted_jobs, 2 do
    local queue = string.sub(counted_jobs[index], 2)
    if not seen[queue] and not is_paused[queue] then
      seen[queue] = true
      local first
      for _, priority in ipairs(call('ZRANGE', K .. 'priorities:' .. queue, 0, -1)) do
        local member = call('ZRANGE', F.ready_key(queue, priority), 0, 0)[1]
        if member then
          -- Behind its turn comes when it fell due.
          local due = unpack_bytes('>I7', member, #member == 35 and 15 or 1)
          if due <= now and (not first or due < first) then first = due end
        end
      end
      if first then
        oldest[#oldest + 1] = queue
        oldest[#oldest + 1] = now - first
      end
    end
  end
  return {'+', counted_jobs, paused, oldest}
end
`;
