/**
 * Where a Postgres server is and how to log in: libpq's connection strings, as URLs
 * (`postgres://user:password@host:5432/database?sslmode=require`) and as keywords
 * (`host=db user=report dbname='my db' sslmode=disable`).
 *
 * Words that other clients have for the same things (JDBC, Prisma, pgx, SQLAlchemy) are taken too: see `vendors.ts`.
 *
 * Everything comes from the DSN. The PG… environment variables, password files and service files that libpq
 * reads besides are not looked at: a server that runs other people's reports must not pick up a login
 * that nobody wrote into its configuration.
 */
import { settingsOfOptions } from './options.ts';
import { fromVendors, instead } from './vendors.ts';

const SSL_MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;

/**
 * As libpq has them: `allow` tries plain and then TLS, `prefer` TLS and then plain, `require` encrypts and
 * checks the certificate only if `sslrootcert` is given, `verify-ca` checks the certificate, `verify-full`
 * the host's name too. The default is libpq's, `prefer` (lib/pq's is `require`). The verifying modes
 * trust the certificates of `sslrootcert`, or those Node trusts where it is missing or `system`.
 */
export type SslMode = (typeof SSL_MODES)[number];

export interface TlsOptions {
  readonly mode: SslMode;
  /** Paths of PEM files; read when a connection is made, so that renewed ones are found. */
  readonly rootcert: string | null;
  readonly cert: string | null;
  readonly key: string | null;
}

/** What a server must be to be connected to, in libpq's words. */
const TARGETS = ['any', 'read-write', 'read-only', 'primary', 'standby', 'prefer-standby'] as const;
export type Target = (typeof TARGETS)[number];

/** One of the servers that a DSN names. */
export interface PostgresServer {
  readonly host: string;
  readonly port: number;
}

/** What pg's clients take, and what is ours to do. */
export interface PostgresConfig {
  /** At least one, in the order in which they are tried. */
  readonly servers: readonly PostgresServer[];
  readonly target: Target;
  /** Whether the servers are tried in an order that is drawn for each connection. */
  readonly random_order: boolean;
  readonly user: string;
  readonly database: string;
  readonly password: () => string;
  readonly application_name?: string;
  /** What of `options` is no setting. */
  readonly options?: string;
  /** Whether the login must be tied to the TLS connection (SCRAM-SHA-256-PLUS), may be, or is not. */
  readonly channel_binding: 'disable' | 'prefer' | 'require';
  readonly tls: TlsOptions;
  /** Of the DSN, ms, for each of the servers; null: it says nothing, or 0 for no limit. */
  readonly connect_timeout_ms: number | null;
  /** Run-time parameters of the session (`search_path`, `TimeZone`, …), as lib/pq takes them in a DSN. */
  readonly settings: Readonly<Record<string, string>>;
}

/** Keywords of libpq and lib/pq that are understood, and what is done with them. */
const KEYWORDS: Readonly<Record<string, 'used' | 'ignored' | 'refused'>> = {
  host: 'used',
  hostaddr: 'used',
  port: 'used',
  user: 'used',
  password: 'used',
  dbname: 'used',
  sslmode: 'used',
  sslrootcert: 'used',
  sslcert: 'used',
  sslkey: 'used',
  connect_timeout: 'used',
  application_name: 'used',
  fallback_application_name: 'used',
  options: 'used',
  // Text is always UTF-8 here, and keepalives are always on.
  client_encoding: 'ignored',
  keepalives: 'ignored',
  keepalives_idle: 'ignored',
  keepalives_interval: 'ignored',
  keepalives_count: 'ignored',
  tcp_user_timeout: 'ignored',
  binary_parameters: 'ignored',
  disable_prepared_binary_result: 'ignored',
  sslcompression: 'ignored',
  sslsni: 'ignored',
  gssencmode: 'ignored',
  krbsrvname: 'ignored',
  krbspn: 'ignored',
  gsslib: 'ignored',
  target_session_attrs: 'used',
  channel_binding: 'used',
  load_balance_hosts: 'used',
  // What would weaken or change a login if it were passed over.
  require_auth: 'refused',
  service: 'refused',
  passfile: 'refused',
  sslpassword: 'refused',
  sslcrl: 'refused',
  sslcrldir: 'refused',
  sslnegotiation: 'refused',
  sslinline: 'refused',
  requirepeer: 'refused',
  ssl_min_protocol_version: 'refused',
  ssl_max_protocol_version: 'refused',
  replication: 'refused',
};

/**
 * Throws a TypeError that says what is wrong, without a word of the DSN's values. `writes`: the session has to write, so
 * that of several servers it wants the one that takes writes, unless the DSN says otherwise.
 */
export function clientConfig(dsn: string, { writes = false } = {}): PostgresConfig {
  const given = fromVendors(parse(dsn));
  for (const keyword of given.keys()) {
    const advice = instead(keyword);
    if (advice !== undefined) throw new TypeError(`"${keyword}" is not supported: ${advice}`);
    if (KEYWORDS[keyword] === 'refused') throw new TypeError(`"${keyword}" is not supported`);
    if (KEYWORDS[keyword] === undefined && !/^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$/i.test(keyword)) {
      throw new TypeError('it has a parameter whose name is not one of libpq’s');
    }
  }
  const servers = serversOf(given);
  const user = given.get('user');
  if (user === undefined || user === '') throw new TypeError('it names no user');
  const application_name = given.get('application_name') ?? given.get('fallback_application_name');
  const password = given.get('password') ?? '';
  const options = given.get('options');
  const set = options === undefined ? {} : settingsOfOptions(options);
  const seconds = wholeNumber(given, 'connect_timeout', 0, 2 ** 31 - 1) ?? 0;
  const tls = tlsOptions(given);
  const channel_binding = oneOf(given, 'channel_binding', ['disable', 'prefer', 'require'], 'disable');
  if (channel_binding === 'require' && !['require', 'verify-ca', 'verify-full'].includes(tls.mode)) {
    throw new TypeError('channel_binding=require takes TLS: write sslmode=require, verify-ca or verify-full');
  }
  return {
    servers,
    target: oneOf(
      given,
      'target_session_attrs',
      TARGETS,
      writes && servers.length > 1 ? 'read-write' : 'any',
    ),
    random_order: oneOf(given, 'load_balance_hosts', ['disable', 'random'], 'disable') === 'random',
    user,
    database: given.get('dbname') || user,
    // A function, because for an empty password pg goes on to look into PGPASSWORD and ~/.pgpass.
    password: () => password,
    ...(application_name === undefined ? {} : { application_name }),
    ...(options === undefined || set !== null ? {} : { options }),
    channel_binding,
    tls,
    connect_timeout_ms: seconds === 0 ? null : seconds * 1000,
    settings: {
      ...set,
      ...Object.fromEntries([...given].filter(([keyword]) => KEYWORDS[keyword] === undefined)),
    },
  };
}

/** What is wrong with a DSN, or null. The message never repeats a value of it. */
export function checkDsn(dsn: string, options?: { readonly writes: boolean }): string | null {
  try {
    const { target } = clientConfig(dsn, options);
    if (options?.writes && !['any', 'read-write', 'primary'].includes(target)) {
      return 'target_session_attrs must be read-write, primary or any: what is here is written';
    }
    return null;
  } catch (error) {
    if (error instanceof TypeError) return error.message;
    throw error;
  }
}

/** host:port/database of a valid DSN, for messages: no user, no password. */
export function describeDsn(dsn: string): string {
  const { servers, database } = clientConfig(dsn);
  return `${servers.map(describeServer).join(',')}/${database}`;
}

export function describeServer({ host, port }: PostgresServer): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** Lists of hosts and of ports, as libpq has them: one port for all hosts, or as many as there are hosts. */
function serversOf(given: ReadonlyMap<string, string>): readonly PostgresServer[] {
  const hosts = (given.get('hostaddr') || given.get('host') || 'localhost').split(',');
  const ports = (given.get('port') ?? '').split(',').map((text) => {
    const port = text === '' ? 5432 : portNumber(text);
    if (!(port >= 1 && port <= 65_535)) throw new TypeError('port is not a whole number from 1 to 65535');
    return port;
  });
  const [only = 5432] = ports;
  if (ports.length > 1 && ports.length !== hosts.length) {
    throw new TypeError('its ports are neither one for all hosts nor as many as its hosts');
  }
  return hosts.map((host, index) => ({ host: host || 'localhost', port: ports[index] ?? only }));
}

function portNumber(text: string): number {
  return /^\d+$/.test(text) ? Number(text) : Number.NaN;
}

function oneOf<T extends string>(
  given: ReadonlyMap<string, string>,
  keyword: string,
  words: readonly T[],
  standard: T,
): T {
  const text = given.get(keyword) || standard;
  const word = words.find((candidate) => candidate === text);
  if (word === undefined) throw new TypeError(`${keyword} is not one of ${words.join(', ')}`);
  return word;
}

function tlsOptions(given: ReadonlyMap<string, string>): TlsOptions {
  const tls: TlsOptions = {
    mode: oneOf(given, 'sslmode', SSL_MODES, 'prefer'),
    rootcert: given.get('sslrootcert') || null,
    cert: given.get('sslcert') || null,
    key: given.get('sslkey') || null,
  };
  if ((tls.cert === null) !== (tls.key === null)) {
    throw new TypeError(
      'sslcert and sslkey are given together or not at all (the certificate of an authority is sslrootcert)',
    );
  }
  return tls;
}

function wholeNumber(
  given: ReadonlyMap<string, string>,
  keyword: string,
  least: number,
  most: number,
): number | undefined {
  const text = given.get(keyword);
  if (text === undefined || text === '') return undefined;
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(number >= least && number <= most)) {
    throw new TypeError(`${keyword} is not a whole number from ${least} to ${most}`);
  }
  return number;
}

function parse(dsn: string): Map<string, string> {
  if (dsn.includes('\0')) throw new TypeError('it holds a NUL character');
  // JDBC and SQLAlchemy write what is to speak to the server before or behind its scheme.
  const url = /^(?:jdbc:)?postgres(?:ql)?(?:\+\w+)?:\/\/(.*)$/s.exec(dsn.trim())?.[1];
  if (url !== undefined) return parseUrl(url);
  if (/^(?:host|server|data source)\s*=[^;]*;/i.test(dsn.trim())) {
    throw new TypeError('its pairs are separated by ";": write postgres://user:password@host:5432/database');
  }
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(dsn)) throw new TypeError('it is not a postgres:// URL');
  return parseKeywords(dsn);
}

function parseUrl(url: string): Map<string, string> {
  const [, authority = '', path = '', query = ''] = /^([^/?#]*)(?:\/([^?#]*))?(?:\?(.*))?$/s.exec(url) ?? [];
  if (url.includes('#') || path.includes('@')) {
    throw new TypeError('a "#", "/" or "?" in a user or password must be written as %23, %2F or %3F');
  }
  const given = new Map<string, string>();
  const put = (keyword: string, text: string) => {
    if (text !== '') given.set(keyword, unescaped(text));
  };
  const at = authority.lastIndexOf('@');
  if (at >= 0) {
    const login = authority.slice(0, at);
    const colon = login.indexOf(':');
    put('user', colon < 0 ? login : login.slice(0, colon));
    if (colon >= 0) put('password', login.slice(colon + 1));
  }
  const places = authority
    .slice(at + 1)
    .split(',')
    .map(placeOf);
  put('host', places.map(({ host }) => host).join(','));
  if (places.some(({ port }) => port !== '')) put('port', places.map(({ port }) => port).join(','));
  put('dbname', path);
  for (const pair of query === '' ? [] : query.split('&')) {
    const equals = pair.indexOf('=');
    if (equals < 1) throw new TypeError('its parameters are not of the form name=value');
    given.set(unescaped(pair.slice(0, equals)), unescaped(pair.slice(equals + 1)));
  }
  return given;
}

function placeOf(place: string): { readonly host: string; readonly port: string } {
  const [, bracketed, plain = '', port = ''] = /^(?:\[([^\]]*)\]|([^:]*))(?::(.*))?$/.exec(place) ?? [];
  if (place !== '' && bracketed === undefined && plain === '' && port === '') {
    throw new TypeError('its host is not valid (an IPv6 address goes into brackets)');
  }
  return { host: bracketed ?? plain, port };
}

function unescaped(text: string): string {
  try {
    const plain = decodeURIComponent(text);
    if (!plain.includes('\0')) return plain;
  } catch {
    // Said below: decodeURIComponent's own message says nothing more.
  }
  throw new TypeError('it has a "%" that does not escape a character (write %25 for a percent sign)');
}

/** `keyword = value` pairs; a value may be in single quotes, a backslash escapes what follows it. */
function parseKeywords(text: string): Map<string, string> {
  const given = new Map<string, string>();
  const pair =
    /\s*([a-z_][a-z0-9_.]*)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)(?:[^\s\\]|\\.)*)?)(?=\s|$)/iy;
  while (text.slice(pair.lastIndex).trim() !== '') {
    const found = pair.exec(text);
    if (found === null) {
      throw new TypeError('it is neither a postgres:// URL nor a list of keyword=value pairs');
    }
    const [, keyword = '', quoted, plain = ''] = found;
    given.set(keyword === 'database' ? 'dbname' : keyword, (quoted ?? plain).replaceAll(/\\(.)/gs, '$1'));
  }
  if (given.size === 0) throw new TypeError('it is empty');
  return given;
}
