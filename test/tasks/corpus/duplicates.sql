-- name: a
-- queue: q
-- QUEUE: q
-- x-a: 1
-- X-A: 2
SELECT 1
-- name: b
SELECT 2
-- name: a
SELECT 3
-- name: A
-- conc: 5
-- concurrency: 5
SELECT 4
-- name: c
-- conc: 5
-- concurrency: 6
SELECT 5
