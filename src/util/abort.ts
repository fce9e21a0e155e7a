import { LONGEST_TIMER_MS } from './duration.ts';

/**
 * What a promise gives, or the signal's reason if it aborts first: nobody waits for what has become pointless. The
 * promise goes on by itself, and may then fail unheard. `onAbort` may end what it waits for.
 */
export async function orAbort<T>(promise: Promise<T>, signal: AbortSignal, onAbort?: () => void): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => {
    onAbort?.();
    reject(signal.reason);
  };
  promise.catch(() => {});
  aborted.catch(() => {});
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  try {
    return await Promise.race([aborted, promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/**
 * Work whose signal aborts with the signal that is given, if one is, or, when the time is up, with what `late` makes.
 * The timer is of its own, not AbortSignal.timeout: that one would live on after the work.
 */
export async function withDeadline<T>(
  milliseconds: number,
  late: () => Error,
  signal: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const clock = new AbortController();
  const timer = setTimeout(() => clock.abort(late()), Math.min(milliseconds, LONGEST_TIMER_MS));
  try {
    return await work(signal === undefined ? clock.signal : AbortSignal.any([signal, clock.signal]));
  } finally {
    clearTimeout(timer);
  }
}
