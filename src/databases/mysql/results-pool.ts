/** Connections of a results backend: each report holds one from its first statement to its last. */
import { Places } from '../places.ts';
import type { Session } from './results-session.ts';

export interface PoolOptions {
  /** How many reports write at once. */
  readonly max_active: number;
  /** How many connections are kept that nobody uses. */
  readonly max_idle: number;
  open(signal: AbortSignal): Promise<Session>;
}

/** How long a connection that was unused may take to answer before a new one is made, ms. */
const ANSWER_MS = 2_000;
/** Unused connections are closed after this long, ms: sooner than servers and firewalls do. */
const IDLE_MS = 60_000;

interface Idle {
  readonly session: Session;
  readonly timer: NodeJS.Timeout;
}

export class SessionPool {
  readonly #options: PoolOptions;
  readonly #idle: Idle[] = [];
  readonly #open = new Set<Session>();
  readonly #places: Places;
  #closed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#places = new Places(options.max_active);
  }

  /** Waits for its turn. `use` must be released. */
  async turn(signal: AbortSignal): Promise<Turn> {
    return new Turn(this, await this.#places.take(signal));
  }

  /** Beyond `max_active`: for short work that must not wait for long reports. */
  aside(): Turn {
    return new Turn(this, () => {});
  }

  /** An idle connection that answers, or a new one. */
  async take(signal: AbortSignal): Promise<Session> {
    for (;;) {
      const idle = this.#idle.pop();
      if (idle === undefined) break;
      clearTimeout(idle.timer);
      // It may be gone without a word.
      if (await answers(idle.session)) return idle.session;
      this.drop(idle.session);
    }
    const session = await this.#options.open(signal);
    this.#open.add(session);
    if (this.#closed) {
      this.drop(session);
      throw new Error('the pool is closed');
    }
    return session;
  }

  giveBack(session: Session): void {
    if (this.#closed || !session.usable || this.#idle.length >= this.#options.max_idle) {
      this.drop(session);
      return;
    }
    const timer = setTimeout(() => {
      this.#idle.splice(
        this.#idle.findIndex((idle) => idle.session === session),
        1,
      );
      this.drop(session);
    }, IDLE_MS);
    timer.unref();
    this.#idle.push({ session, timer });
  }

  drop(session: Session): void {
    this.#open.delete(session);
    session.destroy();
  }

  /** Cuts every connection, in use or not. */
  close(): void {
    this.#closed = true;
    for (const { timer } of this.#idle.splice(0)) clearTimeout(timer);
    for (const session of this.#open) this.drop(session);
  }
}

/** One's turn to work on the database: one connection at a time, another one when it was lost. */
export class Turn {
  readonly #pool: SessionPool;
  readonly #release: () => void;
  #session: Session | null = null;

  constructor(pool: SessionPool, release: () => void) {
    this.#pool = pool;
    this.#release = release;
  }

  async session(signal: AbortSignal): Promise<Session> {
    if (this.#session?.usable === true) return this.#session;
    if (this.#session !== null) this.#pool.drop(this.#session);
    this.#session = null;
    this.#session = await this.#pool.take(signal);
    return this.#session;
  }

  /** Cuts the connection, so that nothing is waited for. */
  cut(): void {
    this.#session?.destroy();
  }

  release(): void {
    if (this.#session !== null) this.#pool.giveBack(this.#session);
    this.#session = null;
    this.#release();
  }
}

async function answers(session: Session): Promise<boolean> {
  const timer = setTimeout(() => session.destroy(), ANSWER_MS);
  try {
    await session.query('SELECT 1');
    return true;
  } catch {
    return false; // a new one is made, which tells what is wrong
  } finally {
    clearTimeout(timer);
  }
}
