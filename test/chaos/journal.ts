/** What the workers say that they do, and how long it takes until work that died with one goes on elsewhere. */

export interface Recovery {
  readonly job_id: string;
  readonly died_at: number;
  /** When its next attempt began, ms since 1970. */
  readonly resumed_at: number;
}

interface Running {
  readonly worker: string;
  readonly attempt: number;
}

const ENDS: ReadonlySet<unknown> = new Set([
  'succeeded',
  'failed',
  'retrying',
  'cancelled',
  'lost',
  'released',
]);

export class Journal {
  readonly recoveries: Recovery[] = [];
  /** How often each job ended in SUCCESS, by the workers' own word. */
  readonly successes = new Map<string, number>();
  readonly #running = new Map<string, Running>();
  readonly #orphans = new Map<string, number>();

  note(worker: string, { event, job_id, attempt }: Record<string, unknown>): void {
    if (typeof job_id !== 'string') return;
    if (event === 'started' && typeof attempt === 'number') {
      this.#running.set(job_id, { worker, attempt });
      const died_at = this.#orphans.get(job_id);
      if (died_at === undefined) return;
      this.#orphans.delete(job_id);
      this.recoveries.push({ job_id, died_at, resumed_at: Date.now() });
    } else if (ENDS.has(event)) {
      if (this.#running.get(job_id)?.worker === worker) this.#running.delete(job_id);
      // Told just before it was killed, and heard after.
      this.#orphans.delete(job_id);
      if (event === 'succeeded') this.successes.set(job_id, (this.successes.get(job_id) ?? 0) + 1);
    }
  }

  /** Its jobs are nobody's from now on. */
  killed(worker: string): void {
    for (const [job_id, running] of this.#running) {
      if (running.worker !== worker) continue;
      this.#running.delete(job_id);
      this.#orphans.set(job_id, Date.now());
    }
  }
}
