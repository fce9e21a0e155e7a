import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { DATABASES, place } from './support.ts';

const app = (line: string) => `[app]\n${line}\n${DATABASES}`;
const ledger = (line: string) => DATABASES.replace('[results', `${line}\n[results`);
const reports = (line: string) => `${DATABASES}${line}\n`;

const MISTAKES: readonly (readonly [string, string])[] = [
  [app('log_levle = "INFO"'), 'config.toml: app.log_levle: unknown key; did you mean "log_level"?'],
  [
    app('colour = "red"'),
    'config.toml: app.colour: unknown key; known here: log_level, default_job_ttl, timeout, shutdown_timeout, max_rows, max_bytes, max_value_bytes, allowed_hosts, body_limit, ready, lease, heartbeat, sweep, results_sweep, max_crashes, key_concurrency',
  ],
  [app('log_level = "LOUD"'), 'config.toml: app.log_level: must be one of "debug", "info", "warn", "error"'],
  [app('log_level = 3'), 'config.toml: app.log_level: must be one of "debug", "info", "warn", "error"'],
  [app('[app.log_level]'), 'config.toml: app.log_level: log_level is a key, not a section'],
  [app('log_level.x = 1'), 'config.toml: app.log_level: log_level is a key, not a section'],
  [
    app('sweep = "soon"'),
    'config.toml: app.sweep: must be a duration like "60s" or "1m30s", or a whole number of seconds, from 10ms to 24h',
  ],
  [
    app('default_job_ttl = -1'),
    'config.toml: app.default_job_ttl: must be a duration like "60s" or "1m30s", or a whole number of seconds, from 1ms to 576h, or 0 for none',
  ],
  [app('max_rows = 1.5'), 'config.toml: app.max_rows: must be a whole number, or 0 for no limit'],
  [app('max_crashes = "3"'), 'config.toml: app.max_crashes: must be a whole number from 1 to 1000'],
  [`app = 1\n${DATABASES}`, 'config.toml: app: app is a section with keys of its own, not a value'],
  [`servre = ":1"\n${DATABASES}`, 'config.toml: servre: unknown key; did you mean "server"?'],
  [
    `server = "6060"\n${DATABASES}`,
    'config.toml: server: must be an address like "127.0.0.1:6060", ":6060" or "[::1]:6060"',
  ],
  [
    `server = "localhost:65536"\n${DATABASES}`,
    'config.toml: server: must be an address like "127.0.0.1:6060", ":6060" or "[::1]:6060"',
  ],
  [`queue = []\n${DATABASES}`, 'config.toml: queue: must be one or more strings, none of them empty'],
  [
    `sql-directory = "a"\nsql_directory = "b"\n${DATABASES}`,
    'config.toml: sql-directory: sql_directory is the same key; drop one of them',
  ],
  [`[dbs.x]\n${DATABASES}`, 'config.toml: dbs: unknown key; did you mean "db"?'],
  [`[job_queue.store]\n${DATABASES}`, 'config.toml: job_queue.store: unknown key; did you mean "state"?'],
  [
    `[job_queue.state]\ntype = "sqlite"\naddresses = ["localhost:6379"]\n${DATABASES}`,
    'config.toml: job_queue.state.addresses: addresses is not a key of type "sqlite", which has type, path, expiry, meta_expiry',
  ],
  [
    `[job_queue.state]\npath = "postgres://u:p@h/db"\n${DATABASES}`,
    'config.toml: job_queue.state.path: must be a SQLite file: a path, "sqlite:file.db", "sqlite:///abs/file.db" or ":memory:", without "?"',
  ],
  ...(
    [
      ['addresses = []', 'addresses: must be one or more of "host:port", without a scheme or a password'],
      [
        'addresses = ["redis://:word@localhost:6379"]',
        'addresses: must be one or more of "host:port", without a scheme or a password',
      ],
      ['', 'addresses: missing; it must be one or more of "host:port", without a scheme or a password'],
      [
        'addresses = ["a:1", "b:1"]\ncluster = false',
        'addresses: must be one address, that of the server: several are the Sentinels of a sentinel_master or the nodes of a cluster',
      ],
      [
        'addresses = ["a:1"]\ncluster = true\nsentinel_master = "main"',
        'cluster: a cluster has no Sentinels: drop cluster or sentinel_master',
      ],
      [
        'addresses = ["a:1"]\nsentinel_password = "word"',
        'sentinel_password: goes with sentinel_master, which is not there',
      ],
      ['addresses = ["a:1"]\nprefix = "a{b"', 'prefix: must be 1 to 64 of A-Z a-z 0-9 _ : . -'],
    ] as const
  ).map(
    ([lines, message]) =>
      [
        `[job_queue.state]\ntype = "redis"\n${lines}\n${DATABASES}`,
        `config.toml: job_queue.state.${message}`,
      ] as const,
  ),
  [
    `[job_queue.state]\ntype = "postgres"\ndsn = "postgres://u:p@h/d"\nschema = "pg_queue"\n${DATABASES}`,
    'config.toml: job_queue.state.schema: must be the name of a schema, 1 to 63 bytes long, not beginning with "pg_"',
  ],
  [
    `[job_queue.state]\ntype = "rabbitmq"\n${DATABASES}`,
    'config.toml: job_queue.state.type: unknown engine; supported: "sqlite", "postgres", "redis"',
  ],
  [ledger('max_actve = 1'), 'config.toml: db.ledger.max_actve: unknown key; did you mean "max_active"?'],
  [
    ledger('results_table = "x_%s"'),
    'config.toml: db.ledger.results_table: unknown key; known here: type, dsn, concurrency, max_active, max_idle, connect_timeout',
  ],
  [
    reports('unlogged = true'),
    'config.toml: results.reports.unlogged: unlogged is not a key of type "sqlite", which has type, dsn, results_table, results_ttl, max_active, max_idle, connect_timeout',
  ],
  ...['results', '', 'a_%s_%s', 'sqlite_%s', 'DungBeetle_%s', 'a\\u0000%s'].map(
    (name) =>
      [
        reports(`results_table = "${name}"`),
        'config.toml: results.reports.results_table: must be a table name with one "%s" in it, for the job id, and not beginning with "sqlite_" or "dungbeetle_"',
      ] as const,
  ),
  [
    DATABASES.replace('type = "sqlite"', 'type = "oracle"'),
    'config.toml: db.ledger.type: unknown engine; supported: "sqlite", "postgres", "mysql", "mariadb", "clickhouse"',
  ],
  [
    DATABASES.replace('type = "sqlite"', 'type = 1'),
    'config.toml: db.ledger.type: unknown engine; supported: "sqlite", "postgres", "mysql", "mariadb", "clickhouse"',
  ],
  [
    DATABASES.replace('type = "sqlite"', ''),
    'config.toml: db.ledger.type: missing; supported: "sqlite", "postgres", "mysql", "mariadb", "clickhouse"',
  ],
  [
    DATABASES.replace('dsn = "sqlite:ledger.db"', ''),
    'config.toml: db.ledger.dsn: missing; it must be a SQLite file: "sqlite:file.db", "sqlite:///abs/file.db" or a path, without "?"',
  ],
  [
    `[db.x]\n${DATABASES}`,
    'config.toml: db.x.type: missing; supported: "sqlite", "postgres", "mysql", "mariadb", "clickhouse"',
  ],
  [
    `[db."a.b"]\n${DATABASES}`,
    'config.toml: db."…": a name in [db.NAME] is 1 to 63 letters, digits, "_" and "-", beginning with a letter or a digit',
  ],
  [
    `[db.__proto__]\n${DATABASES}`,
    'config.toml: db.__proto__: a name in [db.NAME] is 1 to 63 letters, digits, "_" and "-", beginning with a letter or a digit',
  ],
  [`db = "x"\n`, 'config.toml: db: db is a section with keys of its own, not a value'],
  ['', 'config.toml: results: no results backend is given; add a section [results.NAME]'],
  [
    '[results.r]\ntype = "sqlite"\ndsn = "r.db"\n',
    'config.toml: db: no source database is given; add a section [db.NAME]',
  ],
  ['[app\nlog_level = 1', 'config.toml: line 1, column 5: illegal character in key'],
];

test('each mistake in the file gets a line that names the key and the fix', (t) => {
  const { message } = place(t);
  for (const [toml, expected] of MISTAKES) assert.equal(message({ toml }), expected);
});

test('a file that is no text is refused', (t) => {
  const { folder, message } = place(t);
  writeFileSync(join(folder, 'config.toml'), Buffer.from([0x5b, 0x61, 0xff, 0xfe, 0x5d]));
  assert.equal(message({ toml: null }), 'config.toml: is not UTF-8 text; save it as UTF-8');
});

test('a BOM and CRLF are no mistakes', (t) => {
  const { load } = place(t);
  const toml = `\uFEFF${app('log_level = "warn"').replaceAll('\n', '\r\n')}`;
  assert.equal(load({ toml }).app.log_level, 'warn');
});

test('a DSN that cannot be right is refused without being repeated', (t) => {
  const { message } = place(t);
  for (const [type, dsn] of [
    ['postgres', 'http://secret.example'],
    ['postgres', 'postgres://u:secret@h/d?sslmode=sometimes'],
    ['mysql', 'secret'],
    ['mariadb', 'postgres://u:secret@h/d'],
    ['clickhouse', 'postgres://u:secret@h/d'],
  ] as const) {
    const toml = DATABASES.replace(
      'type = "sqlite"\ndsn = "sqlite:ledger.db"',
      `type = "${type}"\ndsn = "${dsn}"`,
    );
    const told = message({ toml });
    assert.match(told, /^config\.toml: db\.ledger\.dsn: \w/);
    assert.doesNotMatch(told, /secret/);
  }
});
