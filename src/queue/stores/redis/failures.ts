/** What Redis and the way to it answer in place of a reply, in words. */
import { connectionText } from '../../../util/tls.ts';
import { QueueError, StoreUnavailable } from '../../errors.ts';

/** Error codes of Redis that say that it cannot be used just now. */
const CODES: Readonly<Record<string, string>> = {
  NOAUTH: 'Redis asks for a password',
  WRONGPASS: 'Redis refuses the user or the password',
  NOPERM: 'Redis does not permit this user what the store needs',
  READONLY: 'this Redis is a replica, which cannot be written',
  LOADING: 'Redis is still loading its data',
  MASTERDOWN: 'this Redis is a replica that has lost its master',
  CLUSTERDOWN: 'the Redis cluster is down',
  TRYAGAIN: 'the Redis cluster is moving its data',
  MOVED: 'the Redis cluster has moved its data',
  ASK: 'the Redis cluster is moving its data',
  CROSSSLOT: 'the Redis cluster has moved its data',
  BUSY: 'Redis is busy with a script',
  OOM: 'Redis is out of memory (maxmemory)',
  MISCONF: 'Redis cannot write its data to disk, and so takes no writes',
  NOREPLICAS: 'Redis has fewer replicas than it wants for writes',
};

/** Codes after which another server may be the right one: connect anew. */
export const ELSEWHERE: ReadonlySet<string> = new Set(['READONLY', 'MASTERDOWN']);

/** Codes of a cluster's node: a client that knows of no cluster can do nothing about them. */
export const OF_CLUSTER: ReadonlySet<string> = new Set([
  'CLUSTERDOWN',
  'TRYAGAIN',
  'MOVED',
  'ASK',
  'CROSSSLOT',
]);

/** Codes that time does not mend. */
export const REFUSED: ReadonlySet<string> = new Set(['NOAUTH', 'WRONGPASS', 'NOPERM']);

/** The code of an error reply; undefined: it is none that we know. */
export function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  // Older servers hide it in the error of the script.
  return /(?:^|: -)([A-Z]+) /.exec(`${error.message} `)?.[1];
}

/**
 * An error reply of Redis, or what became of the connection. Never with a password in it: none is sent on. `cluster`:
 * whether it is taken for a cluster.
 */
export function failure(error: unknown, where: string, cluster = true): Error {
  if (error instanceof QueueError) return error;
  const code = codeOf(error);
  if (!cluster && code !== undefined && OF_CLUSTER.has(code)) {
    return StoreUnavailable(`Redis at ${where} is a node of a cluster: set cluster = true`, error);
  }
  const known = code === undefined ? undefined : CODES[code];
  if (known !== undefined) return StoreUnavailable(`${known} (${where})`, error);
  if (error instanceof Error && error.name === 'ReplyError') {
    return new Error(`Redis has failed (${where}): ${error.message}`, { cause: error });
  }
  return StoreUnavailable(`Redis at ${where} is not connected: ${reasonOf(error)}`, error);
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const errors: readonly unknown[] = error instanceof AggregateError ? error.errors : [];
  const [first] = errors;
  return connectionText(error.message === '' && first !== undefined ? first : error) || error.name;
}
