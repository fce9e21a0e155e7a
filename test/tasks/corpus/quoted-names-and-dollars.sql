-- name: backticks
SELECT `a
-- name: no
` FROM t
-- name: dollars
SELECT $$it's
-- name: no
$$, $body$ $$
-- name: nor
$ body$ $body$, $1, a$b$c
-- name: parameters
SELECT $1 || '$$' || $2
-- name: last
SELECT 1
