import { printable } from '../util/printable.ts';
import { tlsText } from '../util/tls.ts';

/** What went wrong with a database, by what can be done about it. */
export type DatabaseErrorCode =
  /** The statement is not valid, not one statement, or not a read. */
  | 'invalid_statement'
  /** The number or the form of the arguments does not fit. */
  | 'invalid_arguments'
  /** The database refused or failed while it ran. */
  | 'query_failed'
  /** max_rows, max_bytes or max_value_bytes was passed. */
  | 'limit_reached'
  /** A newer attempt owns the table. */
  | 'fenced'
  /** A table of that name exists and is not ours to replace. */
  | 'table_conflict'
  /** Not reachable, locked, read-only or out of space. */
  | 'unavailable';

/** A place in a statement, both from 1, counted in characters. */
export interface Position {
  readonly line: number;
  /** Null: the database names the line only. */
  readonly column: number | null;
}

/** Of a message, in characters: whoever answers at a database's address may say anything, at any length. */
const LONGEST = 10_000;

/** An error of a source or a results backend. Its message names no DSN and no argument value. */
export class DatabaseError extends Error {
  readonly code: DatabaseErrorCode;
  /** Whether the same request may work later as it is (connection, lock, full disk). */
  readonly transient: boolean;
  /** The database is there and does not let us in: for the login, the database's name, TLS, or what a file may. */
  readonly refused: boolean;
  /** What it is about in the statement that was given, if that is known. */
  readonly position: Position | null;

  constructor(
    code: DatabaseErrorCode,
    message: string,
    options?: ErrorOptions & {
      readonly transient?: boolean;
      readonly refused?: boolean;
      readonly position?: Position | null;
    },
  ) {
    super(printable(message.length > LONGEST ? `${message.slice(0, LONGEST)}…` : message), options);
    this.name = 'DatabaseError';
    this.code = code;
    this.transient = options?.transient ?? code === 'unavailable';
    this.refused = options?.refused ?? false;
    this.position = options?.position ?? null;
  }
}

/** What to say behind the server's own message when its time limit has ended a query, and not one of ours. */
export function limitOfDatabase(setting: string): string {
  return `: a time limit of the database (${setting})`;
}

/** What to say of a query that was given another number of arguments than it takes. */
export function wrongCount(given: number, taken: number): string {
  return `the query takes ${taken === 1 ? '1 argument' : `${taken} arguments`}, ${given} were given`;
}

/**
 * Whether the two ends do not agree on TLS: the server has none, or its certificate is not taken. Whoever connects again
 * gets the same answer.
 */
export function isTlsRefusal(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = 'code' in error ? String(error.code) : '';
  return (
    /^ERR_(TLS|SSL)_|CERT|SELF_SIGNED|^UNABLE_TO_|HANDSHAKE_NO_SSL/.test(code) ||
    /does not support (SSL|secure)|establishing an SSL/.test(error.message) ||
    tlsText(error) !== null
  );
}
