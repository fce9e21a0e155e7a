/** The stores that servers can share, each as its section of the configuration. */
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { tempFolder } from '../support/folder.ts';
import { freshDatabase, type Service, servers } from '../support/services.ts';
import type { Settings } from './databases/support.ts';

export interface StoreCase {
  readonly name: 'sqlite' | 'postgres' | 'redis';
  /** The server it needs, to be skipped without. */
  readonly needs: readonly Service[];
  /** Settings of [job_queue.state] for a store with nothing in it. */
  open(t: TestContext): Promise<Settings>;
}

export const STORES: readonly StoreCase[] = [
  {
    name: 'sqlite',
    needs: [],
    open: async (t) => ({ type: 'sqlite', path: join(tempFolder(t), 'queue.db') }),
  },
  ...servers('postgres')
    .slice(0, 1)
    .map((server) => ({
      name: 'postgres' as const,
      needs: [server],
      open: async (t: TestContext) => postgresStore(await freshDatabase(t, server)),
    })),
  ...servers('redis')
    .slice(0, 1)
    .map((server) => ({
      name: 'redis' as const,
      needs: [server],
      open: async (t: TestContext) => redisStore(await freshDatabase(t, server)),
    })),
];

export function postgresStore(dsn: string): Settings {
  return { type: 'postgres', dsn };
}

/** With the keys of the Go server's own configuration, from a `redis://` URL. */
export function redisStore(dsn: string): Settings {
  const url = new URL(dsn);
  return {
    type: 'redis',
    addresses: [`${url.hostname}:${url.port || 6379}`],
    password: decodeURIComponent(url.password),
    db: Number(url.pathname.slice(1) || 0),
    max_active: 50,
    max_idle: 20,
    dial_timeout: '1s',
    read_timeout: '1s',
    write_timeout: '1s',
    ...(url.username === '' ? {} : { username: decodeURIComponent(url.username) }),
  };
}
