/** A task's statement as far as we need to read it ourselves; all else is asked of the server. */
import { DatabaseError } from '../errors.ts';

/** Blanks, parentheses and comments; of comments whose text the server runs (/*!50000 … and /*M! …) the beginning. */
const LEADING = /(?:[\s(]+|--(?=[\s\p{Cc}]|$)[^\n]*|#[^\n]*|\/\*M?!\d*|\/\*(?!M?!)[\s\S]*?\*\/)*/uy;
/** They write, and may give rows (INSERT … RETURNING): told before they are run. The server refuses them anyway. */
const WRITING = /(?:insert|replace|update|delete|load|call|do|handler|lock|unlock)\b/iy;

/** Throws if the text cannot be a statement that reads. */
export function checkStatement(sql: string, database: string): void {
  // Nothing is lost behind a NUL, but no server takes it for a blank either.
  if (sql.includes('\0')) {
    throw new DatabaseError('invalid_statement', `${database}: the query holds a NUL character`);
  }
  LEADING.lastIndex = 0;
  LEADING.test(sql);
  WRITING.lastIndex = LEADING.lastIndex;
  if (!WRITING.test(sql)) return;
  throw new DatabaseError('invalid_statement', `${database}: the statement is none that only reads`);
}
