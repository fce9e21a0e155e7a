-- name: windows
SELECT 'C:\'
-- kept: to MySQL this is in the string

-- name: b
SELECT 2
