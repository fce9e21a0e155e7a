/**
 * Posting plain jobs: without a group, a limit, a key and parents, under ids that no job has. Most are, and so they
 * have a way of their own without what it takes to look at others: alone in a run, a post takes a third of the time
 * that `enqueue` takes. That does whatever is not plain, and would do these alike.
 */
export const PLAIN = `
-- Posts the jobs of the first calls, as far as they are plain, and adds to the answers.
local function post_plain(replies)
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
  local records, runs, payloads, counts, lines = {}, {}, {}, {}, {}
  local line, line_queue, line_priority
  for _, size in ipairs(sizes) do
    if posted + size >= used then break end
    replies[#replies + 1] = {'+', seq + 1, now, {}}
    for job = S.at + 5, S.at + 10 * size - 5, 10 do
      seq = seq + 1
      local id, queue, priority, payload = ARGV[job], ARGV[job + 1], ARGV[job + 5], ARGV[job + 7]
      local head = new_head(seq, id, queue, tonumber(priority), tonumber(ARGV[job + 6]), payload ~= '', '', '', 0)
      head[$HOLD] = $PLAY
      local text = tostring(seq)
      records[#records + 1] = text
      records[#records + 1] = cmsgpack.pack(head) .. ARGV[job + 8]
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
      line[#line + 1] = pack('>I7I7', head[$DUE], seq)
    end
    posted = posted + size
    S.at = S.at + 10 * size + 5
  end
  if posted == 0 then return end

  many('HSET', JOBS, records)
  many('HSET', IDS, runs)
  many('HSET', PAYLOADS, payloads)
  for key, members in pairs(lines) do
    many('ZADD', key, members)
    call('ZADD', K .. 'priorities:' .. members.queue, -members.priority, members.priority)
    call('HINCRBY', K .. 'counts', $PENDING .. members.queue, #members / 2)
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
