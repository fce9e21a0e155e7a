/**
 * Hints: told to this process's listeners at once, to others by NOTIFY. A NOTIFY is a statement of its own, sent when its
 * cause is committed, one for all that has happened meanwhile, or right behind the call that is its cause: inside a call it
 * would have all calls commit one after the other. While nothing can be heard from others, everything may have happened,
 * every `poll_ms`.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { PostgresConfig } from '../../../util/postgres/dsn.ts';
import type { Hint } from '../../store.ts';
import { Connection } from './connection.ts';
import type { Pool } from './pool.ts';

/** Between two tries to listen, ms. */
const RETRY_MS = 500;
/** A payload has less than 8,000 bytes. */
const MOST_BYTES = 6_000;

/** What a call has done. */
export interface Happened {
  readonly ready?: boolean | null;
  readonly stopped?: boolean | null;
  readonly finished?: readonly string[] | '*';
}

export interface HintsOptions {
  readonly pool: Pool;
  /** Names the store among those of its database. */
  readonly channel: string;
  /** Tells what comes from here. */
  readonly instance: string;
  /** Where LISTEN works; null: where the store is, unless that is a pooler. */
  readonly listen: PostgresConfig | null;
  readonly config: PostgresConfig;
  readonly connect_timeout_ms: number;
  /** Of this the listener's connection is silent for half before it is asked whether it is still there. */
  readonly command_timeout_ms: number;
  readonly poll_ms: number;
  readonly onWarning: (message: string) => void;
}

export class Hints {
  readonly #options: HintsOptions;
  readonly #listeners = new Set<(hint: Hint) => void>();
  readonly #over = new AbortController();
  #ready = false;
  #stopped = false;
  #finished: string[] | '*' = [];
  #sending: Promise<void> | undefined;
  #isTellingBehind = false;
  #poll: NodeJS.Timeout | undefined;
  #listening: Connection | undefined;
  /** Settles when the first try to listen has succeeded or failed. */
  #begun: Promise<void> | undefined;
  #loop: Promise<void> | undefined;

  constructor(options: HintsOptions) {
    this.#options = options;
  }

  watch(listener: (hint: Hint) => void): () => void {
    // The same function may watch twice.
    const own = (hint: Hint) => listener(hint);
    this.#listeners.add(own);
    if (this.#loop === undefined && !this.#over.signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#begun = promise;
      this.#loop = this.#listen(resolve);
    }
    return () => this.#listeners.delete(own);
  }

  /** Resolves when whoever watches hears what happens from now on, if that can be. */
  async settled(): Promise<void> {
    await this.#begun;
  }

  /**
   * Has the server tell others that there are jobs as soon as it is done with what it was last asked on a connection.
   * False: that cannot be, or another such hint is under way, and it is to be told afterwards.
   */
  tellBehind(connection: Connection): boolean {
    if (this.#isTellingBehind || connection.isPooled) return false;
    this.#isTellingBehind = true;
    void this.#notify(connection, 'r', '').finally(() => {
      this.#isTellingBehind = false;
    });
    return true;
  }

  /** To this process's listeners only. */
  tellHere({ ready, stopped, finished = [] }: Happened): void {
    if (ready) this.#emit({ type: 'ready' });
    if (stopped) this.#emit({ type: 'cancel' });
    if (finished === '*') this.#emit({ type: 'finished', job_id: null });
    else if (this.#listeners.size > 0)
      for (const job_id of finished) this.#emit({ type: 'finished', job_id });
  }

  tell(happened: Happened): void {
    this.tellHere(happened);
    const { ready, stopped, finished = [] } = happened;
    if (!ready && !stopped && finished.length === 0) return;
    this.#ready ||= ready === true;
    this.#stopped ||= stopped === true;
    if (finished === '*' || this.#finished === '*') this.#finished = '*';
    else for (const job_id of finished) this.#finished.push(job_id);
    this.#sending ??= this.#send();
  }

  async close(): Promise<void> {
    this.#over.abort();
    clearInterval(this.#poll);
    this.#listeners.clear();
    await this.#sending;
    this.#listening?.destroy();
    await this.#loop;
  }

  #emit(hint: Hint): void {
    for (const listener of this.#listeners) listener(hint);
  }

  async #send(): Promise<void> {
    // What happens in the meantime goes along.
    await new Promise(setImmediate);
    while (this.#ready || this.#stopped || this.#finished.length > 0) {
      const ids = this.#finished === '*' ? '*' : this.#finished.join(' ');
      const what = `${this.#ready ? 'r' : ''}${this.#stopped ? 'c' : ''}`;
      this.#ready = false;
      this.#stopped = false;
      this.#finished = [];
      try {
        await this.#options.pool.use((connection) => this.#notify(connection, what, ids));
      } catch {
        // No connection: see there.
      }
    }
    this.#sending = undefined;
  }

  async #notify(connection: Connection, what: string, ids: string): Promise<void> {
    const { channel, instance } = this.#options;
    const payload = `${instance} ${what} ${ids.length > MOST_BYTES ? '*' : ids}`;
    try {
      // It need not survive a crash of the server: no wait for the disk.
      await connection.query(`SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)`, [
        channel,
        payload,
      ]);
    } catch {
      // A hint may be lost: whoever waits for it looks by itself.
    }
  }

  // --- hearing of others

  async #listen(begun: () => void): Promise<void> {
    const { signal } = this.#over;
    let hasWarned = false;
    while (!signal.aborted) {
      try {
        const connection = await this.#connect();
        if (connection === null) {
          this.#options.onWarning(
            'the store is behind a connection pooler: it is asked for news every ' +
              `${this.#options.poll_ms} ms (a direct "listen_dsn" makes it hear at once)`,
          );
          this.#beginPoll();
          begun();
          return;
        }
        hasWarned = false;
        this.#endPoll();
        // What has happened before is not told.
        if (this.#listeners.size > 0) this.#anything();
        begun();
        await this.#keep(connection);
      } catch (error) {
        if (!hasWarned && !signal.aborted) {
          hasWarned = true;
          const reason = error instanceof Error ? error.message : 'no reason given';
          this.#options.onWarning(`cannot listen for news of the store (${reason}): it is asked instead`);
        }
      }
      begun();
      if (signal.aborted) return;
      this.#beginPoll();
      await delay(RETRY_MS, undefined, { signal }).catch(() => {});
    }
  }

  /** Null: LISTEN does not work there. */
  async #connect(): Promise<Connection | null> {
    const { listen, config, connect_timeout_ms, command_timeout_ms, channel } = this.#options;
    const connection = await Connection.open({
      config: listen ?? config,
      connect_timeout_ms,
      command_timeout_ms,
      application_name: 'dungbeetle listener',
    });
    if (this.#over.signal.aborted || (connection.isPooled && listen === null)) {
      connection.destroy();
      return null;
    }
    connection.onNotification((payload) => this.#heard(payload));
    await connection.query(`LISTEN ${channel}`, []);
    this.#listening = connection;
    return connection;
  }

  /** Resolves when the connection is lost, or has not answered in time. */
  async #keep(connection: Connection): Promise<void> {
    const lost = new AbortController();
    connection.onLost = () => lost.abort();
    while (!connection.isLost) {
      const silence_ms = this.#options.command_timeout_ms / 2;
      await delay(silence_ms, undefined, { signal: lost.signal }).catch(() => {});
      if (!connection.isLost) await connection.query('SELECT 1', []);
    }
  }

  #heard(payload: string): void {
    const [instance, what = '', ...ids] = payload.split(' ');
    if (instance === this.#options.instance) return;
    if (what.includes('r')) this.#emit({ type: 'ready' });
    if (what.includes('c')) this.#emit({ type: 'cancel' });
    for (const id of ids) {
      if (id !== '') this.#emit({ type: 'finished', job_id: id === '*' ? null : id });
    }
  }

  #anything(): void {
    this.#emit({ type: 'ready' });
    this.#emit({ type: 'cancel' });
    this.#emit({ type: 'finished', job_id: null });
  }

  #beginPoll(): void {
    this.#poll ??= setInterval(() => this.#anything(), this.#options.poll_ms).unref();
  }

  #endPoll(): void {
    clearInterval(this.#poll);
    this.#poll = undefined;
  }
}
