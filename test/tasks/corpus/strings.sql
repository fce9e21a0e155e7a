-- name: lines
SELECT 'first

-- name: no
  -- db: nor this
-- a comment? no

', "a
-- queue: no
", 'it''s
-- raw: 1
'
-- queue: q

-- name: semicolons
SELECT ';', 'a; b
;
-- name: no
;' AS ";";
