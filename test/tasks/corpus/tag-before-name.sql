-- queue: q
-- name: a
SELECT 2
