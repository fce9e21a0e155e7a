/** Connection strings of MySQL and MariaDB, and what is said of those that are none. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { checkDsn, connectionOptions, describeDsn } from '../../../src/databases/mysql/dsn.ts';

const GOOD: readonly (readonly [dsn: string, place: string, user: string, password: string])[] = [
  ['root:secret@tcp(db.example.com:3307)/app', 'db.example.com:3307/app', 'root', 'secret'],
  ['root:secret@tcp(db.example.com)/app', 'db.example.com:3306/app', 'root', 'secret'],
  ['root@tcp(10.0.0.1:3306)/', '10.0.0.1:3306/', 'root', ''],
  ['root:@/app', '127.0.0.1:3306/app', 'root', ''],
  ['root:secret@tcp/app', '127.0.0.1:3306/app', 'root', 'secret'],
  ['root:secret@(db)/app', 'db:3306/app', 'root', 'secret'],
  ['root:secret@tcp([de:ad:be:ef::ca:fe]:80)/app', '[de:ad:be:ef::ca:fe]:80/app', 'root', 'secret'],
  ['root:secret@unix(/run/mysqld/mysqld.sock)/app', '/run/mysqld/mysqld.sock/app', 'root', 'secret'],
  ['root:secret@unix/app', '/tmp/mysql.sock/app', 'root', 'secret'],
  ['root:p@ss:w/o?rd&x=(1)@tcp(db:1)/app?parseTime=true', 'db:1/app', 'root', 'p@ss:w/o?rd&x=(1)'],
  ['root:@tcp(evil)/x@tcp(db)/app', 'db:3306/app', 'root', '@tcp(evil)/x'],
  ['root:%41@tcp(db)/my%2Fapp', 'db:3306/my/app', 'root', '%41'],
  ['mysql://root:secret@db:3307/app', 'db:3307/app', 'root', 'secret'],
  ['mariadb://root@db/app', 'db:3306/app', 'root', ''],
  ['mysql://ro%40t:p%40ss%3Aw%2Fo%3Frd%25@db/app', 'db:3306/app', 'ro@t', 'p@ss:w/o?rd%'],
  ['mysql://root:a:b@c@db', 'db:3306/', 'root', 'a:b@c'],
  ['mysql://root:secret@[::1]:3307/app', '[::1]:3307/app', 'root', 'secret'],
  ['jdbc:mysql://db/app?user=root&password=secret&serverTimezone=UTC', 'db:3306/app', 'root', 'secret'],
  ['mysql+pymysql://root:secret@db/app?charset=utf8mb4', 'db:3306/app', 'root', 'secret'],
  ['mysql://root:secret@localhost/app?socket=/run/m.sock', '/run/m.sock/app', 'root', 'secret'],
];

const BAD: readonly (readonly [dsn: string, message: RegExp])[] = [
  ['', /not of the form user:password@tcp/],
  ['s3cret', /not of the form/],
  ['root:s3cret@db:3306/app', /not of the form user:password@tcp\(host:3306\)\/database/],
  ['root:s3cret@tcp(db:3306)', /not of the form/],
  ['root:s3cret@udp(db:3306)/app', /not of the form/],
  ['root:s3cret@tcp(db:port)/app', /host:port/],
  ['root:s3cret@tcp(db:70000)/app', /port is not a number from 1 to 65535/],
  ['root:s3cret@tcp(de:ad:be:ef)/app', /brackets/],
  ['mysql://root:s3cret@a,b:3307/app', /several hosts are not supported/],
  ['root:s3cret@tcp(a:3306,b:3306)/app', /several hosts are not supported/],
  ['/app', /names no user/],
  ['tcp(db)/app', /names no user/],
  ['mysql://db/app', /names no user/],
  ['postgres://root:s3cret@db/app', /not a mysql:\/\/ or mariadb:\/\/ URL/],
  ['jdbc:oracle://root:s3cret@db/app', /not a mysql:\/\//],
  ['mysql://root:s3cret@db/app?sslidentity=s3cret.p12', /"sslidentity" is not supported: write ssl-cert=/],
  ['jdbc:mysql://db/app?user=root&password=s3cret&sessionVariables=s3cret', /each as a parameter/],
  ['mysql://root:s3/cret@db/app', /%23, %2F or %3F/],
  ['mysql://root:s3%cret@db/app', /write %25/],
  ['root:s3cret@tcp(db)/app?tls=s3cret', /tls is not one of true, skip-verify, preferred, false; .*&ssl-ca=/],
  ['root:s3cret@tcp(db)/app?ssl-mode=s3cret', /ssl-mode is not one of/],
  ['root:s3cret@tcp(db)/app?tls=true&ssl-mode=REQUIRED', /both tls and ssl-mode/],
  ['root:s3cret@tcp(db)/app?ssl-cert=/s3cret.pem', /ssl-cert and ssl-key/],
  ['root:s3cret@tcp(db)/app?timeout=s3cret', /timeout is not a duration/],
  ['root:s3cret@tcp(db)/app?s3cret', /name=value/],
  ['root:s3cret@tcp(db)/app?%3Bs3cret=1', /whose name is not known/],
  ['root:s3cret@tcp(db)/app?columnsWithAlias=true', /"columnsWithAlias" is not supported/],
  ['root:s3cret@tcp(db)/app?serverPubKey=s3cret', /"serverPubKey" is not supported/],
  ['root:s3cret@tcp(db)/app?character_set_results=s3cret', /cannot be set by a DSN/],
  ['root:s3cret\0@tcp(db)/app', /NUL/],
];

suite('connection strings', () => {
  for (const [dsn, place, user, password] of GOOD) {
    test(dsn, () => {
      assert.equal(checkDsn(dsn), null);
      assert.equal(describeDsn(dsn), place);
      const options = connectionOptions(dsn);
      assert.equal(options.user, user);
      assert.equal(options.password, password);
      assert.equal(options.tls.mode, 'disabled');
    });
  }

  for (const [dsn, message] of BAD) {
    test(`not: ${JSON.stringify(dsn)}`, () => {
      const wrong = checkDsn(dsn);
      assert.match(wrong ?? '', message);
      assert.doesNotMatch(wrong ?? '', /s3cret/);
      assert.throws(() => connectionOptions(dsn), TypeError);
    });
  }

  test('any user and password but for a colon in the user', () => {
    fc.assert(
      fc.property(
        fc
          .string()
          .filter((user) => user !== '' && !/[:\0]/.test(user) && !/^\s|^(mysqlx?|mariadb)$/.test(user)),
        fc.string().filter((password) => !password.includes('\0')),
        (user, password) => {
          const { host, database, ...login } = connectionOptions(`${user}:${password}@tcp(db)/app?loc=Local`);
          assert.deepEqual([login.user, login.password, host, database], [user, password, 'db', 'app']);
        },
      ),
    );
  });

  test('TLS, by the words of the Go driver and of MySQL', () => {
    const modes: readonly (readonly [parameters: string, mode: string])[] = [
      ['tls=false', 'disabled'],
      ['tls=preferred', 'preferred'],
      ['tls=skip-verify', 'required'],
      ['tls=true', 'verify-identity'],
      ['tls=TRUE', 'verify-identity'],
      ['ssl-mode=DISABLED', 'disabled'],
      ['ssl-mode=preferred', 'preferred'],
      ['ssl-mode=REQUIRED', 'required'],
      ['ssl-mode=VERIFY_CA', 'verify-ca'],
      ['ssl-mode=VERIFY_IDENTITY', 'verify-identity'],
      ['ssl-ca=/ca.pem', 'verify-identity'],
    ];
    for (const [parameters, mode] of modes) {
      assert.equal(connectionOptions(`u@/d?${parameters}`).tls.mode, mode, parameters);
      assert.equal(connectionOptions(`mysql://u@h/d?${parameters}`).tls.mode, mode, parameters);
    }
    assert.deepEqual(connectionOptions('u@/d?tls=true&ssl-ca=/a/b.pem&ssl-cert=c&ssl-key=k').tls, {
      mode: 'verify-identity',
      ca: '/a/b.pem',
      cert: 'c',
      key: 'k',
    });
  });

  test('parameters of the Go driver that mean nothing here are taken, system variables are kept', () => {
    const options = connectionOptions(
      "u@/d?parseTime=true&loc=Asia/Kolkata&charset=utf8mb4,utf8&timeout=1m30s&readTimeout=1s&autocommit=true&sql_mode='ANSI'&time_zone=%27%2B05%3A30%27&collation=utf8mb4_bin",
    );
    assert.deepEqual(options.settings, { sql_mode: "'ANSI'", time_zone: "'+05:30'" });
    assert.equal(options.connect_timeout_ms, 90_000);
    assert.equal(options.collation, 'utf8mb4_bin');
    assert.equal(connectionOptions('u@/d?timeout=0').connect_timeout_ms, null);
    assert.equal(connectionOptions('u@/d?collation=latin1_general_ci').collation, null);
    assert.equal(connectionOptions('u@/d?allowCleartextPasswords=true').enableCleartextPlugin, true);
  });
});

test('words of other clients and of hosting companies', () => {
  const of = (parameters: string) => {
    const { tls, connect_timeout_ms, settings } = connectionOptions(`mysql://root:p@db/app?${parameters}`);
    return { mode: tls.mode, ca: tls.ca, connect_timeout_ms, settings };
  };
  const plain = { ca: null, connect_timeout_ms: null, settings: {} };
  assert.deepEqual(of('useSSL=true&requireSSL=true&verifyServerCertificate=false'), {
    ...plain,
    mode: 'required',
  });
  assert.deepEqual(of('useSSL=false&allowPublicKeyRetrieval=true'), { ...plain, mode: 'disabled' });
  assert.deepEqual(of('useSSL=true'), { ...plain, mode: 'preferred' });
  assert.deepEqual(of('sslMode=VERIFY_CA&ssl_ca=/ca.pem'), { ...plain, mode: 'verify-ca', ca: '/ca.pem' });
  assert.deepEqual(of('sslMode=verify-full'), { ...plain, mode: 'verify-identity' });
  assert.deepEqual(of('sslaccept=strict&sslcert=/ca.pem&connection_limit=5'), {
    ...plain,
    mode: 'verify-identity',
    ca: '/ca.pem',
  });
  assert.deepEqual(of('ssl=%7B%22rejectUnauthorized%22%3Atrue%7D'), { ...plain, mode: 'verify-identity' });
  assert.deepEqual(of('connect_timeout=7'), { ...plain, mode: 'disabled', connect_timeout_ms: 7000 });
  assert.deepEqual(of('connectTimeout=500&sql_mode=ANSI'), {
    ...plain,
    mode: 'disabled',
    connect_timeout_ms: 500,
    settings: { sql_mode: 'ANSI' },
  });
});
