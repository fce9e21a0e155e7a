/**
 * The configuration as the program uses it: checked, complete, with every default filled in. What may be
 * written in the file, the environment and the flags is in schema.ts.
 */

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface AppConfig {
  readonly log_level: LogLevel;
  /** The longest a job may run (the shorter of the keys `timeout` and `default_job_ttl`); null: no limit. */
  readonly default_job_ttl_ms: number | null;
  /** Which of the two it is. */
  readonly default_job_ttl_key: 'timeout' | 'default_job_ttl';
  /** How long running jobs may go on after the first SIGTERM. */
  readonly shutdown_timeout_ms: number;
  /** The most rows and bytes a result may have; null: no limit. */
  readonly max_rows: number | null;
  readonly max_bytes: number | null;
  /** The most bytes one value of a result may have. */
  readonly max_value_bytes: number;
  /** The largest HTTP request body, bytes. */
  readonly body_limit: number;
  /** Host names under which browsers may use the server, besides those of the machine. */
  readonly allowed_hosts: readonly string[];
  /** What must be well for the server to be ready: "store", "db", "results", "db.NAME", "results.NAME". */
  readonly ready: readonly string[];
  /** How long a claimed attempt is held without a heartbeat. */
  readonly lease_ms: number;
  /** Less than half of a lease, so that one lost heartbeat costs nothing. */
  readonly heartbeat_ms: number;
  /** How often expired leases are looked for. */
  readonly sweep_ms: number;
  /** How often expired result tables and what dead attempts left are looked for. */
  readonly results_sweep_ms: number;
  /** A job whose workers died this often in a row is not run again. */
  readonly max_crashes: number;
  /** The most jobs of one key that run at once, in all processes; null: no limit. */
  readonly key_concurrency: number | null;
}

export interface ServerConfig {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
}

export interface WorkerConfig {
  /** Unique among running workers. */
  readonly name: string;
  /** The most jobs that this process runs at once. */
  readonly concurrency: number;
  /** No HTTP. */
  readonly only: boolean;
}

/** How long finished jobs and finished groups are remembered. */
interface Retention {
  readonly expiry_ms: number;
  readonly meta_expiry_ms: number;
}

export interface SqliteStoreConfig extends Retention {
  readonly type: 'sqlite';
  /** An absolute path, or ":memory:". */
  readonly path: string;
}

export interface PostgresStoreConfig extends Retention {
  readonly type: 'postgres';
  readonly dsn: string;
  /** Where to listen for notifications, if that cannot be done through `dsn`; null: there. */
  readonly listen_dsn: string | null;
  readonly schema: string;
  readonly max_active: number;
  readonly connect_timeout_ms: number;
}

export interface RedisStoreConfig extends Retention {
  readonly type: 'redis';
  /** Of the server, of its Sentinels, or of some nodes of its cluster: "host:port" each. */
  readonly addresses: readonly string[];
  readonly username: string | null;
  readonly password: string | null;
  readonly db: number;
  readonly tls: boolean;
  /** Null: `addresses` are no Sentinels. */
  readonly sentinel: {
    readonly name: string;
    readonly username: string | null;
    readonly password: string | null;
  } | null;
  readonly cluster: boolean;
  /** What every key begins with. */
  readonly prefix: string;
  /** How many replicas must have a post before it is answered. */
  readonly min_replicas: number;
  readonly connect_timeout_ms: number;
  /** How long the answer to a command may take. */
  readonly command_timeout_ms: number;
}

/** What all sources have. */
interface SourceLimit {
  /** The most jobs on it at once, in all processes that share the store; null: no limit. */
  readonly concurrency: number | null;
}

export interface SqliteSourceConfig extends SourceLimit {
  readonly type: 'sqlite';
  /** Absolute. */
  readonly path: string;
  /** The most queries that run at once. */
  readonly max_active: number;
  /** The most processes kept warm between queries. */
  readonly max_idle: number;
}

export interface SqliteResultsConfig {
  readonly type: 'sqlite';
  /** Absolute. */
  readonly path: string;
  /** The table's name, with %s for the job id. */
  readonly results_table: string;
  /** How long a result table is kept when neither job nor task says; null: until it is dropped. */
  readonly ttl_ms: number | null;
}

/** Of a server that is connected to. */
export interface PoolConfig {
  /** The most connections in use at once; more wait for one. */
  readonly max_active: number;
  /** The most connections kept open between uses. */
  readonly max_idle: number;
  readonly connect_timeout_ms: number;
}

export interface ServerSourceConfig extends PoolConfig, SourceLimit {
  readonly type: 'postgres' | 'mysql' | 'clickhouse';
  readonly dsn: string;
}

interface ServerResultsConfig extends PoolConfig {
  readonly dsn: string;
  readonly results_table: string;
  readonly ttl_ms: number | null;
  readonly column_types: 'standard' | 'source';
}

export interface PostgresResultsConfig extends ServerResultsConfig {
  readonly type: 'postgres';
  readonly unlogged: boolean;
}

export interface MysqlResultsConfig extends ServerResultsConfig {
  readonly type: 'mysql';
}

// An engine joins these unions and the tables in schema.ts.
export type StoreConfig = SqliteStoreConfig | PostgresStoreConfig | RedisStoreConfig;
export type SourceConfig = SqliteSourceConfig | ServerSourceConfig;
export type ResultsConfig = SqliteResultsConfig | PostgresResultsConfig | MysqlResultsConfig;

export interface Config {
  /** Absolute path of the file that was read; null: there was none, the environment had it all. */
  readonly file: string | null;
  readonly app: AppConfig;
  readonly server: ServerConfig;
  /** Absolute paths. */
  readonly sql_directories: readonly string[];
  /** The queues to work on; null: `default` and every queue that a task names. */
  readonly queues: readonly string[] | null;
  readonly worker: WorkerConfig;
  readonly store: StoreConfig;
  /** By name; at least one each. Without a prototype, so that no name is found that was not given. */
  readonly results: Readonly<Record<string, ResultsConfig>>;
  readonly db: Readonly<Record<string, SourceConfig>>;
}
