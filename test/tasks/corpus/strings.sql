-- name: lines
-- queue: q
SELECT 'first

-- name: no
  -- db: nor this
-- a comment? no

', "a
-- queue: no
", 'it''s
-- raw: 1
'

-- name: semicolons
SELECT ';', 'a; b
;
-- name: no
;' AS ";";
