-- name: windows
SELECT 'C:\'
-- queue: q
-- name: b
SELECT 2
