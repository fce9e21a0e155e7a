/** Connections to Redis as the options ask for them: a server, a master behind sentinels, a cluster. */
import { Cluster, Redis, type RedisOptions } from 'ioredis';
import type { RedisStoreOptions } from './options.ts';

export type Client = Redis | Cluster;

/** Between two tries to connect, ms; it doubles up to the second figure. */
const RETRY_MS = { first: 20, most: 1_000 };

const closed = new WeakSet<Client>();

/**
 * Connects, and again whenever the connection is lost. Commands are refused while there is none, and none is sent a
 * second time: whoever was told that a call had failed must not see it done later.
 */
export function connect(options: RedisStoreOptions): Client {
  const client = create(options);
  // It gives up where a disconnect meets a search for the master, as in a failover.
  client.on('end', () => {
    if (closed.has(client)) return;
    const timer = setTimeout(() => {
      // A failure is told by its events, and then this one comes again.
      if (!closed.has(client) && client.status === 'end') client.connect().catch(() => {});
    }, RETRY_MS.first);
    timer.unref();
  });
  return client;
}

/** Closes a connection for good. */
export function disconnect(client: Client): void {
  closed.add(client);
  client.disconnect();
}

function create(options: RedisStoreOptions): Client {
  const { addresses, username, password, db = 0, tls, sentinel, cluster = false } = options;
  const nodes = addresses.map(parseAddress);
  const [first] = nodes;
  if (first === undefined) throw new TypeError('the Redis store needs at least one address');
  const common = {
    // What connects is told apart in CLIENT LIST.
    connectionName: 'dungbeetle',
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls === undefined || tls === false ? {} : { tls: tls === true ? {} : { ...tls } }),
    protocol: 2,
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    connectTimeout: options.connect_timeout_ms ?? 5_000,
    // A peer that does not answer does not say goodbye either.
    disconnectTimeout: 1,
    retryStrategy,
  } satisfies RedisOptions;
  if (cluster) {
    const { retryStrategy: _, enableOfflineQueue: __, ...redisOptions } = common;
    return new Cluster([...nodes], {
      redisOptions,
      lazyConnect: true,
      enableOfflineQueue: false,
      clusterRetryStrategy: retryStrategy,
      retryDelayOnFailover: 0,
      retryDelayOnClusterDown: 0,
      slotsRefreshTimeout: options.connect_timeout_ms ?? 5_000,
    });
  }
  if (sentinel === undefined) return new Redis({ ...common, ...first, db });
  return new Redis({
    ...common,
    db,
    sentinels: [...nodes],
    name: sentinel.name,
    ...(sentinel.username === undefined ? {} : { sentinelUsername: sentinel.username }),
    ...(sentinel.password === undefined ? {} : { sentinelPassword: sentinel.password }),
    ...(common.tls === undefined ? {} : { enableTLSForSentinelMode: true, sentinelTLS: common.tls }),
    sentinelRetryStrategy: retryStrategy,
    failoverDetector: true,
  });
}

function retryStrategy(times: number): number {
  return Math.min(RETRY_MS.first * 2 ** (times - 1), RETRY_MS.most);
}

/** Throws `TypeError` for what is not 'host:port'; an IPv6 host is in brackets. */
export function parseAddress(address: string): { readonly host: string; readonly port: number } {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(address) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || port === undefined || Number(port) > 65_535) {
    throw new TypeError(`"${address}" is not an address of the form host:port`);
  }
  return { host, port: Number(port) };
}
