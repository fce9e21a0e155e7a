/** How a database holds its texts, by the names that TextDecoder knows. */
import type { DatabaseSync } from 'node:sqlite';

export type TextEncoding = 'utf-8' | 'utf-16le' | 'utf-16be';

export function textEncoding(db: DatabaseSync): TextEncoding {
  const encoding = String(db.prepare('PRAGMA encoding').get()?.['encoding']).toLowerCase();
  if (encoding === 'utf-8' || encoding === 'utf-16le' || encoding === 'utf-16be') return encoding;
  throw new Error(`SQLite has no encoding ${encoding}`);
}
