/** A folder with everything a server needs: a small ledger, tasks, a configuration. */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { TestContext } from 'node:test';
import { tempFolder } from './folder.ts';

export const ENTRIES = 5_000;

const TASKS = `
-- name: by_user
SELECT * FROM entries WHERE user_id = ?;

-- name: total
SELECT sum(amount) AS total, count(*) AS entries FROM entries;

-- name: all_entries
SELECT * FROM entries ORDER BY id;

-- name: count_to_gate
-- queue: gated
-- concurrency: 10
-- Runs for as long as the gate says: practically for ever, until a test lowers it.
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers, gate WHERE n < gate.size)
SELECT n FROM numbers WHERE n <= 300;

-- name: numbers
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < CAST(? AS INTEGER))
SELECT n, 'row ' || n AS label FROM numbers;

-- name: fail_midway
SELECT id, CASE WHEN id <= 1000 THEN amount ELSE json_extract('not json', '$') END AS amount FROM entries ORDER BY id;
`;

export interface Setup {
  readonly folder: string;
  readonly ledger: string;
  readonly results: string;
  readonly queue: string;
}

export interface SetupOptions {
  /** Replaces the tasks. */
  readonly tasks?: string;
  /** Lines of config.toml for [app]. */
  readonly app?: string;
}

export function setup(t: TestContext, options: SetupOptions = {}): Setup {
  const folder = tempFolder(t);
  const ledger = join(folder, 'ledger.db');
  const database = new DatabaseSync(ledger);
  // WAL, so that a query that runs does not keep the gate from being opened (for those that come after it).
  database.exec(`
    PRAGMA journal_mode = WAL;
    CREATE TABLE entries (id INTEGER PRIMARY KEY, user_id TEXT, entry_date DATE, amount INTEGER, note TEXT);
    WITH RECURSIVE ids (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM ids WHERE id < ${ENTRIES})
    INSERT INTO entries SELECT id, 'USER' || (id % 50), date('2020-01-01', '+' || (id % 365) || ' days'),
      id * 7919 % 100000 - 50000, CASE WHEN id % 7 = 0 THEN NULL ELSE 'note ' || id END FROM ids;
    CREATE TABLE gate (size INTEGER);
    INSERT INTO gate VALUES (1000000000000);
  `);
  database.close();
  mkdirSync(join(folder, 'sql'));
  writeFileSync(join(folder, 'sql', 'tasks.sql'), options.tasks ?? TASKS);
  writeFileSync(
    join(folder, 'config.toml'),
    `
[app]
log_level = "DEBUG"
${options.app ?? ''}
[db.ledger]
type = "sqlite"
dsn = "sqlite:ledger.db"
max_active = 20
[results.reports]
type = "sqlite"
dsn = "sqlite:results.db"
results_table = "results_%s"
`,
  );
  return { folder, ledger, results: join(folder, 'results.db'), queue: join(folder, 'queue.db') };
}

/** Gated queries that begin from now on end by themselves. */
export function openGate(setup: Setup): void {
  const database = new DatabaseSync(setup.ledger, { timeout: 30_000 });
  database.exec('UPDATE gate SET size = 300');
  database.close();
}

/** Rows of a query on one of the setup's files. */
export function rows(file: string, sql: string, ...args: string[]): Record<string, unknown>[] {
  const database = new DatabaseSync(file, { readOnly: true, timeout: 30_000 });
  try {
    return database.prepare(sql).all(...args);
  } finally {
    database.close();
  }
}

/** What attempts have left beside their results: staging files, staging tables, tables without a catalog row. */
export function leftovers(setup: Setup): unknown[] {
  const folder = `${setup.results}-staging`;
  const files = existsSync(folder) ? readdirSync(folder) : [];
  return [
    ...files,
    ...rows(setup.results, 'SELECT table_name FROM dungbeetle_staging'),
    ...strayTables(setup),
  ];
}

/** Tables of the results file that are neither result tables nor the catalog's own. */
export function strayTables(setup: Setup): unknown[] {
  return rows(
    setup.results,
    `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
       AND name NOT IN (SELECT table_name FROM dungbeetle_results) AND name NOT LIKE 'dungbeetle\\_%' ESCAPE '\\'`,
  );
}
