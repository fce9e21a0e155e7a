/** Posting jobs, and posting one again. */
export const POSTING = `
local ops = {}

-- What a call answers: a refusal has written nothing.
local function refuse(code, detail, more)
  return {'!', code, detail or '', more or ''}
end

local function job_reply(seq, head)
  return {
    seq,
    record_of(seq),
    head[$OUTSIDE] == 1 and (fields[PAYLOADS] and fields[PAYLOADS][seq] or call('HGET', PAYLOADS, seq)) or '',
    head[$PROGRESS] == 1 and (fields[PROGRESSES] and fields[PROGRESSES][seq] or call('HGET', PROGRESSES, seq)) or '',
  }
end

local function add_parent(seq, child_seq, on_failure)
  call('HSET', K .. 'children:' .. seq, child_seq, on_failure)
  local head = heads[seq]
  if head[$PARENT] == 0 then
    head[$PARENT] = 1
    touch(seq)
  end
end
local function wait_for_parents(seq, head)
  head[$HOLD] = $PARENT_HOLD
  touch(seq)
  set_member(K .. 'blocked:' .. head[$QUEUE], order_member(seq, head), true)
end

local function read_jobs()
  local size = number()
  local jobs, ids, has_parents = {}, {}, false
  for index = 1, size do
    local job = {id = arg(), queue = arg(), limit = arg(), key = arg()}
    job.key_concurrency, job.priority, job.eta = number(), number(), arg()
    job.payload, job.tail = arg(), arg()
    local parents = number()
    if parents > 0 then
      has_parents = true
      job.parents = {}
      for parent = 1, parents do job.parents[parent] = {arg(), arg()} end
    end
    jobs[index], ids[index] = job, job.id
  end
  -- Indexes of the jobs, parents before children; none if no job of the batch waits for another.
  local order = {}
  for index = 1, number() do order[index] = number() end
  return jobs, ids, has_parents, order
end

-- Parents that are not of the batch: by id their seqs; or a refusal.
local function find_parents(jobs, indexes)
  local outside = {}
  for _, job in ipairs(jobs) do
    for _, parent in ipairs(job.parents or {}) do
      local id = parent[1]
      if not indexes[id] and not outside[id] then
        local seq = seq_of(newest_of(IDS, id))
        if not seq or not load(seq) then return nil, refuse('unknown_job', id) end
        outside[id] = seq
      end
    end
  end
  return outside
end

-- What each job waits for, and whether a parent has failed it already.
local function plan(jobs, first_seq, order, indexes, outside)
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
      if not is_final(state) then
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
  local group_id, concurrency = arg(), number()
  local jobs, ids, has_parents, order = read_jobs()
  load_newest(ids)
  local known = {}
  for _, id in ipairs(ids) do
    local seq = seq_of(newest_of(IDS, id))
    if seq then known[#known + 1] = seq end
  end
  load_all(known)
  for _, id in ipairs(ids) do
    local seq = seq_of(newest_of(IDS, id))
    local head = seq and heads[seq]
    if head and not is_final(head[$STATE]) then return refuse('job_active', id) end
  end
  if group_id ~= '' then
    local seq = seq_of(newest_of(GROUP_IDS, group_id))
    local group = seq and entry(GROUPS, seq)
    if group and group[$G_UNFINISHED] > 0 then return refuse('group_active', group_id) end
  end
  local indexes, outside = {}, {}
  if has_parents then
    local refusal
    for index, id in ipairs(ids) do indexes[id] = index end
    outside, refusal = find_parents(jobs, indexes)
    if refusal then return refusal end
  end

  -- From here on it is accepted.
  changed, counted = true, true
  local group_seq = 0
  if group_id ~= '' then
    group_seq = next_seq()
    add_run(GROUP_IDS, group_id, group_seq)
    entry(GROUPS, group_seq)
    set_entry(GROUPS, group_seq, {group_id, concurrency, now, #jobs, 0, #jobs, 0})
    if concurrency > 0 then set_concurrency('g' .. group_seq, concurrency) end
  end
  local first_seq = last_seq + 1
  last_seq = last_seq + #jobs
  plan(jobs, first_seq, order, indexes, outside)
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
    heads[seq], tails[seq] = head, job.tail
    touch(seq)
    if outside_payload then set_field(PAYLOADS, seq, job.payload) end
    add_run(IDS, job.id, seq)
    count_chunk(seq, 1)
    count(job.queue, head[$STATE], 1)
    count_unfinished(seq, head, 1)
    if job.key ~= '' then set_concurrency('k' .. job.key, job.key_concurrency) end
    if job.doomed then
      cancelled[#cancelled + 1] = index - 1
      finished[#finished + 1] = job.id
      count_unfinished(seq, head, -1)
      count_group(head, -1)
      set_member(K .. 'state:' .. $CANCELLED, pack('>I7', seq), true)
      if group_seq == 0 then ended[#ended + 1] = pack('>I7I7', now, seq) end
    end
  end
  for index, job in ipairs(jobs) do
    local seq = first_seq + index - 1
    if not job.doomed then
      if #job.waits > 0 then
        for _, edge in ipairs(job.waits) do add_parent(edge[1], seq, edge[2]) end
        wait_for_parents(seq, heads[seq])
      else
        enter(seq, heads[seq])
      end
    end
  end
  return {'+', first_seq, now, cancelled}
end

ops.retry = function()
  local id = arg()
  local seq = seq_of(newest_of(IDS, id))
  local head = seq and load(seq)
  if not head then return refuse('unknown_job', id) end
  if not is_final(head[$STATE]) then return refuse('job_active', id) end
  if head[$STATE] == $SUCCESS then return refuse('job_finished', id, head[$STATE]) end
  if head[$GROUP] > 0 then
    local group = entry(GROUPS, head[$GROUP])
    if not group or group[$G_FORGOTTEN] > 0 then return refuse('unknown_job', id) end
  end
  set_state(seq, head, $PENDING)
  head[$DUE], head[$PLACE], head[$ETA], head[$TURN_AT], head[$TURN] = now, next_seq(), '', 0, 0
  head[$ATTEMPT], head[$FAILURES], head[$CRASHES], head[$FENCE], head[$CANCEL] = 0, 0, 0, 0, 0
  head[$STARTED_AT], head[$FINISHED], head[$WORKER], head[$ERROR], head[$RESULT] = 0, 0, '', '', ''
  count_unfinished(seq, head, 1)
  if head[$KEY] ~= '' then set_concurrency('k' .. head[$KEY], head[$KEY_CONCURRENCY]) end
  count_group(head, 1)
  -- Parents that have ended are not asked again; one that was set going again is waited for.
  local waits = 0
  each_parent(head, function(parent, on_failure)
    local parent_head = load(parent)
    if parent_head and not is_final(parent_head[$STATE]) then
      waits = waits + 1
      add_parent(parent, seq, on_failure)
    end
  end)
  head[$WAITS] = waits
  if waits > 0 then wait_for_parents(seq, head) else enter(seq, head) end
  return {'+', job_reply(seq, head)}
end
`;
