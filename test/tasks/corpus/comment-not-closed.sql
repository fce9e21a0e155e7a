/* A header
-- name: a
SELECT 1
