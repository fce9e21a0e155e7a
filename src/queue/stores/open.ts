/** Opens a store by the type that the configuration names. A store's code is loaded on first use. */
import type { Store } from '../store.ts';

export interface SqliteConfig {
  readonly type: 'sqlite';
  readonly path: string;
}

/** What is null is left out. */
export interface PostgresConfig {
  readonly type: 'postgres';
  readonly dsn: string;
  readonly listen_dsn: string | null;
  readonly schema: string;
  readonly max_active: number;
  readonly connect_timeout_ms: number;
}

/** What is null is left out. */
export interface RedisConfig {
  readonly type: 'redis';
  readonly addresses: readonly string[];
  readonly username: string | null;
  readonly password: string | null;
  readonly db: number;
  readonly tls: boolean;
  readonly sentinel: {
    readonly name: string;
    readonly username: string | null;
    readonly password: string | null;
  } | null;
  readonly cluster: boolean;
  readonly prefix: string;
  readonly min_replicas: number;
  readonly connect_timeout_ms: number;
  readonly command_timeout_ms: number;
}

export type StoreConfig = SqliteConfig | PostgresConfig | RedisConfig;

/** `onWarning` is told of what puts jobs at risk there. Throws `StoreUnavailable`. */
export async function openStore(
  config: StoreConfig,
  onWarning: (message: string) => void = () => {},
): Promise<Store> {
  switch (config.type) {
    case 'sqlite':
      return (await import('./sqlite.ts')).openSqliteStore({ path: config.path });
    case 'postgres': {
      const { type, listen_dsn, ...rest } = config;
      return (await import('./postgres.ts')).openPostgresStore({
        ...rest,
        ...(listen_dsn === null ? {} : { listen_dsn }),
        onWarning,
      });
    }
    case 'redis': {
      const { type, username, password, sentinel, ...rest } = config;
      return (await import('./redis.ts')).openRedisStore({
        ...rest,
        ...loginOf({ username, password }),
        ...(sentinel === null ? {} : { sentinel: { name: sentinel.name, ...loginOf(sentinel) } }),
        onWarning,
      });
    }
  }
}

function loginOf({ username, password }: { username: string | null; password: string | null }) {
  return { ...(username === null ? {} : { username }), ...(password === null ? {} : { password }) };
}
