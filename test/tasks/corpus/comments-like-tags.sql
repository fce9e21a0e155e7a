-- name: a
-- priority: 3
SELECT 1
-- timeout: 5s, said the user
--Max_Rows:7
FROM t -- priority: 1
-- ttl: 60
-- x-owner: nobody's, here
-- name: b
SELECT 2
