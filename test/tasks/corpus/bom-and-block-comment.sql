/* The header. */
-- name: a
SELECT 1
