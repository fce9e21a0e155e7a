/** How a job leaves a state, with all that hangs on it. Whoever changes a job's state does it here. */
export const TRANSITIONS = `
local function is_final(state)
  return state >= $SUCCESS
end

-- States that people look for and that are few among many.
local function set_state(seq, head, state)
  local before = head[$STATE]
  count(head[$QUEUE], before, -1)
  count(head[$QUEUE], state, 1)
  if before == $RETRY or before >= $FAILURE then set_member(K .. 'state:' .. before, pack('>I7', seq), false) end
  if state == $RETRY or state >= $FAILURE then set_member(K .. 'state:' .. state, pack('>I7', seq), true) end
  head[$STATE] = state
  touch(seq)
end

-- Of a group.
local function count_group(head, jobs)
  local seq = head[$GROUP]
  if seq == 0 then return end
  local group = entry(GROUPS, seq)
  if not group then return end
  if group[$G_FINISHED] > 0 then set_member(K .. 'groups_ended', pack('>I7I7', group[$G_FINISHED], seq), false) end
  group[$G_UNFINISHED] = group[$G_UNFINISHED] + jobs
  group[$G_FINISHED] = 0
  if group[$G_UNFINISHED] == 0 then
    group[$G_FINISHED] = now
    set_member(K .. 'groups_ended', pack('>I7I7', now, seq), true)
  end
  set_entry(GROUPS, seq, group)
end

local function end_lease(seq, head)
  gone_leases[seq] = true
  lease_times[seq] = nil
  if head[$PROGRESS] == 1 then
    head[$PROGRESS] = 0
    set_field(PROGRESSES, seq, false)
  end
end

local function each_parent(head, visit)
  for seq, on_failure in string.gmatch(head[$PARENTS], '(%d+)(%a)') do visit(tonumber(seq), on_failure) end
end

local function end_one(seq, head, state, err, result)
  if head[$STATE] == $STARTED then
    end_lease(seq, head)
    set_state(seq, head, state)
    free_slots(seq, head)
  else
    if head[$HOLD] == $PARENT_HOLD then
      each_parent(head, function(parent) call('HDEL', K .. 'children:' .. parent, seq) end)
    end
    leave(seq, head, false)
    set_state(seq, head, state)
  end
  head[$ERROR], head[$RESULT], head[$FINISHED], head[$CRASHES], head[$WAITS] = err, result, now, 0, 0
  touch(seq)
  finished[#finished + 1] = head[$ID]
  count_unfinished(seq, head, -1)
  count_group(head, -1)
  if head[$GROUP] == 0 then ended[#ended + 1] = pack('>I7I7', now, seq) end
end

-- Ends a job that waits or runs, and cancels or releases those that waited for it, and so on.
local function finish_job(seq, head, state, err, result)
  end_one(seq, head, state, err or '', result or '')
  if head[$PARENT] == 0 then return end
  -- Not recursive: a chain may be long.
  local over = {seq}
  local done = 0
  while done < #over do
    done = done + 1
    local parent_seq = over[done]
    local parent = heads[parent_seq]
    if parent[$PARENT] == 1 then
      parent[$PARENT] = 0
      touch(parent_seq)
      local key = K .. 'children:' .. parent_seq
      local edges = call('HGETALL', key)
      if #edges > 0 then call('DEL', key) end
      for index = 1, #edges, 2 do
        local child_seq = tonumber(edges[index])
        local child = load(child_seq)
        -- It may have been cancelled by a sibling in the meantime.
        if child and child[$HOLD] == $PARENT_HOLD then
          if parent[$STATE] == $SUCCESS or edges[index + 1] == 'r' then
            child[$WAITS] = child[$WAITS] - 1
            touch(child_seq)
            if child[$WAITS] == 0 then
              set_member(K .. 'blocked:' .. child[$QUEUE], order_member(child_seq, child), false)
              enter(child_seq, child)
            end
          else
            end_one(child_seq, child, $CANCELLED, '', '')
            over[#over + 1] = child_seq
          end
        end
      end
    end
  end
end

-- A $STARTED job goes back to wait.
local function put_back(seq, head, state)
  end_lease(seq, head)
  set_state(seq, head, state)
  free_slots(seq, head)
  enter(seq, head)
end

-- Cancels a job that is not finished: at once when it waits, by request when it runs.
local function request_cancel(seq, head)
  if head[$STATE] ~= $STARTED then
    finish_job(seq, head, $CANCELLED)
  elseif head[$CANCEL] == 0 then
    head[$CANCEL] = 1
    touch(seq)
    stopped = true
  end
end
`;
