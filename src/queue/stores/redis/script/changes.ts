/** What people do to jobs: cancel, purge, pause, limit; and what time does: prune. */
export const CHANGES = `
ops.cancel = function()
  local id = F.arg()
  local seq = F.seq_of(F.newest_of(IDS, id))
  local head = seq and F.load(seq)
  if not head then return F.refuse('unknown_job', id) end
  if F.is_final(head[$STATE]) then return F.refuse('job_finished', id, head[$STATE]) end
  F.request_cancel(seq, head)
  return {'+', F.job_reply(seq, head)}
end

-- The jobs of a group that are not purged, in the order posted: their seqs follow that of the group.
function F.members_of(group_seq, group, from, size)
  local all, seqs = {}, {}
  for offset = from, min(from + size, group[$G_JOBS]) - 1 do all[#all + 1] = group_seq + 1 + offset end
  F.load_all(all)
  for _, seq in ipairs(all) do
    if heads[seq] then seqs[#seqs + 1] = seq end
  end
  return seqs
end
function F.group_reply(seq, group)
  local jobs = {}
  for index, member in ipairs(F.members_of(seq, group, 0, group[$G_JOBS])) do
    jobs[index] = F.job_reply(member, heads[member])
  end
  return {'+', group[$G_CONCURRENCY], group[$G_CREATED], jobs}
end
function F.find_group(id)
  local seq = F.seq_of(F.newest_of(GROUP_IDS, id))
  local group = seq and F.entry(GROUPS, seq)
  return seq, group
end

ops.group = function()
  local id = F.arg()
  local seq, group = F.find_group(id)
  if not group then return F.refuse('unknown_group', id) end
  return F.group_reply(seq, group)
end

ops.unfinished = function()
  local left = {}
  for index = 1, F.number() do
    local _, group = F.find_group(F.arg())
    left[index] = group and group[$G_UNFINISHED] or -1
  end
  return {'+', left}
end

-- One step: the last of the jobs before 'before'. Backwards, so that a child is gone before its parent lets it run.
function F.step_back(seq, group, before, visit)
  local from = math.max(0, before - $GROUP_STEP)
  local members = F.members_of(seq, group, from, before - from)
  for index = #members, 1, -1 do visit(members[index]) end
  return from
end

-- A step, and where the next one goes on: its group and its 'before'; the first is given 0. The last one answers
-- with the group.
ops.cancelGroup = function()
  local id, seq, before = F.arg(), F.number(), F.number()
  local group
  if seq > 0 then
    group = F.entry(GROUPS, seq)
  else
    seq, group = F.find_group(id)
    before = group and group[$G_JOBS]
    if group and group[$G_UNFINISHED] == 0 then return F.refuse('group_finished', id) end
  end
  if not group then return F.refuse('unknown_group', id) end
  local from = F.step_back(seq, group, before, function(member)
    local head = heads[member]
    -- One of the others may have taken it along as its child.
    if not F.is_final(head[$STATE]) then F.request_cancel(member, head) end
  end)
  if from > 0 then return {'+', seq, from} end
  return {'+', 0, 0, F.group_reply(seq, group)}
end

function F.delete_job(seq, head)
  local state = head[$STATE]
  F.count(head[$QUEUE], state, -1)
  if state >= $FAILURE then F.set_member(K .. 'state:' .. state, pack('>I7', seq), false) end
  F.forget_run(IDS, head[$ID], seq)
  F.delete_record(seq, head)
end
function F.purge_run(seq)
  local head = F.load(seq)
  if not head then return end
  if head[$STATE] == $STARTED then S.stopped = true end
  if not F.is_final(head[$STATE]) then F.finish_job(seq, head, $CANCELLED) end
  F.delete_job(seq, head)
end
function F.delete_group(seq, group)
  F.set_member(K .. 'groups_ended', pack('>I7I7', group[$G_FORGOTTEN] > 0 and 0 or group[$G_FINISHED], seq), false)
  F.entry(POOLS, 'g' .. seq)
  F.set_entry(POOLS, 'g' .. seq, false)
  F.set_entry(GROUPS, seq, false)
end

ops.purge = function()
  local id = F.arg()
  if not F.newest_of(IDS, id) then return F.refuse('unknown_job', id) end
  for _, seq in ipairs(F.runs_of(IDS, id)) do F.purge_run(seq) end
  return {'+'}
end

-- In steps, as 'cancelGroup'; runs of the id that were posted after the first step stay.
ops.purgeGroup = function()
  local id, seq, before, newest = F.arg(), F.number(), F.number(), F.number()
  if seq == 0 then
    local runs = F.newest_of(GROUP_IDS, id) and F.runs_of(GROUP_IDS, id) or {}
    seq = runs[1]
    if newest == 0 then newest = runs[#runs] end
    if not seq or seq > newest then return newest and {'+', 0, 0, 0} or F.refuse('unknown_group', id) end
  end
  local group = F.entry(GROUPS, seq)
  -- Somebody else has been faster.
  if not group then return {'+', 0, 0, newest} end
  local from = F.step_back(seq, group, before > 0 and before or group[$G_JOBS], F.purge_run)
  if from > 0 then return {'+', seq, from, newest} end
  F.forget_run(GROUP_IDS, id, seq)
  F.delete_group(seq, group)
  return {'+', 0, 0, seq < newest and newest or 0}
end

ops.pause = function()
  F.set_field(K .. 'paused', F.arg(), 1)
  return {'+'}
end
ops.resume = function()
  F.set_field(K .. 'paused', F.arg(), false)
  S.readied = true
  return {'+'}
end

ops.limit = function()
  local name, concurrency = F.arg(), F.number()
  F.set_concurrency('l' .. name, concurrency)
  return {'+'}
end
ops.limits = function()
  local limits = {}
  for index = 1, F.number() do
    local pool = F.entry(POOLS, 'l' .. F.arg()) or {0, 0, 0}
    limits[index] = {pool[$CONCURRENCY], pool[$TAKEN], pool[$UNFINISHED] - pool[$TAKEN]}
  end
  return {'+', limits}
end

-- Forgets some; -1 when there is nothing left to forget.
ops.prune = function()
  local jobs_ms, groups_ms = F.number(), F.number()
  F.flush()
  local first = call('LRANGE', K .. 'ended', 0, $PRUNED - 1)
  local passed, forgotten, seqs = 0, 0, {}
  for index, item in ipairs(first) do
    local finished_at, seq = unpack_bytes('>I7I7', item)
    if finished_at >= now - jobs_ms then break end
    passed, seqs[index] = index, seq
  end
  if passed > 0 then
    F.load_all(seqs)
    for index, seq in ipairs(seqs) do
      local head = heads[seq]
      -- It may have been purged, or have run again.
      if head and F.is_final(head[$STATE]) and head[$FINISHED] == unpack_bytes('>I7', first[index]) then
        F.delete_job(seq, head)
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
  local group = F.entry(GROUPS, seq)
  -- A large group is gone for its users with the first step.
  if group[$G_FORGOTTEN] == 0 then F.forget_run(GROUP_IDS, group[$G_ID], seq) end
  local jobs = F.members_of(seq, group, group[$G_FORGOTTEN], $PRUNED)
  for _, member in ipairs(jobs) do F.delete_job(member, heads[member]) end
  if group[$G_FORGOTTEN] + $PRUNED >= group[$G_JOBS] then
    F.delete_group(seq, group)
  else
    F.set_member(K .. 'groups_ended', item, false)
    F.set_member(K .. 'groups_ended', pack('>I7I7', 0, seq), true)
    group[$G_FORGOTTEN] = group[$G_FORGOTTEN] + $PRUNED
    F.set_entry(GROUPS, seq, group)
  end
  return {'+', #jobs}
end
`;
