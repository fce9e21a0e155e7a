/** The store's file: opening, migrating, locking, and what its errors mean. */
import { DatabaseSync } from 'node:sqlite';
import { StoreUnavailable } from '../../errors.ts';
import type { ThreadOptions } from './messages.ts';
import { MIGRATIONS } from './schema.ts';

const SQLITE_BUSY = 5;
/** Between two tries for a lock. SQLite's own busy handler sleeps up to 100 ms, and the lucky overtake. */
const RETRY_LOCK_MS = 1;

export interface StoreFile {
  readonly database: DatabaseSync;
  /** Runs `work` in a transaction, waiting for the lock if it writes. Throws what `work` or SQLite threw. */
  transaction<T>(writes: boolean, work: () => T): T;
  /** Differs from the last answer if another connection has committed since; undefined: cannot be read. */
  dataVersion(): number | undefined;
  /** An error of SQLite as what users of the store understand; others unchanged. */
  explain(error: unknown): unknown;
  close(): void;
}

/** Opens or creates the file and brings its schema up to date. Throws `StoreUnavailable`. */
export function openFile({ path, busy_timeout_ms }: ThreadOptions): StoreFile {
  try {
    const file = open(path, busy_timeout_ms);
    try {
      file.database.exec('PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF');
      retryWhileBusy(busy_timeout_ms, () => file.database.exec('PRAGMA journal_mode = WAL'));
      file.database.exec('PRAGMA synchronous = FULL');
      file.transaction(true, () => migrate(file.database, path));
    } catch (error) {
      file.close();
      throw error;
    }
    return file;
  } catch (error) {
    throw explain(error, path);
  }
}

function open(path: string, busy_timeout_ms: number): StoreFile {
  const database = new DatabaseSync(path, { timeout: 0 });
  return {
    database,
    transaction(writes, work) {
      if (writes) retryWhileBusy(busy_timeout_ms, () => database.exec('BEGIN IMMEDIATE'));
      else database.exec('BEGIN');
      try {
        const value = work();
        database.exec('COMMIT');
        return value;
      } catch (error) {
        // Some errors (a full disk) have already ended the transaction.
        if (database.isTransaction) database.exec('ROLLBACK');
        throw error;
      }
    },
    dataVersion() {
      try {
        return Number(database.prepare('PRAGMA data_version').get()?.['data_version']);
      } catch (error) {
        if (isSqliteError(error)) return undefined; // the next call that matters will say what is wrong
        throw error;
      }
    },
    explain: (error) => explain(error, path),
    close: () => database.close(),
  };
}

function migrate(database: DatabaseSync, path: string): void {
  const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
  if (version > MIGRATIONS.length) {
    throw StoreUnavailable(
      `"${path}" was written by a newer version (schema ${version}; this one knows ${MIGRATIONS.length})`,
    );
  }
  const tables = database.prepare("SELECT count(*) AS count FROM sqlite_schema WHERE type = 'table'").get();
  if (version === 0 && Number(tables?.['count']) > 0) {
    throw StoreUnavailable(`"${path}" is a database of something else`);
  }
  for (const migration of MIGRATIONS.slice(version)) database.exec(migration);
  database.exec(`PRAGMA user_version = ${MIGRATIONS.length}`);
}

const clock = new Int32Array(new SharedArrayBuffer(4));

function retryWhileBusy(timeout_ms: number, action: () => void): void {
  const deadline = performance.now() + timeout_ms;
  for (;;) {
    try {
      action();
      return;
    } catch (error) {
      if (!isSqliteError(error) || (error.errcode & 0xff) !== SQLITE_BUSY || performance.now() > deadline)
        throw error;
      Atomics.wait(clock, 0, 0, RETRY_LOCK_MS);
    }
  }
}

interface SqliteError extends Error {
  readonly errcode: number;
}

function isSqliteError(error: unknown): error is SqliteError {
  return error instanceof Error && 'errcode' in error && typeof error.errcode === 'number';
}

function explain(error: unknown, path: string): unknown {
  if (!isSqliteError(error)) return error;
  return StoreUnavailable(`"${path}": ${error.message}`, error);
}
