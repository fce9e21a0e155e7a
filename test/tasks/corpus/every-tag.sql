-- name: all
-- db: ledger, archive ,ledger
-- results: r1
-- queue: monthly
-- raw: yes
-- concurrency: 3
-- timeout: 1h30m
-- ttl: 2h
-- max_rows: 1_000_000
-- max_bytes: 1GiB
-- max_value_bytes: 100kB
-- priority: -5
-- x-owner: finance: accounts
-- x-empty:
SELECT 1

-- name: short
-- conc: 3
-- queue: monthly
-- timeout: 2.5s
-- ttl: 3600
-- max_bytes: 10 mb
-- priority: +7
-- raw: 0
SELECT 2
