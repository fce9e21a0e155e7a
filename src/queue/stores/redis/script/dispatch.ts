/** The last part of the script: does the calls, one after the other, and tells of what has happened. */
export const DISPATCH = `
-- The store, its time, its counter, what has happened, and then an answer for each call.
local replies = {'ok', clock, 0, ''}
while at < #ARGV do
  replies[#replies + 1] = ops[arg()]()
end
flush()
replies[3] = last_seq
if readied or stopped or #finished > 0 then
  local ids = #finished > $TOLD and '*' or concat(finished, ',')
  local news = (readied and 'r' or '') .. (stopped and 'c' or '') .. ' ' .. ids
  call('PUBLISH', K .. 'news', ARGV[4] .. ' ' .. news)
  replies[4] = news
end
return replies
`;
