/** The thread as seen from outside: calls of the same tick go to it together, answers come as promises. */
import { EventEmitter } from 'node:events';
import { Worker } from 'node:worker_threads';
import { entry } from '../../../util/entry.ts';
import { QueueError, StoreUnavailable } from '../../errors.ts';
import type { Hint } from '../../store.ts';
import type { Answer, Call, News, Reply, Request, ThreadOptions } from './messages.ts';
import type { Arguments, Operation, Result } from './operations.ts';

interface Waiting {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** Before a thread that has failed is started again, ms: so that one that always fails leaves the machine alone. */
const RESTART_MS = 200;

export class Client {
  /** Throws `StoreUnavailable`. */
  static async open(options: ThreadOptions, clockOffset: () => number): Promise<Client> {
    const { thread, store_id } = await start(options);
    return new Client(thread, { ...options, store_id }, clockOffset);
  }

  readonly store_id: string;
  readonly #options: ThreadOptions;
  readonly #clockOffset: () => number;
  readonly #hints = new EventEmitter<{ hint: [Hint] }>();
  readonly #waiting = new Map<number, Waiting>();
  readonly #closing = new AbortController();
  readonly #closed = Promise.withResolvers<void>();
  #thread: Worker | undefined;
  /** Why there is no thread. */
  #gone: QueueError = StoreUnavailable('it is not open');
  #outbox: Call[] = [];
  #lastId = 0;

  private constructor(
    thread: Worker,
    options: ThreadOptions & { store_id: string },
    clockOffset: () => number,
  ) {
    this.store_id = options.store_id;
    this.#options = options;
    this.#clockOffset = clockOffset;
    this.#hints.setMaxListeners(0);
    this.#use(thread);
  }

  call<O extends Operation>(operation: O, ...args: Arguments<O>): Promise<Result<O>> {
    if (this.#closing.signal.aborted) return Promise.reject(StoreUnavailable('it is closed'));
    if (this.#thread === undefined) return Promise.reject(this.#gone);
    return new Promise((resolve, reject) => {
      this.#lastId += 1;
      this.#waiting.set(this.#lastId, {
        resolve: (value) => resolve(value as Result<O>), // the thread answers with what the operation returned
        reject,
      });
      // After everything else of this tick: what it calls goes along.
      if (this.#outbox.length === 0) process.nextTick(() => this.#send());
      this.#outbox.push([this.#lastId, operation, args]);
      if (this.#waiting.size === 1) this.#thread?.ref();
    });
  }

  watch(listener: (hint: Hint) => void): () => void {
    // A function of its own, so that a listener given twice is called twice and removed once.
    const listen = (hint: Hint) => listener(hint);
    if (this.#hints.listenerCount('hint') === 0) this.#post({ type: 'watch', watching: true });
    this.#hints.on('hint', listen);
    return () => {
      if (!this.#hints.listeners('hint').includes(listen)) return;
      this.#hints.off('hint', listen);
      if (this.#hints.listenerCount('hint') === 0) this.#post({ type: 'watch', watching: false });
    };
  }

  /** Throws what listeners throw. */
  emit(hint: Hint): void {
    this.#hints.emit('hint', hint);
  }

  /** Calls made before are answered. */
  async close(): Promise<void> {
    if (!this.#closing.signal.aborted) {
      this.#closing.abort();
      this.#send();
      if (this.#thread !== undefined) this.#letGo(this.#thread);
    }
    await this.#closed.promise;
    this.#hints.removeAllListeners();
  }

  #letGo(thread: Worker): void {
    thread.ref();
    this.#post({ type: 'close' });
  }

  #use(thread: Worker): void {
    let failure: Error | undefined;
    this.#thread = thread;
    // It keeps the process alive only while somebody waits for an answer.
    thread.unref();
    thread.on('message', (answer: Answer) => this.#receive(answer));
    thread.on('error', (error) => {
      failure = error;
    });
    thread.once('exit', () => this.#end(failure));
    if (this.#hints.listenerCount('hint') > 0) this.#post({ type: 'watch', watching: true });
  }

  #send(): void {
    if (this.#outbox.length === 0) return;
    const calls = this.#outbox;
    this.#outbox = [];
    const offset_ms = this.#clockOffset();
    try {
      this.#post({ type: 'calls', calls, offset_ms });
    } catch {
      // One of them cannot be sent to a thread, whatever its type said: the others can.
      for (const call of calls) this.#sendAlone(call, offset_ms);
    }
  }

  #sendAlone(call: Call, offset_ms: number): void {
    try {
      this.#post({ type: 'calls', calls: [call], offset_ms });
    } catch (error) {
      this.#waiting.get(call[0])?.reject(error);
      this.#waiting.delete(call[0]);
    }
  }

  #post(request: Request): void {
    this.#thread?.postMessage(request);
  }

  #receive(answer: Answer): void {
    if (answer.type !== 'replies') return;
    for (const reply of answer.replies) this.#settle(reply);
    if (this.#waiting.size === 0 && !this.#closing.signal.aborted) this.#thread?.unref();
    this.#hint(answer.news);
  }

  #settle(reply: Reply): void {
    const waiting = this.#waiting.get(reply[0]);
    this.#waiting.delete(reply[0]);
    if (reply[1]) waiting?.resolve(reply[2]);
    else waiting?.reject(toError(reply[2], reply[3]));
  }

  #hint({ ready, stopped, finished }: News): void {
    if (this.#hints.listenerCount('hint') === 0) return;
    if (ready) this.#hints.emit('hint', { type: 'ready' });
    if (stopped) this.#hints.emit('hint', { type: 'cancel' });
    for (const job_id of finished) this.#hints.emit('hint', { type: 'finished', job_id });
  }

  /** The thread is no more. What it was asked for may have happened or not. */
  #end(failure: Error | undefined): void {
    const isClosing = this.#closing.signal.aborted;
    this.#thread = undefined;
    this.#gone =
      failure === undefined
        ? StoreUnavailable(isClosing ? 'it is closed' : 'its thread ended')
        : StoreUnavailable(`its thread failed: ${failure.message}`, failure);
    for (const waiting of this.#waiting.values()) waiting.reject(this.#gone);
    this.#waiting.clear();
    this.#outbox = [];
    if (isClosing) this.#closed.resolve();
    else if (this.#options.path === ':memory:') this.#loseMemory();
    else void this.#restart();
  }

  #loseMemory(): void {
    this.#gone = StoreUnavailable('its thread failed, and what it had in memory is lost', this.#gone);
    this.#closed.resolve();
  }

  /** Until there is a thread again, or the store is closed. */
  async #restart(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await pause(RESTART_MS, signal);
      if (signal.aborted) break;
      try {
        const { thread } = await start(this.#options);
        this.#use(thread);
        if (signal.aborted) this.#letGo(thread);
        // Nobody has heard what happened meanwhile.
        else this.#hint({ ready: true, stopped: true, finished: [null] });
        return;
      } catch (error) {
        this.#gone =
          error instanceof QueueError
            ? error
            : StoreUnavailable(`its thread does not start: ${String(error)}`, error);
      }
    }
    this.#closed.resolve();
  }
}

/** A thread that has opened the store. Throws `StoreUnavailable`. */
async function start(options: ThreadOptions): Promise<{ thread: Worker; store_id: string }> {
  const thread = new Worker(entry(import.meta.url, './thread'), { workerData: options });
  const store_id = await new Promise<string>((resolve, reject) => {
    const exited = () => reject(StoreUnavailable('its thread ended before it was open'));
    thread.once('error', reject);
    thread.once('exit', exited);
    thread.once('message', (answer: Answer) => {
      thread.off('error', reject);
      thread.off('exit', exited);
      if (answer.type === 'open') resolve(answer.store_id);
      else if (answer.type === 'failed') reject(toError(answer.code, answer.message));
      else reject(new Error('the thread answered before it was open'));
    });
  });
  return { thread, store_id };
}

/** Ends early when the signal is aborted. It keeps no process alive. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms).unref();
    signal.addEventListener('abort', done);
  });
}

function toError(code: QueueError['code'] | null, message: string): Error {
  return code === null ? new Error(message) : new QueueError(code, message);
}
