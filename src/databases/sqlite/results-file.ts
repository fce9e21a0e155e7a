/**
 * The results file as its writer process sees it: the connection, transactions that wait for other
 * processes, and the tables in which the backend keeps account of its own.
 */
import { statSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { DatabaseError } from '../errors.ts';
import { resultCode, SQLITE } from './failure.ts';
import { textEncoding } from './text-encoding.ts';

/**
 * How long a transaction waits for other processes, ms. Theirs are short, so this is passed only when a
 * stranger sits on the file.
 */
const BUSY_MS = 60_000;

/** Of the tables below. */
const VERSION = 1;

/**
 * The catalog holds one row per published table. Staging tables are registered with their owner before the
 * first row is in them, and trash (tables that nobody wants, on their way out) until the last one is gone;
 * `rows` and `bytes` are about how much there is in them at most, NULL where nobody knows.
 * A fence is remembered where there is no published table to tell it: begun, or dropped.
 */
const SCHEMA = `
CREATE TABLE IF NOT EXISTS dungbeetle_version (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  version INTEGER NOT NULL
);
INSERT OR IGNORE INTO dungbeetle_version VALUES (1, ${VERSION});
CREATE TABLE IF NOT EXISTS dungbeetle_results (
  job_id TEXT PRIMARY KEY,
  table_name TEXT NOT NULL UNIQUE COLLATE NOCASE,
  task TEXT NOT NULL,
  store_id TEXT NOT NULL,
  fence INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  rows INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  columns TEXT NOT NULL,
  warnings TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  settled INTEGER NOT NULL DEFAULT 0,
  seq INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS dungbeetle_results_expiry ON dungbeetle_results (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS dungbeetle_results_unsettled ON dungbeetle_results (store_id) WHERE settled = 0;
CREATE TABLE IF NOT EXISTS dungbeetle_staging (
  table_name TEXT PRIMARY KEY,
  state TEXT NOT NULL CHECK (state IN ('loading', 'trash')),
  job_id TEXT NOT NULL,
  store_id TEXT NOT NULL,
  fence INTEGER NOT NULL,
  rows INTEGER,
  bytes INTEGER,
  created_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dungbeetle_fences (
  job_id TEXT PRIMARY KEY,
  store_id TEXT NOT NULL,
  fence INTEGER NOT NULL,
  noted_at INTEGER NOT NULL
) WITHOUT ROWID;
`;

/** Whether a name is ours or SQLite's own, and never a result table's. */
export function isReserved(name: string): boolean {
  return /^(sqlite_.*|dungbeetle_(results|staging|fences|version|results_expiry|results_unsettled|staging_[0-9a-f]{16}))$/is.test(
    name,
  );
}

export class ResultsFile {
  readonly db: DatabaseSync;
  readonly #path: string;
  readonly #inode: string;
  #synchronous = '';

  /** Creates the file and its bookkeeping where they are missing. */
  static async open(path: string, database: string): Promise<ResultsFile> {
    const deadline = performance.now() + BUSY_MS;
    for (;;) {
      let db: DatabaseSync | undefined;
      try {
        db = new DatabaseSync(path, { enableForeignKeyConstraints: false });
        if (textEncoding(db) !== 'utf-8') {
          throw new DatabaseError(
            'unavailable',
            `${database}: its file keeps texts in UTF-16; results are written to files in UTF-8, so name another one`,
            { transient: false },
          );
        }
        // legacy_alter_table: a rename must not rewrite the views that people have made over result tables.
        db.exec(
          'PRAGMA journal_mode = WAL; PRAGMA legacy_alter_table = ON; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 0',
        );
        const [mode] = Object.values(db.prepare('PRAGMA journal_mode').get() ?? {});
        if (mode !== 'wal') {
          throw new DatabaseError('unavailable', `${database}: its file cannot be put into WAL mode`);
        }
        const file = new ResultsFile(db, path);
        await file.transact('FULL', () => file.#prepare(database));
        return file;
      } catch (error) {
        db?.close();
        if (!isBusy(error) || performance.now() > deadline) throw error;
        await delay(2);
      }
    }
  }

  private constructor(db: DatabaseSync, path: string) {
    this.db = db;
    this.#path = path;
    this.#inode = inodeOf(path);
  }

  #prepare(database: string): void {
    this.db.exec(SCHEMA);
    const version = this.db.prepare('SELECT version FROM dungbeetle_version').get()?.['version'];
    if (version === VERSION) return;
    throw new DatabaseError(
      'unavailable',
      `${database}: its catalog has version ${String(version)}, this program knows version ${VERSION}; upgrade the program`,
      { transient: false },
    );
  }

  /** False when the file was deleted or replaced: what is written then is seen by nobody. */
  isCurrent(): boolean {
    return inodeOf(this.#path) === this.#inode;
  }

  /**
   * Runs a transaction, and again from its beginning while another process holds the file. FULL: committed
   * means that it survives a power cut, with all that was committed before it.
   */
  async transact<T>(synchronous: 'NORMAL' | 'FULL', work: () => T): Promise<T> {
    const deadline = performance.now() + BUSY_MS;
    for (;;) {
      try {
        if (this.#synchronous !== synchronous) {
          this.db.exec(`PRAGMA synchronous = ${synchronous}`);
          this.#synchronous = synchronous;
        }
        this.db.exec('BEGIN IMMEDIATE');
        const result = work();
        this.db.exec('COMMIT');
        return result;
      } catch (error) {
        if (this.db.isTransaction) this.db.exec('ROLLBACK');
        if (!isBusy(error) || performance.now() > deadline) throw error;
        // SQLite's own waiting backs off to 100 ms, in which a stream of short transactions starves it.
        await delay(1);
      }
    }
  }

  /** Runs part of a transaction, undone by itself if it fails. */
  nested<T>(work: () => T): T {
    this.db.exec('SAVEPOINT part');
    try {
      const result = work();
      this.db.exec('RELEASE part');
      return result;
    } catch (error) {
      // A full disk rolls back the whole transaction, and the savepoint with it.
      if (this.db.isTransaction) this.db.exec('ROLLBACK TO part; RELEASE part');
      throw error;
    }
  }

  close(): void {
    this.db.close();
  }
}

function isBusy(error: unknown): boolean {
  const result = resultCode(error);
  return result === SQLITE.BUSY || result === SQLITE.LOCKED;
}

/** "" when there is no file. */
function inodeOf(path: string): string {
  const stats = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stats === undefined ? '' : `${stats.dev}:${stats.ino}`;
}
