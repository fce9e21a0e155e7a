/** Errors of Postgres, its driver and the network as errors of ours. */

import { connectionText } from '../../util/tls.ts';
import {
  DatabaseError,
  type DatabaseErrorCode,
  isTlsRefusal,
  limitOfDatabase,
  type Position,
} from '../errors.ts';
import { positionOfCharacter } from '../position.ts';
import { redact } from '../redact.ts';
import { adviceOf } from './advice.ts';

/** The marks in which the server quotes values. */
const QUOTES = ['"', "'"];

/**
 * What was being done: compiling a statement of the user's, running it, or writing on our own account.
 * It decides what a read-only refusal means: of a source's session that the statement is no read, of a
 * results backend that its server takes no writes for now.
 */
export type Doing = 'invalid_statement' | 'query_failed' | 'write';

/** What an error of the server has, as pg gives it (https://www.postgresql.org/docs/current/protocol-error-fields.html). */
interface ServerError extends Error {
  readonly code: string;
  readonly severity: string;
  readonly hint?: string;
  readonly position?: string;
  /** What the server was doing, and with which parameter. Not to be shown: it may quote values. */
  readonly where?: string;
  readonly routine?: string;
}

export function isServerError(error: unknown): error is ServerError {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    /^[0-9A-Z]{5}$/.test(error.code) &&
    'severity' in error
  );
}

/** The SQLSTATE of an error that the server sent, or null: it came from the network or from us. */
export function sqlState(error: unknown): string | null {
  return isServerError(error) ? error.code : null;
}

/**
 * `database` is how the message names the database, e.g. `db "ledger"`. `sql` is the text whose line an error's
 * position is in; `args` are values that must not be seen in the message.
 */
export function failureOf(
  error: unknown,
  database: string,
  doing: Doing,
  { sql, args = [] }: { readonly sql?: string; readonly args?: readonly unknown[] } = {},
): DatabaseError {
  if (error instanceof DatabaseError) return error;
  if (!isServerError(error)) return connectionFailure(error, database);
  const [code, transient] = kindOf(error, doing);
  const position = positionFrom(error, sql);
  const line = position === null ? '' : ` at line ${position.line}`;
  const argument = /\bparameter \$(\d+)/.exec(error.where ?? '')?.[1];
  const which = argument === undefined ? '' : ` in argument ${argument}`;
  const advice = sql === undefined ? '' : adviceOf(error.code, sql, position);
  const hint = hasHarmlessHint(error) ? ` (hint: ${error.hint})` : '';
  const limit =
    error.code === '57014' && error.message.includes('statement timeout')
      ? limitOfDatabase('statement_timeout')
      : '';
  const message = redact(plainMessage(error), args, QUOTES) + limit + redact(hint, args, QUOTES);
  return new DatabaseError(code, `${database}: ${message}${which}${line}${advice} (SQLSTATE ${error.code})`, {
    transient,
    position,
    // invalid_authorization_specification, and a database that does not exist.
    refused: /^(28|3D000)/.test(error.code),
    // Not the error itself: its detail and context quote values of rows and arguments.
  });
}

/** Whether the connection is gone, or was refused. */
export function isConnectionError(error: unknown): boolean {
  if (error instanceof DatabaseError) return false;
  if (isServerError(error)) return /^(08(?!P01)|57P0)/.test(error.code);
  return error instanceof Error && isNetworkError(error);
}

/** By SQLSTATE, https://www.postgresql.org/docs/current/errcodes-appendix.html */
function kindOf(error: ServerError, doing: Doing): readonly [DatabaseErrorCode, transient: boolean] {
  const { code } = error;
  switch (code) {
    case '08P01': // among others: a wrong number of parameters in Bind
      return ['query_failed', false];
    case '25006': // read_only_sql_transaction
      return doing === 'write' ? ['unavailable', true] : ['invalid_statement', false];
    case '0A000': // feature_not_supported, and a table altered under a prepared statement
      return error.routine === 'RevalidateCachedQuery'
        ? ['query_failed', true]
        : [doing === 'write' ? 'query_failed' : doing, false];
    case '25P03': // idle_in_transaction_session_timeout
    case '25P04': // transaction_timeout
    case '55P03': // lock_not_available
    case '55006': // object_in_use
      return ['unavailable', true];
    case '26000': // a prepared statement is gone: somebody ran DISCARD ALL, or a pooler is in between
    case '57014': // query_canceled: a statement timeout of the server, or an operator
    case '72000': // snapshot_too_old
      return ['query_failed', true];
    case '42501': // insufficient_privilege
    case '53400': // configuration_limit_exceeded: temp_file_limit
      return ['query_failed', false];
    case '3D000': // the database does not exist: perhaps it is just being restored
      return ['unavailable', true];
  }
  switch (code.slice(0, 2)) {
    case '08': // connection
    case '28': // login refused
    case '53': // out of disk, memory or connections
    case '57': // shutdown, restart
    case '58': // input and output
    case 'F0': // configuration file
      return ['unavailable', true];
    case '40': // deadlock, serialization
      return ['query_failed', true];
    case '42':
      return [doing === 'write' ? 'query_failed' : 'invalid_statement', false];
    case '22':
      return ['query_failed', false];
    default:
      return [doing === 'write' ? 'query_failed' : doing, false];
  }
}

/** The server's message without the values that those of data errors quote. */
function plainMessage({ code, message }: ServerError): string {
  if (code === '22021') {
    return /: 0x00$/.test(message)
      ? 'Postgres takes no text with a NUL character'
      : message.replace(/: 0x.*$/s, '');
  }
  // 22P04 (bad COPY format) quotes a column's name, the others values.
  if (!code.startsWith('22') || code === '22P04') return message;
  // By a pattern, each of many such quotes would be a beginning from which all the rest is read.
  const at = message.endsWith('"') ? message.indexOf(': "') : -1;
  return (at < 0 ? message : message.slice(0, at)).replace(/"[\s\S]*"/, '"…"').replace(/'[\s\S]*'/, "'…'");
}

/** Those that the server made up from the statement alone. */
function hasHarmlessHint({ code, hint }: ServerError): boolean {
  return hint !== undefined && /^(0A|25|42|55|53)/.test(code);
}

function positionFrom({ position }: ServerError, sql: string | undefined): Position | null {
  const at = Number(position);
  return sql === undefined || !Number.isInteger(at) || at < 1 ? null : positionOfCharacter(sql, at);
}

/** The driver's own words for a connection that is gone or never came to be. */
const LOST =
  /^(Connection terminated|timeout expired|Client (has encountered|was closed)|The server does not support SSL|There was an error establishing an SSL|Query read timeout|SASL)/;

function isNetworkError(error: Error): boolean {
  return (
    'syscall' in error ||
    // ERR_… are Node's words for a mistake in a program, but for those of a socket.
    ('code' in error &&
      typeof error.code === 'string' &&
      /^(?!ERR_)[A-Z_]+$|^ERR_(TLS|SSL|SOCKET|STREAM)_/.test(error.code)) ||
    LOST.test(error.message)
  );
}

function connectionFailure(error: unknown, database: string): DatabaseError {
  if (!(error instanceof Error)) {
    return new DatabaseError('query_failed', `${database}: ${String(error)}`);
  }
  const network = isNetworkError(error);
  const lacksPassword = /^SASL: .{0,99}client password must be/.test(error.message);
  const message = lacksPassword
    ? 'the server asks for a password, and the DSN has none'
    : connectionText(error);
  return network
    ? new DatabaseError('unavailable', `${database}: ${message}`, {
        refused: lacksPassword || isTlsRefusal(error),
        cause: error,
      })
    : new DatabaseError('query_failed', `${database}: ${message}`, { cause: error });
}
