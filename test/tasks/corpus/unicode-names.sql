-- name: прибыль по дням
-- queue: отчёты
SELECT 'данные' AS "итог";
-- name: 💰 ünïcode/näme.2024?x=1#y%20
-- x-note: c d
SELECT '💰 -- name: not a line ' AS e;
-- name: __proto__
SELECT 1
-- name: constructor
SELECT 2
