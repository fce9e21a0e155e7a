/** Child processes for queries: one runs one query at a time, some wait warm. */
import { DatabaseError } from '../errors.ts';
import { type Operations, SqliteProcess } from './process.ts';

export interface PoolOptions {
  readonly module: URL;
  /** How errors call the database. */
  readonly name: string;
  /** The most processes at once. */
  readonly max: number;
  /** How many are kept for good. */
  readonly warm: number;
  /** How long the idle ones beyond these are kept after the last query, ms. */
  readonly idle_ms: number;
  readonly environment?: Readonly<Record<string, string>>;
}

/**
 * How long a query waits before one more process is started for it, ms. A process takes 50 ms of CPU and
 * more to start, a small query takes one: in a burst of them those there are come free sooner.
 */
const PATIENCE_MS = 10;

interface Waiter<T extends Operations<T>> {
  grant(child: SqliteProcess<T>): void;
  refuse(error: unknown): void;
}

export class ProcessPool<T extends Operations<T>> {
  readonly #options: PoolOptions;
  readonly #all = new Set<SqliteProcess<T>>();
  readonly #idle: SqliteProcess<T>[] = [];
  readonly #waiting: Waiter<T>[] = [];
  #starting = 0;
  #patience: NodeJS.Timeout | undefined;
  #trimmer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#keepWarm();
  }

  /** The processes there are, for tests and measurements. */
  get pids(): readonly number[] {
    return [...this.#all].map((child) => child.pid).filter((pid) => pid !== undefined);
  }

  /** Waits in line for a process. It is the caller's until `release` or `discard`. */
  acquire(signal: AbortSignal): Promise<SqliteProcess<T>> {
    if (signal.aborted) return Promise.reject(signal.reason);
    if (this.#closed) return Promise.reject(this.#refusal('is closed'));
    const child = this.#idle.shift();
    if (child !== undefined) return Promise.resolve(child);

    const { promise, resolve, reject } = Promise.withResolvers<SqliteProcess<T>>();
    const left = () => signal.removeEventListener('abort', aborted);
    const waiter: Waiter<T> = {
      grant: (granted) => {
        left();
        resolve(granted);
      },
      refuse: (error) => {
        left();
        reject(error);
      },
    };
    const aborted = () => {
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
      reject(signal.reason);
    };
    signal.addEventListener('abort', aborted, { once: true });
    this.#waiting.push(waiter);
    this.#startForWaiting();
    return promise;
  }

  /** Gives back a process that has nothing left to do. */
  release(child: SqliteProcess<T>): void {
    // One that has ended leaves by its own way: see `#start`.
    if (child.alive) this.#offer(child);
    clearTimeout(this.#trimmer);
    this.#trimmer = setTimeout(() => this.#trim(), this.#options.idle_ms).unref();
  }

  /** Ends a process in the middle of its work; resolves when it is gone. */
  async discard(child: SqliteProcess<T>): Promise<void> {
    await child.kill();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#trimmer);
    clearTimeout(this.#patience);
    for (const waiter of this.#waiting.splice(0)) waiter.refuse(this.#refusal('is closed'));
    await Promise.all([...this.#all].map((child) => child.kill()));
  }

  #offer(child: SqliteProcess<T>): void {
    const waiter = this.#waiting.shift();
    if (waiter !== undefined) waiter.grant(child);
    // The one used last is used next: the others may go.
    else this.#idle.unshift(child);
  }

  #keepWarm(): void {
    const { warm, max } = this.#options;
    while (!this.#closed && this.#all.size < Math.min(warm, max)) this.#start();
  }

  /** Starts processes for those who wait: at once if there is none at all, else when patience has run out. */
  #startForWaiting(): void {
    const wanted = () => this.#waiting.length > this.#starting && this.#all.size < this.#options.max;
    if (this.#closed || !wanted()) return;
    if (this.#all.size === 0) this.#start();
    if (!wanted()) return;
    this.#patience ??= setTimeout(() => {
      this.#patience = undefined;
      if (wanted()) this.#start();
      this.#startForWaiting();
    }, PATIENCE_MS);
  }

  #start(): void {
    const { module, name, environment } = this.#options;
    const child = new SqliteProcess<T>(module, name, environment);
    this.#all.add(child);
    this.#starting += 1;
    let starting = true;
    void child.ready.then(() => {
      starting = false;
      this.#starting -= 1;
      if (child.alive) this.#offer(child);
    });
    void child.exited.then(() => {
      this.#all.delete(child);
      const index = this.#idle.indexOf(child);
      if (index >= 0) this.#idle.splice(index, 1);
      if (this.#closed) return;
      if (starting) {
        this.#starting -= 1;
        // Nobody waits for ever for what does not start; the next query tries again.
        this.#waiting.shift()?.refuse(this.#refusal('has no process that runs SQLite: it did not start'));
      } else {
        this.#keepWarm();
      }
      this.#startForWaiting();
    });
  }

  #trim(): void {
    for (const child of this.#idle.splice(this.#options.warm)) void child.kill();
  }

  #refusal(why: string): DatabaseError {
    return new DatabaseError('unavailable', `${this.#options.name} ${why}`);
  }
}
