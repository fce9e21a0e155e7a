/**
 * Waiting for a server that may never answer. A connection whose other end is gone without a word looks like one
 * that is slow, so whoever waits long has the session looked at over another connection.
 */
import type pg from 'pg';
import { destroy, type SessionId, sessionOf, socketOf } from './connect.ts';

/** What a session is doing, as seen from outside: at work, no longer there, or waiting for its client since then. */
export type Seen = 'working' | 'gone' | { readonly waiting_since: string };

export interface GuardOptions {
  readonly signal: AbortSignal;
  /** Looks at the session over another connection. Rejects if there is none to be had. */
  look(session: SessionId): Promise<Seen>;
  /** How long an answer may take before somebody looks, ms. */
  readonly patience_ms: number;
}

/** Guards what is done over one connection. `close` it. */
export class Guard {
  readonly #client: pg.Client;
  readonly #options: GuardOptions;
  #raised: { readonly error: unknown } | null = null;
  #reject: ((error: unknown) => void) | null = null;
  readonly #onAbort: () => void;

  constructor(client: pg.Client, options: GuardOptions) {
    this.#client = client;
    this.#options = options;
    this.#onAbort = () => this.raise(options.signal.reason);
    options.signal.addEventListener('abort', this.#onAbort, { once: true });
    if (options.signal.aborted) this.#onAbort();
  }

  /** Makes the wait under way and all later ones reject. */
  raise(error: unknown): void {
    this.#raised ??= { error };
    this.#reject?.(error);
  }

  /** Throws what was raised. */
  check(): void {
    if (this.#raised !== null) throw this.#raised.error;
  }

  /** Waits for somebody else than the server: rejects at once on an abort, or when something is raised. */
  async wait<T>(promise: Promise<T>): Promise<T> {
    if (this.#raised !== null) {
      // Nobody will look at it any more.
      promise.catch(() => {});
      throw this.#raised.error;
    }
    return new Promise<T>((resolve, reject) => {
      this.#reject = reject;
      promise.then(resolve, reject);
    });
  }

  /** Waits for the server: rejects as `wait` does, and when the session is lost. */
  async answer<T>(promise: Promise<T>): Promise<T> {
    return this.wait(this.outcome(promise));
  }

  /** Waits for the server whatever is raised: what it says is needed. Rejects when the session is lost. */
  async outcome<T>(promise: Promise<T>): Promise<T> {
    let before = '';
    let looking = false;
    const timer = setInterval(async () => {
      if (looking) return;
      looking = true;
      const seen = await this.#look();
      looking = false;
      if (seen === 'gone') destroy(this.#client);
      // It waits for us and we for it: seen once, something is on its way. Seen twice with nothing moved in
      // between, what was sent or its answer is lost.
      const now = typeof seen === 'string' ? '' : `${seen.waiting_since} ${this.#moved()}`;
      if (now !== '' && now === before) destroy(this.#client);
      before = now;
    }, this.#options.patience_ms);
    try {
      return await promise;
    } finally {
      clearInterval(timer);
    }
  }

  close(): void {
    this.#options.signal.removeEventListener('abort', this.#onAbort);
    this.#reject = null;
  }

  /** Bytes that have gone through the socket. */
  #moved(): string {
    const { bytesRead, bytesWritten, writableLength } = socketOf(this.#client);
    return `${bytesRead} ${bytesWritten - writableLength}`;
  }

  async #look(): Promise<Seen> {
    try {
      return await this.#options.look(sessionOf(this.#client));
    } catch {
      // A server that cannot be reached will not answer here either; and if it could, the write is done again.
      return 'gone';
    }
  }
}
