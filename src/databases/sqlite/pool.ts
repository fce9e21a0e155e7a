/** Child processes for queries: one runs one query at a time, some wait warm. */
import { DatabaseError } from '../errors.ts';
import { type Operations, SqliteProcess } from './process.ts';

export interface PoolOptions {
  readonly module: URL;
  /** How errors call the database. */
  readonly name: string;
  /** The most processes at once. */
  readonly max: number;
  /** How many idle ones are kept for good; a fresh one costs some 40 ms until it answers. */
  readonly warm: number;
  /** How long the idle ones beyond these are kept after the last query, ms. */
  readonly idle_ms: number;
  readonly environment?: Readonly<Record<string, string>>;
}

interface Waiter {
  grant(): void;
  refuse(error: unknown): void;
}

export class ProcessPool<T extends Operations<T>> {
  readonly #options: PoolOptions;
  readonly #idle: SqliteProcess<T>[] = [];
  readonly #all = new Set<SqliteProcess<T>>();
  readonly #waiting: Waiter[] = [];
  #busy = 0;
  #trimmer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /** The processes there are, for tests and measurements. */
  get pids(): readonly number[] {
    return [...this.#all].map((child) => child.pid).filter((pid) => pid !== undefined);
  }

  /** Starts the warm ones. */
  warm(): void {
    while (!this.#closed && this.#idle.length < this.#options.warm && this.#all.size < this.#options.max) {
      this.#idle.push(this.#start());
    }
  }

  /** Waits in line for a process. It is the caller's until `release` or `discard`. */
  async acquire(signal: AbortSignal): Promise<SqliteProcess<T>> {
    signal.throwIfAborted();
    if (this.#closed) throw this.#refusal();
    if (this.#busy < this.#options.max) this.#busy += 1;
    else await this.#wait(signal);
    for (;;) {
      const child = this.#idle.shift() ?? this.#start();
      if (child.alive) {
        this.warm();
        return child;
      }
    }
  }

  /** Gives back a process that has nothing left to do. */
  release(child: SqliteProcess<T>): void {
    if (child.alive && !this.#closed) this.#idle.unshift(child);
    this.#next();
    clearTimeout(this.#trimmer);
    this.#trimmer = setTimeout(() => this.#trim(), this.#options.idle_ms).unref();
  }

  /** Ends a process in the middle of its work; resolves when it is gone. */
  async discard(child: SqliteProcess<T>): Promise<void> {
    await child.kill();
    this.#next();
    this.warm();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#trimmer);
    for (const waiter of this.#waiting.splice(0)) waiter.refuse(this.#refusal());
    await Promise.all([...this.#all].map((child) => child.kill()));
  }

  #trim(): void {
    for (const child of this.#idle.splice(this.#options.warm)) void child.kill();
  }

  #refusal(): DatabaseError {
    return new DatabaseError('unavailable', `${this.#options.name} is closed`);
  }

  #start(): SqliteProcess<T> {
    const { module, name, environment } = this.#options;
    const child = new SqliteProcess<T>(module, name, environment);
    this.#all.add(child);
    void child.exited.then(() => {
      this.#all.delete(child);
      const index = this.#idle.indexOf(child);
      if (index >= 0) this.#idle.splice(index, 1);
    });
    return child;
  }

  #wait(signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const aborted = () => {
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
      reject(signal.reason);
    };
    const waiter: Waiter = {
      grant: () => {
        signal.removeEventListener('abort', aborted);
        resolve();
      },
      refuse: (error) => {
        signal.removeEventListener('abort', aborted);
        reject(error);
      },
    };
    signal.addEventListener('abort', aborted, { once: true });
    this.#waiting.push(waiter);
    return promise;
  }

  /** Hands the place on. */
  #next(): void {
    const waiter = this.#waiting.shift();
    if (waiter !== undefined) waiter.grant();
    else this.#busy -= 1;
  }
}
