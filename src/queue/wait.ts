/**
 * Waiting for jobs to finish: any number of waiters, one question to the store for all of them. Hints make it
 * quick, a poll makes it sure.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { LONGEST_TIMER_MS } from '../util/duration.ts';
import { QueueError } from './errors.ts';
import type { Job, JobState, Store } from './store.ts';

/** When no hint comes: how often the store is asked after the jobs that are waited for, ms. */
const POLL_MS = 1_000;
/** The most ids in one question. */
const ASKED_AT_ONCE = 500;

interface Waiter {
  resolve(job: Job): void;
  reject(error: unknown): void;
}

export class Waiters {
  readonly #store: Store;
  readonly #isOver: (state: JobState) => boolean;
  readonly #byJob = new Map<string, Set<Waiter>>();
  /** Ids to be asked after. */
  #asking = new Set<string>();
  /** Those that are being read now, and whether there is reason to read them again afterwards. */
  readonly #reading = new Map<string, boolean>();
  readonly #reads = new Map<string, Promise<Job>>();
  #looking = false;
  #unwatch: (() => void) | undefined;
  #poll: NodeJS.Timeout | undefined;

  constructor(store: Store, isOver: (state: JobState) => boolean) {
    this.#store = store;
    this.#isOver = isOver;
  }

  /** How many wait. */
  get size(): number {
    return [...this.#byJob.values()].reduce((sum, waiters) => sum + waiters.size, 0);
  }

  /**
   * Resolves with the job once it is over, or as it is when the time is up or the signal aborts. Rejects as
   * `Store.get` does, only that it waits for a store that is unavailable until the time is up.
   */
  async wait(job_id: string, timeout_ms: number, signal?: AbortSignal): Promise<Job> {
    if (timeout_ms <= 0 || signal?.aborted) return this.#store.get(job_id);
    const { promise, resolve, reject } = Promise.withResolvers<Job>();
    const waiter: Waiter = { resolve, reject };
    const timeUp = () => {
      this.#remove(job_id, waiter);
      this.#readSoon(job_id).then(resolve, reject);
    };
    const timer = setTimeout(timeUp, Math.min(timeout_ms, LONGEST_TIMER_MS));
    signal?.addEventListener('abort', timeUp);
    this.#add(job_id, waiter);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', timeUp);
      this.#remove(job_id, waiter);
    }
  }

  /** The job as it is: read once for all whose time is up in the same turn of the event loop. */
  #readSoon(job_id: string): Promise<Job> {
    let read = this.#reads.get(job_id);
    if (read === undefined) {
      read = nextTurn().then(() => {
        this.#reads.delete(job_id);
        return this.#store.get(job_id);
      });
      this.#reads.set(job_id, read);
    }
    return read;
  }

  #add(job_id: string, waiter: Waiter): void {
    const waiters = this.#byJob.get(job_id) ?? new Set();
    this.#byJob.set(job_id, waiters.add(waiter));
    // First the watch, then the question: nothing is missed in between.
    this.#unwatch ??= this.#store.watch((hint) => {
      if (hint.type !== 'finished') return;
      if (hint.job_id === null) this.#ask(null);
      else void this.#answer(hint.job_id);
    });
    this.#poll ??= setInterval(() => this.#ask(null), POLL_MS).unref();
    this.#ask(job_id);
  }

  #remove(job_id: string, waiter: Waiter): void {
    const waiters = this.#byJob.get(job_id);
    waiters?.delete(waiter);
    if (waiters?.size === 0) this.#byJob.delete(job_id);
    if (this.#byJob.size > 0) return;
    this.#unwatch?.();
    this.#unwatch = undefined;
    clearInterval(this.#poll);
    this.#poll = undefined;
    this.#asking.clear();
  }

  /** Asks after a job; null: after all that are waited for. */
  #ask(job_id: string | null): void {
    if (job_id === null) for (const id of this.#byJob.keys()) this.#asking.add(id);
    else this.#asking.add(job_id);
    this.#lookSoon();
  }

  #lookSoon(): void {
    if (this.#looking || this.#asking.size === 0) return;
    this.#looking = true;
    // Not at once: what is asked in the same tick goes together.
    setImmediate(() => {
      void this.#look().then(() => {
        this.#looking = false;
        this.#lookSoon();
      });
    });
  }

  async #look(): Promise<void> {
    const ids = [...this.#asking];
    this.#asking = new Set();
    for (let start = 0; start < ids.length; start += ASKED_AT_ONCE) {
      const asked = ids.slice(start, start + ASKED_AT_ONCE);
      try {
        const states = await this.#store.states(asked);
        await Promise.all(
          asked.map((job_id, index) => {
            const state = states[index] ?? null;
            return state === null || this.#isOver(state) ? this.#answer(job_id) : undefined;
          }),
        );
      } catch (error) {
        // It is asked again with the next poll.
        if (isStoreUnavailable(error)) continue;
        for (const job_id of asked) this.#settle(job_id, (waiter) => waiter.reject(error));
      }
    }
  }

  async #answer(job_id: string): Promise<void> {
    if (!this.#byJob.has(job_id)) return;
    if (this.#reading.has(job_id)) {
      this.#reading.set(job_id, true);
      return;
    }
    do {
      this.#reading.set(job_id, false);
      try {
        const job = await this.#store.get(job_id);
        // Else it is about to be, or was posted again in the meantime: then it is the new run that is waited for.
        if (this.#isOver(job.state)) this.#settle(job_id, (waiter) => waiter.resolve(job));
      } catch (error) {
        if (!isStoreUnavailable(error)) this.#settle(job_id, (waiter) => waiter.reject(error));
      }
    } while (this.#byJob.has(job_id) && this.#reading.get(job_id) === true);
    this.#reading.delete(job_id);
  }

  /** Nobody waits for it any more. */
  #settle(job_id: string, end: (waiter: Waiter) => void): void {
    const waiters = this.#byJob.get(job_id) ?? [];
    this.#byJob.delete(job_id);
    for (const waiter of waiters) end(waiter);
  }
}

function isStoreUnavailable(error: unknown): boolean {
  return error instanceof QueueError && error.code === 'store_unavailable';
}
