/** Makes the demo's ledger: a SQLite file with the same entries every time. */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

const CHUNK = 20_000;

const SCHEMA = `
  PRAGMA journal_mode = OFF;
  PRAGMA synchronous = OFF;
  CREATE TABLE entries (
    id         INTEGER PRIMARY KEY,
    user_id    TEXT NOT NULL,
    entry_date DATE NOT NULL,
    timestamp  TIMESTAMP NOT NULL,
    amount     INTEGER NOT NULL, -- in cents, so that no sum is rounded
    note       TEXT
  );
`;

// 1,000 users over ten years; the multiplications only spread the values about.
const ENTRIES = `
  INSERT INTO entries
  WITH RECURSIVE ids (id) AS (SELECT ?1 UNION ALL SELECT id + 1 FROM ids WHERE id < ?2)
  SELECT
    id,
    'USER' || (id * 7919 % 1000 + 1),
    date('2016-01-01', '+' || (id * 104729 % 3653) || ' days'),
    datetime('2016-01-01', '+' || (id * 104729 % 3653) || ' days', '+' || (id * 15485863 % 86400) || ' seconds'),
    id * 32452843 % 2000001 - 1000000,
    CASE WHEN id % 10 = 0 THEN NULL ELSE 'entry ' || id END
  FROM ids
`;

/** Makes the file at `path` with `count` entries, unless it is there. Reports progress in [0, 1]. */
export function makeLedger(path: string, count: number, onProgress: (done: number) => void): boolean {
  if (existsSync(path)) return false;
  mkdirSync(dirname(path), { recursive: true });
  // Under another name until it is whole, so that an interrupted run does not leave half a ledger.
  const unfinished = `${path}.unfinished`;
  rmSync(unfinished, { force: true });
  const database = new DatabaseSync(unfinished);
  try {
    database.exec(SCHEMA);
    const insert = database.prepare(ENTRIES);
    for (let first = 1; first <= count; first += CHUNK) {
      const last = Math.min(first + CHUNK - 1, count);
      // As BigInt: a number would be bound as a REAL, and "USER" || 1.0 is not "USER1".
      insert.run(BigInt(first), BigInt(last));
      onProgress((0.9 * last) / count);
    }
    database.exec('CREATE INDEX entries_by_user ON entries (user_id, timestamp)');
  } finally {
    database.close();
  }
  renameSync(unfinished, path);
  onProgress(1);
  return true;
}
