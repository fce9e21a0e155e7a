/** A bounded set of connections, handed out in the order in which they were asked for. */
import type pg from 'pg';
import { Places } from '../places.ts';
import { type ConnectOptions, connect, destroy } from './connect.ts';

export interface PoolOptions extends Omit<ConnectOptions, 'signal'> {
  /** The most connections in use at once; more callers wait. */
  readonly max_active: number;
  /** The most connections kept open for the next caller. */
  readonly max_idle: number;
  /**
   * After so many uses a connection is replaced: the server's process keeps something of every table that it has seen.
   * Nobody waits for that, as the old one serves until the new one is there.
   */
  readonly max_uses: number;
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
  readonly #uses = new WeakMap<pg.Client, number>();
  /** The connection that is being made to take the place of worn ones. */
  #renewing: Promise<void> | null = null;
  /** Connections in use, each with what gives its place back. */
  readonly #active = new Map<pg.Client, () => void>();
  /** One for each connection in use or being made. */
  readonly #places: Places;
  readonly #closing = new AbortController();

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#places = new Places(options.max_active);
  }

  /** How many connections there are. */
  get size(): { readonly active: number; readonly idle: number; readonly waiting: number } {
    return { active: this.#places.taken, idle: this.#idle.length, waiting: this.#places.waiting };
  }

  /** Rejects with the signal's reason while it waits, with `PoolClosed`, or as `connect` does. */
  async acquire(signal: AbortSignal): Promise<pg.Client> {
    const leave = await this.#places.take(signal);
    try {
      const client = this.#idle.pop() ?? (await this.#connect(signal));
      this.#active.set(client, leave);
      return client;
    } catch (error) {
      leave();
      throw error;
    }
  }

  /** Whether a client had been used before it was handed out, so that it may have died unnoticed meanwhile. */
  wasIdle(client: pg.Client): boolean {
    return this.#reused.has(client);
  }

  /** `destroy`: its session's state is not known, or something may still run in it. `uses`: as how many this one counts. */
  release(
    client: pg.Client,
    { destroy: isSpent = false, uses = 1 }: { readonly destroy?: boolean; readonly uses?: number } = {},
  ): void {
    const leave = this.#active.get(client);
    if (leave === undefined) return;
    this.#active.delete(client);
    this.#uses.set(client, (this.#uses.get(client) ?? 0) + uses);
    if (isSpent) destroy(client);
    else this.#park(client);
    leave();
  }

  /** Ends idle connections in order and those in use at once. */
  async close(): Promise<void> {
    this.#closing.abort(new PoolClosed());
    this.#places.close(this.#closing.signal.reason);
    for (const client of this.#active.keys()) destroy(client);
    this.#active.clear();
    await this.#renewing;
    await Promise.all(this.#idle.splice(0).map(end));
  }

  async #connect(signal: AbortSignal): Promise<pg.Client> {
    return connect({ ...this.#options, signal: AbortSignal.any([signal, this.#closing.signal]) });
  }

  #isWorn(client: pg.Client): boolean {
    return (this.#uses.get(client) ?? 0) >= this.#options.max_uses;
  }

  #renew(): void {
    this.#renewing ??= this.#connect(this.#closing.signal)
      .then(
        (fresh) => {
          for (const worn of this.#idle.filter((client) => this.#isWorn(client))) {
            this.#idle = this.#idle.filter((other) => other !== worn);
            void end(worn);
          }
          this.#park(fresh);
        },
        () => {
          // The old one serves on, and whoever gives it back next tries again.
        },
      )
      .finally(() => {
        this.#renewing = null;
      });
  }

  #park(client: pg.Client): void {
    if (client.connection.stream.destroyed || !client.connection.stream.writable) return;
    const isWorn = this.#isWorn(client);
    if (isWorn && this.#idle.some((other) => !this.#isWorn(other))) {
      void end(client);
      return;
    }
    if (this.#closing.signal.aborted || this.#idle.length >= this.#options.max_idle) {
      void end(client);
      return;
    }
    if (isWorn) this.#renew();
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
