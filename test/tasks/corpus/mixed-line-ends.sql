-- name: one
SELECT 1,
2
-- name: two
SELECT 3