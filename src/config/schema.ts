/**
 * Every key of the configuration: one schema for the file, the environment and the flags, for --help, the
 * documentation and the sample.
 *
 * To add an engine: write its keys, and how they become its part of `Config`, beside those of SQLite, and
 * enter it in `sources` or `backends`, or in `stores` (stores.ts).
 */
import Type from 'typebox';
import { checkDsn as checkClickhouseDsn } from '../databases/clickhouse/dsn.ts';
import { checkDsn as checkMysqlDsn } from '../databases/mysql/dsn.ts';
import { checkDsn as checkPostgresDsn } from '../util/postgres/dsn.ts';
import type { PoolConfig, ResultsConfig, SourceConfig } from './config.ts';
import { type Engine, engine, type Surroundings, typeKey } from './engine.ts';
import { MEMORY, sqlitePath } from './sqlite.ts';
import {
  address,
  boolean,
  duration,
  durationOrNone,
  integer,
  integerOrNone,
  LONGEST_MS,
  LONGEST_TIMER_MS,
  list,
  text,
  word,
} from './values.ts';

const HOUR_MS = 3_600_000;
const interval = { min_ms: 10, max_ms: 24 * HOUR_MS };
/** More than any number of machines runs at once. */
const MOST_JOBS = 1_000_000;

/** Keys outside of any section; the flags, as far as they are configuration. */
export const root = Type.Object({
  server: address('address of the HTTP server', { default: '127.0.0.1:6060' }),
  sql_directory: list('folder with .sql files; can be given more than once', { default: ['./sql'] }),
  queue: Type.Optional(
    list('queue to take jobs from; can be given more than once', {
      fallback: '"default" and every queue that a task names',
    }),
  ),
  worker_name: Type.Optional(
    text('name of this worker, told with the jobs that it runs', {
      fallback: '<host name>-<process id>',
      must: '1 to 128 printable characters',
      form: (value) => /^[^\p{C}]{1,128}$/u.test(value),
    }),
  ),
  worker_concurrency: integer('the most jobs that this process runs at once', 1, 10_000, { default: 10 }),
  worker_only: boolean('run jobs only, no HTTP server', { default: false }),
});

export const app = Type.Object({
  log_level: word('the least level that is logged', ['debug', 'info', 'warn', 'error'], { default: 'info' }),
  default_job_ttl: durationOrNone(
    'the longest a job may run once it has started',
    { min_ms: 1, max_ms: LONGEST_TIMER_MS },
    { default: 0 },
  ),
  timeout: durationOrNone(
    'the same as default_job_ttl, by the name that tasks and requests have for it',
    { min_ms: 1, max_ms: LONGEST_TIMER_MS },
    { default: 0 },
  ),
  shutdown_timeout: duration(
    'how long running jobs may go on after SIGTERM',
    { min_ms: 0, max_ms: 24 * HOUR_MS },
    { default: '30s' },
  ),
  max_rows: integerOrNone('the most rows that a result may have', { default: 0 }),
  max_bytes: integerOrNone('the most bytes that a result may have', { default: 0 }),
  max_value_bytes: integer(
    'the most bytes that one value of a result may have; its row may have twice as many',
    1,
    1_000_000_000,
    { default: 64_000_000 },
  ),
  allowed_hosts: Type.Optional(
    list('host name under which browsers may use the server, besides those of the machine', {
      fallback: 'none',
    }),
  ),
  body_limit: integer('the largest HTTP request body, bytes', 1_024, 1_073_741_824, { default: 1_048_576 }),
  ready: list('what must be well for /health/ready to say so', {
    default: ['store'],
    must: 'a list of "store", "db" (all of them), "results" (likewise), "db.NAME" and "results.NAME"',
    form: (part) => /^(store|db|results)$|^(db|results)\../s.test(part),
  }),
  lease: duration(
    'how long a job is held by a worker of which nothing is heard',
    { min_ms: 100, max_ms: 24 * HOUR_MS },
    { default: '10s' },
  ),
  heartbeat: duration('how often a worker renews its leases', interval, { default: '3s' }),
  sweep: duration('how often expired leases are looked for', interval, { default: '2s' }),
  results_sweep: duration(
    'how often expired result tables, and what dead attempts left, are looked for',
    interval,
    { default: '60s' },
  ),
  max_crashes: integer('a job whose workers died this often in a row fails', 1, 1_000, { default: 3 }),
  key_concurrency: Type.Optional(
    integer('the most jobs of one key that run at once, in all processes; 0: no limit', 0, MOST_JOBS, {
      fallback: 'half of worker_concurrency, at least 1',
    }),
  ),
});

/**
 * The keys of a pool of connections, which sources and results backends share. SQLite has nothing to connect
 * to: a source's `max_active` and `max_idle` are its processes; the others are taken, since the Go server's
 * configurations have them, and mean nothing.
 */
const pool = {
  max_active: integer('the most queries at once; 0: as many as jobs', 0, 10_000, { default: 0 }),
  max_idle: integer('the most connections kept open between queries', 0, 10_000, { default: 2 }),
  connect_timeout: duration(
    'how long a connection may take to be ready',
    { min_ms: 0, max_ms: HOUR_MS },
    { default: '10s' },
  ),
};

const sqliteDsn = text('the file: "sqlite:file.db", "sqlite:///abs/file.db" or a path', {
  must: 'a SQLite file: "sqlite:file.db", "sqlite:///abs/file.db" or a path, without "?"',
  // A database in memory would be a different, empty one for each connection.
  form: (dsn) => ![null, MEMORY].includes(sqlitePath(dsn)),
});

/** How a server of another machine is reached, by engine. */
const postgresDsn = text('the server: "postgres://user:password@host:5432/database?sslmode=…"', {
  must: 'a Postgres server: "postgres://user:password@host:5432/database?sslmode=…" or "host=… user=… dbname=…"',
});
const mysqlDsn = text('the server: "user:password@tcp(host:3306)/database?tls=…"', {
  must: 'a MySQL server: "user:password@tcp(host:3306)/database?tls=…" or "mysql://user:password@host:3306/database"',
});
const clickhouseDsn = text('the server: "clickhouse://user:password@host:9000/database"', {
  must: 'a ClickHouse server: "clickhouse://user:password@host:9000/database" or "http://user:password@host:8123/database"',
});

const resultsTable = text('the name of a result table, %s for the job id', {
  default: 'results_%s',
  must: 'a table name with one "%s" in it, for the job id, and not beginning with "sqlite_" or "dungbeetle_"',
  form: (value) =>
    value.split('%s').length === 2 && !/^(?:sqlite|dungbeetle)_/i.test(value) && !/\p{Cc}/u.test(value),
});
const resultsTtl = durationOrNone(
  'how long a result table is kept, when neither job nor task says',
  { min_ms: 1_000, max_ms: LONGEST_MS },
  { default: 0 },
);
const columnTypes = word(
  'the types of result columns: a few standard ones, or those of the source where the backend has them',
  ['standard', 'source'],
  { default: 'standard' },
);
const unlogged = boolean('make result tables UNLOGGED: faster, and empty after a crash of their server', {
  default: false,
});

/** A connect_timeout of 0, which is none to the Go server: nobody waits for ever for a server that is away. */
const DEFAULT_CONNECT_MS = 10_000;

/** Of every source. */
const concurrency = integerOrNone('the most jobs on it at once, in all processes that share the queue', {
  default: 0,
});

/** [db.NAME] */
export const sources: Readonly<Record<string, Engine<SourceConfig>>> = {
  sqlite: engine(Type.Object({ type: typeKey, dsn: sqliteDsn, concurrency, ...pool }), (values, around) => ({
    type: 'sqlite',
    path: around.file('dsn', values.dsn),
    concurrency: values.concurrency,
    max_active: values.max_active || around.worker_concurrency,
    max_idle: values.max_idle,
  })),
  postgres: server('postgres', postgresDsn, checkPostgresDsn),
  mysql: server('mysql', mysqlDsn, checkMysqlDsn),
  mariadb: server('mysql', mysqlDsn, checkMysqlDsn),
  clickhouse: server('clickhouse', clickhouseDsn, checkClickhouseDsn),
};

/** A source that is a server: all of them have the same keys. */
function server(
  type: 'postgres' | 'mysql' | 'clickhouse',
  dsn: typeof postgresDsn,
  check: (dsn: string) => string | null,
): Engine<SourceConfig> {
  return engine(Type.Object({ type: typeKey, dsn, concurrency, ...pool }), (values, around) => {
    around.check('dsn', check(values.dsn));
    return { type, dsn: values.dsn, concurrency: values.concurrency, ...poolOf(values, around) };
  });
}

function poolOf(
  values: { readonly max_active: number; readonly max_idle: number; readonly connect_timeout: number },
  { worker_concurrency }: Surroundings,
): PoolConfig {
  return {
    max_active: values.max_active || worker_concurrency,
    max_idle: values.max_idle,
    connect_timeout_ms: values.connect_timeout || DEFAULT_CONNECT_MS,
  };
}

const mysqlResults: Engine<ResultsConfig> = engine(
  Type.Object({
    type: typeKey,
    dsn: mysqlDsn,
    results_table: resultsTable,
    results_ttl: resultsTtl,
    column_types: columnTypes,
    unlogged,
    ...pool,
  }),
  (values, around) => {
    around.check('dsn', checkMysqlDsn(values.dsn));
    return {
      type: 'mysql',
      dsn: values.dsn,
      results_table: values.results_table,
      ttl_ms: values.results_ttl,
      column_types: values.column_types,
      ...poolOf(values, around),
    };
  },
);

/** [results.NAME] */
export const backends: Readonly<Record<string, Engine<ResultsConfig>>> = {
  sqlite: engine(
    Type.Object({
      type: typeKey,
      dsn: sqliteDsn,
      results_table: resultsTable,
      results_ttl: resultsTtl,
      ...pool,
    }),
    (values, around) => ({
      type: 'sqlite',
      path: around.file('dsn', values.dsn),
      results_table: values.results_table,
      ttl_ms: values.results_ttl,
    }),
  ),
  postgres: engine(
    Type.Object({
      type: typeKey,
      dsn: postgresDsn,
      results_table: resultsTable,
      results_ttl: resultsTtl,
      column_types: columnTypes,
      unlogged,
      ...pool,
    }),
    (values, around) => {
      around.check('dsn', checkPostgresDsn(values.dsn, { writes: true }));
      return {
        type: 'postgres',
        dsn: values.dsn,
        results_table: values.results_table,
        ttl_ms: values.results_ttl,
        column_types: values.column_types,
        unlogged: values.unlogged,
        ...poolOf(values, around),
      };
    },
  ),
  mysql: mysqlResults,
  mariadb: mysqlResults,
};
