-- name: count_for_ever
-- queue: slow
-- timeout: 10m
-- Never yields a row by itself: something to cancel.
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers)
SELECT count(*) AS total FROM numbers;

-- name: fail_midway
-- Goes wrong after 1,000 good rows, and leaves no table behind.
SELECT id, CASE WHEN id <= 1000 THEN amount ELSE json_extract('not json', '$') END AS amount
FROM entries ORDER BY id;
