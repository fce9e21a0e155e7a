/** What passes between the store and its thread. */
import type { QueueErrorCode } from '../../errors.ts';
import type { Operation } from './operations.ts';

export interface ThreadOptions {
  readonly path: string;
  /** The store that it has to be, which is not made if it is not there; absent: it is not known yet. */
  readonly store_id?: string;
  /** How long a call waits for other processes' locks, ms. */
  readonly busy_timeout_ms: number;
  /** How often to look for other processes' changes when the file system says nothing, ms. */
  readonly poll_ms: number;
}

export type Call = readonly [id: number, operation: Operation, args: readonly unknown[]];

export type Request =
  | {
      readonly type: 'calls';
      readonly calls: readonly Call[];
      /** Added to the clock, ms. */
      readonly offset_ms: number;
    }
  /** Whether anybody wants to hear of changes. */
  | { readonly type: 'watch'; readonly watching: boolean }
  | { readonly type: 'close' };

export type Reply =
  | readonly [id: number, ok: true, value: unknown]
  /** Code null: not an error on purpose. */
  | readonly [id: number, ok: false, code: QueueErrorCode | null, message: string, detail?: string];

export type Answer =
  | { readonly type: 'open'; readonly store_id: string }
  | { readonly type: 'failed'; readonly code: QueueErrorCode | null; readonly message: string }
  | { readonly type: 'replies'; readonly replies: readonly Reply[]; readonly news: News };

/** What has happened, here or in other processes. */
export interface News {
  readonly ready: boolean;
  readonly stopped: boolean;
  /** Ids of jobs that finished; null if others finished too, and it is not known which. */
  readonly finished: readonly (string | null)[];
}
