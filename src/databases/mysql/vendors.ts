/**
 * What other clients and hosting companies write into MySQL's connection strings, in the words of the Go driver and of
 * MySQL's own clients. What only tunes a client's own pool or cache, or says how a program reads values, is passed over;
 * what has no equal here is refused with what to write instead.
 */

const PASSED_OVER = new Set([
  // Connector/J and MariaDB's JDBC driver
  ...['allowPublicKeyRetrieval', 'autoReconnect', 'failOverReadOnly', 'maxReconnects', 'useUnicode'],
  ...[
    'characterEncoding',
    'connectionCollation',
    'serverTimezone',
    'connectionTimeZone',
    'forceConnectionTimeZoneToSession',
  ],
  ...[
    'useLegacyDatetimeCode',
    'useJDBCCompliantTimezoneShift',
    'zeroDateTimeBehavior',
    'tinyInt1isBit',
    'yearIsDateType',
  ],
  ...[
    'rewriteBatchedStatements',
    'cachePrepStmts',
    'prepStmtCacheSize',
    'prepStmtCacheSqlLimit',
    'useServerPrepStmts',
  ],
  ...['cacheResultSetMetadata', 'cacheServerConfiguration', 'elideSetAutoCommits', 'maintainTimeStats'],
  ...[
    'useLocalSessionState',
    'useCompression',
    'useInformationSchema',
    'nullCatalogMeansCurrent',
    'useCursorFetch',
  ],
  ...['defaultFetchSize', 'allowMultiQueries', 'socketTimeout', 'tcpKeepAlive', 'useBulkStmts'],
  // Prisma
  ...['connection_limit', 'pool_timeout', 'socket_timeout', 'statement_cache_size'],
  // mysql2
  ...[
    'connectionLimit',
    'queueLimit',
    'waitForConnections',
    'supportBigNumbers',
    'bigNumberStrings',
    'dateStrings',
  ],
  'decimalNumbers',
  // Rails
  ...['pool', 'reconnect', 'encoding', 'prepared_statements', 'read_timeout', 'write_timeout'],
]);

const INSTEAD: Readonly<Record<string, string>> = {
  sslidentity: 'write ssl-cert=… and ssl-key=…, PEM files that "openssl pkcs12" makes of it',
  sslpassword: 'write ssl-key=… with a key that has no passphrase',
  clientCertificateKeyStoreUrl: 'write ssl-cert=… and ssl-key=… with PEM files',
  trustCertificateKeyStoreUrl: 'write ssl-ca=… with a PEM file',
  trustCertificateKeyStorePassword: 'write ssl-ca=… with a PEM file',
  clientCertificateKeyStorePassword: 'write ssl-cert=… and ssl-key=… with PEM files',
  keyStore: 'write ssl-cert=… and ssl-key=… with PEM files',
  trustStore: 'write ssl-ca=… with a PEM file',
  serverSslCert: 'write ssl-ca=… with a PEM file',
  sessionVariables: 'write each as a parameter of its own, sql_mode=… for instance',
  timezone: 'write time_zone=… for the session’s zone',
  defaultAuth: 'leave it out: the server says which login it wants',
  serverRSAPublicKeyFile: 'use TLS: tls=true',
};

/** What to write in place of a parameter that is not supported. */
export function instead(name: string): string | undefined {
  return INSTEAD[name];
}

const TRUE = /^(?:true|1|yes)$/i;

/** Connector/J's, MariaDB's and Prisma's names of what `ssl-mode` says. */
const SSL_MODES: Readonly<Record<string, string>> = {
  disable: 'DISABLED',
  trust: 'REQUIRED',
  'verify-ca': 'VERIFY_CA',
  'verify-full': 'VERIFY_IDENTITY',
  strict: 'VERIFY_IDENTITY',
  accept_invalid_certs: 'REQUIRED',
};

/** mysql2 and PlanetScale's examples: ssl={"rejectUnauthorized":true}. */
function sslModeOf(value: string): string {
  if (TRUE.test(value) || /"rejectUnauthorized"\s*:\s*true/.test(value)) return 'VERIFY_IDENTITY';
  if (/^(?:false|0|no)$/i.test(value)) return 'DISABLED';
  return /"rejectUnauthorized"\s*:\s*false/.test(value) ? 'REQUIRED' : value;
}

function seconds(value: string): string {
  return /^\d+$/.test(value) ? `${value}s` : value;
}

function milliseconds(value: string): string {
  return /^\d+$/.test(value) ? `${value}ms` : value;
}

/** Each gives a parameter and its value, or null where there is nothing to say. */
const SYNONYMS: Readonly<Record<string, (value: string) => readonly [string, string] | null>> = {
  sslMode: (value) => ['ssl-mode', SSL_MODES[value] ?? value],
  sslmode: (value) => ['ssl-mode', SSL_MODES[value] ?? value],
  ssl_mode: (value) => ['ssl-mode', SSL_MODES[value] ?? value],
  sslaccept: (value) => ['ssl-mode', SSL_MODES[value] ?? value],
  ssl: (value) => ['ssl-mode', sslModeOf(value)],
  verifyServerCertificate: (value) => (TRUE.test(value) ? ['ssl-mode', 'VERIFY_CA'] : null),
  requireSSL: (value) => (TRUE.test(value) ? ['ssl-mode', 'REQUIRED'] : null),
  // As Connector/J 5 has it: encrypted where the server can.
  useSSL: (value) => ['ssl-mode', TRUE.test(value) ? 'PREFERRED' : 'DISABLED'],
  ssl_ca: (value) => ['ssl-ca', value],
  ssl_cert: (value) => ['ssl-cert', value],
  ssl_key: (value) => ['ssl-key', value],
  // Prisma calls the authority's certificate so.
  sslcert: (value) => ['ssl-ca', value],
  connectTimeout: (value) => ['timeout', milliseconds(value)],
  connect_timeout: (value) => ['timeout', seconds(value)],
  unix_socket: (value) => ['socket', value],
};

/** The parameters of a DSN in the Go driver's words. */
export function fromVendors(given: ReadonlyMap<string, string>): Map<string, string> {
  const plain = new Map([...given].filter(([name]) => !PASSED_OVER.has(name) && !(name in SYNONYMS)));
  const says = (name: string) => plain.has(name) || (name === 'ssl-mode' && plain.has('tls'));
  // In the order in which they stand there: what checks a certificate goes before what only encrypts.
  for (const [name, synonym] of Object.entries(SYNONYMS)) {
    const value = given.get(name);
    const pair = value === undefined ? null : synonym(value);
    if (pair !== null && !says(pair[0])) plain.set(...pair);
  }
  return plain;
}
