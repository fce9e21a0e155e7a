/** How a store finds its Redis. */
import type { ConnectionOptions } from 'node:tls';

export interface RedisStoreOptions {
  /** 'host:port' of the server; with `sentinel` of the sentinels, with `cluster` of some of its nodes. */
  readonly addresses: readonly string[];
  readonly username?: string;
  readonly password?: string;
  /** Number of the database; 0 by default, and always with `cluster`. */
  readonly db?: number;
  /** True: with the authorities the system trusts. Otherwise what differs from that, such as `ca`. */
  readonly tls?: boolean | Pick<ConnectionOptions, 'ca' | 'cert' | 'key' | 'servername'>;
  /** The master that the sentinels call so is used; their own user and password, if they have one. */
  readonly sentinel?: { readonly name: string; readonly username?: string; readonly password?: string };
  readonly cluster?: boolean;
  /** What all keys begin with, in braces: they are in one slot of a cluster. Default `dungbeetle`. */
  readonly prefix?: string;
  /** How long opening may take, ms. Default 5 s. */
  readonly connect_timeout_ms?: number;
  /** How long a call may take before it is `StoreUnavailable`, ms: it is not carried out later. Default 5 s. */
  readonly command_timeout_ms?: number;
  /** How often to check that hints still arrive, ms. Default 1 s. */
  readonly poll_ms?: number;
  /**
   * How many replicas must have a change before a call resolves (WAIT); with fewer it is `StoreUnavailable`,
   * although the change was made. Not asked of claims, renewals, releases, recovery and pruning: what a failover
   * loses of them is done again. Default 0.
   */
  readonly min_replicas?: number;
  /** Added to the store's clock, ms: lets tests move time. */
  readonly clockOffset?: () => number;
  /** Told of what puts jobs at risk: data that are not kept, lost or replaced. */
  readonly onWarning?: (message: string) => void;
}
