/** Does the calls that are left, one after the other. */
export const DISPATCH = `
core()
while S.at < #ARGV do
  local op = F.arg()
  if not ops[op] then attempts() end
  if not ops[op] then reads() end
  if not ops[op] then changes() end
  replies[#replies + 1] = ops[op]()
end
F.flush()
`;

/** The last part of the script: tells of what has happened. */
export const END = `
replies[3] = S.last_seq
if S.readied or S.stopped or #S.finished > 0 then
  local ids = #S.finished > $TOLD and '*' or concat(S.finished, ',')
  local news = (S.readied and 'r' or '') .. (S.stopped and 'c' or '') .. ' ' .. ids
  call('PUBLISH', K .. 'news', ARGV[4] .. ' ' .. news)
  replies[4] = news
end
return replies
`;
