import { type TestContext, test } from 'node:test';
import type { ServerName } from '../../scripts/services/engine.ts';
import type { Store } from '../../src/queue/store.ts';
import { openRedisStore, type RedisStoreOptions } from '../../src/queue/stores/redis.ts';
import { freshDatabase, noPrivate, privateNames, type Service, servers } from '../support/services.ts';
import type { Opened } from './conformance.ts';

/** How to reach the server and database that a DSN names. */
export function optionsOf(dsn: string): RedisStoreOptions {
  const { hostname, port, username, password, pathname } = new URL(dsn);
  return {
    addresses: [`${hostname}:${port}`],
    ...(username === '' ? {} : { username }),
    ...(password === '' ? {} : { password }),
    db: Number(pathname.slice(1)),
  };
}

/** A store in an empty database, its clock in the test's hands. */
export async function open(t: TestContext, server: Service): Promise<Opened> {
  const options = optionsOf(await freshDatabase(t, server));
  let offset = 0;
  const connect = async (): Promise<Store> => {
    const store = await openRedisStore({ ...options, clockOffset: () => offset });
    t.after(() => store.close());
    return store;
  };
  return {
    store: await connect(),
    connect,
    advance: (ms) => {
      offset += ms;
    },
  };
}

/** A test on each of the servers that tests share: Redis, and what else speaks as it does. */
export function onShared(name: string, run: (t: TestContext, server: Service) => Promise<void>): void {
  for (const server of servers('redis')) {
    test(`${server.name}: ${name}`, { skip: server.skip }, (t) => run(t, server));
  }
}

/** A test on each kind of server that it can start for itself. */
export function onOwn(name: string, run: (t: TestContext, kind: ServerName) => Promise<void>): void {
  for (const kind of privateNames('redis')) {
    test(`${kind}: ${name}`, { skip: noPrivate(kind) }, (t) => run(t, kind));
  }
}
