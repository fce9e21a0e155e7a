-- name: hash
SELECT 1 # it's MySQL
-- name: json
SELECT data #>> '{a}' FROM t
-- name: nested
SELECT 1 /* a /* b */ c */
-- name: brackets
SELECT [it's] FROM t
-- name: arrays
SELECT ARRAY['a', 'b'], x[1]
-- name: minus_minus
SELECT 5
--1
-- name: last
SELECT 1
