/* The reports of accounting:
-- name: old
   SELECT 1; don't use it
*/
-- name: a
SELECT 1
