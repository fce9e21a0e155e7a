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

/** An error of a source or a results backend. Its message names no DSN and no argument value. */
export class DatabaseError extends Error {
  readonly code: DatabaseErrorCode;
  /** Whether the same request may work later as it is (connection, lock, full disk). */
  readonly transient: boolean;

  constructor(code: DatabaseErrorCode, message: string, options?: ErrorOptions & { transient?: boolean }) {
    super(message, options);
    this.name = 'DatabaseError';
    this.code = code;
    this.transient = options?.transient ?? code === 'unavailable';
  }
}

/** What to say of a query that was given another number of arguments than it takes. */
export function wrongCount(given: number, taken: number): string {
  return `the query takes ${taken === 1 ? '1 argument' : `${taken} arguments`}, ${given} were given`;
}
