-- Reports: what accounting needs
-- See: https://example.com/a:b
-- name: a
-- Note: amounts are in cents
-- todo: nothing
-- row: one for each user
-- x-: no tag
-- e.g. this: that
-- name::text is a cast and no tag
--
SELECT
  -- name::text,
  -- queue::text
  -- by date: newest first
  id -- name: not at the beginning of a line
FROM t
