/** The last part of the script: does the calls, one after the other, and tells of what has happened. */
export const DISPATCH = `
-- The store, its time, its counter, what has happened, and then an answer for each call.
local replies = {'ok', S.clock, 0, ''}
post_plain(replies)
if S.at < #ARGV then core() end
while S.at < #ARGV do
  local op = F.arg()
  if not ops[op] then attempts() end
  if not ops[op] then reads() end
  if not ops[op] then changes() end
  replies[#replies + 1] = ops[op]()
end
if F.flush then F.flush() end
replies[3] = S.last_seq
if S.readied or S.stopped or #S.finished > 0 then
  local ids = #S.finished > $TOLD and '*' or concat(S.finished, ',')
  local news = (S.readied and 'r' or '') .. (S.stopped and 'c' or '') .. ' ' .. ids
  call('PUBLISH', K .. 'news', ARGV[4] .. ' ' .. news)
  replies[4] = news
end
return replies
`;
