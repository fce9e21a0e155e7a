-- Reports over the ledger: entries(id, user_id, entry_date, timestamp, amount, note), amounts in cents.

-- name: get_profit_summary
SELECT SUM(amount) AS total, entry_date FROM entries WHERE user_id = ? GROUP BY entry_date;

-- name: get_profit_entries
-- db: ledger
-- queue: entries
-- results: reports
-- concurrency: 5
SELECT * FROM entries WHERE user_id = ?;

-- name: get_profit_entries_by_date
SELECT * FROM entries WHERE user_id = ? AND timestamp > ? AND timestamp < ?;

-- name: get_all_entries
-- A million rows: long enough to watch it run.
SELECT * FROM entries;
