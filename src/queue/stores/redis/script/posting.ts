/** Posting jobs, and posting one again. */
export const POSTING = `
-- What a call answers: a refusal has written nothing.
function F.refuse(code, detail, more)
  return {'!', code, detail or '', more or ''}
end

function F.job_reply(seq, head)
  return {
    seq,
    F.record_of(seq),
    head[$OUTSIDE] == 1 and (S.fields[PAYLOADS] and S.fields[PAYLOADS][seq] or call('HGET', PAYLOADS, seq)) or '',
    head[$PROGRESS] == 1 and (S.fields[PROGRESSES] and S.fields[PROGRESSES][seq] or call('HGET', PROGRESSES, seq)) or '',
  }
end

function F.add_parent(seq, child_seq, on_failure)
  call('HSET', K .. 'children:' .. seq, child_seq, on_failure)
  local head = heads[seq]
  if head[$PARENT] == 0 then
    head[$PARENT] = 1
    F.touch(seq)
  end
end
function F.wait_for_parents(seq, head)
  head[$HOLD] = $PARENT_HOLD
  F.touch(seq)
  F.set_member(K .. 'blocked:' .. head[$QUEUE], F.order_member(seq, head), true)
end

function F.read_jobs()
  local size = F.number()
  local jobs, ids, has_parents = {}, {}, false
  for index = 1, size do
    local job = {id = F.arg(), queue = F.arg(), limit = F.arg(), key = F.arg()}
    job.key_concurrency, job.priority, job.eta = F.number(), F.number(), F.arg()
    job.payload, job.tail = F.arg(), F.arg()
    local parents = F.number()
    if parents > 0 then
      has_parents = true
      job.parents = {}
      for parent = 1, parents do job.parents[parent] = {F.arg(), F.arg()} end
    end
    jobs[index], ids[index] = job, job.id
  end
  -- Indexes of the jobs, parents before children; none if no job of the batch waits for another.
  local order = {}
  for index = 1, F.number() do order[index] = F.number() end
  return jobs, ids, has_parents, order
end

-- Parents that are not of the batch: by id their seqs; or a refusal.
function F.find_parents(jobs, indexes)
  local outside = {}
  for _, job in ipairs(jobs) do
    for _, parent in ipairs(job.parents or {}) do
      local id = parent[1]
      if not indexes[id] and not outside[id] then
        local seq = F.seq_of(F.newest_of(IDS, id))
        if not seq or not F.load(seq) then return nil, F.refuse('unknown_job', id) end
        outside[id] = seq
      end
    end
  end
  return outside
end

-- What each job waits for, and whether a parent has failed it already.
function F.plan(jobs, first_seq, order, indexes, outside)
  local function one(index)
    local job = jobs[index]
    job.waits, job.edges = {}, ''
    for _, parent in ipairs(job.parents or {}) do
      local id, on_failure = parent[1], parent[2]
      local of_batch = indexes[id]
      local seq = of_batch and first_seq + of_batch - 1 or outside[id]
      local state = $PENDING
      if of_batch then
        if jobs[of_batch].doomed then state = $CANCELLED end
      else
        state = heads[seq][$STATE]
      end
      job.edges = job.edges .. seq .. on_failure
      if not F.is_final(state) then
        job.waits[#job.waits + 1] = {seq, on_failure}
      elseif state ~= $SUCCESS and on_failure == 'c' then
        job.doomed = true
      end
    end
  end
  if #order > 0 then
    for _, index in ipairs(order) do one(index) end
  else
    for index = 1, #jobs do one(index) end
  end
end

ops.enqueue = function()
  local group_id, concurrency = F.arg(), F.number()
  local jobs, ids, has_parents, order = F.read_jobs()
  F.load_newest(ids)
  local known = {}
  for _, id in ipairs(ids) do
    local seq = F.seq_of(F.newest_of(IDS, id))
    if seq then known[#known + 1] = seq end
  end
  F.load_all(known)
  for _, id in ipairs(ids) do
    local seq = F.seq_of(F.newest_of(IDS, id))
    local head = seq and heads[seq]
    if head and not F.is_final(head[$STATE]) then return F.refuse('job_active', id) end
  end
  if group_id ~= '' then
    local seq = F.seq_of(F.newest_of(GROUP_IDS, group_id))
    local group = seq and F.entry(GROUPS, seq)
    if group and group[$G_UNFINISHED] > 0 then return F.refuse('group_active', group_id) end
  end
  local indexes, outside = {}, {}
  if has_parents then
    local refusal
    for index, id in ipairs(ids) do indexes[id] = index end
    outside, refusal = F.find_parents(jobs, indexes)
    if refusal then return refusal end
  end

  -- From here on it is accepted.
  S.changed, S.counted = true, true
  local group_seq = 0
  if group_id ~= '' then
    group_seq = F.next_seq()
    F.add_run(GROUP_IDS, group_id, group_seq)
    F.entry(GROUPS, group_seq)
    F.set_entry(GROUPS, group_seq, {group_id, concurrency, now, #jobs, 0, #jobs, 0})
    if concurrency > 0 then F.set_concurrency('g' .. group_seq, concurrency) end
  end
  local first_seq = S.last_seq + 1
  S.last_seq = S.last_seq + #jobs
  F.plan(jobs, first_seq, order, indexes, outside)
  local cancelled = {}
  for index, job in ipairs(jobs) do
    local seq = first_seq + index - 1
    local outside_payload = job.payload ~= ''
    local eta = tonumber(job.eta)
    local head = {
      job.doomed and $CANCELLED or $PENDING, $NONE, job.priority, eta and eta > now and eta or now, seq, 0, 0,
      0, 0, 0, 0, 0, now, 0, job.doomed and now or 0, job.doomed and 0 or #job.waits, 0, 0,
      outside_payload and 1 or 0, group_seq, concurrency > 0 and 1 or 0, eta or '',
      job.id, job.queue, job.limit, job.key, job.key_concurrency, '', '', '', job.edges,
    }
    heads[seq], S.tails[seq] = head, job.tail
    F.touch(seq)
    if outside_payload then F.set_field(PAYLOADS, seq, job.payload) end
    F.add_run(IDS, job.id, seq)
    F.count_chunk(seq, 1)
    F.count(job.queue, head[$STATE], 1)
    F.count_unfinished(seq, head, 1)
    if job.key ~= '' then F.set_concurrency('k' .. job.key, job.key_concurrency) end
    if job.doomed then
      cancelled[#cancelled + 1] = index - 1
      S.finished[#S.finished + 1] = job.id
      F.count_unfinished(seq, head, -1)
      F.count_group(head, -1)
      F.set_member(K .. 'state:' .. $CANCELLED, pack('>I7', seq), true)
      if group_seq == 0 then S.ended[#S.ended + 1] = pack('>I7I7', now, seq) end
    end
  end
  for index, job in ipairs(jobs) do
    local seq = first_seq + index - 1
    if not job.doomed then
      if #job.waits > 0 then
        for _, edge in ipairs(job.waits) do F.add_parent(edge[1], seq, edge[2]) end
        F.wait_for_parents(seq, heads[seq])
      else
        F.enter(seq, heads[seq])
      end
    end
  end
  return {'+', first_seq, now, cancelled}
end

ops.retry = function()
  local id = F.arg()
  local seq = F.seq_of(F.newest_of(IDS, id))
  local head = seq and F.load(seq)
  if not head then return F.refuse('unknown_job', id) end
  if not F.is_final(head[$STATE]) then return F.refuse('job_active', id) end
  if head[$STATE] == $SUCCESS then return F.refuse('job_finished', id, head[$STATE]) end
  if head[$GROUP] > 0 then
    local group = F.entry(GROUPS, head[$GROUP])
    if not group or group[$G_FORGOTTEN] > 0 then return F.refuse('unknown_job', id) end
  end
  F.set_state(seq, head, $PENDING)
  head[$DUE], head[$PLACE], head[$ETA], head[$TURN_AT], head[$TURN] = now, F.next_seq(), '', 0, 0
  head[$ATTEMPT], head[$FAILURES], head[$CRASHES], head[$FENCE], head[$CANCEL] = 0, 0, 0, 0, 0
  head[$STARTED_AT], head[$FINISHED], head[$WORKER], head[$ERROR], head[$RESULT] = 0, 0, '', '', ''
  F.count_unfinished(seq, head, 1)
  if head[$KEY] ~= '' then F.set_concurrency('k' .. head[$KEY], head[$KEY_CONCURRENCY]) end
  F.count_group(head, 1)
  -- Parents that have ended are not asked again; one that was set going again is waited for.
  local waits = 0
  F.each_parent(head, function(parent, on_failure)
    local parent_head = F.load(parent)
    if parent_head and not F.is_final(parent_head[$STATE]) then
      waits = waits + 1
      F.add_parent(parent, seq, on_failure)
    end
  end)
  head[$WAITS] = waits
  if waits > 0 then F.wait_for_parents(seq, head) else F.enter(seq, head) end
  return {'+', F.job_reply(seq, head)}
end
`;
