/** Drops what nobody wants any more: expired result tables, and what attempts that died have left. */
import type { PublishedBy, ResultsBackend, Swept, Verdict } from '../databases/database.ts';
import { QueueError } from '../queue/errors.ts';
import { isFinished } from '../queue/finished.ts';
import type { Store } from '../queue/store.ts';

export interface SweeperOptions {
  readonly store: Store;
  readonly backends: ReadonlyMap<string, ResultsBackend>;
  readonly interval_ms: number;
  onSwept(backend: string, swept: Swept): void;
  /** A sweep that failed is tried again at the next interval. */
  onError(backend: string, error: unknown): void;
}

export class Sweeper {
  readonly #options: SweeperOptions;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #stopped = false;

  constructor(options: SweeperOptions) {
    this.#options = options;
  }

  /** Sweeps now and then at every interval, counted from the end of the last sweep. */
  start(): void {
    if (this.#stopped) return;
    this.#running = this.sweep().finally(() => {
      this.#running = undefined;
      if (this.#stopped) return;
      this.#timer = setTimeout(() => this.start(), this.#options.interval_ms);
      this.#timer.unref();
    });
  }

  /** Resolves when a sweep under way has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  async sweep(): Promise<void> {
    const { store, backends, onSwept, onError } = this.#options;
    for (const [name, backend] of backends) {
      if (this.#stopped) return;
      try {
        const swept = await backend.sweep({
          store_id: store.store_id,
          liveFences: async () => new Set((await store.leases()).map((lease) => lease.fence)),
          judge: (published) => judge(store, published),
        });
        if (swept.expired > 0 || swept.orphans > 0) onSwept(name, swept);
      } catch (error) {
        onError(name, error);
      }
    }
  }
}

/**
 * Whether a published table is wanted. Dropped is only what is surely nobody's: the table of an attempt of a
 * job that did not succeed with it, left by a worker that died between publishing and finishing. Where the
 * store no longer knows (the job was forgotten, or its id posted again) the table is kept: one too many is
 * better than one too few, and its expiry still counts.
 */
async function judge(store: Store, published: PublishedBy): Promise<Verdict> {
  try {
    const job = await store.get(published.job_id);
    if (!isFinished(job.state)) return 'undecided';
    if (job.seq !== published.seq) return 'keep';
    return job.state === 'SUCCESS' && job.fence === published.fence ? 'keep' : 'drop';
  } catch (error) {
    if (error instanceof QueueError && error.code === 'unknown_job') return 'keep';
    throw error;
  }
}
