/**
 * Waiting for a server that may never answer. A connection whose other end is gone without a word looks like one
 * that is slow, so whoever waits long has the session looked at over another connection.
 */
import type pg from 'pg';
import { destroy, type SessionId, sessionOf, socketOf } from './connect.ts';

/**
 * What a session is doing, as seen from outside: at work, no longer there, waiting for its client since then, or, with
 * its commit done, for a synchronous standby to have it too, which it may be for as long as there is none.
 */
export type Seen = 'working' | 'gone' | 'replicating' | { readonly waiting_since: string };

export interface GuardOptions {
  readonly signal: AbortSignal;
  /** Looks at the session over another connection. Rejects if there is none to be had. */
  look(session: SessionId): Promise<Seen>;
  /** Has a session that waits for a standby wait no longer. */
  endWait(session: SessionId): Promise<void>;
  /** How long an answer may take before somebody looks, ms. */
  readonly patience_ms: number;
}

/** How long a commit that nobody waits for any more may still take before somebody looks, ms. */
const HURRY_MS = 1_000;

/** Guards what is done over one connection. `close` it. */
export class Guard {
  readonly #client: pg.Client;
  readonly #options: GuardOptions;
  #raised: { readonly error: unknown } | null = null;
  #reject: ((error: unknown) => void) | null = null;
  #isHurried = false;
  /** Looks at the session whose answer is waited for. */
  #lookNow: (() => Promise<void>) | null = null;
  /** Something was asked of the session from outside, which may reach it late: it is not to be used again. */
  isSpent = false;
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
    this.hurry();
  }

  /** What is waited for is not to wait for a standby. */
  hurry(): void {
    if (this.#isHurried) return;
    this.#isHurried = true;
    setTimeout(() => void this.#lookNow?.(), HURRY_MS).unref();
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
    let looking: Promise<Seen> | null = null;
    const lookNow = async () => {
      if (looking !== null) return;
      looking = this.#look();
      const seen = await looking;
      looking = null;
      if (seen === 'gone') destroy(this.#client);
      // It waits for us and we for it: seen once, something is on its way. Seen twice with nothing moved in
      // between, what was sent or its answer is lost.
      const now = typeof seen === 'string' ? '' : `${seen.waiting_since} ${this.#moved()}`;
      if (now !== '' && now === before) destroy(this.#client);
      before = now;
    };
    const timer = setInterval(lookNow, this.#options.patience_ms);
    this.#lookNow = lookNow;
    try {
      return await promise;
    } finally {
      clearInterval(timer);
      this.#lookNow = null;
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
    const session = sessionOf(this.#client);
    try {
      const seen = await this.#options.look(session);
      if (seen === 'replicating' && this.#isHurried) {
        this.isSpent = true;
        await this.#options.endWait(session);
      }
      return seen;
    } catch {
      // A server that cannot be reached will not answer here either; and if it could, the write is done again.
      return 'gone';
    }
  }
}
