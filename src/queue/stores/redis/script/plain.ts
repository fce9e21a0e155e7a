/**
 * A short way for plain jobs: without a group, a limit, a key and parents or children. Most are, and a call of its own
 * that deals with these alone takes half the time here of what it takes by way of `ops`. Those do whatever is not
 * plain, and would do these alike.
 *
 * The calls at the front of a run are done so, until one is not plain. Each writes at once when it is sure to be
 * accepted, and leaves no trace when it is not for here.
 */
/** The record of one that is posted now, of locals of these names: an expression, for a function takes time to make. */
const RECORD = `cmsgpack.pack({
  $PENDING, $PLAY, tonumber(priority), due, seq, 0, 0,
  0, 0, 0, 0, 0, now, 0, 0, 0, 0, 0,
  payload ~= '' and 1 or 0, 0, 0, eta or '',
  id, queue, '', '', 0, '', '', '', '',
}) .. tail`;

const POST = `
-- Posts of jobs whose ids no job has: as many calls as there are, at once.
local function post_plain()
  -- The ids of all, and how many each call has.
  local ids, sizes, taken = {}, {}, {}
  local at = S.at + 1
  while ARGV[at] == 'enqueue' and ARGV[at + 1] == '' do
    local size, before = tonumber(ARGV[at + 3]), #ids
    for job = at + 4, at + 10 * size - 6, 10 do
      local id = ARGV[job]
      if taken[id] or ARGV[job + 2] ~= '' or ARGV[job + 3] ~= '' or ARGV[job + 9] ~= '0' then break end
      taken[id] = true
      ids[#ids + 1] = id
    end
    if #ids < before + size then break end
    sizes[#sizes + 1] = size
    at = at + 10 * size + 5
  end
  if #sizes == 0 then return end

  -- The first id that a job has had.
  local used = #ids + 1
  for first = 1, #ids, 2000 do
    for index, run in ipairs(call('HMGET', IDS, unpack(ids, first, min(first + 1999, #ids)))) do
      if run then used = min(used, first + index - 1) end
    end
  end

  local first_seq, seq, posted = S.last_seq + 1, S.last_seq, 0
  local records, runs, payloads, lines = {}, {}, {}, {}
  local line, line_queue, line_priority
  for _, size in ipairs(sizes) do
    if posted + size >= used then break end
    replies[#replies + 1] = {'+', seq + 1, now, {}}
    for job = S.at + 5, S.at + 10 * size - 5, 10 do
      seq = seq + 1
      local id, queue, priority, payload, tail = ARGV[job], ARGV[job + 1], ARGV[job + 5], ARGV[job + 7], ARGV[job + 8]
      local eta, text = tonumber(ARGV[job + 6]), tostring(seq)
      local due = eta and eta > now and eta or now
      records[#records + 1] = text
      records[#records + 1] = ${RECORD}
      runs[#runs + 1] = id
      runs[#runs + 1] = text
      if payload ~= '' then
        payloads[#payloads + 1] = text
        payloads[#payloads + 1] = payload
      end
      if queue ~= line_queue or priority ~= line_priority then
        local key = K .. 'ready:' .. priority .. ':' .. queue
        line, line_queue, line_priority = lines[key], queue, priority
        if not line then
          line = {queue = queue, priority = priority}
          lines[key] = line
        end
      end
      line[#line + 1] = 0
      line[#line + 1] = pack('>I7I7', due, seq)
    end
    posted = posted + size
    S.at = S.at + 10 * size + 5
  end
  if posted == 0 then return end

  many('HSET', JOBS, records)
  many('HSET', IDS, runs)
  many('HSET', K .. 'payloads', payloads)
  for key, members in pairs(lines) do
    many('ZADD', key, members)
    call('ZADD', K .. 'priorities:' .. members.queue, -members.priority, members.priority)
    count($PENDING .. members.queue, #members / 2)
  end
  for chunk = floor(first_seq / $CHUNK), floor(seq / $CHUNK) do
    local jobs = min(seq, chunk * $CHUNK + $CHUNK - 1) - math.max(first_seq, chunk * $CHUNK) + 1
    if call('HINCRBY', K .. 'chunks', chunk, jobs) == jobs then
      call('ZADD', K .. 'chunk_order', 0, pack('>I7', chunk))
    end
  end
  S.last_seq, S.readied = seq, true
  call('HSET', KEYS[1], 'seq', seq)
end
`;

const CLAIM = `
-- A claim of queues of which at most one has jobs.
local function claim_plain()
  local worker, expires_at, limit = ARGV[S.at + 2], now + ARGV[S.at + 3], tonumber(ARGV[S.at + 4])
  local size = tonumber(ARGV[S.at + 5])
  if size == 0 or limit > 1000 or ARGV[6] == '1' then return end
  local queue, left, priorities
  for at = S.at + 6, S.at + 4 + 2 * size, 2 do
    local found = call('ZRANGE', K .. 'priorities:' .. ARGV[at], 0, -1)
    if #found > 0 then
      if queue then return end
      queue, left, priorities = ARGV[at], min(tonumber(ARGV[at + 1]), limit), found
    end
  end
  if queue and call('HEXISTS', K .. 'paused', queue) == 1 then return end

  local jobs, records, leases, outside, lines = {}, {}, {}, {}, {}
  local next_due_at, fence = -1, S.last_fence
  local later = '[' .. pack('>I7', now + 1)
  for _, priority in ipairs(priorities or {}) do
    local key = K .. 'ready:' .. priority .. ':' .. queue
    -- One more says what comes behind them.
    local found = left > 0 and call('ZRANGEBYLEX', key, '-', '+', 'LIMIT', 0, left + 1) or {}
    local members, seqs, behind = {}, {}, left <= 0 or #found > left
    for _, member in ipairs(found) do
      local at = unpack_bytes('>I7', member)
      if at > now then
        behind = at
        break
      end
      if #members == left then break end
      members[#members + 1] = member
      seqs[#seqs + 1] = unpack_bytes('>I7', member, #member - 6)
    end
    for index, record in ipairs(#seqs > 0 and call('HMGET', JOBS, unpack(seqs)) or {}) do
      local offset, head = cmsgpack.unpack_one(record)
      if head[$STATE] ~= $PENDING or head[$SLOTS] == 1 or head[$LIMIT] ~= '' or head[$KEY] ~= '' then return end
      fence = fence < clock_us and clock_us or fence + 1
      head[$HOLD], head[$STATE], head[$ATTEMPT] = $NONE, $STARTED, head[$ATTEMPT] + 1
      head[$FENCE], head[$WORKER], head[$STARTED_AT] = fence, worker, now
      local seq, started = seqs[index], cmsgpack.pack(head) .. string.sub(record, offset + 1)
      local job = {seq, started, '', ''}
      jobs[#jobs + 1] = job
      if head[$OUTSIDE] == 1 then outside[#outside + 1] = job end
      records[#records + 1] = seq
      records[#records + 1] = started
      leases[#leases + 1] = expires_at
      leases[#leases + 1] = seq
    end
    left = left - #seqs
    if behind == true then
      local first = call('ZRANGEBYLEX', key, later, '+', 'LIMIT', 0, 1)[1]
      behind = first and unpack_bytes('>I7', first) or call('ZCARD', key) > #members
    end
    if behind and behind ~= true and (next_due_at < 0 or behind < next_due_at) then next_due_at = behind end
    lines[#lines + 1] = {key, members, not behind and priority}
  end

  -- The first write is one that Redis allows when its memory is full: see CONTEXT.
  for _, line in ipairs(lines) do
    many('ZREM', line[1], line[2])
    if line[3] then call('ZREM', K .. 'priorities:' .. queue, line[3]) end
  end
  if #jobs > 0 then
    many('HSET', JOBS, records)
    many('ZADD', K .. 'leases', leases)
    for _, job in ipairs(outside) do job[3] = call('HGET', K .. 'payloads', job[1]) end
    count($PENDING .. queue, -#jobs)
    count($STARTED .. queue, #jobs)
    call('HSET', KEYS[1], 'fence', fence)
    S.last_fence = fence
  end
  replies[#replies + 1] = {'+', jobs, next_due_at}
  S.at = S.at + 5 + 2 * size
end
`;

const FINISH = `
-- Successes of jobs that still hold their leases and that nobody has asked to cancel.
local function finish_plain()
  local size, first = tonumber(ARGV[S.at + 2]), S.at + 3
  if size > 1000 then return end
  local ids, taken = {}, {}
  for lease = first, first + 6 * size - 6, 6 do
    local id = ARGV[lease]
    if taken[id] or ARGV[lease + 3] ~= '$SUCCESS' then return end
    taken[id] = true
    ids[#ids + 1] = id
  end
  local seqs = call('HMGET', IDS, unpack(ids))
  for _, seq in ipairs(seqs) do
    if not seq or string.byte(seq, -1) == 42 then return end
  end
  local states, records, progress, ended, counts = {}, {}, {}, {}, {}
  for index, record in ipairs(call('HMGET', JOBS, unpack(seqs))) do
    if not record then return end
    local offset, head = cmsgpack.unpack_one(record)
    local lease, seq, queue = first + 6 * index - 6, seqs[index], head[$QUEUE]
    if head[$STATE] ~= $STARTED or head[$ATTEMPT] ~= tonumber(ARGV[lease + 1]) or head[$FENCE] ~= tonumber(ARGV[lease + 2])
      or head[$CANCEL] == 1 or head[$PARENT] == 1 or head[$GROUP] > 0 or head[$LIMIT] ~= '' or head[$KEY] ~= '' then return end
    head[$STATE], head[$ERROR], head[$RESULT] = $SUCCESS, '', ARGV[lease + 4]
    head[$FINISHED], head[$CRASHES], head[$WAITS] = now, 0, 0
    if head[$PROGRESS] == 1 then
      head[$PROGRESS] = 0
      progress[#progress + 1] = seq
    end
    records[#records + 1] = seq
    records[#records + 1] = cmsgpack.pack(head) .. string.sub(record, offset + 1)
    ended[index] = pack('>I7I7', now, tonumber(seq))
    counts[queue] = (counts[queue] or 0) + 1
    states[index] = $SUCCESS
  end

  -- The first write is one that Redis allows when its memory is full: see CONTEXT.
  many('ZREM', K .. 'leases', seqs)
  many('HSET', JOBS, records)
  many('HDEL', K .. 'progress', progress)
  many('RPUSH', K .. 'ended', ended)
  for queue, jobs in pairs(counts) do
    count($STARTED .. queue, -jobs)
    count($SUCCESS .. queue, jobs)
  end
  for index, id in ipairs(ids) do S.finished[#S.finished + 1] = id end
  replies[#replies + 1] = {'+', states}
  S.at = S.at + 2 + 6 * size
end
`;

/** A post of one job, alone in its run: what is known of its arguments is where they are. */
export const POST_ONE = `
if #ARGV == 21 and ARGV[7] == 'enqueue' and ARGV[8] == '' and ARGV[10] == '1' and ARGV[13] == '' and ARGV[14] == '' then
  local id, queue, priority, payload, tail = ARGV[11], ARGV[12], ARGV[16], ARGV[18], ARGV[19]
  local seq, eta = S.last_seq + 1, tonumber(ARGV[17])
  local text = tostring(seq)
  if payload == '' and call('HSETNX', IDS, id, text) == 1 then
    local due, chunk = eta and eta > now and eta or now, floor(seq / $CHUNK)
    call('HSET', JOBS, text, ${RECORD})
    call('ZADD', K .. 'ready:' .. priority .. ':' .. queue, '0', pack('>I7I7', due, seq))
    call('ZADD', K .. 'priorities:' .. queue, -priority, priority)
    call('HINCRBY', K .. 'counts', '$PENDING' .. queue, '1')
    if call('HINCRBY', K .. 'chunks', chunk, '1') == 1 then call('ZADD', K .. 'chunk_order', '0', pack('>I7', chunk)) end
    call('HSET', KEYS[1], 'seq', text)
    S.last_seq, S.readied, S.at = seq, true, 21
    replies[5] = {'+', seq, now, {}}
  end
end
`;

/** Calls from the front, until one is not plain. */
export const PLAIN = `
local before
while S.at ~= before and S.at < #ARGV do
  before = S.at
  local op = ARGV[before + 1]
  if op == 'enqueue' then
    ${POST}
    post_plain()
  elseif op == 'claim' then
    ${CLAIM}
    claim_plain()
  elseif op == 'finish' then
    ${FINISH}
    finish_plain()
  end
end
`;
