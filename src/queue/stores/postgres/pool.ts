/** The store's connections: as many as are needed at once, up to a number. */
import { StoreUnavailable } from '../../errors.ts';
import { Connection, type ConnectionOptions } from './connection.ts';
import { isWrongServer, mayRetry, toUnavailable } from './failure.ts';

/** How often a call is repeated that met another. */
const MOST_TRIES = 10;

/** A call for which no place was free. Once it is taken off the line it gets a connection, or hears why there is none. */
interface Waiting {
  readonly resolve: (connection: Connection) => void;
  readonly reject: (error: unknown) => void;
  readonly timer: NodeJS.Timeout;
}

export interface PoolOptions extends ConnectionOptions {
  readonly max_active: number;
}

export class Pool {
  readonly #options: PoolOptions;
  readonly #idle: Connection[] = [];
  /** In the order in which they came. */
  readonly #waiting = new Set<Waiting>();
  /** Those in use and those being made. */
  #busy = 0;
  /** Counted up when all that were made before are of no use any more. */
  #generation = 0;
  #isClosed = false;
  #onDrained: (() => void) | undefined;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /**
   * The rows that a statement gives, as arrays. Rejects with `StoreUnavailable`: then it was not carried out, or it is not
   * known whether it was (the connection broke before the answer).
   */
  call<Row extends readonly unknown[]>(text: string, values: readonly unknown[]): Promise<Row[]> {
    return this.use((connection) => connection.query<Row>(text, values));
  }

  /** Repeats `act` when it met another. */
  async use<T>(act: (connection: Connection) => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries += 1) {
      const connection = await this.#acquire();
      const generation = this.#generation;
      try {
        return await act(connection);
      } catch (error) {
        if (isWrongServer(error) && generation === this.#generation) this.#abandonAll();
        if (!mayRetry(error) || tries === MOST_TRIES) throw toUnavailable(error);
      } finally {
        this.#release(connection, generation);
      }
    }
  }

  /** Resolves when the calls made before are answered. Later ones are refused. */
  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#busy > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#onDrained = resolve;
      await promise;
    }
    await Promise.all(this.#idle.splice(0).map((connection) => connection.close()));
  }

  #acquire(): Promise<Connection> {
    if (this.#isClosed) return Promise.reject(StoreUnavailable('it is closed'));
    const idle = this.#idle.pop();
    if (idle !== undefined) {
      this.#busy += 1;
      return Promise.resolve(idle);
    }
    if (this.#busy < this.#options.max_active) return this.#open();
    const { promise, resolve, reject } = Promise.withResolvers<Connection>();
    const milliseconds = this.#options.connect_timeout_ms;
    const timer = setTimeout(() => {
      this.#waiting.delete(waiting);
      reject(StoreUnavailable(`no connection was free within ${milliseconds / 1000} s`));
    }, milliseconds);
    const waiting: Waiting = { resolve, reject, timer };
    this.#waiting.add(waiting);
    return promise;
  }

  /** Takes the first off the line: whoever does must settle it. */
  #next(): Waiting | undefined {
    const [next] = this.#waiting;
    if (next === undefined) return undefined;
    this.#waiting.delete(next);
    clearTimeout(next.timer);
    return next;
  }

  async #open(): Promise<Connection> {
    this.#busy += 1;
    try {
      return await Connection.open(this.#options);
    } catch (error) {
      this.#left();
      throw toUnavailable(error);
    }
  }

  #release(connection: Connection, generation: number): void {
    if (connection.isLost || generation !== this.#generation) {
      connection.destroy();
      this.#left();
      return;
    }
    const next = this.#next();
    if (next !== undefined) {
      next.resolve(connection);
      return;
    }
    connection.onLost = () => {
      const index = this.#idle.indexOf(connection);
      if (index >= 0) this.#idle.splice(index, 1);
    };
    this.#idle.push(connection);
    this.#left();
  }

  /** One place has become free. */
  #left(): void {
    this.#busy -= 1;
    const next = this.#next();
    if (next !== undefined) this.#acquire().then(next.resolve, next.reject);
    else if (this.#busy === 0) this.#onDrained?.();
  }

  #abandonAll(): void {
    this.#generation += 1;
    for (const connection of this.#idle.splice(0)) connection.destroy();
  }
}
