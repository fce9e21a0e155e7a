-- name: a
SELECT 1
-- queue: q
FROM t
-- db: x
-- Conc: 2
  --results:r

-- raw: 1
-- name: b
SELECT 2
-- concurrency: 2
