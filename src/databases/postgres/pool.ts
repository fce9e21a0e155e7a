/** A bounded set of connections, handed out in the order in which they were asked for. */
import type pg from 'pg';
import { type ConnectOptions, connect, destroy } from './connect.ts';

export interface PoolOptions extends Omit<ConnectOptions, 'signal'> {
  /** The most connections in use at once; more callers wait. */
  readonly max_active: number;
  /** The most connections kept open for the next caller. */
  readonly max_idle: number;
}

interface Waiter {
  readonly go: () => void;
  readonly fail: (reason: unknown) => void;
}

/**
 * A connection that breaks while it is idle is dropped when that is noticed, at once where the server said goodbye.
 * Nothing is asked of a connection before it is handed out: the caller whose first statement finds it dead
 * (`isConnectionError`, on a client for which `wasIdle` says yes) may ask for another and try once more.
 */
export class Pool {
  readonly #options: PoolOptions;
  #idle: pg.Client[] = [];
  readonly #reused = new WeakSet<pg.Client>();
  readonly #active = new Set<pg.Client>();
  /** Places taken: connections in use or being made. */
  #taken = 0;
  readonly #waiting: Waiter[] = [];
  readonly #closing = new AbortController();

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /** How many connections there are. */
  get size(): { readonly active: number; readonly idle: number; readonly waiting: number } {
    return { active: this.#taken, idle: this.#idle.length, waiting: this.#waiting.length };
  }

  /** Rejects with the signal's reason while it waits, with `PoolClosed`, or as `connect` does. */
  async acquire(signal: AbortSignal): Promise<pg.Client> {
    signal.throwIfAborted();
    await this.#place(signal);
    try {
      this.#closing.signal.throwIfAborted();
      const client = this.#idle.pop() ?? (await this.#connect(signal));
      this.#active.add(client);
      return client;
    } catch (error) {
      this.#free();
      throw error;
    }
  }

  /** Whether a client had been used before it was handed out, so that it may have died unnoticed meanwhile. */
  wasIdle(client: pg.Client): boolean {
    return this.#reused.has(client);
  }

  /** `destroy`: its session's state is not known, or something may still run in it. */
  release(client: pg.Client, options: { readonly destroy?: boolean } = {}): void {
    if (!this.#active.delete(client)) return;
    if (options.destroy === true) destroy(client);
    else this.#park(client);
    this.#free();
  }

  /** Ends idle connections in order and those in use at once. */
  async close(): Promise<void> {
    this.#closing.abort(new PoolClosed());
    for (const { fail } of this.#waiting.splice(0)) fail(new PoolClosed());
    for (const client of this.#active) destroy(client);
    this.#active.clear();
    await Promise.all(this.#idle.splice(0).map(end));
  }

  /** Waits for a place among max_active. */
  async #place(signal: AbortSignal): Promise<void> {
    this.#closing.signal.throwIfAborted();
    if (this.#taken < this.#options.max_active) {
      this.#taken += 1;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const done = () => signal.removeEventListener('abort', abort);
      const waiter: Waiter = {
        go: () => {
          done();
          resolve();
        },
        fail: (reason) => {
          done();
          reject(reason);
        },
      };
      const abort = () => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        waiter.fail(signal.reason);
      };
      signal.addEventListener('abort', abort);
      this.#waiting.push(waiter);
    });
  }

  /** Gives a place to who waits longest. */
  #free(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#taken -= 1;
    else next.go();
  }

  async #connect(signal: AbortSignal): Promise<pg.Client> {
    return connect({ ...this.#options, signal: AbortSignal.any([signal, this.#closing.signal]) });
  }

  #park(client: pg.Client): void {
    if (client.connection.stream.destroyed || !client.connection.stream.writable) return;
    if (this.#closing.signal.aborted || this.#idle.length >= this.#options.max_idle) {
      void end(client);
      return;
    }
    if (!this.#reused.has(client)) {
      this.#reused.add(client);
      const forget = () => {
        this.#idle = this.#idle.filter((other) => other !== client);
        destroy(client);
      };
      client.on('error', forget);
      client.on('end', forget);
    }
    this.#idle.push(client);
  }
}

/** The pool was closed meanwhile. */
export class PoolClosed extends Error {
  readonly code = 'ESHUTDOWN';

  constructor() {
    super('the connections to the database are closed');
    this.name = 'PoolClosed';
  }
}

/** How long a goodbye may take, ms. */
const GOODBYE_MS = 1_000;

async function end(client: pg.Client): Promise<void> {
  const timer = setTimeout(() => destroy(client), GOODBYE_MS);
  try {
    await client.end();
  } finally {
    clearTimeout(timer);
  }
}
