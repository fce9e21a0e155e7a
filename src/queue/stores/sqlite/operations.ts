/** What the store's thread can be asked to do, by name. Each runs inside a transaction. */
import { claim, finish, leases, recover, release, renew } from './attempts.ts';
import { cancel, cancelGroup, pause, prune, purge, purgeGroup, resume } from './changes.ts';
import type { TransactionMode } from './file.ts';
import { limit, limits } from './lanes.ts';
import { enqueue, retry } from './posting.ts';
import { get, group, list, pending, states, stats, storeId } from './reads.ts';
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

const READS = { storeId, get, states, group, pending, list, stats, leases, limits } as const;

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

/** Who runs a job dies with the machine, so a machine that has lost its power need not remember who did. */
const PASSING: ReadonlySet<Operation> = new Set(['claim', 'renew']);

/** What calls together ask of a transaction: see `StoreFile.transaction`. */
export function modeOf(operations: readonly Operation[]): TransactionMode {
  const writes = operations.filter((operation) => operation in WRITES);
  if (writes.length === 0) return 'read';
  return writes.every((operation) => PASSING.has(operation)) ? 'passing' : 'lasting';
}

export function invoke(session: Session, operation: Operation, args: readonly unknown[]): unknown {
  // The store is the only caller, with the arguments that `Arguments` asks for.
  const run = ALL[operation] as (session: Session, ...rest: readonly unknown[]) => unknown;
  return run(session, ...args);
}
