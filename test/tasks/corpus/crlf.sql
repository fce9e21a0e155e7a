-- name: one
-- db: a

SELECT *
  FROM t; -- done

-- name: two
SELECT 'a

b'
