/**
 * What other clients and hosting companies write into Postgres' connection strings, in libpq's words. What only tunes a
 * client's own pool or cache is passed over; what has no equal here is refused with what to write instead.
 */

/** Of programs that are not this one: their pools, caches and protocols. */
const PASSED_OVER = new Set([
  // Prisma, and Supabase's examples for it
  ...['pgbouncer', 'connection_limit', 'pool_timeout', 'socket_timeout', 'statement_cache_size', 'supa'],
  'workaround',
  // JDBC
  ...['prepareThreshold', 'preparedStatementCacheQueries', 'preparedStatementCacheSizeMiB', 'binaryTransfer'],
  ...['defaultRowFetchSize', 'reWriteBatchedInserts', 'tcpKeepAlive', 'socketTimeout', 'stringtype'],
  ...[
    'assumeMinServerVersion',
    'autosave',
    'cleanupSavepoints',
    'logUnclosedConnections',
    'hostRecheckSeconds',
  ],
  // pgx
  ...['pool_max_conns', 'pool_min_conns', 'pool_max_conn_lifetime', 'pool_max_conn_idle_time'],
  ...['pool_health_check_period', 'default_query_exec_mode', 'statement_cache_capacity'],
  'description_cache_capacity',
  // node-postgres: libpq's meaning of sslmode is ours already.
  'uselibpqcompat',
]);

const INSTEAD: Readonly<Record<string, string>> = {
  sslidentity: 'write sslcert=… and sslkey=…, PEM files that "openssl pkcs12" makes of it',
  sslfactory: 'write sslmode=verify-full and sslrootcert=/path/of/ca.pem',
  sslfactoryarg: 'write sslmode=verify-full and sslrootcert=/path/of/ca.pem',
  sslhostnameverifier: 'write sslmode=verify-ca for a certificate of another name',
  sslpasswordcallback: 'write sslkey=… with a key that has no passphrase',
  sslpassword: 'write sslkey=… with a key that has no passphrase',
  gssEncMode: 'a login by Kerberos is not supported; use a password or a certificate',
  jaasApplicationName: 'a login by Kerberos is not supported; use a password or a certificate',
  socketFactory: 'a cloud’s own connector is not supported; name a host that can be reached',
  service: 'write what the service file has',
  passfile: 'write the password',
  readOnly: 'leave it out: sources are only read',
};

/** What to write in place of a keyword that is not supported. */
export function instead(keyword: string): string | undefined {
  return INSTEAD[keyword];
}

/** JDBC's targetServerType. */
const TARGETS: Readonly<Record<string, string>> = {
  any: 'any',
  primary: 'primary',
  master: 'primary',
  secondary: 'standby',
  slave: 'standby',
  preferSecondary: 'prefer-standby',
  preferSlave: 'prefer-standby',
};

/** Each gives a keyword of libpq and its value, or null where there is nothing to say. */
const SYNONYMS: Readonly<Record<string, (value: string) => readonly [string, string] | null>> = {
  // Prisma: one schema, whatever characters it has.
  schema: (value) => ['search_path', `"${value.replaceAll('"', '""')}"`],
  sslaccept: (value) => (value === 'strict' ? ['sslmode', 'verify-full'] : null),
  // JDBC
  currentSchema: (value) => ['search_path', value],
  ApplicationName: (value) => ['application_name', value],
  connectTimeout: (value) => ['connect_timeout', value],
  loginTimeout: (value) => ['connect_timeout', value],
  channelBinding: (value) => ['channel_binding', value],
  databaseName: (value) => ['dbname', value],
  loadBalanceHosts: (value) => ['load_balance_hosts', value === 'true' ? 'random' : 'disable'],
  targetServerType: (value) => ['target_session_attrs', TARGETS[value] ?? value],
  // libpq knows "ssl=true" too; others write any mode there.
  ssl: (value) => [
    'sslmode',
    { true: 'require', '1': 'require', false: 'disable', '0': 'disable' }[value] ?? value,
  ],
};

/** A DSN's parameters in libpq's words. */
export function fromVendors(given: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const plain = new Map(
    [...given].filter(([keyword]) => !PASSED_OVER.has(keyword) && !(keyword in SYNONYMS)),
  );
  for (const [keyword, value] of given) {
    const pair = SYNONYMS[keyword]?.(value);
    // What libpq's own word says holds, but that Prisma asks for a certificate that is checked.
    if (pair && (keyword === 'sslaccept' || !plain.has(pair[0]))) plain.set(...pair);
  }
  return plain;
}
