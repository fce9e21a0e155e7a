-- name: one
-- db: a
SELECT 1
FROM t
