import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkDsn, clientConfig, describeDsn } from '../../../src/util/postgres/dsn.ts';

function parts(dsn: string) {
  const { host, port, user, database, tls, password } = clientConfig(dsn);
  assert.ok(typeof password === 'function');
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
    [3000, 'reports', '-c jit=off', { search_path: 'a,b' }],
  );
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
    ['postgres://u:s3cret@db,db2/d', /several hosts/],
    ['postgres://u:s3cret@db:s3cret/d', /port/],
    ['postgres://u:s3cret@db:70000/d', /port/],
    ['postgres://u:s3cret@db/d?sslmode=s3cret', /sslmode/],
    ['postgres://u:s3cret@db/d?connect_timeout=s3cret', /connect_timeout/],
    ['postgres://u:s3cret@db/d?s3cret', /name=value/],
    ['postgres://u:s3cret@db/d?sslcert=s3cret', /sslkey/],
    ['postgres://u:s3cret@db/d?service=s3cret', /"service" is not supported/],
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
