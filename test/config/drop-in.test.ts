/** The configurations that come with the Go server: word for word, but for most of their comments. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { place } from './support.ts';

const SAMPLE = `
[app]
# log level is one of : INFO, DEBUG, ERROR
log_level = "INFO"
# maximum time allowed for a job to run once it has started execution
default_job_ttl = "60s"

[job_queue.broker]
type = "redis"
addresses = ["localhost:6379"]
password = ""
db = 1
max_active = 50
max_idle = 20
dial_timeout = "1s"
read_timeout = "1s"
write_timeout = "1s"

[job_queue.state]
type = "redis"
addresses = ["localhost:6379"]
password = ""
db = 1
max_active = 50
max_idle = 20
dial_timeout = "1s"
read_timeout = "1s"
write_timeout = "1s"
expiry = "30s"
meta_expiry = "3600s"

[results.my_results]
type = "postgres"
dsn = "postgres://user:password@host:5432/dbname?sslmode=disable"
unlogged = true

max_idle = 10
max_active = 100
connect_timeout = "10s"

# Results table name. %s will be replaced by the job ID.
results_table = "results_%s"

[db.my_db]
type = "mysql"
dsn = "user:password@tcp(host:3306)/dbname"

max_idle = 10
max_active = 100
connect_timeout = "10s"

[db.ch_db]
type = "clickhouse"
dsn = "clickhouse://default:@127.0.0.1:9000/default?sslmode=disable"
max_idle = 10
max_active = 100
connect_timeout = "10s"
`;

/** The file with another text in the place of a section: of its heading and the lines up to the next one. */
function replaced(toml: string, section: string, text: string): string {
  const result = toml.replace(new RegExp(`^\\[${section}\\]\\n(?:(?!\\[).*\\n)*`, 'm'), text);
  assert.notEqual(result, toml);
  return result;
}

const REDIS = {
  type: 'redis',
  addresses: ['localhost:6379'],
  username: null,
  password: null,
  db: 1,
  tls: false,
  sentinel: null,
  cluster: false,
  prefix: 'dungbeetle',
  min_replicas: 0,
  connect_timeout_ms: 1_000,
  command_timeout_ms: 1_000,
  expiry_ms: 30_000,
  meta_expiry_ms: 3_600_000,
};

test("the Go server's configuration selects the store on Redis as it is, with either section or both", (t) => {
  const { load, message } = place(t);
  assert.deepEqual(load({ toml: SAMPLE }).store, REDIS);
  assert.deepEqual(load({ toml: replaced(SAMPLE, 'job_queue.broker', '') }).store, REDIS);
  assert.deepEqual(load({ toml: replaced(SAMPLE, 'job_queue.state', '') }).store, {
    ...REDIS,
    expiry_ms: 604_800_000,
    meta_expiry_ms: 604_800_000,
  });
  assert.equal(
    message({ toml: `${SAMPLE}conect_timeout = "1s"\n` }),
    'config.toml: db.ch_db.conect_timeout: unknown key; did you mean "connect_timeout"?',
  );
});

test('several addresses are a cluster, as they are to the Go server, unless they are Sentinels', (t) => {
  const { load } = place(t);
  const several = SAMPLE.replaceAll('["localhost:6379"]', '["a:6379", "b:6379"]');
  const addresses = ['a:6379', 'b:6379'];
  assert.deepEqual(load({ toml: several }).store, { ...REDIS, addresses, cluster: true, db: 0 });
  const env = {
    DUNGBEETLE_JOB_QUEUE__STATE__SENTINEL_MASTER: 'main',
    DUNGBEETLE_JOB_QUEUE__STATE__SENTINEL_PASSWORD: 'word',
  };
  assert.deepEqual(load({ toml: several, env }).store, {
    ...REDIS,
    addresses,
    sentinel: { name: 'main', username: null, password: 'word' },
  });
});

test('broker and state name the same server and database, or the server does not start', (t) => {
  const { load, message } = place(t);
  const broker = (from: string, to: string) => {
    const section = /^\[job_queue\.broker\]\n(?:(?!\[).*\n)*/m.exec(SAMPLE)?.[0] ?? '';
    return replaced(SAMPLE, 'job_queue.broker', section.replace(from, to));
  };
  const must = (key: string) =>
    `config.toml: job_queue.broker.${key}: must be the same as job_queue.state.${key}: the store is its own broker; drop one of them`;
  assert.equal(message({ toml: broker('localhost', 'elsewhere') }), must('addresses'));
  assert.equal(message({ toml: broker('db = 1', 'db = 2') }), must('db'));
  assert.equal(
    message({ toml: broker('"redis"', '"sqlite"') }),
    'config.toml: job_queue.broker.type: must be "redis", as job_queue.state has it: the store is its own broker; drop the section',
  );
  assert.match(
    message({ toml: broker('read_timeout = "1s"', 'read_timeout = "soon"') }),
    /^config\.toml: job_queue\.broker\.read_timeout: must be a duration/,
  );
  // What is no part of where the queue is may differ: the state's holds.
  assert.deepEqual(load({ toml: broker('max_idle = 20', 'max_idle = 0') }).store, REDIS);
});

test('its databases are taken as they are', (t) => {
  const { load } = place(t);
  const config = load({ toml: SAMPLE });
  assert.equal(config.app.default_job_ttl_ms, 60_000);
  assert.equal(config.store.expiry_ms, 30_000);
  const pool = { max_active: 100, max_idle: 10, connect_timeout_ms: 10_000 };
  assert.deepEqual(config.results['my_results'], {
    type: 'postgres',
    dsn: 'postgres://user:password@host:5432/dbname?sslmode=disable',
    results_table: 'results_%s',
    ttl_ms: null,
    column_types: 'standard',
    unlogged: true,
    ...pool,
  });
  assert.deepEqual(config.db['my_db'], {
    type: 'mysql',
    dsn: 'user:password@tcp(host:3306)/dbname',
    concurrency: null,
    ...pool,
  });
  assert.deepEqual(config.db['ch_db'], {
    type: 'clickhouse',
    dsn: 'clickhouse://default:@127.0.0.1:9000/default?sslmode=disable',
    concurrency: null,
    ...pool,
  });
});
