/** How a job leaves a state, with all that hangs on it. Whoever changes a job's state does it here. */
export const TRANSITIONS = `
function F.is_final(state)
  return state >= $SUCCESS
end

-- States that people look for and that are few among many.
function F.set_state(seq, head, state)
  local before = head[$STATE]
  F.count(head[$QUEUE], before, -1)
  F.count(head[$QUEUE], state, 1)
  if before == $RETRY or before >= $FAILURE then F.set_member(K .. 'state:' .. before, pack('>I7', seq), false) end
  if state == $RETRY or state >= $FAILURE then F.set_member(K .. 'state:' .. state, pack('>I7', seq), true) end
  head[$STATE] = state
  F.touch(seq)
end

-- Of a group.
function F.count_group(head, jobs)
  local seq = head[$GROUP]
  if seq == 0 then return end
  local group = F.entry(GROUPS, seq)
  if not group then return end
  if group[$G_FINISHED] > 0 then F.set_member(K .. 'groups_ended', pack('>I7I7', group[$G_FINISHED], seq), false) end
  group[$G_UNFINISHED] = group[$G_UNFINISHED] + jobs
  group[$G_FINISHED] = 0
  if group[$G_UNFINISHED] == 0 then
    group[$G_FINISHED] = now
    F.set_member(K .. 'groups_ended', pack('>I7I7', now, seq), true)
  end
  F.set_entry(GROUPS, seq, group)
end

function F.end_lease(seq, head)
  S.gone_leases[seq] = true
  S.lease_times[seq] = nil
  if head[$PROGRESS] == 1 then
    head[$PROGRESS] = 0
    F.set_field(PROGRESSES, seq, false)
  end
end

function F.each_parent(head, visit)
  for seq, on_failure in string.gmatch(head[$PARENTS], '(%d+)(%a)') do visit(tonumber(seq), on_failure) end
end

function F.end_one(seq, head, state, err, result)
  if head[$STATE] == $STARTED then
    F.end_lease(seq, head)
    F.set_state(seq, head, state)
    F.free_slots(seq, head)
  else
    if head[$HOLD] == $PARENT_HOLD then
      F.each_parent(head, function(parent) call('HDEL', K .. 'children:' .. parent, seq) end)
    end
    F.leave(seq, head, false)
    F.set_state(seq, head, state)
  end
  head[$ERROR], head[$RESULT], head[$FINISHED], head[$CRASHES], head[$WAITS] = err, result, now, 0, 0
  F.touch(seq)
  S.finished[#S.finished + 1] = head[$ID]
  F.count_unfinished(seq, head, -1)
  F.count_group(head, -1)
  if head[$GROUP] == 0 then S.ended[#S.ended + 1] = pack('>I7I7', now, seq) end
end

-- Ends a job that waits or runs, and cancels or releases those that waited for it, and so on.
function F.finish_job(seq, head, state, err, result)
  F.end_one(seq, head, state, err or '', result or '')
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
      F.touch(parent_seq)
      local key = K .. 'children:' .. parent_seq
      local edges = call('HGETALL', key)
      if #edges > 0 then call('DEL', key) end
      for index = 1, #edges, 2 do
        local child_seq = tonumber(edges[index])
        local child = F.load(child_seq)
        -- It may have been cancelled by a sibling in the meantime.
        if child and child[$HOLD] == $PARENT_HOLD then
          if parent[$STATE] == $SUCCESS or edges[index + 1] == 'r' then
            child[$WAITS] = child[$WAITS] - 1
            F.touch(child_seq)
            if child[$WAITS] == 0 then
              F.set_member(K .. 'blocked:' .. child[$QUEUE], F.order_member(child_seq, child), false)
              F.enter(child_seq, child)
            end
          else
            F.end_one(child_seq, child, $CANCELLED, '', '')
            over[#over + 1] = child_seq
          end
        end
      end
    end
  end
end

-- A $STARTED job goes back to wait.
function F.put_back(seq, head, state)
  F.end_lease(seq, head)
  F.set_state(seq, head, state)
  F.free_slots(seq, head)
  F.enter(seq, head)
end

-- Cancels a job that is not finished: at once when it waits, by request when it runs.
function F.request_cancel(seq, head)
  if head[$STATE] ~= $STARTED then
    F.finish_job(seq, head, $CANCELLED)
  elseif head[$CANCEL] == 0 then
    head[$CANCEL] = 1
    F.touch(seq)
    S.stopped = true
  end
end
`;
