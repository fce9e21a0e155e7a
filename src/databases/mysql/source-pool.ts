/** A bounded set of sessions, handed out in the order in which they were asked for. */
import { Places } from '../places.ts';
import { type ConnectOptions, connect } from './connect.ts';
import { DoneReader, TextReader } from './source-readers.ts';
import { settings } from './source-settings.ts';
import { COMMAND, type Exchange, textCommand, Wire } from './source-wire.ts';

export interface PoolOptions extends Omit<ConnectOptions, 'signal'> {
  /** The most sessions in use at once; more callers wait. */
  readonly max_active: number;
  /** The most sessions kept open for the next caller. */
  readonly max_idle: number;
}

/** How long the server may take to forget what a session has left, ms. */
const CLEANING_MS = 5_000;

/** A session: nobody has left anything in it. */
export interface Member {
  readonly wire: Wire;
  /** The server's number of it, for KILL, and whence it comes, as the server sees it. */
  readonly id: number;
  readonly host: string;
  readonly mariadb: boolean;
  /** The seconds that the account's statements may take, set at its login; null on MySQL, which has no such thing. */
  readonly account_limit: string | null;
  /** It was used before it was handed out, and may have died unnoticed meanwhile. */
  reused: boolean;
}

/**
 * A session that breaks while it is idle is dropped at once. Nothing is asked of one before it is handed out: the
 * caller whose first statement finds it dead (`isConnectionError`, on a member that is `reused`) may ask
 * for another and try once more.
 */
export class Pool {
  readonly #options: PoolOptions;
  #idle: Member[] = [];
  /** Sessions in use, each with what gives its place back. */
  readonly #active = new Map<Member, () => void>();
  /** Sessions that are being cleaned for the next caller. */
  readonly #cleaning = new Set<Promise<void>>();
  /** One for each session in use or being made. */
  readonly #places: Places;
  readonly #closing = new AbortController();

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#places = new Places(options.max_active);
  }

  /** How many sessions there are. */
  get size(): { readonly active: number; readonly idle: number; readonly waiting: number } {
    return { active: this.#places.taken, idle: this.#idle.length, waiting: this.#places.waiting };
  }

  /** Rejects with the signal's reason while it waits, with `PoolClosed`, or as `connect` does. */
  async acquire(signal: AbortSignal): Promise<Member> {
    const leave = await this.#places.take(signal);
    try {
      const member = this.#idle.pop() ?? (await this.#open(signal));
      this.#active.set(member, leave);
      return member;
    } catch (error) {
      leave();
      throw error;
    }
  }

  /** A session that nobody uses, without waiting; null if there is none. It is given back like any other. */
  takeIdle(): Member | null {
    const leave = this.#places.takeFree();
    if (leave === null) return null;
    const member = this.#idle.pop() ?? null;
    if (member === null) leave();
    else this.#active.set(member, leave);
    return member;
  }

  /**
   * For a session without an answer to come: what it left behind is removed before the next caller gets it.
   * False: it is none of ours.
   */
  release(member: Member): boolean {
    if (!this.#active.has(member)) return false;
    const cleaned = this.#clean(member)
      // One that cannot be cleaned (its connection broke, or an old server knows no reset) is not used again.
      .catch(() => this.discard(member))
      .finally(() => this.#cleaning.delete(cleaned));
    this.#cleaning.add(cleaned);
    return true;
  }

  /** Ends a session at once. */
  discard(member: Member): void {
    const leave = this.#leaveOf(member);
    if (leave === null) return;
    member.wire.destroy();
    leave();
  }

  /** Ends idle sessions and those in use at once. */
  async close(): Promise<void> {
    this.#closing.abort(new PoolClosed());
    this.#places.close(this.#closing.signal.reason);
    for (const member of [...this.#active.keys()]) this.discard(member);
    for (const { wire } of this.#idle.splice(0)) wire.quit();
    await Promise.all(this.#cleaning);
  }

  /** What gives a session's place back, once; the session is no longer in use then. */
  #leaveOf(member: Member): (() => void) | null {
    const leave = this.#active.get(member) ?? null;
    this.#active.delete(member);
    return leave;
  }

  async #open(signal: AbortSignal): Promise<Member> {
    const either = AbortSignal.any([signal, this.#closing.signal]);
    return openSession({ ...this.#options, signal: either });
  }

  async #clean(member: Member): Promise<void> {
    const { wire } = member;
    const reset = new DoneReader();
    const timer = setTimeout(() => wire.destroy(), CLEANING_MS);
    try {
      const { config } = this.#options;
      const first = [Buffer.from([COMMAND.reset_connection]), reset] as const;
      await prepareSession(wire, settings(config, member.account_limit), first);
      await reset.answer;
    } finally {
      clearTimeout(timer);
    }
    const leave = this.#leaveOf(member);
    if (leave === null) return;
    if (wire.end !== null || this.#closing.signal.aborted || this.#idle.length >= this.#options.max_idle) {
      wire.quit();
    } else {
      member.reused = true;
      wire.onEnd = () => {
        this.#idle = this.#idle.filter((other) => other !== member);
      };
      this.#idle.push(member);
    }
    leave();
  }
}

const WHO_AM_I = `SELECT VERSION(), ID, HOST /*M!100101 , @@SESSION.max_statement_time */
  FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()`;

/** A session that is set up. The signal ends its making, not the session. */
export async function openSession(options: ConnectOptions): Promise<Member> {
  const { signal } = options;
  const milliseconds = options.config.connect_timeout_ms ?? options.connect_timeout_ms;
  const deadline = performance.now() + milliseconds;
  const connection = await connect(options);
  const wire = new Wire(connection);
  const abort = () => wire.destroy();
  signal?.addEventListener('abort', abort, { once: true });
  // A server that falls silent between the login and the first answer.
  const timer = setTimeout(abort, deadline - performance.now());
  try {
    signal?.throwIfAborted();
    const facts = new TextReader();
    const first = [textCommand(COMMAND.query, WHO_AM_I), facts] as const;
    await prepareSession(wire, settings(options.config, null), first);
    const [[version, id, host, account_limit = null] = []] = await facts.answer;
    return {
      wire,
      id: Number(id),
      host: host ?? '',
      mariadb: /mariadb/i.test(version ?? ''),
      account_limit,
      reused: false,
    };
  } catch (error) {
    wire.destroy();
    signal?.throwIfAborted();
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

async function prepareSession(wire: Wire, statements: readonly string[], first: Exchange): Promise<void> {
  const set = statements.map((sql) => [textCommand(COMMAND.query, sql), new DoneReader()] as const);
  wire.send(first, ...set);
  for (const [, reader] of set) await reader.answer;
}

/** The pool was closed meanwhile. */
export class PoolClosed extends Error {
  readonly code = 'ESHUTDOWN';

  constructor() {
    super('the connections to the database are closed');
    this.name = 'PoolClosed';
  }
}
