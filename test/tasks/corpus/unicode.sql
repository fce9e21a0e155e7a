-- name: прибыль по дням
-- queue: отчёты
SELECT 'данные' AS "итог";
-- name: 💰 ünïcode/näme.2024?x=1#y%20
SELECT '💰 -- name: not a line ' AS e;
-- name: a b
-- x-note: c d
SELECT 1
