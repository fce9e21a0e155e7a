import assert from 'node:assert/strict';
import { linkSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { DATABASES, pathOf, place } from './support.ts';

test('two databases are enough; all else has defaults', (t) => {
  const { folder, load } = place(t);
  const config = load({});
  assert.deepEqual(config.app, {
    log_level: 'info',
    default_job_ttl_ms: null,
    default_job_ttl_key: 'default_job_ttl',
    shutdown_timeout_ms: 30_000,
    max_rows: null,
    max_bytes: null,
    max_value_bytes: 64_000_000,
    allowed_hosts: [],
    body_limit: 1_048_576,
    ready: ['store'],
    lease_ms: 10_000,
    heartbeat_ms: 3_000,
    sweep_ms: 2_000,
    results_sweep_ms: 60_000,
    max_crashes: 3,
    key_concurrency: 5,
  });
  assert.equal(config.file, join(folder, 'config.toml'));
  assert.deepEqual(config.server, { host: '127.0.0.1', port: 6060 });
  assert.deepEqual(config.sql_directories, [join(folder, 'sql')]);
  assert.equal(config.queues, null);
  assert.deepEqual(config.worker, { name: `${hostname()}-${process.pid}`, concurrency: 10, only: false });
  assert.deepEqual(config.store, {
    type: 'sqlite',
    path: join(folder, 'queue.db'),
    expiry_ms: 604_800_000,
    meta_expiry_ms: 604_800_000,
  });
  assert.deepEqual(
    { ...config.results },
    {
      reports: {
        type: 'sqlite',
        path: join(folder, 'results.db'),
        results_table: 'results_%s',
        ttl_ms: null,
      },
    },
  );
  assert.deepEqual(
    { ...config.db },
    {
      ledger: {
        type: 'sqlite',
        path: join(folder, 'ledger.db'),
        concurrency: null,
        max_active: 10,
        max_idle: 2,
      },
    },
  );
  assert.equal(config.db['toString'], undefined, 'no name is found that was not given');
});

test('every key of the file is read', (t) => {
  const { folder, load } = place(t);
  const config = load({
    toml: `
server = ":7070"
sql-directory = ["tasks", "/more"]
queue = "high, low"
worker_name = "w1"
worker_concurrency = 4
worker_only = true
[app]
log_level = "DEBUG"
default_job_ttl = "1m30s"
shutdown_timeout = 0
max_rows = 1_000
max_bytes = 2_000
max_value_bytes = 3_000
allowed_hosts = ["reports.example.com"]
ready = ["store", "db"]
body_limit = 2048
lease = "1s"
heartbeat = "300ms"
sweep = "1.5s"
results_sweep = 5
max_crashes = 7
key_concurrency = 0
[job_queue.broker]
type = "sqlite"
path = "sub/q.db"
[job_queue.state]
type = "sqlite"
path = "./sub/q.db"
expiry = "30s"
meta_expiry = "1h"
[results.Big-One]
type = "sqlite"
dsn = "sqlite:///r/results.db"
results_table = "report_%s_v1"
results_ttl = "24h"
max_active = 3
max_idle = 1
connect_timeout = "2s"
[db.a]
type = "sqlite"
dsn = "plain path.db"
concurrency = 3
max_active = 100
max_idle = 0
connect_timeout = "10s"
`,
  });
  assert.deepEqual(config, {
    file: join(folder, 'config.toml'),
    app: {
      log_level: 'debug',
      default_job_ttl_ms: 90_000,
      default_job_ttl_key: 'default_job_ttl',
      shutdown_timeout_ms: 0,
      max_rows: 1_000,
      max_bytes: 2_000,
      max_value_bytes: 3_000,
      allowed_hosts: ['reports.example.com'],
      body_limit: 2_048,
      ready: ['store', 'db'],
      lease_ms: 1_000,
      heartbeat_ms: 300,
      sweep_ms: 1_500,
      results_sweep_ms: 5_000,
      max_crashes: 7,
      key_concurrency: null,
    },
    server: { host: '0.0.0.0', port: 7070 },
    sql_directories: [join(folder, 'tasks'), '/more'],
    queues: ['high', 'low'],
    worker: { name: 'w1', concurrency: 4, only: true },
    store: { type: 'sqlite', path: join(folder, 'sub/q.db'), expiry_ms: 30_000, meta_expiry_ms: 3_600_000 },
    results: Object.assign(Object.create(null), {
      'Big-One': {
        type: 'sqlite',
        path: '/r/results.db',
        results_table: 'report_%s_v1',
        ttl_ms: 86_400_000,
      },
    }),
    db: Object.assign(Object.create(null), {
      a: {
        type: 'sqlite',
        path: join(folder, 'plain path.db'),
        concurrency: 3,
        max_active: 100,
        max_idle: 0,
      },
    }),
  });
});

test('flags go over the environment, the environment over the file, the file over defaults', (t) => {
  const { load } = place(t);
  const toml = `worker_concurrency = 3\n${DATABASES}`;
  const env = { DUNGBEETLE_WORKER_CONCURRENCY: '4' };
  const argv = ['--worker-concurrency', '5'];
  assert.equal(load({}).worker.concurrency, 10);
  assert.equal(load({ toml }).worker.concurrency, 3);
  assert.equal(load({ toml, env }).worker.concurrency, 4);
  assert.equal(load({ toml, env, argv }).worker.concurrency, 5);
});

test('paths of the file are relative to its folder, those of flags and environment to the working directory', (t) => {
  const { folder, load } = place(t);
  mkdirSync(join(folder, 'etc'));
  writeFileSync(join(folder, 'etc', 'db.toml'), `sql_directory = "tasks"\n${DATABASES}`);
  const argv = ['--config', 'etc/db.toml'];
  const config = load({ toml: null, argv, env: { DUNGBEETLE_RESULTS__REPORTS__DSN: 'sqlite:here.db' } });
  assert.equal(config.file, join(folder, 'etc', 'db.toml'));
  assert.deepEqual(config.sql_directories, [join(folder, 'etc', 'tasks')]);
  assert.equal(pathOf(config.store), join(folder, 'etc', 'queue.db'));
  assert.equal(pathOf(config.db['ledger']), join(folder, 'etc', 'ledger.db'));
  assert.equal(pathOf(config.results['reports']), join(folder, 'here.db'));
  const flagged = load({ toml: null, argv: [...argv, '--sql-directory', 'mine'] });
  assert.deepEqual(flagged.sql_directories, [join(folder, 'mine')]);
});

test('the file may be missing only if it is the default one and the environment gives databases', (t) => {
  const { folder, load, message } = place(t);
  const env = {
    DUNGBEETLE_DB__A__TYPE: 'sqlite',
    DUNGBEETLE_DB__A__DSN: 'a.db',
    DUNGBEETLE_RESULTS__R__TYPE: 'sqlite',
    DUNGBEETLE_RESULTS__R__DSN: 'r.db',
  };
  const config = load({ toml: null, env });
  assert.equal(config.file, null);
  assert.equal(pathOf(config.db['a']), join(folder, 'a.db'));
  assert.equal(pathOf(config.store), join(folder, 'queue.db'));
  assert.match(message({ toml: null }), /^config\.toml: no such file; .*--config.*--new-config/);
  assert.match(message({ toml: null, env, argv: ['--config', 'my.toml'] }), /^my\.toml: no such file/);
  assert.match(
    message({ toml: null, env: { ...env, DUNGBEETLE_CONFIG: 'e.toml' } }),
    /^e\.toml: no such file/,
  );
  assert.match(message({ toml: null, argv: ['--config', '.'] }), /^\.: cannot be read: it is a folder$/);
});

test('the store may be in memory, and named by the broker alone', (t) => {
  const { folder, load, message } = place(t);
  const store = (section: string, path: string) => `${DATABASES}[job_queue.${section}]\npath = "${path}"\n`;
  assert.equal(pathOf(load({ toml: store('state', ':memory:') }).store), ':memory:');
  assert.equal(pathOf(load({ toml: store('broker', 'b.db') }).store), join(folder, 'b.db'));
  assert.equal(
    message({ toml: `${store('broker', 'b.db')}[job_queue.state]\npath = "s.db"\n` }),
    'config.toml: job_queue.broker.path: must be the same as job_queue.state.path: the store is its own broker; drop one of them',
  );
});

test('the store and each results backend have a file to themselves, also under another name', (t) => {
  const { folder, load, message } = place(t);
  const databases = (results: string, db: string, second = 'second.db') => `
[results.reports]
type = "sqlite"
dsn = "${results}"
[results.second]
type = "sqlite"
dsn = "${second}"
[db.ledger]
type = "sqlite"
dsn = "${db}"
`;
  assert.equal(pathOf(load({ toml: databases('r.db', 'r.db') }).db['ledger']), join(folder, 'r.db'));
  assert.equal(
    message({ toml: databases('sqlite:./queue.db', 'l.db') }),
    'config.toml: results.reports.dsn: the same file as the store of the queue; give each a file of its own',
  );
  assert.match(
    message({ toml: databases('r.db', 'queue.db') }),
    /db\.ledger\.dsn: the same file as the store of the queue/,
  );
  assert.match(
    message({ toml: databases('r.db', 'l.db', 'r.db') }),
    /results\.second\.dsn: the same file as results\.reports/,
  );
  symlinkSync(folder, join(folder, 'link'));
  assert.match(message({ toml: databases('link/queue.db', 'l.db') }), /the same file as the store/);
  writeFileSync(join(folder, 'queue.db'), '');
  linkSync(join(folder, 'queue.db'), join(folder, 'hard.db'));
  assert.match(
    message({ toml: databases('r.db', 'hard.db') }),
    /db\.ledger\.dsn: the same file as the store/,
  );
});

test('SQLite is written in many ways, and nothing else is taken for it', (t) => {
  const { folder, load, message } = place(t);
  const toml = (dsn: string) => DATABASES.replace('sqlite:ledger.db', dsn);
  for (const [dsn, path] of [
    ['x.db', join(folder, 'x.db')],
    ['/abs/x.db', '/abs/x.db'],
    ['sqlite:x.db', join(folder, 'x.db')],
    ['sqlite:/abs/x.db', '/abs/x.db'],
    ['sqlite://x.db', join(folder, 'x.db')],
    ['sqlite:///abs/x.db', '/abs/x.db'],
    ['sqlite3:///abs/x.db', '/abs/x.db'],
    ['jdbc:sqlite:/abs/x.db', '/abs/x.db'],
    ['file:///abs/a%20b.db', '/abs/a b.db'],
    ['sqlite:100%25.db', join(folder, '100%25.db')],
  ] as const) {
    assert.equal(pathOf(load({ toml: toml(dsn) }).db['ledger']), path, dsn);
  }
  for (const dsn of [
    '',
    'sqlite:',
    ':memory:',
    'sqlite::memory:',
    'postgres://u:p@h/d',
    'x.db?mode=rw',
    'file:x.db',
  ]) {
    assert.equal(
      message({ toml: toml(dsn) }),
      'config.toml: db.ledger.dsn: must be a SQLite file: "sqlite:file.db", "sqlite:///abs/file.db" or a path, without "?"',
      dsn,
    );
  }
});

test('a heartbeat is less than half of a lease; the message names the one that was set', (t) => {
  const { load, message } = place(t);
  const app = (lines: string) => `[app]\n${lines}\n${DATABASES}`;
  assert.equal(load({ toml: app('lease = "1s"\nheartbeat = "499ms"') }).app.heartbeat_ms, 499);
  assert.match(
    message({ toml: app('lease = "1s"\nheartbeat = "500ms"') }),
    /^config\.toml: app\.heartbeat: /,
  );
  assert.match(message({ toml: app('lease = "6s"') }), /^config\.toml: app\.lease: /);
  assert.match(message({ env: { DUNGBEETLE_APP__LEASE: '6s' } }), /^environment: DUNGBEETLE_APP__LEASE: /);
});

test('of default_job_ttl and timeout the shorter one holds', (t) => {
  const { load } = place(t);
  const limit = (lines: string) => load({ toml: `${DATABASES}\n[app]\n${lines}` }).app.default_job_ttl_ms;
  assert.equal(limit('timeout = "5s"'), 5_000);
  assert.equal(limit('default_job_ttl = "60s"\ntimeout = "5s"'), 5_000);
  assert.equal(limit('default_job_ttl = "60s"\ntimeout = "90s"'), 60_000);
  assert.equal(limit('default_job_ttl = "60s"\ntimeout = 0'), 60_000);
  const key = (lines: string) => load({ toml: `${DATABASES}\n[app]\n${lines}` }).app.default_job_ttl_key;
  assert.equal(key('default_job_ttl = "60s"\ntimeout = "5s"'), 'timeout');
  assert.equal(key('default_job_ttl = "60s"\ntimeout = "90s"'), 'default_job_ttl');
});
