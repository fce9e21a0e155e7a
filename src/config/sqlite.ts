/** Where a SQLite file is, as written in the configuration, and whether two of them are the same file. */
import { realpathSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const MEMORY = ':memory:';

/**
 * The path in "sqlite:file.db", "sqlite:///abs/file.db", "sqlite://file.db", "file:///abs/file.db" or plain
 * "file.db"; null if there is none in it. Percent escapes are decoded in file: URLs only, as in SQLite.
 */
export function sqlitePath(dsn: string): string | null {
  if (dsn.includes('\0') || dsn.includes('?')) return null; // SQLite would take neither as part of the name
  if (dsn.startsWith('file:')) {
    if (!dsn.startsWith('file:///')) return null; // Node reads "file:x.db" as "/x.db"
    try {
      return fileURLToPath(dsn);
    } catch {
      return null; // an escape that is none; the caller says what would be right
    }
  }
  const path = dsn.replace(/^(?:jdbc:)?sqlite3?:(?:\/\/)?/, '');
  // "postgres://…" is no path, however it would read as one.
  return path === '' || /^[a-z][a-z0-9+.-]*:\/\//i.test(path) ? null : path;
}

/** The file below `folder`, absolute. */
export function absolute(folder: string, path: string): string {
  return path === MEMORY ? MEMORY : resolve(folder, path);
}

/** The same text for the same file, through links and whether or not it exists yet. */
export function identity(path: string): string {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats !== undefined) return `${stats.dev}:${stats.ino}`;
  try {
    return join(realpathSync(dirname(path)), basename(path));
  } catch {
    return path; // its folder does not exist either: there is no link to follow
  }
}
