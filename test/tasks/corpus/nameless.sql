-- name:
SELECT 1
-- name:   
SELECT 2
-- name: tab	here
SELECT 3
