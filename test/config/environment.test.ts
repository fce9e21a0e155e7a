import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DATABASES, pathOf, place } from './support.ts';

test('every kind of value comes from the environment', (t) => {
  const { load } = place(t);
  const config = load({
    env: {
      DUNGBEETLE_APP__LOG_LEVEL: 'ERROR',
      DUNGBEETLE_APP__DEFAULT_JOB_TTL: '90',
      DUNGBEETLE_APP__MAX_ROWS: '12',
      DUNGBEETLE_SERVER: '[::1]:7070',
      DUNGBEETLE_SQL_DIRECTORY: '/a,/b',
      DUNGBEETLE_QUEUE: 'high',
      DUNGBEETLE_WORKER_NAME: 'w',
      DUNGBEETLE_WORKER_ONLY: 'T',
      DUNGBEETLE_JOB_QUEUE__STATE__EXPIRY: '1h',
      DUNGBEETLE_RESULTS__REPORTS__RESULTS_TABLE: 'r_%s',
      DUNGBEETLE_DB__LEDGER__MAX_ACTIVE: '3',
      PATH: '/bin',
    },
  });
  assert.equal(config.app.log_level, 'error');
  assert.equal(config.app.default_job_ttl_ms, 90_000);
  assert.equal(config.app.max_rows, 12);
  assert.deepEqual(config.server, { host: '::1', port: 7_070 });
  assert.deepEqual(config.sql_directories, ['/a', '/b']);
  assert.deepEqual(config.queues, ['high']);
  assert.deepEqual(config.worker, { name: 'w', concurrency: 10, only: true });
  assert.equal(config.store.expiry_ms, 3_600_000);
  assert.equal(config.results['reports']?.results_table, 'r_%s');
  assert.equal(config.db['ledger']?.max_active, 3);
});

test("names are matched with the file's, in any case, and new ones are made", (t) => {
  const { load, message } = place(t);
  const toml = DATABASES.replace('db.ledger', 'db.My-Ledger');
  const config = load({
    toml,
    env: {
      DUNGBEETLE_DB__MY_LEDGER__DSN: '/one.db',
      dungbeetle_db__other__type: 'sqlite',
      Dungbeetle_Db__Other__Dsn: '/two.db',
    },
  });
  assert.deepEqual(Object.keys(config.db), ['My-Ledger', 'other']);
  assert.equal(pathOf(config.db['My-Ledger']), '/one.db');
  assert.equal(pathOf(config.db['other']), '/two.db');
  assert.equal(
    message({
      toml: `${toml}[db.my_ledger]\ntype = "sqlite"\ndsn = "x.db"\n`,
      env: { DUNGBEETLE_DB__MY_LEDGER__DSN: '/one.db' },
    }),
    'environment: DUNGBEETLE_DB__MY_LEDGER__DSN: it could mean db.My-Ledger or db.my_ledger; rename one of them in the file',
  );
});

test('the environment can name the file', (t) => {
  const { load, message } = place(t);
  const env = { DUNGBEETLE_CONFIG: 'config.toml' };
  assert.equal(load({ env }).worker.concurrency, 10);
  assert.equal(
    message({ env: { DUNGBEETLE_CONFIG: '' } }),
    'environment: DUNGBEETLE_CONFIG: must be a file name',
  );
});

test('each mistake in the environment gets a line that names the variable and the fix', (t) => {
  const { message } = place(t);
  for (const [variable, value, expected] of [
    [
      'DUNGBEETLE_APP__LOG_LEVLE',
      'info',
      'environment: DUNGBEETLE_APP__LOG_LEVLE: unknown variable; did you mean DUNGBEETLE_APP__LOG_LEVEL?',
    ],
    [
      'DUNGBEETLE_DB__LEDGER__DNS',
      'x',
      'environment: DUNGBEETLE_DB__LEDGER__DNS: unknown variable; did you mean DUNGBEETLE_DB__LEDGER__DSN?',
    ],
    [
      'DUNGBEETLE_SERVRE',
      ':1',
      'environment: DUNGBEETLE_SERVRE: unknown variable; did you mean DUNGBEETLE_SERVER?',
    ],
    [
      'DUNGBEETLE_LICENCE',
      'x',
      'environment: DUNGBEETLE_LICENCE: unknown variable; see "Environment" in docs/configuration.md',
    ],
    [
      'DUNGBEETLE_',
      'x',
      'environment: DUNGBEETLE_: unknown variable; see "Environment" in docs/configuration.md',
    ],
    [
      'DUNGBEETLE_PORT',
      '8080',
      'environment: DUNGBEETLE_PORT: unknown variable; see "Environment" in docs/configuration.md',
    ],
    [
      'DUNGBEETLE_DB__LEDGER',
      'x.db',
      'environment: DUNGBEETLE_DB__LEDGER: db.ledger is a section with keys of its own, not a value',
    ],
    [
      'DUNGBEETLE_APP__MAX_CRASHES',
      'three',
      'environment: DUNGBEETLE_APP__MAX_CRASHES: must be a whole number from 1 to 1000',
    ],
    [
      'DUNGBEETLE_APP__MAX_ROWS',
      '',
      'environment: DUNGBEETLE_APP__MAX_ROWS: must be a whole number, or 0 for no limit',
    ],
    ['DUNGBEETLE_WORKER_ONLY', 'yes', 'environment: DUNGBEETLE_WORKER_ONLY: must be true or false'],
    [
      'DUNGBEETLE_QUEUE',
      'a,,b',
      'environment: DUNGBEETLE_QUEUE: must be one or more strings, none of them empty',
    ],
    [
      'DUNGBEETLE_DB__NEW__DSN',
      'x.db',
      'config.toml: db.new.type: missing; supported: "sqlite", "postgres", "mysql", "mariadb", "clickhouse"',
    ],
  ] as const) {
    assert.equal(message({ env: { [variable]: value } }), expected);
  }
  assert.equal(
    message({ env: { DUNGBEETLE_SERVER: ':1', dungbeetle_server: ':2' } }),
    'environment: dungbeetle_server: DUNGBEETLE_SERVER sets the same key; drop one of them',
  );
});

test('what Kubernetes says of a service called dungbeetle is no configuration', (t) => {
  const { load } = place(t);
  const config = load({
    env: {
      DUNGBEETLE_SERVICE_HOST: '10.0.0.1',
      DUNGBEETLE_SERVICE_PORT: '6060',
      DUNGBEETLE_SERVICE_PORT_HTTP: '6060',
      DUNGBEETLE_PORT: 'tcp://10.0.0.1:6060',
      DUNGBEETLE_PORT_6060_TCP: 'tcp://10.0.0.1:6060',
      DUNGBEETLE_PORT_6060_TCP_PROTO: 'tcp',
      DUNGBEETLE_PORT_6060_TCP_PORT: '6060',
      DUNGBEETLE_PORT_6060_TCP_ADDR: '10.0.0.1',
      DUNGBEETLE_API_SERVICE_HOST: '10.0.0.2',
    },
  });
  assert.equal(config.server.port, 6_060);
});
