/** Waits for a condition by asking again and again; never for a length of time. */
import { setTimeout as delay } from 'node:timers/promises';

/**
 * Resolves with the first value of `probe` that is neither undefined nor false. Rejects after the deadline,
 * with what was waited for; a probe that throws ends the wait at once.
 */
export async function until<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  deadline_ms = 60_000,
): Promise<T> {
  const deadline = performance.now() + deadline_ms;
  for (;;) {
    const value = await probe();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > deadline) throw new Error(`waited ${deadline_ms} ms in vain until ${what}`);
    await delay(5);
  }
}
