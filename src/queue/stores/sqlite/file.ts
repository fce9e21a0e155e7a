/** The store's file: opening, migrating, locking, and what its errors mean. */
import { closeSync, openSync, statSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { pathToFileURL } from 'node:url';
import { QueueError, StoreUnavailable } from '../../errors.ts';
import { APPLICATION_ID, MIGRATIONS } from './schema.ts';
import { Session } from './session.ts';
import { SQL } from './statements.ts';

/** Primary result codes, https://www.sqlite.org/rescode.html */
const BUSY = 5;
const FULL = 13;
const REASONS: Readonly<Record<number, string>> = {
  3: 'the file may not be opened (permissions)',
  5: 'another process has kept it locked',
  7: 'there is no memory left',
  8: 'the file or its disk is read-only',
  10: 'the disk failed to read or write',
  11: 'the file is damaged',
  13: 'the disk is full',
  14: 'the file cannot be opened: is its folder there, and writable?',
  15: 'another process has kept it locked',
  23: 'the file may not be opened (permissions)',
  26: 'the file is not a SQLite database',
};

/**
 * Between two tries for a lock, ms. SQLite's own busy handler sleeps up to 100 ms, and so the busiest process
 * wins; like this all have the same chance.
 */
const LOCK_RETRY_MS = 0.5;
/**
 * Pages in -wal before they are copied to the file: four times SQLite's default, since ids are random and a page
 * of their index that is changed often is then copied once.
 */
const CHECKPOINT_PAGES = 4_000;
/** -wal beyond this size is cut when it is written anew. */
const WAL_BYTES = 64 * 1024 * 1024;

export class StoreFile {
  readonly #path: string;
  readonly #busy_timeout_ms: number;
  #open:
    | { readonly database: DatabaseSync; readonly session: Session; readonly inode: string | null }
    | undefined;
  #store_id: string | undefined;

  /**
   * Opens or creates the file and brings its schema up to date; one of a known store is only opened. Throws
   * `StoreUnavailable`.
   */
  constructor(path: string, busy_timeout_ms: number, store_id?: string) {
    this.#path = path;
    this.#busy_timeout_ms = busy_timeout_ms;
    this.#store_id = store_id;
    this.#retryWhileBusy(() => this.#reopen());
  }

  get isFile(): boolean {
    return this.#path !== ':memory:';
  }

  get store_id(): string {
    if (this.#store_id === undefined) throw new Error('the file was never opened');
    return this.#store_id;
  }

  /**
   * Runs `work` in a transaction and commits it. Waits for other processes' locks. When it throws nothing was
   * changed; what SQLite had to say of the file is then a `StoreUnavailable`.
   */
  transaction<T>(mode: 'read' | 'write', work: (session: Session) => T): T {
    return this.#retryWhileBusy(() => {
      const { database, session } = this.#current();
      session.run(mode === 'write' ? 'BEGIN IMMEDIATE' : 'BEGIN');
      try {
        const value = work(session);
        session.run('COMMIT');
        return value;
      } catch (error) {
        // Some errors (a full disk) have already ended the transaction.
        if (database.isTransaction) session.run('ROLLBACK');
        throw error;
      }
    });
  }

  close(): void {
    const open = this.#open;
    this.#open = undefined;
    open?.database.close();
  }

  /** The open file. One that had failed is opened again. */
  #current() {
    const open = this.#open;
    if (open !== undefined && (open.inode === null || open.inode === inodeOf(this.#path))) return open;
    // What is written to a file that was deleted or replaced is lost with it, and SQLite does not notice.
    this.close();
    return this.#reopen();
  }

  #reopen() {
    // A store that was there is not made anew: that would hide its loss.
    const mode = this.#store_id === undefined ? 'rwc' : 'rw';
    if (this.isFile && mode === 'rwc') makePrivate(this.#path);
    const database = new DatabaseSync(this.isFile ? urlOf(this.#path, mode) : this.#path, { timeout: 0 });
    try {
      prepare(database, this.#path);
      const session = new Session(database);
      const store_id = String(session.get<[string]>(SQL.storeId)?.[0]);
      if (this.#store_id !== undefined && this.#store_id !== store_id) {
        throw StoreUnavailable(`"${this.#path}" was replaced by another store; restart to use that one`);
      }
      this.#store_id = store_id;
      const open = { database, session, inode: this.isFile ? inodeOf(this.#path) : null };
      this.#open = open;
      return open;
    } catch (error) {
      database.close();
      throw error;
    }
  }

  #retryWhileBusy<T>(work: () => T): T {
    const deadline = performance.now() + this.#busy_timeout_ms;
    for (;;) {
      try {
        return work();
      } catch (error) {
        const code = sqliteCode(error);
        if (code === BUSY && performance.now() < deadline) {
          sleep(LOCK_RETRY_MS);
          continue;
        }
        // A connection that has met such an error may stay broken when the file is well again.
        if (isFileError(error) && code !== BUSY && code !== FULL && this.isFile) this.close();
        throw this.#explain(error);
      }
    }
  }

  #explain(error: unknown): unknown {
    const reason = REASONS[sqliteCode(error) ?? 0];
    if (reason === undefined || !(error instanceof Error)) return error;
    return StoreUnavailable(`"${this.#path}": ${reason} (SQLite: ${error.message})`, error);
  }
}

function prepare(database: DatabaseSync, path: string): void {
  refuseForeign(database, path);
  const [mode] = Object.values(database.prepare('PRAGMA journal_mode = WAL').get() ?? {});
  if (mode !== 'wal' && path !== ':memory:') {
    throw StoreUnavailable(`"${path}": the file system cannot share it between processes (no WAL)`);
  }
  database.exec(`
    PRAGMA synchronous = FULL;
    PRAGMA trusted_schema = OFF;
    PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES};
    PRAGMA journal_size_limit = ${WAL_BYTES};
  `);
  if (pragma(database, 'user_version') === MIGRATIONS.length) return;
  database.exec('BEGIN IMMEDIATE');
  try {
    // Another process may have been here first.
    const version = refuseForeign(database, path);
    for (const migration of MIGRATIONS.slice(version)) database.exec(migration);
    database.exec(
      `PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${MIGRATIONS.length}; COMMIT`,
    );
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}

/** The schema's version. Throws, with nothing changed, if the file is not a store that we understand. */
function refuseForeign(database: DatabaseSync, path: string): number {
  const version = pragma(database, 'user_version');
  const isEmpty = database.prepare('SELECT 1 FROM sqlite_schema LIMIT 1').get() === undefined;
  if (!isEmpty && pragma(database, 'application_id') !== APPLICATION_ID) {
    throw StoreUnavailable(`"${path}" is a SQLite database, but not a job store: choose another file`);
  }
  if (version > MIGRATIONS.length) {
    throw StoreUnavailable(
      `"${path}" was written by a newer version (schema ${version}, this version knows ${MIGRATIONS.length}): upgrade`,
    );
  }
  return version;
}

function pragma(database: DatabaseSync, name: 'user_version' | 'application_id'): number {
  return Number(database.prepare(`PRAGMA ${name}`).get()?.[name]);
}

function urlOf(path: string, mode: 'rw' | 'rwc'): URL {
  const url = pathToFileURL(path);
  url.searchParams.set('mode', mode);
  return url;
}

/** Tells a file from another of the same name; "" if there is none. */
function inodeOf(path: string): string {
  try {
    const stats = statSync(path, { throwIfNoEntry: false });
    return stats === undefined ? '' : `${stats.dev}:${stats.ino}`;
  } catch {
    return ''; // out of sight: opening it will say why
  }
}

/** Whether an error says something of the file, and not of what was asked of it. */
export function isFileError(error: unknown): boolean {
  return (sqliteCode(error) ?? 0) in REASONS;
}

/** The primary result code of an error that is SQLite's. */
function sqliteCode(error: unknown): number | undefined {
  if (error instanceof QueueError || !(error instanceof Error)) return undefined;
  return 'errcode' in error && typeof error.errcode === 'number' ? error.errcode & 0xff : undefined;
}

const neverNotified = new Int32Array(new SharedArrayBuffer(4));

function sleep(ms: number): void {
  Atomics.wait(neverNotified, 0, 0, ms);
}

/** Arguments are in it: a new file is its owner's alone, and -wal and -shm have the rights that it has. */
function makePrivate(path: string): void {
  try {
    closeSync(openSync(path, 'a', 0o600));
  } catch {
    // SQLite says better what is wrong: it opens the file next.
  }
}
