/** The keys of [job_queue.state] and [job_queue.broker]: where the queue is, on each kind of store. */
import Type, { type TObject } from 'typebox';
import { checkDsn as checkPostgresDsn } from '../util/postgres/dsn.ts';
import type { StoreConfig } from './config.ts';
import { type Engine, engine, typeKey } from './engine.ts';
import { sqlitePath } from './sqlite.ts';
import { boolean, duration, integer, isHostAndPort, LONGEST_MS, list, text, textOrNone } from './values.ts';

const HOUR_MS = 3_600_000;

const retention = {
  expiry: duration(
    'how long a finished job is remembered',
    { min_ms: 1_000, max_ms: LONGEST_MS },
    { default: '168h' },
  ),
  meta_expiry: duration(
    'how long a finished group is remembered',
    { min_ms: 1_000, max_ms: LONGEST_MS },
    { default: '168h' },
  ),
};

const storePath = {
  about: 'the file; ":memory:" for one that ends with the process',
  must: 'a SQLite file: a path, "sqlite:file.db", "sqlite:///abs/file.db" or ":memory:", without "?"',
  form: (path: string) => sqlitePath(path) !== null,
};

/** Where the queue is on a SQLite file, on Postgres, on Redis: what state and broker both may say. */
const sqliteQueue = {
  path: text(storePath.about, { ...storePath, default: 'queue.db' }),
};

const postgresQueue = {
  dsn: text('the server and database: "postgres://user:password@host:5432/database?sslmode=…"', {
    must: 'a Postgres server: "postgres://user:password@host:5432/database?sslmode=…" or "host=… user=… dbname=…"',
  }),
  listen_dsn: Type.Optional(
    text('where to listen for notifications: around a PgBouncer that dsn leads through', {
      must: 'a Postgres server: "postgres://user:password@host:5432/database?sslmode=…" or "host=… user=… dbname=…"',
      fallback: 'dsn',
    }),
  ),
  schema: text('the schema that holds the queue, made if it is not there', {
    default: 'dungbeetle',
    must: 'the name of a schema, 1 to 63 bytes long, not beginning with "pg_"',
    form: (name) => Buffer.byteLength(name) <= 63 && !name.startsWith('pg_') && !/\p{Cc}/u.test(name),
  }),
  max_active: integer('the most connections in use at once; 0: 10', 0, 1_000, { default: 0 }),
  connect_timeout: duration(
    'how long a connection may take to be ready; 0: 5s',
    { min_ms: 0, max_ms: HOUR_MS },
    { default: '5s' },
  ),
};

const timeoutOfRedis = { min_ms: 0, max_ms: HOUR_MS };
const redisQueue = {
  addresses: list('the server; with sentinel_master its Sentinels, with cluster some of its nodes', {
    must: 'one or more of "host:port", without a scheme or a password',
    form: isHostAndPort,
  }),
  username: textOrNone('the user to log in as', { default: '' }),
  password: textOrNone('the password', { default: '' }),
  db: integer('the number of the database; a cluster has none', 0, 2_147_483_647, { default: 0 }),
  tls: boolean('encrypt, and check the certificate against those that Node.js trusts', { default: false }),
  sentinel_master: textOrNone('the name of the master that the Sentinels at addresses watch', {
    default: '',
  }),
  sentinel_username: textOrNone('the user to log in to the Sentinels as', { default: '' }),
  sentinel_password: textOrNone('the password of the Sentinels', { default: '' }),
  cluster: Type.Optional(
    boolean('a Redis Cluster', { fallback: 'true if there are several addresses and no sentinel_master' }),
  ),
  prefix: text('what every key begins with, in braces', {
    default: 'dungbeetle',
    must: '1 to 64 of A-Z a-z 0-9 _ : . -',
    form: (prefix) => /^[A-Za-z0-9_:.-]{1,64}$/.test(prefix),
  }),
  min_replicas: integer('how many replicas must have a post before it is answered', 0, 100, { default: 0 }),
  dial_timeout: duration('how long a connection may take to be ready; 0: 5s', timeoutOfRedis, {
    default: '5s',
  }),
  read_timeout: duration('how long an answer may take; 0: 3s', timeoutOfRedis, { default: '3s' }),
  // Of the Go server's pool and timeouts, what one connection for all commands has no use for.
  write_timeout: duration('without effect: read_timeout holds for the whole command', timeoutOfRedis, {
    default: '3s',
  }),
  max_active: integer('without effect: commands share a connection', 0, 10_000, { default: 0 }),
  max_idle: integer('without effect: commands share a connection', 0, 10_000, { default: 0 }),
};

/** [job_queue.state]: the store. */
export const stores: Readonly<Record<string, Engine<StoreConfig>>> = {
  sqlite: engine(Type.Object({ type: typeKey, ...sqliteQueue, ...retention }), (values, { file }) => ({
    type: 'sqlite',
    path: file('path', values.path),
    ...retentionOf(values),
  })),
  postgres: engine(Type.Object({ type: typeKey, ...postgresQueue, ...retention }), (values, around) => {
    around.check('dsn', checkPostgresDsn(values.dsn, { writes: true }));
    if (values.listen_dsn !== undefined)
      around.check('listen_dsn', checkPostgresDsn(values.listen_dsn, { writes: true }));
    return {
      type: 'postgres',
      dsn: values.dsn,
      listen_dsn: values.listen_dsn ?? null,
      schema: values.schema,
      max_active: values.max_active || DEFAULT_STORE_CONNECTIONS,
      connect_timeout_ms: values.connect_timeout || DEFAULT_STORE_CONNECT_MS,
      ...retentionOf(values),
    };
  }),
  redis: engine(Type.Object({ type: typeKey, ...redisQueue, ...retention }), (values, around) => {
    const { addresses, sentinel_master } = values;
    const cluster = values.cluster ?? (addresses.length > 1 && sentinel_master === null);
    if (sentinel_master === null) {
      const alone = 'goes with sentinel_master, which is not there';
      around.check('sentinel_username', values.sentinel_username === null ? null : alone);
      around.check('sentinel_password', values.sentinel_password === null ? null : alone);
      around.check('addresses', cluster || addresses.length === 1 ? null : SEVERAL_ADDRESSES);
    } else {
      around.check('cluster', cluster ? 'a cluster has no Sentinels: drop cluster or sentinel_master' : null);
    }
    return {
      type: 'redis',
      addresses,
      username: values.username,
      password: values.password,
      db: cluster ? 0 : values.db,
      tls: values.tls,
      sentinel:
        sentinel_master === null
          ? null
          : {
              name: sentinel_master,
              username: values.sentinel_username,
              password: values.sentinel_password,
            },
      cluster,
      prefix: values.prefix,
      min_replicas: values.min_replicas,
      connect_timeout_ms: values.dial_timeout || DEFAULT_STORE_CONNECT_MS,
      command_timeout_ms: values.read_timeout || DEFAULT_COMMAND_MS,
      ...retentionOf(values),
    };
  }),
};

const DEFAULT_STORE_CONNECTIONS = 10;
const DEFAULT_STORE_CONNECT_MS = 5_000;
const DEFAULT_COMMAND_MS = 3_000;

const SEVERAL_ADDRESSES =
  'must be one address, that of the server: several are the Sentinels of a sentinel_master or the nodes of a cluster';

function retentionOf(values: { readonly expiry: number; readonly meta_expiry: number }) {
  return { expiry_ms: values.expiry, meta_expiry_ms: values.meta_expiry };
}

/**
 * [job_queue.broker]: how workers hear of work. The stores do that themselves, so a broker is of the store's type and
 * repeats where it is, as the Go server's configurations do.
 */
export const brokers: Readonly<Record<string, { readonly keys: TObject }>> = {
  sqlite: { keys: Type.Object({ type: typeKey, ...sqliteQueue }) },
  postgres: { keys: Type.Object({ type: typeKey, ...postgresQueue }) },
  redis: { keys: Type.Object({ type: typeKey, ...redisQueue }) },
};

/** The keys that say where a queue is: a broker and a state that both have one of them must agree. */
export const PLACE_KEYS = [
  'path',
  'dsn',
  'schema',
  'addresses',
  'db',
  'sentinel_master',
  'cluster',
  'prefix',
] as const;
