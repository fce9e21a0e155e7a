import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkDsn, clientConfig, describeDsn } from '../../../src/util/postgres/dsn.ts';

function parts(dsn: string) {
  const { servers, user, database, tls, password } = clientConfig(dsn);
  const [{ host, port } = { host: '', port: 0 }] = servers;
  assert.equal(servers.length, 1);
  return { host, port, user, database, sslmode: tls.mode, password: password() };
}

test('URLs and keywords', () => {
  const full = { host: 'db', port: 5433, user: 'u', database: 'd', sslmode: 'require', password: 'p' };
  assert.deepEqual(parts('postgres://u:p@db:5433/d?sslmode=require'), full);
  assert.deepEqual(parts('postgresql://u:p@db:5433/d?ssl=true'), full);
  assert.deepEqual(parts("host=db port=5433 user = u password='p' dbname=d sslmode=require"), full);
  const least = { host: 'localhost', port: 5432, user: 'u', database: 'u', sslmode: 'prefer', password: '' };
  assert.deepEqual(parts('postgres://u@'), least);
  assert.deepEqual(parts('user=u'), least);
  assert.deepEqual(parts('postgres://u:a%40%2Fb:c@[::1]/d%20e'), {
    ...least,
    host: '::1',
    password: 'a@/b:c',
    database: 'd e',
  });
  assert.deepEqual(parts("user=u password='it\\'s \\\\ x' dbname='' host=/run/pg"), {
    ...least,
    host: '/run/pg',
    password: "it's \\ x",
  });
  assert.deepEqual(parts('postgres://u@/d?host=/run/pg&port=5433'), {
    ...least,
    host: '/run/pg',
    port: 5433,
    database: 'd',
  });
});

test('what else a DSN can say', () => {
  const config = clientConfig(
    'postgres://u@db/d?connect_timeout=3&application_name=reports&search_path=a,b&options=-c%20jit%3Doff&binary_parameters=yes',
  );
  assert.deepEqual(
    [config.connect_timeout_ms, config.application_name, config.options, config.settings],
    [3000, 'reports', undefined, { jit: 'off', search_path: 'a,b' }],
  );
  // Of the command line only settings are understood: all else is left to the server.
  for (const [options, settings] of [
    [
      String.raw`-c search_path=a\ b,c --enable-seqscan=off  -cTimeZone=UTC`,
      { search_path: 'a b,c', enable_seqscan: 'off', TimeZone: 'UTC' },
    ],
    ['-c jit=off -P', null],
    ['-c jit', null],
  ] as const) {
    const read = clientConfig(`user=u options='${options.replaceAll('\\', '\\\\')}'`);
    assert.deepEqual(
      [read.options, read.settings],
      settings === null ? [options, {}] : [undefined, settings],
    );
  }
  assert.equal(clientConfig('user=u connect_timeout=0').connect_timeout_ms, null);
  assert.deepEqual(clientConfig('user=u sslmode=verify-full sslrootcert=/ca sslcert=/c sslkey=/k').tls, {
    mode: 'verify-full',
    rootcert: '/ca',
    cert: '/c',
    key: '/k',
  });
});

test('nothing comes from the environment', (t) => {
  const before = { ...process.env };
  t.after(() => {
    process.env = before;
  });
  Object.assign(process.env, { PGUSER: 'other', PGPASSWORD: 'other', PGHOST: 'other', PGDATABASE: 'other' });
  assert.equal(checkDsn('host=db'), 'it names no user');
  assert.deepEqual(parts('user=u'), {
    host: 'localhost',
    port: 5432,
    user: 'u',
    database: 'u',
    sslmode: 'prefer',
    password: '',
  });
});

test('what is wrong is told without a word of the DSN', () => {
  const wrong: readonly [string, RegExp][] = [
    ['', /empty/],
    ['s3cret', /neither/],
    ['mysql://u:s3cret@db/d', /not a postgres/],
    ['postgres://:s3cret@db/d', /no user/],
    ['postgres://u:s3cret/x@db/d', /%2F/],
    ['postgres://u:s3cret#x@db/d', /%23/],
    ['postgres://u:s3cret%@db/d', /%25/],
    ['postgres://u:s3cret@db,db2:s3cret/d', /port/],
    ['host=a,b,c port=1,2 user=u password=s3cret', /as many as its hosts/],
    ['postgres://u:s3cret@db/d?load_balance_hosts=s3cret', /not one of disable, random/],
    ['postgres://u:s3cret@db/d?channel_binding=require', /takes TLS/],
    ['postgres://u:s3cret@db/d?sslidentity=s3cret.p12', /"sslidentity" is not supported: write sslcert=/],
    ['postgres://u:s3cret@db/d?sslmode=require&sslcert=s3cret.pem', /is sslrootcert/],
    ['Host=db;Username=u;Password=s3cret;Database=d', /";": write postgres:/],
    ['postgres://u:s3cret@db:s3cret/d', /port/],
    ['postgres://u:s3cret@db:70000/d', /port/],
    ['postgres://u:s3cret@db/d?sslmode=s3cret', /sslmode/],
    ['postgres://u:s3cret@db/d?connect_timeout=s3cret', /connect_timeout/],
    ['postgres://u:s3cret@db/d?s3cret', /name=value/],
    ['postgres://u:s3cret@db/d?sslcert=s3cret', /sslkey/],
    ['postgres://u:s3cret@db/d?service=s3cret', /"service" is not supported: write what/],
    ['postgres://u:s3cret@db/d?target_session_attrs=s3cret', /target_session_attrs/],
    ["user=u password='s3cret", /neither/],
    ['user=u\0s3cret', /NUL/],
  ];
  for (const [dsn, message] of wrong) {
    const found = checkDsn(dsn);
    assert.match(found ?? '', message, dsn);
    assert.doesNotMatch(found ?? '', /s3cret/);
    assert.throws(() => clientConfig(dsn), TypeError);
  }
  assert.equal(checkDsn('postgres://u:p@db/d'), null);
});

test('a description names neither user nor password', () => {
  assert.equal(describeDsn('postgres://u:s3cret@db/d'), 'db:5432/d');
  assert.equal(describeDsn('postgres://u:s3cret@[::1]:1/d'), '[::1]:1/d');
});

test('several hosts, and what one of them must be', () => {
  const of = (dsn: string, options?: { writes: boolean }) => {
    const { servers, target, random_order } = clientConfig(dsn, options);
    return [servers.map(({ host, port }) => `${host}:${port}`).join(' '), target, random_order];
  };
  assert.deepEqual(of('postgres://u@a:1,b,[::1]:3/d'), ['a:1 b:5432 ::1:3', 'any', false]);
  assert.deepEqual(of('host=a,b port=1,2 user=u'), ['a:1 b:2', 'any', false]);
  assert.deepEqual(of('host=a,b port=7 user=u load_balance_hosts=random'), ['a:7 b:7', 'any', true]);
  assert.deepEqual(of('host=a,b user=u target_session_attrs=prefer-standby'), [
    'a:5432 b:5432',
    'prefer-standby',
    false,
  ]);
  assert.deepEqual(of('postgres://u@a,b/d', { writes: true }), ['a:5432 b:5432', 'read-write', false]);
  assert.deepEqual(of('postgres://u@a/d', { writes: true }), ['a:5432', 'any', false]);
  assert.match(
    checkDsn('postgres://u@a,b/d?target_session_attrs=standby', { writes: true }) ?? '',
    /must be read-write, primary or any/,
  );
  assert.equal(describeDsn('postgres://u:s3cret@a:1,[::1]/d'), 'a:1,[::1]:5432/d');
});

test('words of other clients and of hosting companies', () => {
  const plain = clientConfig('postgres://u:p@db/d?sslmode=require');
  const same = (dsn: string, other: object = {}) => {
    const { password, ...config } = clientConfig(dsn);
    const { password: _, ...wanted } = plain;
    assert.equal(password(), 'p');
    assert.deepEqual(config, { ...wanted, ...other }, dsn);
  };
  same('postgres://u:p@db/d?sslmode=require&pgbouncer=true&connection_limit=1&pool_timeout=0');
  same('postgresql+asyncpg://u:p@db/d?ssl=require');
  same('jdbc:postgresql://db/d?user=u&password=p&ssl=true&prepareThreshold=0&reWriteBatchedInserts=true');
  same('postgres://u:p@db/d?sslmode=require&channel_binding=require', { channel_binding: 'require' });
  same('postgres://u:p@db/d?sslmode=require&options=endpoint%3Dep-cool-1', { options: 'endpoint=ep-cool-1' });
  same('postgres://u:p@db/d?sslmode=require&schema=My%20app', { settings: { search_path: '"My app"' } });
  same('postgres://u:p@db/d?ssl=require&currentSchema=a,b&ApplicationName=x&loginTimeout=3', {
    settings: { search_path: 'a,b' },
    application_name: 'x',
    connect_timeout_ms: 3000,
  });
  same('postgres://u:p@db/d?sslmode=require&targetServerType=preferSecondary', { target: 'prefer-standby' });
  same('postgres://u:p@db/d?sslmode=require&sslaccept=strict', {
    tls: { ...plain.tls, mode: 'verify-full' },
  });
  same('postgres://u:p@db/d?sslmode=require&sslaccept=accept_invalid_certs');
});
