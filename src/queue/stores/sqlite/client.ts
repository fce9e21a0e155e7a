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

export class Client {
  /** Throws `StoreUnavailable`. */
  static async open(options: ThreadOptions, clockOffset: () => number): Promise<Client> {
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
    return new Client(thread, store_id, clockOffset);
  }

  readonly store_id: string;
  readonly #thread: Worker;
  readonly #clockOffset: () => number;
  readonly #hints = new EventEmitter<{ hint: [Hint] }>();
  readonly #waiting = new Map<number, Waiting>();
  readonly #exited: Promise<void>;
  #outbox: Call[] = [];
  #lastId = 0;
  #closing = false;
  #gone: Error | undefined;

  private constructor(thread: Worker, store_id: string, clockOffset: () => number) {
    this.#thread = thread;
    this.store_id = store_id;
    this.#clockOffset = clockOffset;
    this.#hints.setMaxListeners(0);
    // It keeps the process alive only while somebody waits for an answer.
    thread.unref();
    thread.on('message', (answer: Answer) => this.#receive(answer));
    thread.on('error', (error) => this.#end(StoreUnavailable(`its thread failed: ${error.message}`, error)));
    this.#exited = new Promise((resolve) => {
      thread.once('exit', () => {
        this.#end(StoreUnavailable('it is closed'));
        resolve();
      });
    });
  }

  call<O extends Operation>(operation: O, ...args: Arguments<O>): Promise<Result<O>> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    if (this.#closing) return Promise.reject(StoreUnavailable('it is closed'));
    return new Promise((resolve, reject) => {
      this.#lastId += 1;
      this.#waiting.set(this.#lastId, {
        resolve: (value) => resolve(value as Result<O>), // the thread answers with what the operation returned
        reject,
      });
      // After everything else of this tick: what it calls goes along.
      if (this.#outbox.length === 0) process.nextTick(() => this.#send());
      this.#outbox.push([this.#lastId, operation, args]);
      if (this.#waiting.size === 1) this.#thread.ref();
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

  /** Calls made before are answered. */
  async close(): Promise<void> {
    if (!this.#closing && this.#gone === undefined) {
      this.#closing = true;
      this.#send();
      this.#thread.ref();
      this.#post({ type: 'close' });
    }
    await this.#exited;
    this.#hints.removeAllListeners();
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
    this.#thread.postMessage(request);
  }

  #receive(answer: Answer): void {
    if (answer.type !== 'replies') return;
    for (const reply of answer.replies) this.#settle(reply);
    if (this.#waiting.size === 0 && !this.#closing) this.#thread.unref();
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

  #end(error: Error): void {
    this.#gone ??= error;
    for (const waiting of this.#waiting.values()) waiting.reject(this.#gone);
    this.#waiting.clear();
    this.#outbox = [];
  }
}

function toError(code: QueueError['code'] | null, message: string): Error {
  return code === null ? new Error(message) : new QueueError(code, message);
}
