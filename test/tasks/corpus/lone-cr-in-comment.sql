-- name: a
SELECT * FROM t
-- all of itWHERE user_id = ?
