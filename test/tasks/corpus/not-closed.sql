-- name: a
SELECT 1
-- name: b
SELECT 2,
  'oops FROM t;
-- name: c
SELECT 3
