/**
 * Hints from other processes, over a connection of its own. Nothing says that a subscription has gone deaf (a
 * half-open socket, a server that is no longer the master, a cluster's other side); so a message to itself goes
 * around once per poll. If it has not come back by the next one, whatever may have been missed is hinted at, and
 * the connection is made anew.
 */
import type { Hint } from '../../store.ts';
import { type Client, connect, disconnect } from './connect.ts';
import type { RedisStoreOptions } from './options.ts';

export type Listener = (hint: Hint) => void;

const ALL: readonly Hint[] = [{ type: 'ready' }, { type: 'cancel' }, { type: 'finished', job_id: null }];

export class Hints {
  readonly #listeners = new Set<Listener>();
  readonly #options: RedisStoreOptions;
  readonly #channel: string;
  readonly #origin: string;
  readonly #publish: (channel: string, message: string) => Promise<unknown>;
  readonly #poll_ms: number;
  #subscriber: Client | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Number of the last message to itself, and of the last that has come back. */
  #sent = 0;
  #heard = 0;
  #subscribed = false;
  #onSubscribed: (() => void)[] = [];
  #closed = false;

  constructor(
    options: RedisStoreOptions,
    channel: string,
    origin: string,
    publish: (channel: string, message: string) => Promise<unknown>,
  ) {
    this.#options = options;
    this.#channel = channel;
    this.#origin = origin;
    this.#publish = publish;
    this.#poll_ms = options.poll_ms ?? 1_000;
  }

  watch(listener: Listener): () => void {
    // The same function may be given twice.
    const own: Listener = (hint) => listener(hint);
    this.#listeners.add(own);
    if (this.#subscriber === undefined && !this.#closed) this.#subscribe();
    return () => void this.#listeners.delete(own);
  }

  /** Of this process's own calls. */
  tell(news: string): void {
    const [flags = '', ids = ''] = news.split(' ');
    if (flags.includes('r')) this.emit({ type: 'ready' });
    if (flags.includes('c')) this.emit({ type: 'cancel' });
    if (ids === '*') this.emit({ type: 'finished', job_id: null });
    else if (ids !== '') for (const job_id of ids.split(',')) this.emit({ type: 'finished', job_id });
  }

  /** Resolves when others are heard, or after `timeout_ms`; at once if nobody listens. */
  async listening(timeout_ms: number): Promise<void> {
    if (this.#subscriber === undefined || this.#subscribed) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, timeout_ms);
    this.#onSubscribed.push(resolve);
    await promise;
    clearTimeout(timer);
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    if (this.#subscriber !== undefined) disconnect(this.#subscriber);
    for (const resolve of this.#onSubscribed.splice(0)) resolve();
  }

  #subscribe(): void {
    const subscriber = connect(this.#options);
    this.#subscriber = subscriber;
    // What is wrong is said by the calls; here it only means that hints come late.
    subscriber.on('error', () => {});
    subscriber.on('message', (_channel: string, message: string) => this.#hear(message));
    subscriber.on('ready', () => {
      void subscriber
        .subscribe(this.#channel, this.#own)
        .then(() => {
          this.#subscribed = true;
          this.#heard = this.#sent;
          for (const resolve of this.#onSubscribed.splice(0)) resolve();
          this.#emitAll();
        })
        // Lost again: its next `ready` tries again.
        .catch(() => {});
    });
    subscriber.on('close', () => {
      this.#subscribed = false;
    });
    void subscriber.connect().catch(() => {});
    this.#timer = setInterval(() => this.#poll(), this.#poll_ms);
    this.#timer.unref();
  }

  get #own(): string {
    return `${this.#channel}:${this.#origin}`;
  }

  #poll(): void {
    if (!this.#subscribed || this.#heard < this.#sent) {
      this.#emitAll();
      if (this.#subscribed) {
        this.#subscribed = false;
        this.#subscriber?.disconnect(true);
      }
    }
    this.#sent += 1;
    // If it cannot be sent it does not come back.
    this.#publish(this.#own, String(this.#sent)).catch(() => {});
  }

  #hear(message: string): void {
    const space = message.indexOf(' ');
    if (space < 0) this.#heard = Math.max(this.#heard, Number(message));
    else if (message.slice(0, space) !== this.#origin) this.tell(message.slice(space + 1));
  }

  #emitAll(): void {
    for (const hint of ALL) this.emit(hint);
  }

  /** Throws what listeners throw. */
  emit(hint: Hint): void {
    for (const listener of [...this.#listeners]) if (this.#listeners.has(listener)) listener(hint);
  }
}
