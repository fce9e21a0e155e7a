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

const NOT_YET =
  'config.toml: job_queue.broker.type: "redis" is not supported by this version; supported: "sqlite"';

/** The file with another text in the place of a section: of its heading and the lines up to the next one. */
function replaced(toml: string, section: string, text: string): string {
  const result = toml.replace(new RegExp(`^\\[${section}\\]\\n(?:(?!\\[).*\\n)*`, 'm'), text);
  assert.notEqual(result, toml);
  return result;
}

test("every key of the Go server's configuration is known; its store is named as not there yet", (t) => {
  const { message } = place(t);
  assert.equal(message({ toml: SAMPLE }), NOT_YET);
  // Unknown keys are told of first: this is one that is not in the original either.
  assert.equal(
    message({ toml: `${SAMPLE}conect_timeout = "1s"\n` }),
    'config.toml: db.ch_db.conect_timeout: unknown key; did you mean "connect_timeout"?',
  );
});

test('its databases are taken as they are', (t) => {
  const { load } = place(t);
  const toml = replaced(
    replaced(SAMPLE, 'job_queue.broker', ''),
    'job_queue.state',
    '[job_queue.state]\ntype = "sqlite"\nexpiry = "30s"\nmeta_expiry = "3600s"\n',
  );
  const config = load({ toml });
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
    ...pool,
  });
  assert.deepEqual(config.db['ch_db'], {
    type: 'clickhouse',
    dsn: 'clickhouse://default:@127.0.0.1:9000/default?sslmode=disable',
    ...pool,
  });
});
