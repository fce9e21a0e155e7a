/** Waiting for jobs to finish: any number of waiters, one look at the store for all of them. */
import { QueueError } from './errors.ts';
import type { Job, Store } from './store.ts';

/** When no hint comes: how often the store is asked after the jobs that are waited for, ms. */
const POLL_MS = 1_000;

interface Waiter {
  look(): void;
}

export class Waiters {
  readonly #store: Store;
  readonly #byJob = new Map<string, Set<Waiter>>();
  #unwatch: (() => void) | undefined;
  #poll: NodeJS.Timeout | undefined;

  constructor(store: Store) {
    this.#store = store;
  }

  /**
   * Resolves with the job once `isOver`, or as it is when the time is up or the signal aborts. Rejects as
   * `Store.get` does; an unavailable store is waited for.
   */
  wait(
    job_id: string,
    isOver: (job: Job) => boolean,
    timeout_ms: number,
    signal?: AbortSignal,
  ): Promise<Job> {
    return new Promise((resolve, reject) => {
      let last: Job | undefined;
      let failure: unknown;
      let looking = false;
      let again = false;
      let due = timeout_ms <= 0 || signal?.aborted === true;
      let over = false;
      const end = (settle: () => void) => {
        over = true;
        clearTimeout(timer);
        signal?.removeEventListener('abort', timeUp);
        this.#remove(job_id, waiter);
        settle();
      };
      const look = () => {
        if (looking) {
          again = true;
          return;
        }
        looking = true;
        again = false;
        void this.#store
          .get(job_id)
          .then(
            (job) => {
              last = job;
            },
            (error: unknown) => {
              const away = error instanceof QueueError && error.code === 'store_unavailable';
              if (away) failure = error;
              else end(() => reject(error));
            },
          )
          .then(() => {
            looking = false;
            if (over) return;
            const job = last;
            if (job !== undefined && (isOver(job) || due)) end(() => resolve(job));
            else if (due) end(() => reject(failure));
            else if (again) look();
          });
      };
      const timeUp = () => {
        due = true;
        look();
      };
      const waiter: Waiter = { look };
      const timer = setTimeout(timeUp, Math.max(0, timeout_ms));
      signal?.addEventListener('abort', timeUp);
      this.#add(job_id, waiter);
      look();
    });
  }

  #add(job_id: string, waiter: Waiter): void {
    const waiters = this.#byJob.get(job_id) ?? new Set();
    this.#byJob.set(job_id, waiters.add(waiter));
    this.#unwatch ??= this.#store.watch((hint) => {
      if (hint.type === 'finished') this.#wake(hint.job_id);
    });
    this.#poll ??= setInterval(() => this.#wake(null), POLL_MS).unref();
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
  }

  #wake(job_id: string | null): void {
    const groups = job_id === null ? this.#byJob.values() : [this.#byJob.get(job_id) ?? []];
    for (const waiters of groups) for (const waiter of waiters) waiter.look();
  }
}
