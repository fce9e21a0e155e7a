/** A task's statement as far as we need to read it ourselves; all else is asked of the server. */
import type { Argument } from '../database.ts';
import { DatabaseError } from '../errors.ts';
import { positionAt } from '../position.ts';
import { countingParameters, lockOf, writesFile } from './source-tokens.ts';

/** Blanks, parentheses and comments; of comments whose text the server runs (/*!50000 … and /*M! …) the beginning. */
const LEADING = /(?:[\s(]+|--(?=[\s\p{Cc}]|$)[^\n]*|#[^\n]*|\/\*M?!\d*|\/\*(?!M?!)[\s\S]*?\*\/)*/uy;
/**
 * They write, and may give rows (INSERT … RETURNING), or work on tables as a whole: told before they are run. Most of
 * them the server refuses anyway. MariaDB's ANALYZE runs the statement behind it.
 */
const WRITING =
  /(?:insert|replace|update|delete|load|call|do|handler|lock|unlock|check|optimize|repair|cache|analyze\s+(?:no_write_to_binlog|local|tables?|(?:format\s*=\s*\S+\s+)?(?:insert|replace|update|delete)))\b/iy;

/** What tells of the server and of other statements. */
const TELLING = /(?:explain|desc|describe|show|checksum)\b/iy;

/**
 * Whether a statement may give rows although nothing was said of its columns when it was prepared, as MySQL has it with
 * EXPLAIN and many a SHOW.
 */
export function mayTellColumnsLater(sql: string): boolean {
  LEADING.lastIndex = 0;
  LEADING.test(sql);
  TELLING.lastIndex = LEADING.lastIndex;
  return TELLING.test(sql);
}

/** Throws if the text cannot be a statement that reads. */
export function checkStatement(sql: string, database: string): void {
  // Nothing is lost behind a NUL, but no server takes it for a blank either.
  if (sql.includes('\0')) {
    throw new DatabaseError('invalid_statement', `${database}: the query holds a NUL character`);
  }
  LEADING.lastIndex = 0;
  LEADING.test(sql);
  WRITING.lastIndex = LEADING.lastIndex;
  if (WRITING.test(sql)) {
    throw new DatabaseError(
      'invalid_statement',
      `${database}: the statement is not one that only reads: SELECT, WITH, TABLE, VALUES, SHOW, DESCRIBE or EXPLAIN`,
    );
  }
  // ANALYZE has rows of its own beside those that go to the file, and a read-only transaction does not mind.
  if (writesFile(sql)) {
    throw new DatabaseError(
      'invalid_statement',
      `${database}: INTO OUTFILE and INTO DUMPFILE write a file on the server: leave them out`,
    );
  }
  const lock = lockOf(sql);
  if (lock === null) return;
  throw new DatabaseError(
    'invalid_statement',
    `${database}: ${lock.clause} holds up those who write to the rows for as long as the report runs: leave it out`,
    { position: positionAt(sql, lock.at) },
  );
}

/** Throws if an argument of a LIMIT or OFFSET is not a whole number: of text, servers take the digits it begins with. */
export function checkCounts(
  sql: string,
  parameters: number,
  args: readonly Argument[],
  database: string,
): void {
  for (const index of countingParameters(sql, parameters)) {
    const arg = args[index];
    if (typeof arg === 'number' ? Number.isSafeInteger(arg) && arg >= 0 : isCount(arg)) continue;
    throw new DatabaseError(
      'invalid_arguments',
      `${database}: argument ${index + 1} is a LIMIT or OFFSET of the query, which takes a whole number from 0 on`,
    );
  }
}

function isCount(arg: Argument | undefined): boolean {
  return typeof arg === 'string' && /^\d{1,20}$/.test(arg) && BigInt(arg) < 2n ** 64n;
}
