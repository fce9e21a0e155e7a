/** What people do to jobs: cancel, purge, pause, limit; and what time does: prune. */
export const CHANGES = `
ops.cancel = function()
  local id = arg()
  local seq = seq_of(newest_of(IDS, id))
  local head = seq and load(seq)
  if not head then return refuse('unknown_job', id) end
  if is_final(head[$STATE]) then return refuse('job_finished', id, head[$STATE]) end
  request_cancel(seq, head)
  return {'+', job_reply(seq, head)}
end

-- The jobs of a group that are not purged, in the order posted: their seqs follow that of the group.
local function members_of(group_seq, group, from, size)
  local all, seqs = {}, {}
  for offset = from, min(from + size, group[$G_JOBS]) - 1 do all[#all + 1] = group_seq + 1 + offset end
  load_all(all)
  for _, seq in ipairs(all) do
    if heads[seq] then seqs[#seqs + 1] = seq end
  end
  return seqs
end
local function group_reply(seq, group)
  local jobs = {}
  for index, member in ipairs(members_of(seq, group, 0, group[$G_JOBS])) do
    jobs[index] = job_reply(member, heads[member])
  end
  return {'+', group[$G_CONCURRENCY], group[$G_CREATED], jobs}
end
local function find_group(id)
  local seq = seq_of(newest_of(GROUP_IDS, id))
  local group = seq and entry(GROUPS, seq)
  return seq, group
end

ops.group = function()
  local id = arg()
  local seq, group = find_group(id)
  if not group then return refuse('unknown_group', id) end
  return group_reply(seq, group)
end

ops.cancelGroup = function()
  local id = arg()
  local seq, group = find_group(id)
  if not group then return refuse('unknown_group', id) end
  if group[$G_UNFINISHED] == 0 then return refuse('group_finished', id) end
  for _, member in ipairs(members_of(seq, group, 0, group[$G_JOBS])) do
    -- One of the others may have taken it along as its child.
    if not is_final(heads[member][$STATE]) then request_cancel(member, heads[member]) end
  end
  return group_reply(seq, group)
end

local function delete_job(seq, head)
  local state = head[$STATE]
  count(head[$QUEUE], state, -1)
  if state >= $FAILURE then set_member(K .. 'state:' .. state, pack('>I7', seq), false) end
  forget_run(IDS, head[$ID], seq)
  delete_record(seq, head)
end
local function purge_run(seq)
  local head = load(seq)
  if not head then return end
  if head[$STATE] == $STARTED then stopped = true end
  if not is_final(head[$STATE]) then finish_job(seq, head, $CANCELLED) end
  delete_job(seq, head)
end
local function delete_group(seq, group)
  set_member(K .. 'groups_ended', pack('>I7I7', group[$G_FORGOTTEN] > 0 and 0 or group[$G_FINISHED], seq), false)
  entry(POOLS, 'g' .. seq)
  set_entry(POOLS, 'g' .. seq, false)
  set_entry(GROUPS, seq, false)
end

ops.purge = function()
  local id = arg()
  if not newest_of(IDS, id) then return refuse('unknown_job', id) end
  for _, seq in ipairs(runs_of(IDS, id)) do purge_run(seq) end
  return {'+'}
end

ops.purgeGroup = function()
  local id = arg()
  if not newest_of(GROUP_IDS, id) then return refuse('unknown_group', id) end
  for _, seq in ipairs(runs_of(GROUP_IDS, id)) do
    local group = entry(GROUPS, seq)
    for _, member in ipairs(members_of(seq, group, 0, group[$G_JOBS])) do purge_run(member) end
    forget_run(GROUP_IDS, id, seq)
    delete_group(seq, group)
  end
  return {'+'}
end

ops.pause = function()
  set_field(K .. 'paused', arg(), 1)
  return {'+'}
end
ops.resume = function()
  set_field(K .. 'paused', arg(), false)
  readied = true
  return {'+'}
end

ops.limit = function()
  local name, concurrency = arg(), number()
  set_concurrency('l' .. name, concurrency)
  return {'+'}
end
ops.limits = function()
  local limits = {}
  for index = 1, number() do
    local pool = entry(POOLS, 'l' .. arg()) or {0, 0, 0}
    limits[index] = {pool[$CONCURRENCY], pool[$TAKEN], pool[$UNFINISHED] - pool[$TAKEN]}
  end
  return {'+', limits}
end

-- Forgets some; -1 when there is nothing left to forget.
ops.prune = function()
  local jobs_ms, groups_ms = number(), number()
  flush()
  local first = call('LRANGE', K .. 'ended', 0, $PRUNED - 1)
  local passed, forgotten, seqs = 0, 0, {}
  for index, item in ipairs(first) do
    local finished_at, seq = unpack_bytes('>I7I7', item)
    if finished_at >= now - jobs_ms then break end
    passed, seqs[index] = index, seq
  end
  if passed > 0 then
    load_all(seqs)
    for index, seq in ipairs(seqs) do
      local head = heads[seq]
      -- It may have been purged, or have run again.
      if head and is_final(head[$STATE]) and head[$FINISHED] == unpack_bytes('>I7', first[index]) then
        delete_job(seq, head)
        forgotten = forgotten + 1
      end
    end
    call('LTRIM', K .. 'ended', passed, -1)
    return {'+', forgotten}
  end
  local item = call('ZRANGE', K .. 'groups_ended', 0, 0)[1]
  if not item then return {'+', -1} end
  local finished_at, seq = unpack_bytes('>I7I7', item)
  if finished_at >= now - groups_ms then return {'+', -1} end
  local group = entry(GROUPS, seq)
  -- A large group is gone for its users with the first step.
  if group[$G_FORGOTTEN] == 0 then forget_run(GROUP_IDS, group[$G_ID], seq) end
  local members = members_of(seq, group, group[$G_FORGOTTEN], $PRUNED)
  for _, member in ipairs(members) do delete_job(member, heads[member]) end
  if group[$G_FORGOTTEN] + $PRUNED >= group[$G_JOBS] then
    delete_group(seq, group)
  else
    set_member(K .. 'groups_ended', item, false)
    set_member(K .. 'groups_ended', pack('>I7I7', 0, seq), true)
    group[$G_FORGOTTEN] = group[$G_FORGOTTEN] + $PRUNED
    set_entry(GROUPS, seq, group)
  end
  return {'+', #members}
end
`;
