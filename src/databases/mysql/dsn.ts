/**
 * Where a MySQL or MariaDB server is and how to log in: the Go driver's form
 * (`user:password@tcp(host:3306)/database?tls=skip-verify`), in which nothing of user and password is escaped,
 * and URLs (`mysql://user:password@host:3306/database`, `mariadb://…`), in which they are. Parameters are
 * the same in both, with values escaped as in a URL.
 *
 * Everything comes from the DSN: no option files, no environment variables.
 */
import type { ConnectionOptions } from 'mysql2';
import { parseDuration } from '../../util/duration.ts';
import { fromVendors, instead } from './vendors.ts';

/**
 * As MySQL's --ssl-mode has them: `preferred` encrypts if the server can, `required` always, and neither looks at
 * the certificate; `verify-ca` does, `verify-identity` checks the host's name too.
 */
export type TlsMode = 'disabled' | 'preferred' | 'required' | 'verify-ca' | 'verify-identity';

export interface TlsOptions {
  readonly mode: TlsMode;
  /** Paths of PEM files; read when a connection is made, so that renewed ones are found. */
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
}

/** What `connect` takes: the driver's own options, and what it has no option for. */
export interface MysqlConfig extends ConnectionOptions {
  readonly user: string;
  readonly password: string;
  readonly tls: TlsOptions;
  /** Of the DSN, ms; null: it says nothing. */
  readonly connect_timeout_ms: number | null;
  /** Of the session, a utf8mb4 one; null: the server's own for utf8mb4. */
  readonly collation: string | null;
  /** System variables to set on the session, `sql_mode` or `time_zone` say. */
  readonly settings: Readonly<Record<string, string>>;
}

/** The Go driver's default. */
const SOCKET = '/tmp/mysql.sock';
const PORT = 3306;

/**
 * Parameters of the Go driver, and what is done with them; `ssl-…` are those of MySQL's own clients. Names that
 * are not here are system variables, as the Go driver has it.
 */
const PARAMETERS: ReadonlyMap<string, 'used' | 'ignored' | 'unless-true'> = new Map([
  ['tls', 'used'],
  ['ssl-mode', 'used'],
  ['ssl-ca', 'used'],
  ['ssl-cert', 'used'],
  ['ssl-key', 'used'],
  ['timeout', 'used'],
  ['collation', 'used'],
  ['allowCleartextPasswords', 'used'],
  // Text is always UTF-8 here, dates are never a program's, and a query is one statement whose values are bound.
  ['charset', 'ignored'],
  ['parseTime', 'ignored'],
  ['loc', 'ignored'],
  ['timeTruncate', 'ignored'],
  ['interpolateParams', 'ignored'],
  ['multiStatements', 'ignored'],
  ['clientFoundRows', 'ignored'],
  ['allowAllFiles', 'ignored'],
  ['allowNativePasswords', 'ignored'],
  ['allowOldPasswords', 'ignored'],
  ['checkConnLiveness', 'ignored'],
  ['rejectReadOnly', 'ignored'],
  ['maxAllowedPacket', 'ignored'],
  ['compress', 'ignored'],
  ['connectionAttributes', 'ignored'],
  // A query ends by its job's timeout.
  ['readTimeout', 'ignored'],
  ['writeTimeout', 'ignored'],
  // What would change the result or the login if it were passed over.
  ['columnsWithAlias', 'unless-true'],
  ['serverPubKey', 'unless-true'],
  ['allowFallbackToPlaintext', 'unless-true'],
]);

/** System variables that decide how values are written: not the DSN's to set. */
const OWN_VARIABLES = /^(?:character_set_.*|collation_connection|sql_select_limit)$/i;
/** Those that a session sets as it needs them, whatever a DSN says. */
const SET_ANYWAY = /^(?:autocommit|tx_read_only|transaction_read_only)$/i;

/** Throws a TypeError that says what is wrong, without a word of the DSN's values. */
export function connectionOptions(dsn: string): MysqlConfig {
  if (dsn.includes('\0')) throw new TypeError('it holds a NUL character');
  const { user, password, place, database, parameters } = parse(dsn.trim());
  if (user === '') throw new TypeError('it names no user');
  const settings: Record<string, string> = {};
  for (const [name, value] of parameters) checkParameter(name, value, settings);
  const collation = parameters.get('collation') ?? '';
  return {
    user,
    password,
    ...place,
    ...(database === '' ? {} : { database }),
    enableCleartextPlugin: parameters.get('allowCleartextPasswords') === 'true',
    tls: tlsOptions(parameters),
    connect_timeout_ms: timeoutOf(parameters.get('timeout')),
    collation: /^utf8mb4_\w+$/.test(collation) ? collation : null,
    settings,
  };
}

/** What is wrong with a DSN, or null. The message never repeats a value of it. */
export function checkDsn(dsn: string): string | null {
  try {
    connectionOptions(dsn);
    return null;
  } catch (error) {
    if (error instanceof TypeError) return error.message;
    throw error;
  }
}

/** host:port/database of a valid DSN, for messages: no user, no password. */
export function describeDsn(dsn: string): string {
  const { host = '', port, socketPath, database = '' } = connectionOptions(dsn);
  return `${socketPath ?? `${host.includes(':') ? `[${host}]` : host}:${port}`}/${database}`;
}

type Place = Pick<ConnectionOptions, 'host' | 'port' | 'socketPath'>;

interface Parts {
  readonly user: string;
  readonly password: string;
  readonly place: Place;
  readonly database: string;
  readonly parameters: ReadonlyMap<string, string>;
}

function parse(dsn: string): Parts {
  // JDBC and SQLAlchemy write what is to speak to the server before or behind its scheme.
  const url = /^(?:jdbc:)?(?:mysql|mariadb)(?:\+\w+)?:\/\/(.*)$/s.exec(dsn)?.[1];
  if (url !== undefined) return parseUrl(url);
  if (/^(?:postgres(?:ql)?|https?|clickhouse|sqlite|jdbc:\w+|mysqlx):\/\//i.test(dsn)) {
    throw new TypeError('it is not a mysql:// or mariadb:// URL');
  }
  return parseGo(dsn);
}

/**
 * `[user[:password]@][protocol[(address)]]/database[?name=value&…]`. The last address is the one: a password may look
 * like anything, what follows the address does not.
 */
function parseGo(dsn: string): Parts {
  const found = /^(?:(.*)@)?(tcp|unix|)(?:\(([^()]*)\))?\/([^?]*)(?:\?(.*))?$/s.exec(dsn);
  if (found === null) {
    throw new TypeError(
      'it is not of the form user:password@tcp(host:3306)/database or user:password@unix(/path)/database',
    );
  }
  const [, login = '', protocol, address, database = '', query = ''] = found;
  const colon = login.indexOf(':');
  return {
    user: colon < 0 ? login : login.slice(0, colon),
    password: colon < 0 ? '' : login.slice(colon + 1),
    place: protocol === 'unix' ? { socketPath: address || SOCKET } : hostOf(address || '127.0.0.1'),
    database: unescaped(database, false),
    parameters: parametersOf(query),
  };
}

function hostOf(address: string): Place {
  if (address.includes(',')) throw new TypeError('several hosts are not supported; name one');
  const found = /^(?:\[([0-9a-f:.%\w]+)\]|([^:[\]\s]*))(?::(\d*))?$/i.exec(address);
  if (found === null) {
    throw new TypeError('its address is not of the form host:port (an IPv6 address goes into brackets)');
  }
  const [, bracketed, plain, port = ''] = found;
  const number = port === '' ? PORT : Number(port);
  if (!(number >= 1 && number <= 65_535)) throw new TypeError('its port is not a number from 1 to 65535');
  return { host: bracketed || plain || '127.0.0.1', port: number };
}

function parseUrl(url: string): Parts {
  const [, authority = '', path = '', query = ''] = /^([^/?#]*)(?:\/([^?#]*))?(?:\?(.*))?$/s.exec(url) ?? [];
  if (url.includes('#') || path.includes('@') || path.includes('/')) {
    throw new TypeError('a "#", "/" or "?" in a user or password must be written as %23, %2F or %3F');
  }
  const at = authority.lastIndexOf('@');
  const login = at < 0 ? '' : authority.slice(0, at);
  const colon = login.indexOf(':');
  const parameters = parametersOf(query);
  // JDBC has the login among the parameters.
  const user = parameters.get('user');
  const password = parameters.get('password');
  parameters.delete('user');
  parameters.delete('password');
  const socketPath = parameters.get('socket');
  parameters.delete('socket');
  return {
    user: user ?? unescaped(colon < 0 ? login : login.slice(0, colon), false),
    password: password ?? (colon < 0 ? '' : unescaped(login.slice(colon + 1), false)),
    place: socketPath === undefined ? hostOf(authority.slice(at + 1)) : { socketPath },
    database: unescaped(path, false),
    parameters,
  };
}

function parametersOf(query: string): Map<string, string> {
  const given = new Map<string, string>();
  for (const pair of query.split('&')) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    if (equals < 1) throw new TypeError('its parameters are not of the form name=value');
    given.set(unescaped(pair.slice(0, equals), true), unescaped(pair.slice(equals + 1), true));
  }
  return fromVendors(given);
}

function unescaped(text: string, plusIsBlank: boolean): string {
  try {
    const plain = decodeURIComponent(plusIsBlank ? text.replaceAll('+', ' ') : text);
    if (!plain.includes('\0')) return plain;
  } catch {
    // Said below: decodeURIComponent's own message says nothing more.
  }
  throw new TypeError('it has a "%" that does not escape a character (write %25 for a percent sign)');
}

function checkParameter(name: string, value: string, settings: Record<string, string>): void {
  switch (PARAMETERS.get(name)) {
    case 'used':
    case 'ignored':
      return;
    case 'unless-true':
      if (value === 'false' || value === '0' || value === '') return;
      throw new TypeError(`"${name}" is not supported`);
    case undefined: {
      const advice = instead(name);
      if (advice !== undefined) throw new TypeError(`"${name}" is not supported: ${advice}`);
      if (!/^[a-z]\w*$/i.test(name)) throw new TypeError('it has a parameter whose name is not known');
      if (OWN_VARIABLES.test(name)) throw new TypeError(`"${name}" cannot be set by a DSN`);
      if (!SET_ANYWAY.test(name)) settings[name] = value;
    }
  }
}

function timeoutOf(text: string | undefined): number | null {
  if (text === undefined || text === '') return null;
  const milliseconds = parseDuration(text);
  if (milliseconds === null) throw new TypeError('timeout is not a duration such as 5s');
  return milliseconds === 0 ? null : milliseconds;
}

/** The Go driver's `tls` and the words of MySQL's own `ssl-mode`. */
const TLS_MODES: ReadonlyMap<string, TlsMode> = new Map([
  ['false', 'disabled'],
  ['0', 'disabled'],
  ['preferred', 'preferred'],
  ['skip-verify', 'required'],
  ['true', 'verify-identity'],
  ['1', 'verify-identity'],
]);
const SSL_MODES: ReadonlyMap<string, TlsMode> = new Map([
  ['disabled', 'disabled'],
  ['preferred', 'preferred'],
  ['required', 'required'],
  ['verify_ca', 'verify-ca'],
  ['verify_identity', 'verify-identity'],
]);

function tlsOptions(parameters: ReadonlyMap<string, string>): TlsOptions {
  const ca = parameters.get('ssl-ca') || null;
  const cert = parameters.get('ssl-cert') || null;
  const key = parameters.get('ssl-key') || null;
  if ((cert === null) !== (key === null)) {
    throw new TypeError('ssl-cert and ssl-key are given together or not at all');
  }
  const tls = parameters.get('tls');
  const ssl_mode = parameters.get('ssl-mode');
  if (tls !== undefined && ssl_mode !== undefined) throw new TypeError('it has both tls and ssl-mode');
  const mode =
    tls !== undefined
      ? TLS_MODES.get(tls.toLowerCase())
      : ssl_mode !== undefined
        ? SSL_MODES.get(ssl_mode.toLowerCase())
        : ca === null && cert === null
          ? 'disabled'
          : 'verify-identity';
  if (mode === undefined) {
    throw new TypeError(
      tls === undefined
        ? 'ssl-mode is not one of DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY'
        : 'tls is not one of true, skip-verify, preferred, false; for a certificate authority of your own write tls=true&ssl-ca=/path/of/ca.pem',
    );
  }
  return { mode, ca, cert, key };
}
