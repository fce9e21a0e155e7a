/**
 * Where a ClickHouse server is and how to log in: the Go driver's connection strings, new
 * (`clickhouse://user:password@host:9000/db?secure=true`, `http://user:password@host:8123/db`) and old
 * (`tcp://host:9000?username=user&password=…&database=db`).
 *
 * Only ClickHouse's HTTP interface is spoken here. So the ports of its native protocol stand for those of HTTP on
 * the same host: 9000 for 8123, 9440 for 8443 (with TLS). `http_port` names another.
 */
import { isCutting } from './cutting.ts';

/** What a connection needs. */
export interface ClickhouseConfig {
  readonly host: string;
  /** Of the HTTP interface. */
  readonly port: number;
  /** The port that the DSN has instead, of the native protocol; null: it has this one, or none. */
  readonly native_port: number | null;
  readonly tls: boolean;
  /** Of TLS: whether a certificate that nobody vouches for is taken. */
  readonly skip_verify: boolean;
  readonly user: string;
  readonly password: string;
  /** Empty: the user's default. */
  readonly database: string;
  /** Settings of ClickHouse for every query (`max_threads`, `max_memory_usage`, …). */
  readonly settings: Readonly<Record<string, string>>;
}

/** Parameters of the Go driver, and what is done with them. Others are settings of ClickHouse. */
const PARAMETERS: Readonly<Record<string, 'used' | 'ignored' | 'refused'>> = {
  username: 'used',
  user: 'used',
  password: 'used',
  database: 'used',
  secure: 'used',
  skip_verify: 'used',
  http_port: 'used',
  // Of the native protocol or of the driver's own pool; max_active, max_idle and connect_timeout do their work.
  debug: 'ignored',
  compress: 'ignored',
  compress_level: 'ignored',
  block_size: 'ignored',
  block_buffer_size: 'ignored',
  buffer_size: 'ignored',
  max_compression_buffer: 'ignored',
  pool_size: 'ignored',
  no_delay: 'ignored',
  read_timeout: 'ignored',
  write_timeout: 'ignored',
  timeout: 'ignored',
  dial_timeout: 'ignored',
  conn_max_lifetime: 'ignored',
  max_open_conns: 'ignored',
  max_idle_conns: 'ignored',
  connection_open_strategy: 'ignored',
  check_connection_liveness: 'ignored',
  client_info_product: 'ignored',
  // Of JDBC and Python's drivers.
  socket_timeout: 'ignored',
  connect_timeout: 'ignored',
  send_receive_timeout: 'ignored',
  sync_request_timeout: 'ignored',
  compression: 'ignored',
  autoGenerateSessionId: 'ignored',
  autogenerate_session_id: 'ignored',
  use_server_time_zone: 'ignored',
  use_server_time_zone_for_dates: 'ignored',
  use_time_zone: 'ignored',
  // What would change where data comes from if it were passed over.
  alt_hosts: 'refused',
  tls_config: 'refused',
  http_proxy: 'refused',
  http_path: 'refused',
  session_id: 'refused',
  // What the source itself must decide for answers to be complete and read right.
  readonly: 'refused',
  query: 'refused',
  query_id: 'refused',
  default_format: 'refused',
  wait_end_of_query: 'refused',
  buffer_until_eof: 'refused',
  enable_http_compression: 'refused',
  decompress: 'refused',
  quota_key: 'refused',
};
const REFUSED_SETTINGS = /^(format_|output_format_|date_time_output_format$|param_)/;

/** JDBC's and Python's words for what the Go driver has a word for. */
const SYNONYMS: Readonly<Record<string, (value: string) => readonly [string, string]>> = {
  ssl: (value) => ['secure', value],
  sslmode: (value) => ['skip_verify', String(value.toLowerCase() === 'none')],
  verify: (value) => ['skip_verify', String(/^(0|f|false)$/i.test(value))],
};

/** What to write instead of a parameter that has no equal. */
const INSTEAD: Readonly<Record<string, string>> = {
  alt_hosts: 'name one host, that of a load balancer for instance',
  sslrootcert: 'name the authority’s certificate in NODE_EXTRA_CA_CERTS',
  ca_cert: 'name the authority’s certificate in NODE_EXTRA_CA_CERTS',
  sslcert: 'a certificate of the client’s is not supported; use a password',
  sslkey: 'a certificate of the client’s is not supported; use a password',
  client_cert: 'a certificate of the client’s is not supported; use a password',
  access_token: 'use a user and a password',
};

const HTTP_PORT = 8123;
const HTTPS_PORT = 8443;
const NATIVE_PORTS: ReadonlyMap<number, number> = new Map([
  [9000, HTTP_PORT],
  [9440, HTTPS_PORT],
]);

/** Throws a TypeError that says what is wrong, without a word of the DSN's values. */
export function clientConfig(dsn: string): ClickhouseConfig {
  const [, scheme = '', authority = '', path = '', query = ''] =
    /^([a-z]+):\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/is.exec(withoutDriver(dsn.trim())) ?? [];
  if (!['clickhouse', 'tcp', 'http', 'https'].includes(scheme.toLowerCase())) {
    throw new TypeError(
      /^[a-z]+:\/\//i.test(dsn.trim()) && dsn.includes('#')
        ? 'a "#", "/" or "?" in a user or password must be written as %23, %2F or %3F'
        : 'it is not a clickhouse://, tcp://, http:// or https:// URL',
    );
  }
  if (path.includes('@') || path.includes('/')) {
    throw new TypeError('a "#", "/" or "?" in a user or password must be written as %23, %2F or %3F');
  }
  const given = parameters(query);
  const at = authority.lastIndexOf('@');
  const login = at < 0 ? '' : authority.slice(0, at);
  const colon = login.indexOf(':');
  const place = authority.slice(at + 1);
  if (place.includes(',')) throw new TypeError('several hosts are not supported; name one');
  const [, bracketed, plain = '', portText = ''] = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d*))?$/.exec(place) ?? [];
  const host = unescaped(bracketed ?? plain) || 'localhost';
  if (place !== '' && bracketed === undefined && plain === '' && portText === '') {
    throw new TypeError('its host or port is not valid (an IPv6 address goes into brackets)');
  }
  const port = portText === '' ? null : portNumber('its port', portText);
  const tls = scheme.toLowerCase() === 'https' || flag(given, 'secure') || port === 9440;
  const http_port = given.get('http_port');
  const user =
    unescaped(colon < 0 ? login : login.slice(0, colon)) || given.get('username') || given.get('user');
  if (user?.includes(':')) throw new TypeError('a user name with a ":" is not supported');
  const spoken = http_port === undefined ? httpPort(port, tls) : portNumber('http_port', http_port);
  return {
    host,
    port: spoken,
    native_port: http_port === undefined && spoken !== port ? port : null,
    tls,
    skip_verify: flag(given, 'skip_verify'),
    user: user ?? 'default',
    password: (colon < 0 ? '' : unescaped(login.slice(colon + 1))) || (given.get('password') ?? ''),
    database: unescaped(path) || (given.get('database') ?? ''),
    settings: Object.fromEntries([...given].filter(([name]) => PARAMETERS[name] === undefined)),
  };
}

/** JDBC and SQLAlchemy write what is to speak to the server before or behind the scheme. */
function withoutDriver(dsn: string): string {
  return dsn
    .replace(/^jdbc:(?:clickhouse|ch):(?=https?:)/i, '')
    .replace(/^jdbc:(?:clickhouse|ch):(?:\w+:)?\/\//i, 'clickhouse://')
    .replace(/^clickhouse(?:db)?\+(https?):/i, '$1:')
    .replace(/^clickhouse(?:db)?\+\w+:/i, 'clickhouse:');
}

/** What is wrong with a DSN, or null. The message never repeats a value of it. */
export function checkDsn(dsn: string): string | null {
  try {
    clientConfig(dsn);
    return null;
  } catch (error) {
    if (error instanceof TypeError) return error.message;
    throw error;
  }
}

/** host:port/database of a valid DSN, for messages: no user, no password. The port is that of HTTP. */
export function describeDsn(dsn: string): string {
  const { host, port, database } = clientConfig(dsn);
  return `${host.includes(':') ? `[${host}]` : host}:${port}/${database}`;
}

function httpPort(port: number | null, tls: boolean): number {
  if (port === null) return tls ? HTTPS_PORT : HTTP_PORT;
  return NATIVE_PORTS.get(port) ?? port;
}

function parameters(query: string): ReadonlyMap<string, string> {
  const given = new Map<string, string>();
  for (const pair of query.split('&').filter((text) => text !== '')) {
    const equals = pair.indexOf('=');
    const name = equals < 1 ? '' : unescaped(pair.slice(0, equals));
    if (!/^[a-z_][a-z0-9_]*$/i.test(name))
      throw new TypeError('its parameters are not of the form name=value');
    const advice = INSTEAD[name];
    if (advice !== undefined) throw new TypeError(`"${name}" is not supported: ${advice}`);
    if (PARAMETERS[name] === 'refused' || REFUSED_SETTINGS.test(name) || isCutting(name)) {
      throw new TypeError(`"${name}" is not supported`);
    }
    const value = unescaped(pair.slice(equals + 1).replaceAll('+', ' '));
    given.set(...(SYNONYMS[name]?.(value) ?? ([name, value] as const)));
  }
  return given;
}

function flag(given: ReadonlyMap<string, string>, name: string): boolean {
  const text = given.get(name) ?? 'false';
  if (/^(1|t|true)$/i.test(text)) return true;
  if (/^(0|f|false)?$/i.test(text)) return false;
  throw new TypeError(`${name} is neither true nor false`);
}

function portNumber(what: string, text: string): number {
  const number = /^\d+$/.test(text) ? Number(text) : 0;
  if (number < 1 || number > 65_535) throw new TypeError(`${what} is not a whole number from 1 to 65535`);
  return number;
}

function unescaped(text: string): string {
  try {
    const plain = decodeURIComponent(text);
    if (!/[\0\r\n]/.test(plain)) return plain;
  } catch {
    // Said below: decodeURIComponent's own message says nothing more.
  }
  throw new TypeError('it has a "%" that does not escape a character (write %25 for a percent sign)');
}
