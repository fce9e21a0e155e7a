/**
 * Servers that keep what they have acknowledged: Postgres as it comes (fsync, full_page_writes and
 * synchronous_commit on), Redis with an append-only file. The servers that tests use do without.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createHome, removeHome } from '../../scripts/services/home.ts';
import { install } from '../../scripts/services/install.ts';
import { POSTGRES_15 } from '../../scripts/services/postgres.ts';
import { REDIS } from '../../scripts/services/redis.ts';
import { redis } from '../../scripts/services/redis-client.ts';
import { createServer, type Server } from '../../scripts/services/server.ts';
import { databaseOf, execute } from '../../test/support/services.ts';

export type AppendFsync = 'everysec' | 'always';

export interface Servers {
  /** Of a new database, with nothing in it. */
  freshPostgres(): Promise<string>;
  /** Of the Redis, emptied. */
  freshRedis(appendfsync: AppendFsync): Promise<string>;
  /** Resolves when Redis is not rewriting its append-only file. */
  redisRewritten(): Promise<void>;
  readonly postgres: Server;
  readonly redis: Server;
  /** For people. */
  readonly versions: string;
  stop(): Promise<void>;
}

export async function startServers(signal: AbortSignal): Promise<Servers> {
  const missing = await install([POSTGRES_15, REDIS], (line) => console.error(line), signal);
  for (const [engine, reason] of missing) throw new Error(`${engine.name} is missing: ${reason}`);
  const home = createHome();
  const postgres = await createServer(home, POSTGRES_15, {
    folder: join(home.folder, 'postgres'),
    settings: { fsync: 'on', full_page_writes: 'on', synchronous_commit: 'on' },
  });
  const redisServer = await createServer(home, REDIS, {
    folder: join(home.folder, 'redis'),
    settings: { appendonly: 'yes', appendfsync: 'everysec' },
  });
  let databases = 0;
  const stop = async () => {
    await Promise.all([postgres.abandon(), redisServer.abandon()]);
    removeHome(home);
  };
  try {
    await Promise.all([postgres.start(), redisServer.start()]);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    async freshPostgres() {
      if (databases > 0) await execute(postgres.dsn, `DROP DATABASE bench_${databases} WITH (FORCE)`);
      databases += 1;
      await execute(postgres.dsn, `CREATE DATABASE bench_${databases}`);
      // What earlier rounds have left to write is not this one's.
      await execute(postgres.dsn, 'CHECKPOINT');
      return databaseOf(postgres.dsn, `bench_${databases}`);
    },
    async freshRedis(appendfsync) {
      await redis(redisServer.dsn, ['FLUSHALL', 'SYNC']);
      await redis(redisServer.dsn, ['CONFIG', 'SET', 'appendfsync', appendfsync]);
      return redisServer.dsn;
    },
    async redisRewritten() {
      const info = () => redis(redisServer.dsn, ['INFO', 'persistence']);
      while (/^aof_rewrite_(in_progress|scheduled):1/m.test(String(await info()))) await delay(50);
    },
    postgres,
    redis: redisServer,
    versions: `Postgres ${postgres.version}, Redis ${redisServer.version}`,
    stop,
  };
}
