/**
 * Where a Postgres server is and how to log in: libpq's connection strings, as URLs
 * (`postgres://user:password@host:5432/database?sslmode=require`) and as keywords
 * (`host=db user=report dbname='my db' sslmode=disable`).
 *
 * Everything comes from the DSN. The PG… environment variables, password files and service files that libpq
 * reads besides are not looked at: a server that runs other people's reports must not pick up a login
 * that nobody wrote into its configuration.
 */
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

/** What pg's clients take, and what is ours to do. */
export interface PostgresConfig {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly database: string;
  readonly password: () => string;
  readonly application_name?: string;
  readonly options?: string;
  readonly tls: TlsOptions;
  /** Of the DSN, ms; null: it says nothing, or 0 for no limit. */
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
  // What would weaken or change a login if it were passed over.
  channel_binding: 'refused',
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
  load_balance_hosts: 'refused',
};

/** Throws a TypeError that says what is wrong, without a word of the DSN's values. */
export function clientConfig(dsn: string): PostgresConfig {
  const given = parse(dsn);
  for (const keyword of given.keys()) {
    if (KEYWORDS[keyword] === 'refused') throw new TypeError(`"${keyword}" is not supported`);
    if (KEYWORDS[keyword] === undefined && !/^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$/i.test(keyword)) {
      throw new TypeError('it has a parameter whose name is not one of libpq’s');
    }
  }
  const target = given.get('target_session_attrs') ?? 'any';
  if (target !== 'any') throw new TypeError('"target_session_attrs" other than "any" is not supported');
  const host = given.get('hostaddr') || given.get('host') || 'localhost';
  if (host.includes(',')) throw new TypeError('several hosts are not supported; name one');
  const user = given.get('user');
  if (user === undefined || user === '') throw new TypeError('it names no user');
  const application_name = given.get('application_name') ?? given.get('fallback_application_name');
  const password = given.get('password') ?? '';
  const options = given.get('options');
  const seconds = wholeNumber(given, 'connect_timeout', 0, 2 ** 31 - 1) ?? 0;
  return {
    host,
    port: wholeNumber(given, 'port', 1, 65_535) ?? 5432,
    user,
    database: given.get('dbname') || user,
    // A function, because for an empty password pg goes on to look into PGPASSWORD and ~/.pgpass.
    password: () => password,
    ...(application_name === undefined ? {} : { application_name }),
    ...(options === undefined ? {} : { options }),
    tls: tlsOptions(given),
    connect_timeout_ms: seconds === 0 ? null : seconds * 1000,
    settings: Object.fromEntries([...given].filter(([keyword]) => KEYWORDS[keyword] === undefined)),
  };
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

/** host:port/database of a valid DSN, for messages: no user, no password. */
export function describeDsn(dsn: string): string {
  const { host, port, database } = clientConfig(dsn);
  return `${host.includes(':') ? `[${host}]` : host}:${port}/${database}`;
}

function tlsOptions(given: ReadonlyMap<string, string>): TlsOptions {
  const mode = SSL_MODES.find((name) => name === (given.get('sslmode') ?? 'prefer'));
  if (mode === undefined) throw new TypeError(`sslmode is not one of ${SSL_MODES.join(', ')}`);
  const tls: TlsOptions = {
    mode,
    rootcert: given.get('sslrootcert') || null,
    cert: given.get('sslcert') || null,
    key: given.get('sslkey') || null,
  };
  if ((tls.cert === null) !== (tls.key === null)) {
    throw new TypeError('sslcert and sslkey are given together or not at all');
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
  const url = /^postgres(?:ql)?:\/\/(.*)$/s.exec(dsn.trim())?.[1];
  if (url !== undefined) return parseUrl(url);
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
  const place = authority.slice(at + 1);
  const [, bracketed, plain = '', port = ''] = /^(?:\[([^\]]*)\]|([^:]*))(?::(.*))?$/.exec(place) ?? [];
  if (place.includes(',')) throw new TypeError('several hosts are not supported; name one');
  if (place !== '' && bracketed === undefined && plain === '' && port === '') {
    throw new TypeError('its host is not valid (an IPv6 address goes into brackets)');
  }
  put('host', bracketed ?? plain);
  put('port', port);
  put('dbname', path);
  for (const pair of query === '' ? [] : query.split('&')) {
    const equals = pair.indexOf('=');
    if (equals < 1) throw new TypeError('its parameters are not of the form name=value');
    const keyword = unescaped(pair.slice(0, equals));
    // libpq knows this one too, for JDBC's sake.
    if (keyword === 'ssl' && pair.slice(equals + 1) === 'true') given.set('sslmode', 'require');
    else given.set(keyword, unescaped(pair.slice(equals + 1)));
  }
  return given;
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
