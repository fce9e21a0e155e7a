/** Errors of MySQL and MariaDB, of their driver and of the network as errors of ours. */

import { connectionText } from '../../util/tls.ts';
import { DatabaseError, type DatabaseErrorCode, isTlsRefusal, limitOfDatabase } from '../errors.ts';
import { redact } from '../redact.ts';

/** The marks in which the server quotes values. */
const QUOTES = ["'"];

/**
 * What was being done: compiling a statement of the user's, running it, or writing on our own account. It
 * decides what a read-only refusal means: of a source's session that the statement is no read, of a results
 * backend that its server takes no writes for now.
 */
export type Doing = 'invalid_statement' | 'query_failed' | 'write';

/** An error that the server sent: its number and SQLSTATE. The driver's own errors of it have the same form. */
export class ServerError extends Error {
  readonly errno: number;
  readonly sqlState: string;

  constructor(errno: number, sqlState: string, message: string) {
    super(message);
    this.name = 'ServerError';
    this.errno = errno;
    this.sqlState = sqlState;
  }
}

/** The server's error number, or 0: the error came from the network or from us. */
export function errorNumber(error: unknown): number {
  return error instanceof Error && 'errno' in error && typeof error.errno === 'number' && error.errno > 0
    ? error.errno
    : 0;
}

/**
 * `database` is how the message names the database, e.g. `db "ledger"`. `args` are values that must not be seen in the
 * message.
 */
export function failureOf(
  error: unknown,
  database: string,
  doing: Doing,
  { args = [] }: { readonly args?: readonly unknown[] } = {},
): DatabaseError {
  if (error instanceof DatabaseError) return error;
  const number = errorNumber(error);
  if (number === 0 || !(error instanceof Error)) return connectionFailure(error, database);
  const [code, transient] = kindOf(number, error.message, doing);
  const setting = TIME_LIMITS.get(number);
  const message =
    hidden(number, error.message, args) + (setting === undefined ? '' : limitOfDatabase(setting));
  // Not the error itself as a cause: its message quotes values.
  return new DatabaseError(code, `${database}: ${message} (error ${number})`, {
    transient,
    refused: REFUSED.has(number),
  });
}

/** Whether the connection is gone, or was refused. */
export function isConnectionError(error: unknown): boolean {
  if (error instanceof DatabaseError) return false;
  const number = errorNumber(error);
  return number === 0 ? error instanceof Error && isNetworkError(error) : LAST_WORDS.has(number);
}

/**
 * What a server says before it closes a connection: it shuts down, or has killed the session or found it silent.
 * 2006 and 2013 are the numbers that client libraries give to such a loss.
 */
const LAST_WORDS: ReadonlySet<number> = new Set([
  1053, 1077, 1079, 1080, 1152, 1153, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1927, 2006, 2013,
  3032, 3169, 4031,
]);
/** What was sent to the server was larger than its max_allowed_packet: it would be again. */
const TOO_LARGE = 1153;

/** The database cannot be used as it is now; the same statement may work later. */
const UNAVAILABLE: ReadonlySet<number> = new Set([
  // Too many connections, statements or transactions, too much use; hosts and accounts that are blocked for a while.
  1040,
  1203, 1226, 1461, 1637, 4081, 4082, 4121, 1129, 1130, 3118, 3955, 4150, 4151,
  // A name server or another server that this one asks (FEDERATED, Spider) and that does not answer.
  1042, 1429, 1430, 12701,
  // Login and database: an administrator may be changing it, or the database is being restored.
  1044, 1045, 1049, 1698, 1862,
  // Disk full, out of memory, table full, files.
  3, 1021, 1037, 1038, 1041, 1114, 1135, 1015, 1016, 1023, 1026, 1030, 1296, 1297, 1878, 3015, 3019, 3675,
  3985,
  // Locks: waited for in vain, too many of them, wanted by others, a deadlock.
  1205, 1206, 1213, 1223, 1613, 1614, 1689, 3058, 3132, 3133, 3197, 3572,
  // A Galera node that is not ready, a server that is not available.
  1047, 3101, 3168,
]);

/** Of those: the login, the host or the database is not one that the server knows. */
const REFUSED: ReadonlySet<number> = new Set([1044, 1045, 1049, 1130, 1698, 1862, 3118, 4151]);

/** The server is read-only: --read-only, --super-read-only, --innodb-read-only. */
const READ_ONLY: ReadonlySet<number> = new Set([1036, 1290, 1836, 1874, 4047]);
/** A write in a read-only transaction. */
const IN_READ_ONLY_TRANSACTION = 1792;

/**
 * Ended by somebody (1317), by a time that the server sets (1969, 3024), by another transaction (1020, 1180, 1422),
 * or under a table that changed (1412, 1615).
 */
const PASSING: ReadonlySet<number> = new Set([1020, 1180, 1317, 1412, 1422, 1615, 1969, 3024]);

/** Of statements that can never be run: syntax, names that are not there, rights that are missing. */
const INVALID: ReadonlySet<number> = new Set([
  1046, 1051, 1052, 1054, 1055, 1056, 1060, 1064, 1065, 1066, 1102, 1103, 1109, 1111, 1115, 1128, 1140, 1142,
  1143, 1146, 1149, 1193, 1221, 1222, 1227, 1235, 1241, 1242, 1248, 1267, 1273, 1295, 1305, 1318, 1327, 1336,
  1345, 1356, 1370, 1382, 1470, 1568, 1582, 1583, 1584, 1630, 3065, 4161,
]);

function kindOf(
  number: number,
  message: string,
  doing: Doing,
): readonly [DatabaseErrorCode, transient: boolean] {
  // Error 28 of the operating system, in whatever the server was doing.
  if (/\b28\b.*No space left/i.test(message)) return ['unavailable', true];
  if (number === IN_READ_ONLY_TRANSACTION || READ_ONLY.has(number)) {
    return doing === 'write' ? ['unavailable', true] : ['invalid_statement', false];
  }
  if (number === TOO_LARGE && doing !== 'write') return ['query_failed', false];
  if (LAST_WORDS.has(number) || UNAVAILABLE.has(number)) return ['unavailable', true];
  if (PASSING.has(number)) return ['query_failed', true];
  if (doing !== 'write' && (doing === 'invalid_statement' || INVALID.has(number))) {
    return ['invalid_statement', false];
  }
  return ['query_failed', false];
}

/** By whose setting a query has taken too long: MariaDB's, MySQL's. */
const TIME_LIMITS: ReadonlyMap<number, string> = new Map([
  [1969, 'max_statement_time'],
  [3024, 'max_execution_time'],
]);

/** Errors whose quoted words are names and pieces of the statement; those of others may be values. */
const QUOTES_NAMES: ReadonlySet<number> = new Set([
  ...INVALID,
  ...[1044, 1045, 1048, 1049, 1114, 1130, 1153, 1203, 1226, 1232, 1238, 1264, 1290, 1364, 1406, 1524, 1698],
]);

/** A message of the server's without the values in it. */
export function hidden(number: number, message: string, args: readonly unknown[]): string {
  // From the first quote to the last: a value may hold quotes itself.
  const plain = QUOTES_NAMES.has(number) ? message : message.replace(/'.*'/s, "'…'");
  return redact(plain, args, QUOTES);
}

/** Codes of the driver for a connection that is gone or never came to be. */
const LOST = /^(?:PROTOCOL_|HANDSHAKE_|AUTH_|ER_)/;

function isNetworkError(error: Error): boolean {
  if ('fatal' in error && error.fatal === true) return true;
  if ('syscall' in error) return true;
  // ERR_… are Node's words for a mistake in a program, but for those of a socket.
  return (
    'code' in error &&
    typeof error.code === 'string' &&
    (/^(?!ERR_|ER_)[A-Z][A-Z_]+$|^ERR_(TLS|SSL|SOCKET|STREAM)_/.test(error.code) || LOST.test(error.code))
  );
}

/** What the driver says of a login that it does not have; null if it is about something else. */
function loginText(error: Error): string | null {
  const plugin = /^Server requests authentication using unknown plugin (.*?)\. See /.exec(error.message)?.[1];
  if (plugin !== undefined) {
    return `the account logs in by "${plugin}", which DungBeetle does not have: use an account with caching_sha2_password, mysql_native_password or sha256_password (MariaDB: ALTER USER … IDENTIFIED VIA mysql_native_password USING PASSWORD('…'))`;
  }
  if (!('code' in error) || error.code !== 'MYSQL_CLEAR_PASSWORD_NOT_ENABLED') return null;
  return 'the account logs in by sending its password in clear text (PAM, LDAP): allowCleartextPasswords=true in the DSN permits that; only do so with TLS';
}

function connectionFailure(error: unknown, database: string): DatabaseError {
  if (!(error instanceof Error)) return new DatabaseError('query_failed', `${database}: ${String(error)}`);
  const network = isNetworkError(error);
  const login = loginText(error);
  const message = login ?? connectionText(error);
  return new DatabaseError(network ? 'unavailable' : 'query_failed', `${database}: ${message}`, {
    transient: network,
    refused: login !== null || isTlsRefusal(error),
    cause: error,
  });
}
