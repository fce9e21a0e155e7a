-- name: standard
-- queue: q
SELECT * FROM t WHERE a LIKE '50\%' ESCAPE '\'
-- name: windows
SELECT 'C:\'
-- name: mysql
SELECT 'it\'s', "a \"b\" "
-- name: postgres
SELECT E'it\'s', E'a''b\'c', '\\'
-- name: last
SELECT 1
