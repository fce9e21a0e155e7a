/** Errors of node:sqlite as errors of ours, and across the boundary of a process. */
import { DatabaseError, type DatabaseErrorCode } from '../errors.ts';
import { redact as redactWords } from '../redact.ts';

/** An error as it is sent between processes. */
export interface Failure {
  readonly code: DatabaseErrorCode;
  readonly message: string;
  readonly transient: boolean;
  readonly refused?: boolean;
}

/** Primary result codes, https://sqlite.org/rescode.html */
export const SQLITE = {
  ERROR: 1,
  PERM: 3,
  BUSY: 5,
  LOCKED: 6,
  NOMEM: 7,
  READONLY: 8,
  INTERRUPT: 9,
  IOERR: 10,
  CORRUPT: 11,
  FULL: 13,
  CANTOPEN: 14,
  PROTOCOL: 15,
  SCHEMA: 17,
  TOOBIG: 18,
  MISMATCH: 20,
  RANGE: 25,
  NOTADB: 26,
} as const;

/** The database cannot be used just now; the same statement may work later. */
const UNAVAILABLE: ReadonlySet<number> = new Set([
  SQLITE.PERM,
  SQLITE.BUSY,
  SQLITE.LOCKED,
  SQLITE.READONLY,
  SQLITE.IOERR,
  SQLITE.FULL,
  SQLITE.CANTOPEN,
  SQLITE.PROTOCOL,
]);
/** Of those: what the file or its folder may. */
const REFUSED: ReadonlySet<number> = new Set([SQLITE.PERM, SQLITE.READONLY, SQLITE.CANTOPEN]);
/** The statement failed for a reason outside of it. */
const PASSING: ReadonlySet<number> = new Set([SQLITE.NOMEM, SQLITE.INTERRUPT, SQLITE.SCHEMA]);

/** The primary result code of an error of node:sqlite, or null if it is another error. */
export function resultCode(error: unknown): number | null {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return null;
  return error.errcode & 0xff;
}

/**
 * `database` is how the message names the database, e.g. `db "ledger"`. `doing` says which code an error
 * gets that SQLite calls a plain error: compiling a statement, or running it.
 */
export function failureOf(
  error: unknown,
  database: string,
  doing: 'invalid_statement' | 'query_failed',
): Failure {
  if (error instanceof DatabaseError) {
    const { code, message, transient, refused } = error;
    return { code, message, transient, refused };
  }
  if (error instanceof Error && 'syscall' in error && 'code' in error) {
    // Of the file system. Its own message names the path.
    return {
      code: 'unavailable',
      message: `${database}: ${String(error.code)} (${String(error.syscall)})`,
      transient: true,
      refused: true,
    };
  }
  const message = `${database}: ${error instanceof Error ? error.message : String(error)}`;
  const result = resultCode(error);
  if (result === null) return { code: 'query_failed', message, transient: false };
  if (UNAVAILABLE.has(result)) {
    return { code: 'unavailable', message, transient: true, refused: REFUSED.has(result) };
  }
  if (result === SQLITE.ERROR) return { code: doing, message, transient: false };
  return { code: 'query_failed', message, transient: PASSING.has(result) };
}

export function errorOf(failure: Failure): DatabaseError {
  return new DatabaseError(failure.code, failure.message, {
    transient: failure.transient,
    refused: failure.refused ?? false,
  });
}

/** Of a query that reads, a LIMIT or OFFSET that is no whole number; SQLite does not say whose. */
export function mismatchText(args: readonly unknown[]): string {
  const suspects = args.flatMap((arg, index) => (/^\s*[+-]?\d+\s*$/.test(String(arg)) ? [] : [index + 1]));
  const [first, ...others] = suspects;
  if (first === undefined) return 'a LIMIT or OFFSET is not a whole number';
  if (others.length === 0) return `argument ${first} is a LIMIT or OFFSET, which takes a whole number`;
  return `a LIMIT or OFFSET takes a whole number, which these arguments are not: ${suspects.join(', ')}`;
}

/** SQLite's own words are shorter: what is longer quotes a text, and taking arguments out of that takes too long. */
const LONGEST_MESSAGE = 2_000;

/**
 * Takes the values of arguments out of a message. Some of SQLite's functions quote what they were given
 * (`bad JSON path: 'x'`, `fts5: syntax error near "x"`), and messages end up in logs and job records.
 */
export function redact(message: string, args: readonly unknown[]): string {
  const values = args.filter((arg) => arg !== null && arg !== '').map(String);
  if (values.length === 0) return message;
  if (message.length > LONGEST_MESSAGE) {
    return `SQLite's message is not shown: it quotes a text of ${message.length} characters`;
  }
  const touches = (text: string) => values.some((value) => text.includes(value) || value.includes(text));
  const safe = message.replace(/'[^']+'|"[^"]+"|\[[^\]]+\]/g, (quoted) => {
    const inner = quoted.slice(1, -1);
    return touches(inner) ? `${quoted.charAt(0)}…${quoted.charAt(quoted.length - 1)}` : quoted;
  });
  return redactWords(safe, values, []);
}
