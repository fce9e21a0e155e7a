/** What the store's thread can be asked to do, by name. Each runs inside a transaction. */
import { claim, finish, leases, recover, release, renew } from './attempts.ts';
import { cancel, cancelGroup, pause, prune, purge, purgeGroup, resume } from './changes.ts';
import { limit, limits } from './lanes.ts';
import { enqueue, retry } from './posting.ts';
import { get, group, list, pending, states, stats, storeId, unfinished } from './reads.ts';
import type { Session } from './session.ts';

/** Those that write take the store's write lock, also when they turn out to change nothing. */
const WRITES = {
  enqueue,
  claim,
  renew,
  finish,
  release,
  recover,
  cancel,
  cancelGroup,
  purge,
  purgeGroup,
  retry,
  pause,
  resume,
  limit,
  prune,
  ping: (_session: Session): void => {},
} as const;

const READS = { storeId, get, states, group, unfinished, pending, list, stats, leases, limits } as const;

const ALL = { ...WRITES, ...READS };

export type Operations = typeof ALL;
export type Operation = keyof Operations;
export type Arguments<O extends Operation> = Operations[O] extends (
  session: Session,
  ...rest: infer Rest
) => unknown
  ? Rest
  : never;
export type Result<O extends Operation> = ReturnType<Operations[O]>;

export function isWrite(operation: Operation): boolean {
  return operation in WRITES;
}

export function invoke(session: Session, operation: Operation, args: readonly unknown[]): unknown {
  // The store is the only caller, with the arguments that `Arguments` asks for.
  const run = ALL[operation] as (session: Session, ...rest: readonly unknown[]) => unknown;
  return run(session, ...args);
}
