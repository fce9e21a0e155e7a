-- name: a
SELECT 1
-- queue: q
FROM t
-- db: x
-- conc: 2
-- name: b
SELECT 2
