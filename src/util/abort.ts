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
