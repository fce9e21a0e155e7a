/** The commented samples that --new-config writes. A module and not a file, so that the package needs no data files. */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError } from './errors.ts';

/** Every key is in it: set to its default, or commented out where there is none or it is seldom wanted. */
export const SAMPLE = `# DungBeetle's configuration. docs/configuration.md explains every key.
#
# Durations are written "500ms", "60s", "1m30s", "24h", or as a whole number of seconds. Paths are relative to
# this file's folder. The environment goes over this file (DUNGBEETLE_DB__MY_DB__DSN sets db.my_db.dsn), and
# flags go over both.

# What the flags of the same names set:
# server = "127.0.0.1:6060"
# sql_directory = ["./sql"]
# queue = ["default"]
# worker_name = "worker-1"
# worker_concurrency = 10
# worker_only = false

[app]
# debug, info, warn or error
log_level = "info"
# The longest a job may run once it has started: after that its query is ended, and the job fails. 0: no limit. A
# task's "timeout" tag replaces it, a request's "timeout" can only shorten it.
timeout = "1h"
# The Go server's name for the same; the shorter one holds.
# default_job_ttl = 0
# After SIGTERM, how long running jobs may go on before they are given back to their queue.
shutdown_timeout = "30s"

# The most rows and bytes that a result may have. A job that passes a limit fails and says so. 0: no limit.
# max_rows = 0
# max_bytes = 0
# The most bytes that one value may have (a document, a picture); its row may have twice as many. Where rows have
# to be held in memory it is held in it.
# max_value_bytes = 64000000
# The largest HTTP request body, in bytes.
# body_limit = 1048576
# Host names under which browsers may use the server, besides those of this machine (behind a proxy, say).
# allowed_hosts = ["reports.example.com"]
# What must be well for GET /health/ready to answer 200: "store", "db" and "results" (all of them), "db.my_db", …
# ready = ["store"]

# A worker holds a job for as long as a lease, and renews it with every heartbeat. A worker that dies is found
# out when the lease ends, at the next sweep; its jobs then run elsewhere. A job whose workers died max_crashes
# times in a row fails.
# lease = "10s"
# heartbeat = "3s"
# sweep = "2s"
# max_crashes = 3
# The most jobs of one key ("on whose behalf", see docs/api.md) that run at once, in all processes; 0: no limit.
# Default: half of worker_concurrency, at least 1.
# key_concurrency = 5
# How often expired result tables, and what dead attempts left, are looked for.
# results_sweep = "60s"

# The queue's store: a SQLite file of its own, which all servers and workers on this machine share.
[job_queue.state]
type = "sqlite"
path = "queue.db"
# How long finished jobs and finished groups are remembered.
expiry = "168h"
meta_expiry = "168h"

# How workers hear of new jobs. The stores do that too, and this section can be left out.
# [job_queue.broker]
# type = "sqlite"
# path = "queue.db"

# For servers and workers on several machines the queue is on Postgres or Redis. On Postgres, in a schema of its own:
## [job_queue.state]
## type = "postgres"
## dsn = "postgres://user:password@127.0.0.1:5432/queue?sslmode=prefer"
# The same server without the PgBouncer that "dsn" leads through, if it does: LISTEN does not work there.
## listen_dsn = "postgres://user:password@127.0.0.1:5432/queue?sslmode=prefer"
## schema = "dungbeetle"
# The most connections in use at once; 0: 10.
## max_active = 0
## connect_timeout = "5s"
## expiry = "168h"
## meta_expiry = "168h"

# On Redis or Valkey. It must persist what it has, and never evict: docs/stores.md.
## [job_queue.state]
## type = "redis"
## addresses = ["127.0.0.1:6379"]
## username = ""
## password = ""
## db = 0
## tls = false
# With a sentinel_master, "addresses" are those of its Sentinels; with cluster, of some of the cluster's nodes.
## sentinel_master = ""
## sentinel_username = ""
## sentinel_password = ""
## cluster = false
# What every key begins with.
## prefix = "dungbeetle"
# How many replicas must have a post before it is answered.
## min_replicas = 0
## dial_timeout = "5s"
## read_timeout = "3s"
# The Go server's keys for its pool; without effect here.
## write_timeout = "3s"
## max_active = 0
## max_idle = 0
## expiry = "168h"
## meta_expiry = "168h"

# Results backends: the databases that result tables are written to. There can be several, [results.one],
# [results.two]; a job whose task names none gets a random one of them, and says which.
[results.my_results]
type = "sqlite"
# "sqlite:file.db", "sqlite:///absolute/file.db" or a path
dsn = "sqlite:results.db"
# The name of a result table: %s is the job's id.
results_table = "results_%s"
# How long a result table is kept when neither the job nor its task says; 0: until it is deleted.
# results_ttl = 0
# For databases with connections; without effect on a SQLite file.
# max_active = 0
# max_idle = 2
# connect_timeout = "10s"

# Postgres: "postgres://user:password@host:5432/database?sslmode=require" or "host=… user=… dbname=…".
# [results.my_postgres]
# type = "postgres"
# dsn = "postgres://user:password@127.0.0.1:5432/reports?sslmode=prefer"
# results_table = "results_%s"
# results_ttl = 0
# The types of result columns: "standard" (BIGINT, NUMERIC, DOUBLE PRECISION, TIMESTAMP, DATE, BOOLEAN, TEXT, JSON,
# BYTEA), or "source" for the source's own where the backend has them.
# column_types = "standard"
# UNLOGGED tables are faster to write, and empty after a crash of their server.
# unlogged = false
# The most connections in use at once (0: as many as jobs run), and the most kept open between uses.
# max_active = 0
# max_idle = 2
# connect_timeout = "10s"

# MySQL and MariaDB ("mariadb" is the same): the Go driver's form, or "mysql://user:password@host:3306/database".
# [results.my_mysql]
# type = "mysql"
# dsn = "user:password@tcp(127.0.0.1:3306)/reports"
# results_table = "results_%s"
# results_ttl = 0
# column_types = "standard"
# Postgres' key; without effect here.
# unlogged = false
# max_active = 0
# max_idle = 2
# connect_timeout = "10s"

# Source databases: those that the tasks' queries read. There can be several, [db.one], [db.two]; a task's
# "db" tag says which it is for.
[db.my_db]
type = "sqlite"
dsn = "sqlite:my.db"
# The most jobs on it at once, in all processes that share the queue; 0: no limit.
# concurrency = 0
# The most queries at once (0: as many as jobs run), and the most processes kept warm between them.
# max_active = 0
# max_idle = 2
# For databases with connections; without effect on a SQLite file.
# connect_timeout = "10s"

# [db.my_postgres]
# type = "postgres"
# dsn = "postgres://user:password@127.0.0.1:5432/app?sslmode=prefer"
# concurrency = 0
# The most queries at once (0: as many as jobs run), and the most connections kept open between them.
# max_active = 0
# max_idle = 2
# connect_timeout = "10s"

# [db.my_mysql]
# type = "mysql"
# dsn = "user:password@tcp(127.0.0.1:3306)/app"
# concurrency = 0
# max_active = 0
# max_idle = 2
# connect_timeout = "10s"

# ClickHouse, over HTTP: "clickhouse://user:password@host:9000/database" or "http://host:8123/database".
# [db.my_clickhouse]
# type = "clickhouse"
# dsn = "clickhouse://default:@127.0.0.1:9000/default"
# concurrency = 0
# max_active = 0
# max_idle = 2
# connect_timeout = "10s"
`;

/** Writes the sample, readable by its owner only since DSNs will be in it. Throws a `ConfigError` if the file exists. */
export function writeSample(path: string, shown: string): void {
  try {
    writeFileSync(path, SAMPLE, { flag: 'wx', mode: 0o600 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST')
      throw new ConfigError(`${shown}: exists already; remove it, or name another with --config`);
    throw new ConfigError(`${shown}: cannot be written: ${code ?? 'unknown error'}`, { cause: error });
  }
}

/** It runs on every engine. No line of its comments begins with a word and a colon, as tags do. */
export const SAMPLE_TASK = `-- Tasks are the queries that may be asked for, in any number of files of this folder. docs/tasks.md explains them.
-- Above each is its name; tags may follow, one a line, such as "db" (which of the databases) and "timeout".
-- Parameters are $1, $2 on Postgres and SQLite, and ? on SQLite, MySQL and ClickHouse.

-- name: sample_report
SELECT 1 AS id, 'hello' AS greeting;
`;

const SAMPLE_TASK_FILE = 'sample.sql';

/** Writes a first task into a folder that has none, and makes the folder. Its path, or null where nothing was written. */
export function writeSampleTask(folder: string, shown: string): string | null {
  if (existsSync(folder) && readdirSync(folder).some((name) => name.endsWith('.sql'))) return null;
  const name = join(shown, SAMPLE_TASK_FILE);
  try {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, SAMPLE_TASK_FILE), SAMPLE_TASK, { flag: 'wx' });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new ConfigError(`${name}: cannot be written: ${code ?? 'unknown error'}`, { cause: error });
  }
  return name;
}
