/** A store in a SQLite file: durable, for any number of processes on one machine. */
import { EventEmitter, once } from 'node:events';
import { type FSWatcher, watch as watchFolder } from 'node:fs';
import { basename, dirname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { entry } from '../../util/entry.ts';
import { QueueError, StoreUnavailable } from '../errors.ts';
import type { Hint, Store } from '../store.ts';
import type { Batch, Call, Method, Replies, ThreadOptions } from './sqlite/messages.ts';
import type { Operations } from './sqlite/operations.ts';

export interface SqliteStoreOptions {
  /** The file, made if it is not there; ":memory:" for one that ends with the process. */
  readonly path: string;
  /** How long a write waits for other processes before it is `StoreUnavailable`, ms. Default 10 s. */
  readonly busy_timeout_ms?: number;
  /** How often to look for other processes' changes if the file system says nothing of them, ms. Default 500. */
  readonly poll_ms?: number;
  /** Added to the clock, ms: lets tests move time. */
  readonly clockOffset?: () => number;
}

/** The most calls in one transaction, so that none waits long for its neighbours. */
const BATCH = 500;
/** Change events of the file system come in bursts; one look is enough for this long, ms. */
const PEEK_EVERY_MS = 5;

/** Opens or creates a store. Throws `StoreUnavailable`. */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<Store> {
  const threadOptions: ThreadOptions = {
    path: options.path,
    busy_timeout_ms: options.busy_timeout_ms ?? 10_000,
  };
  const worker = new Worker(entry(import.meta.url, './sqlite/thread'), { workerData: threadOptions });
  try {
    await once(worker, 'message');
  } catch (error) {
    // A thread's errors arrive as copies, without their class.
    throw error instanceof Error && 'code' in error && error.code === 'store_unavailable'
      ? new QueueError('store_unavailable', error.message, { cause: error })
      : error;
  }
  const thread = new Thread(worker, options.clockOffset ?? (() => 0));
  const store_id = await thread.call<'storeId'>('storeId');
  return new SqliteStore(store_id, thread, options);
}

type Result<M extends Method> = Operations[M] extends (...args: never[]) => infer R ? R : never;

interface Waiting {
  readonly call: Call;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** The thread as seen from outside: calls made while it is busy go to it together. */
class Thread {
  readonly hints = new EventEmitter<{ hint: [Hint] }>();
  readonly #worker: Worker;
  readonly #offset: () => number;
  #next = 1;
  #queued: Waiting[] = [];
  #sent: Waiting[] = [];
  #scheduled = false;
  #ended: Error | undefined;

  constructor(worker: Worker, offset: () => number) {
    this.#worker = worker;
    this.#offset = offset;
    this.hints.setMaxListeners(0);
    worker.unref();
    worker.on('message', (replies: Replies) => this.#receive(replies));
    worker.on('error', (error) => this.#end(StoreUnavailable('its thread ended', error)));
    worker.on('exit', () => this.#end(StoreUnavailable('it is closed')));
  }

  call<M extends Method>(method: M | 'ping' | 'peek', ...args: readonly unknown[]): Promise<Result<M>> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    return new Promise((resolve, reject) => {
      this.#queued.push({
        call: { id: this.#next++, method, args },
        resolve: (value) => resolve(value as Result<M>), // the thread answers with what the method returned
        reject,
      });
      this.#schedule();
    });
  }

  async close(): Promise<void> {
    if (this.#ended !== undefined) return;
    while (this.#queued.length + this.#sent.length > 0) await this.call('ping').catch(() => undefined);
    const exited = once(this.#worker, 'exit');
    this.#worker.ref();
    this.#worker.postMessage('close');
    await exited;
  }

  /** Not at once: what is called in the same tick goes with it. */
  #schedule(): void {
    if (this.#scheduled || this.#sent.length > 0) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#send();
    });
  }

  #send(): void {
    if (this.#sent.length > 0 || this.#queued.length === 0) return;
    this.#sent = this.#queued.splice(0, BATCH);
    // Keeps the process alive only while somebody waits for an answer.
    this.#worker.ref();
    const batch: Batch = { calls: this.#sent.map(({ call }) => call), offset_ms: this.#offset() };
    this.#worker.postMessage(batch);
  }

  #receive({ replies, happened, changed_elsewhere }: Replies): void {
    const sent = this.#sent;
    this.#sent = [];
    if (this.#queued.length > 0) this.#send();
    else this.#worker.unref();
    for (const [index, waiting] of sent.entries()) {
      const reply = replies[index];
      if (reply === undefined || reply.id !== waiting.call.id) {
        waiting.reject(new Error('the store answered another call than was made'));
      } else if ('value' in reply) waiting.resolve(reply.value);
      else if (reply.code === null) waiting.reject(new Error(reply.message));
      else waiting.reject(new QueueError(reply.code, reply.message));
    }
    if (happened.ready || changed_elsewhere) this.hints.emit('hint', { type: 'ready' });
    if (happened.cancel || changed_elsewhere) this.hints.emit('hint', { type: 'cancel' });
    for (const job_id of happened.finished) this.hints.emit('hint', { type: 'finished', job_id });
    if (changed_elsewhere) this.hints.emit('hint', { type: 'finished', job_id: null });
  }

  #end(error: Error): void {
    this.#ended ??= error;
    for (const waiting of [...this.#sent, ...this.#queued]) waiting.reject(this.#ended);
    this.#sent = [];
    this.#queued = [];
  }
}

class SqliteStore implements Store {
  readonly store_id: string;
  readonly #thread: Thread;
  readonly #poll: NodeJS.Timeout | undefined;
  #watcher: FSWatcher | undefined;
  #peek: NodeJS.Timeout | undefined;

  constructor(store_id: string, thread: Thread, options: SqliteStoreOptions) {
    this.store_id = store_id;
    this.#thread = thread;
    if (options.path === ':memory:') return;
    // Other processes' changes: the file system's word is a hint that may get lost, so there is a poll too.
    const look = () => {
      if (this.#thread.hints.listenerCount('hint') === 0) return;
      this.#peek ??= setTimeout(() => {
        this.#peek = undefined;
        this.#thread.call('peek').catch(() => undefined); // whoever needs the store hears of it
      }, PEEK_EVERY_MS).unref();
    };
    this.#poll = setInterval(look, options.poll_ms ?? 500).unref();
    const wal = `${basename(options.path)}-wal`;
    this.#watcher = watchFolder(dirname(options.path), { persistent: false }, (_event, name) => {
      if (name === wal) look();
    });
    this.#watcher.on('error', () => this.#watcher?.close());
  }

  enqueue: Store['enqueue'] = (jobs, group) => this.#thread.call<'enqueue'>('enqueue', jobs, group);
  claim: Store['claim'] = (request) => this.#thread.call<'claim'>('claim', request);
  renew: Store['renew'] = (renewals, lease_ms) => this.#thread.call<'renew'>('renew', renewals, lease_ms);
  finish: Store['finish'] = (ends) => this.#thread.call<'finish'>('finish', ends);
  release: Store['release'] = (leases) => this.#thread.call<'release'>('release', leases);
  cancel: Store['cancel'] = (job_id) => this.#thread.call<'cancel'>('cancel', job_id);
  cancelGroup: Store['cancelGroup'] = (group_id) => this.#thread.call<'cancelGroup'>('cancelGroup', group_id);
  purge: Store['purge'] = (job_id) => this.#thread.call<'purge'>('purge', job_id);
  purgeGroup: Store['purgeGroup'] = (group_id) => this.#thread.call<'purgeGroup'>('purgeGroup', group_id);
  retry: Store['retry'] = (job_id) => this.#thread.call<'retry'>('retry', job_id);
  get: Store['get'] = (job_id) => this.#thread.call<'get'>('get', job_id);
  group: Store['group'] = (group_id) => this.#thread.call<'group'>('group', group_id);
  pending: Store['pending'] = (queue, limit) => this.#thread.call<'pending'>('pending', queue, limit);
  list: Store['list'] = (filter, limit, cursor) => this.#thread.call<'list'>('list', filter, limit, cursor);
  stats: Store['stats'] = () => this.#thread.call<'stats'>('stats');
  pause: Store['pause'] = (queue) => this.#thread.call<'pause'>('pause', queue);
  resume: Store['resume'] = (queue) => this.#thread.call<'resume'>('resume', queue);
  leases: Store['leases'] = () => this.#thread.call<'leases'>('leases');
  recover: Store['recover'] = (options) => this.#thread.call<'recover'>('recover', options);

  async prune(retention: Parameters<Store['prune']>[0]): Promise<number> {
    let forgotten = 0;
    // A step at a time, so that other calls come between.
    for (;;) {
      const step = await this.#thread.call<'prune'>('prune', retention);
      if (step === 0) return forgotten;
      forgotten += step;
    }
  }

  watch(listener: (hint: Hint) => void): () => void {
    this.#thread.hints.on('hint', listener);
    return () => this.#thread.hints.off('hint', listener);
  }

  async ping(): Promise<void> {
    await this.#thread.call('ping');
  }

  async close(): Promise<void> {
    clearInterval(this.#poll);
    clearTimeout(this.#peek);
    this.#watcher?.close();
    await this.#thread.close();
  }
}
