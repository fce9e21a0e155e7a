/** What any process may do for a store now and then: recover expired leases, forget old jobs. */
import { QueueError } from './errors.ts';
import type { Recovered, Store } from './store.ts';

export interface MaintenanceOptions {
  readonly store: Store;
  /** How often expired leases are looked for. Default 2 s. */
  readonly sweep_ms?: number;
  /**
   * After the store was away, how long workers have to renew their leases before those that have expired meanwhile
   * are recovered, ms: what runs goes on, however long that was. Default 6 s: a heartbeat, the 2 s that a worker may
   * pause before it tries again, and one to spare.
   */
  readonly grace_ms?: number;
  /** A job whose workers died this often in a row fails. Default 3. */
  readonly max_crashes?: number;
  /** How often old jobs are forgotten. Default 60 s. */
  readonly prune_ms?: number;
  /** How long finished jobs and groups are remembered, ms. Default a week. */
  readonly jobs_ms?: number;
  readonly groups_ms?: number;
  onRecovered?(recovered: Recovered): void;
  onPruned?(jobs: number): void;
  /** Tried again at the next turn. */
  onError?(error: unknown): void;
}

const WEEK_MS = 7 * 24 * 3_600_000;

export class Maintenance {
  readonly #options: MaintenanceOptions;
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #running = new Set<Promise<void>>();
  #stopped = false;
  #storeWasAway = false;
  #storeWasSlow = false;
  /** By `performance.now()`. */
  #graceEnds = 0;

  constructor(options: MaintenanceOptions) {
    this.#options = options;
  }

  /** Does each of its duties now and then at intervals counted from the end of the last turn. */
  start(): void {
    const { store, sweep_ms = 2_000, prune_ms = 60_000 } = this.#options;
    const retention = {
      jobs_ms: this.#options.jobs_ms ?? WEEK_MS,
      groups_ms: this.#options.groups_ms ?? WEEK_MS,
    };
    this.#repeat(sweep_ms, () => this.#recover());
    this.#repeat(prune_ms, async () => {
      const jobs = await store.prune(retention);
      if (jobs > 0) this.#options.onPruned?.(jobs);
    });
  }

  /** Resolves when a turn under way has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#timers) clearTimeout(timer);
    await Promise.all(this.#running);
  }

  async #recover(): Promise<void> {
    const { store, max_crashes = 3, grace_ms = 6_000 } = this.#options;
    try {
      const asked = performance.now();
      await store.ping();
      // An answer that was long on its way tells of an outage, too: what the workers have to say was as long. Not where
      // all answers are: there the dead would never be found.
      const isSlow = performance.now() - asked > grace_ms / 2;
      if (this.#storeWasAway || (isSlow && !this.#storeWasSlow)) {
        this.#graceEnds = performance.now() + grace_ms;
      }
      this.#storeWasAway = false;
      this.#storeWasSlow = isSlow;
      if (performance.now() < this.#graceEnds) return;
      const recovered = await store.recover({ max_crashes });
      const { requeued, poisoned, cancelled } = recovered;
      if (requeued.length + poisoned.length + cancelled.length > 0) this.#options.onRecovered?.(recovered);
    } catch (error) {
      if (error instanceof QueueError && error.code === 'store_unavailable') this.#storeWasAway = true;
      throw error;
    }
  }

  #repeat(interval_ms: number, duty: () => Promise<void>): void {
    const turn = duty()
      .catch((error: unknown) => this.#options.onError?.(error))
      .then(() => {
        this.#running.delete(turn);
        if (this.#stopped) return;
        const timer = setTimeout(() => {
          this.#timers.delete(timer);
          this.#repeat(interval_ms, duty);
        }, interval_ms);
        timer.unref();
        this.#timers.add(timer);
      });
    this.#running.add(turn);
  }
}
