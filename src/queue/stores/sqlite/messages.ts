/** What passes between the store and its thread. */
import type { QueueErrorCode } from '../../errors.ts';
import type { Happened, Operations } from './operations.ts';

/** The operations that can be called, by name. */
export type Method = Exclude<
  {
    [K in keyof Operations]: Operations[K] extends (...args: never[]) => unknown ? K : never;
  }[keyof Operations],
  never
>;

/** Those that change nothing. */
export const READS: ReadonlySet<string> = new Set<Method | 'peek'>([
  'peek',
  'storeId',
  'get',
  'group',
  'pending',
  'list',
  'stats',
  'leases',
]);

export interface Call {
  readonly id: number;
  /** `ping` takes the write lock and leaves it, `peek` only looks whether another process wrote. */
  readonly method: Method | 'ping' | 'peek';
  readonly args: readonly unknown[];
}

export interface Batch {
  readonly calls: readonly Call[];
  /** Added to the clock. */
  readonly offset_ms: number;
}

export type Reply =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly code: QueueErrorCode | null; readonly message: string };

export interface Replies {
  readonly replies: readonly Reply[];
  readonly happened: Happened;
  /** Whether another connection has changed the data since the last batch. */
  readonly changed_elsewhere: boolean;
}

export interface ThreadOptions {
  readonly path: string;
  /** How long a write waits for another process's. */
  readonly busy_timeout_ms: number;
}
