/**
 * The first part of the script that every call of the Redis store runs: the keys, the time, the records.
 *
 * What is written is collected and goes to Redis at the end (`flush`), in as few commands as there are kinds of
 * things: a call that is refused, or a script that fails on its way, has then written nothing. The exceptions are
 * the lanes (see slots.ts), which are written and read again within a call, once it is sure to be accepted, and
 * calls that deal with plain jobs (see plain.ts).
 *
 * Keys, all after the same hash tag. Members of sorted sets are integers of fixed width, big end first, with one
 * score for all, so that their order is that of their bytes: a score holds 53 bits, and the order takes more.
 *
 *     store                       hash    id, version, seq (jobs, groups, places), fence
 *     jobs                        hash    seq → record: the head (MessagePack, see HEAD), then what never changes (JSON)
 *     payloads                    hash    seq → payload of a job, if it is too big to be written with each change
 *     progress                    hash    seq → what the attempt last reported (JSON)
 *     ids                         hash    job id → seq of its newest run, "*" behind it if there are others
 *     runs:ID                     set     seqs of the other runs of an id
 *     chunks, chunk_order         hash, sorted set    how many jobs each CHUNK of seqs has; those that have any
 *     priorities:QUEUE            sorted set    priorities in use, highest first
 *     ready:PRIORITY:QUEUE        sorted set    jobs in play (see slots.ts), in turn
 *     behind:QUEUE, blocked:QUEUE sorted set    jobs that wait for a slot, for parents, in order
 *     state:N                     sorted set    seqs of the jobs in a state that is rare
 *     leases                      sorted set    seqs of running jobs by when their leases expire
 *     ended                       list    jobs without a group in the order in which they ended
 *     children:SEQ                hash    seq of a child that waits for this job → what its failure does
 *     groups, group_ids, group_runs:ID, groups_ended    as for jobs
 *     pools, lanes, lane:LANE, held:POOL:QUEUE, held_queues:POOL    see slots.ts
 *     counts                      hash    state and queue → jobs
 *     paused                      hash    paused queues
 */

export const TOP = `
local call, floor, min, concat = redis.call, math.floor, math.min, table.concat
local pack, unpack_bytes = struct.pack, struct.unpack

local K = string.sub(KEYS[1], 1, -6)
local JOBS, IDS = K .. 'jobs', K .. 'ids'

local time = call('TIME')
local clock_us = time[1] * 1000000 + time[2]
local clock = floor(clock_us / 1000)
if ARGV[3] ~= '' and clock > tonumber(ARGV[3]) then return {'late', clock} end
local now = clock + tonumber(ARGV[2])

local kept = call('HMGET', KEYS[1], 'id', 'seq', 'fence')
if kept[1] ~= ARGV[1] then return {'other', clock, kept[1] or ''} end

-- What the functions of the script share.
local S = {
  last_seq = tonumber(kept[2]), last_fence = tonumber(kept[3]),
  -- Arguments are read one after the other: this is the last that was read.
  at = 6,
  -- What others may want to know of.
  readied = false, stopped = false, finished = {},
}

-- The store, its time, its counter, what has happened, and then an answer for each call.
local replies = {'ok', clock, 0, ''}
`;

/** For whatever is more than a post of one job. */
export const HELPERS = `
local function many(command, key, args)
  for first = 1, #args, 2000 do
    call(command, key, unpack(args, first, min(first + 1999, #args)))
  end
end

-- By state and queue.
local function count(key, jobs)
  if call('HINCRBY', K .. 'counts', key, jobs) == 0 then call('HDEL', K .. 'counts', key) end
end
`;

/** What is for calls that are not plain. */
export const NAMES = `
local PAYLOADS, PROGRESSES, LEASES = K .. 'payloads', K .. 'progress', K .. 'leases'
local POOLS, LANES = K .. 'pools', K .. 'lanes'
local GROUPS, GROUP_IDS = K .. 'groups', K .. 'group_ids'

-- The functions of the script. All in a table: at each call, a function is made anew, and that costs time for each
-- local of ours that it uses.
local F = {}

-- Heads of records by seq: false where there is none. And what can be called.
local heads, ops = {}, {}
`;

export const CONTEXT = `
function F.arg()
  S.at = S.at + 1
  return ARGV[S.at]
end
function F.number()
  S.at = S.at + 1
  return tonumber(ARGV[S.at])
end

-- Redis refuses the first write of a script when its memory is full, unless that write is of a kind that needs
-- none: so this one, of nothing, comes first where jobs are worked off.
if ARGV[5] == 'always' then call('DEL', K .. 'none') end

-- WAIT waits for what its connection has written last. A call that finds what it wanted already done must not be
-- answered before replicas have that: so it writes, too.
S.changed = ARGV[6] == '1'
S.counted = S.changed
function F.next_seq()
  S.changed, S.counted = true, true
  S.last_seq = S.last_seq + 1
  return S.last_seq
end
-- Later than any that was ever given out, also if a failover has lost the last ones: time has gone on since.
function F.next_fence()
  S.changed, S.counted = true, true
  S.last_fence = S.last_fence < clock_us and clock_us or S.last_fence + 1
  return S.last_fence
end

-- 'records' are as stored, where that is known.
S.tails, S.records, S.dirty = {}, {}, {}
function F.decode(seq, record)
  local offset, head = cmsgpack.unpack_one(record)
  heads[seq], S.tails[seq], S.records[seq] = head, string.sub(record, offset + 1), record
end
function F.load_all(seqs)
  local missing = {}
  for _, seq in ipairs(seqs) do
    if heads[seq] == nil then missing[#missing + 1] = seq end
  end
  for first = 1, #missing, 2000 do
    local last = min(first + 1999, #missing)
    local found = call('HMGET', JOBS, unpack(missing, first, last))
    for index = first, last do
      local record = found[index - first + 1]
      if record then F.decode(missing[index], record) else heads[missing[index]] = false end
    end
  end
end
function F.load(seq)
  local head = heads[seq]
  if head == nil then
    local record = call('HGET', JOBS, seq)
    if record then F.decode(seq, record) else heads[seq] = false end
    head = heads[seq]
  end
  return head
end
function F.touch(seq)
  S.changed = true
  S.dirty[seq] = true
  S.records[seq] = nil
end
function F.record_of(seq)
  local record = S.records[seq]
  if not record then
    record = cmsgpack.pack(heads[seq]) .. S.tails[seq]
    S.records[seq] = record
  end
  return record
end

-- Hashes whose fields are decoded once: pools, lanes, groups. False: there is none.
S.kinds = {}
function F.entry(hash, field)
  local entries = S.kinds[hash]
  if not entries then
    entries = {values = {}, touched = {}}
    S.kinds[hash] = entries
  end
  local value = entries.values[field]
  if value == nil then
    local stored = call('HGET', hash, field)
    value = stored and cmsgpack.unpack(stored) or false
    entries.values[field] = value
  end
  return value
end
-- To be called after 'entry' of the same field.
function F.set_entry(hash, field, value)
  local entries = S.kinds[hash]
  S.changed = true
  entries.values[field] = value
  entries.touched[field] = true
end

-- Plain fields of hashes, written at the end: false removes.
S.fields = {}
function F.set_field(hash, field, value)
  local set = S.fields[hash]
  if not set then
    set = {}
    S.fields[hash] = set
  end
  S.changed = true
  set[field] = value
end
-- The newest run of an id, with "*" behind it if there are others: of jobs ('ids') and groups ('group_ids').
S.newest = {[IDS] = {}, [GROUP_IDS] = {}}
function F.newest_of(hash, id)
  local run = S.newest[hash][id]
  if run == nil then
    run = call('HGET', hash, id)
    S.newest[hash][id] = run
  end
  return run
end
function F.load_newest(ids)
  for first = 1, #ids, 2000 do
    local last = min(first + 1999, #ids)
    local runs = call('HMGET', IDS, unpack(ids, first, last))
    for index = first, last do
      if S.newest[IDS][ids[index]] == nil then S.newest[IDS][ids[index]] = runs[index - first + 1] end
    end
  end
end
function F.set_newest(hash, id, run)
  S.newest[hash][id] = run
  F.set_field(hash, id, run)
end
function F.seq_of(run)
  if not run then return nil, false end
  if string.byte(run, -1) == 42 then return tonumber(string.sub(run, 1, -2)), true end
  return tonumber(run), false
end
function F.others_key(hash, id)
  return K .. (hash == IDS and 'runs:' or 'group_runs:') .. id
end
function F.add_run(hash, id, seq)
  local before = F.seq_of(F.newest_of(hash, id))
  if before then call('SADD', F.others_key(hash, id), before) end
  F.set_newest(hash, id, seq .. (before and '*' or ''))
end
function F.runs_of(hash, id)
  local seq, more = F.seq_of(F.newest_of(hash, id))
  local seqs = {}
  if more then
    for _, other in ipairs(call('SMEMBERS', F.others_key(hash, id))) do seqs[#seqs + 1] = tonumber(other) end
    table.sort(seqs)
  end
  seqs[#seqs + 1] = seq
  return seqs
end
function F.forget_run(hash, id, seq)
  local newest_seq, more = F.seq_of(F.newest_of(hash, id))
  if not more then
    if newest_seq == seq then F.set_newest(hash, id, false) end
    return
  end
  local key = F.others_key(hash, id)
  if newest_seq == seq then
    local seqs = F.runs_of(hash, id)
    newest_seq = seqs[#seqs - 1]
    seq = newest_seq
  end
  call('SREM', key, seq)
  F.set_newest(hash, id, newest_seq .. (call('EXISTS', key) == 1 and '*' or ''))
end

-- Members of sorted sets: true adds, false removes.
S.members = {}
function F.set_member(key, member, present)
  local set = S.members[key]
  if not set then
    set = {}
    S.members[key] = set
  end
  S.changed = true
  set[member] = present
end
S.lease_times, S.gone_leases, S.ended = {}, {}, {}

S.counts, S.chunk_counts = {}, {}
function F.count(queue, state, jobs)
  local key = state .. queue
  S.counts[key] = (S.counts[key] or 0) + jobs
end
function F.count_chunk(seq, jobs)
  local chunk = floor(seq / $CHUNK)
  S.chunk_counts[chunk] = (S.chunk_counts[chunk] or 0) + jobs
end

function F.ready_key(queue, priority)
  return K .. 'ready:' .. priority .. ':' .. queue
end
function F.ready_member(seq, head)
  if head[$TURN] > 0 then
    return pack('>I7I7I7I7I7', head[$TURN_AT], head[$TURN], head[$DUE], head[$PLACE], seq)
  end
  if head[$PLACE] == seq then return pack('>I7I7', head[$DUE], seq) end
  return pack('>I7I7I7', head[$DUE], head[$PLACE], seq)
end
-- Every member ends with the seq.
function F.member_seq(member)
  return (unpack_bytes('>I7', member, #member - 6))
end
-- In order of priority, due time, place.
function F.order_member(seq, head)
  return pack('>I4I7I7I7', $HIGHEST_PRIORITY - head[$PRIORITY], head[$DUE], head[$PLACE], seq)
end
-- Priorities whose jobs in play have become more, by the key of these.
S.played = {}
-- Those that may have none any more.
S.left = {}
function F.set_ready(seq, head, present)
  local queue, priority = head[$QUEUE], head[$PRIORITY]
  local key = F.ready_key(queue, priority)
  F.set_member(key, F.ready_member(seq, head), present)
  if present then S.played[key] = head else S.left[key] = head end
end

function F.delete_record(seq, head)
  if head[$OUTSIDE] == 1 then F.set_field(PAYLOADS, seq, false) end
  F.set_field(JOBS, seq, false)
  S.dirty[seq] = nil
  heads[seq] = false
  F.count_chunk(seq, -1)
end

function F.flush_hash(hash, set)
  local sets, gone = {}, {}
  for field, value in pairs(set) do
    if value then
      sets[#sets + 1] = field
      sets[#sets + 1] = value
    else
      gone[#gone + 1] = field
    end
  end
  many('HDEL', hash, gone)
  many('HSET', hash, sets)
end

function F.flush_members(key)
  local added, removed = {}, {}
  for member, present in pairs(S.members[key] or {}) do
    if present then
      added[#added + 1] = 0
      added[#added + 1] = member
    else
      removed[#removed + 1] = member
    end
  end
  S.members[key] = nil
  many('ZREM', key, removed)
  many('ZADD', key, added)
end

function F.flush()
  if not S.changed then return end
  local writes = {}
  for seq in pairs(S.dirty) do
    writes[#writes + 1] = seq
    writes[#writes + 1] = F.record_of(seq)
  end
  many('HSET', JOBS, writes)
  for hash, set in pairs(S.fields) do F.flush_hash(hash, set) end
  for hash, entries in pairs(S.kinds) do
    local set, any = {}, false
    for field in pairs(entries.touched) do
      local value = entries.values[field]
      set[field] = value and cmsgpack.pack(value)
      any = true
    end
    if any then F.flush_hash(hash, set) end
    entries.touched = {}
  end
  for key in pairs(S.members) do F.flush_members(key) end
  for _, head in pairs(S.played) do
    call('ZADD', K .. 'priorities:' .. head[$QUEUE], -head[$PRIORITY], head[$PRIORITY])
  end
  for key, head in pairs(S.left) do
    if call('EXISTS', key) == 0 then call('ZREM', K .. 'priorities:' .. head[$QUEUE], head[$PRIORITY]) end
  end
  local gone, added = {}, {}
  for seq in pairs(S.gone_leases) do gone[#gone + 1] = seq end
  for seq, expires_at in pairs(S.lease_times) do
    added[#added + 1] = expires_at
    added[#added + 1] = seq
  end
  many('ZREM', LEASES, gone)
  many('ZADD', LEASES, added)
  many('RPUSH', K .. 'ended', S.ended)
  for key, jobs in pairs(S.counts) do
    if jobs ~= 0 then count(key, jobs) end
  end
  for chunk, jobs in pairs(S.chunk_counts) do
    if jobs ~= 0 then
      local left = call('HINCRBY', K .. 'chunks', chunk, jobs)
      if left == 0 then
        call('HDEL', K .. 'chunks', chunk)
        call('ZREM', K .. 'chunk_order', pack('>I7', chunk))
      elseif left == jobs then
        call('ZADD', K .. 'chunk_order', 0, pack('>I7', chunk))
      end
    end
  end
  if S.counted then call('HSET', KEYS[1], 'seq', S.last_seq, 'fence', S.last_fence) end
  S.changed, S.counted = false, false
  S.dirty, S.fields, S.members, S.played, S.left, S.lease_times, S.gone_leases, S.ended, S.counts, S.chunk_counts = {}, {}, {}, {}, {}, {}, {}, {}, {}, {}
end
`;
