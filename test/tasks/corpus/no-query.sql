-- name: a
-- name: b
-- only a comment
-- name: c
/* only a comment */ ;
-- name: d
 ;; -- nothing
-- name: e
SELECT 1
-- name: f