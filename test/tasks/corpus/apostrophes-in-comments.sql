-- name: a
-- Don't count those that weren't paid.
SELECT 1 -- isn't it
-- wasn't it
FROM t /* don't */
-- name: b
SELECT 2 - -- can't
1
-- name: c
SELECT 3
