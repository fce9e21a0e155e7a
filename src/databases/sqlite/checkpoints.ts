/**
 * When the write-ahead log is moved into the database. By itself SQLite does that in the commit that makes
 * the log pass a thousand pages, two fsyncs included; here a thread does it. Not while a result is being
 * loaded, though: measured, a load takes twice as long beside it (both are at the same two files), and the
 * move takes a third of that time afterwards, when nobody waits. Only a log that grows very long is moved in
 * between, and waited for: it begins anew only once all of it has been moved.
 */
import { Worker } from 'node:worker_threads';
import { entry } from '../../util/entry.ts';

export interface CheckpointRequest {
  readonly mode: 'PASSIVE' | 'TRUNCATE' | 'CLOSE';
}
export interface CheckpointReply {
  readonly pages: number;
}

/** Written since the last checkpoint began, after which the next one begins if nothing long is going on. */
const SOON_BYTES = 4 * 1024 * 1024;
/** Written since then, after which it cannot be put off any longer. */
const MOST_BYTES = 128 * 1024 * 1024;

export class Checkpoints {
  readonly #path: string;
  /** Started when there is something to do. */
  #thread: Worker | null = null;
  #written = 0;
  /** How long the log was after the last checkpoint. */
  #pages = 0;
  #running: Promise<void> | null = null;

  constructor(path: string) {
    this.#path = path;
  }

  /** After a commit. Resolves at once, unless the log has become so long that the next one must wait. */
  async wrote(bytes: number, loading: boolean): Promise<void> {
    this.#written += bytes;
    if (this.#written >= MOST_BYTES) {
      while (this.#running !== null) await this.#running;
      await this.#ask('PASSIVE');
    } else if (this.#written >= SOON_BYTES && !loading && this.#running === null) {
      void this.#ask('PASSIVE');
    }
  }

  /** When there is nothing to do: gives back the room that a log takes. */
  async rest(): Promise<void> {
    while (this.#running !== null) await this.#running;
    if (this.#pages > 0 || this.#written >= SOON_BYTES) await this.#ask('TRUNCATE');
  }

  async close(): Promise<void> {
    while (this.#running !== null) await this.#running;
    if (this.#thread === null) return;
    await this.#ask('CLOSE');
    await this.#thread.terminate();
  }

  #ask(mode: CheckpointRequest['mode']): Promise<void> {
    if (this.#thread === null) {
      this.#thread = new Worker(entry(import.meta.url, './checkpoint-thread'), { workerData: this.#path });
      this.#thread.unref();
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#written = 0;
    this.#running = promise;
    this.#thread.once('message', ({ pages }: CheckpointReply) => {
      this.#pages = pages;
      this.#running = null;
      resolve();
    });
    this.#thread.postMessage({ mode } satisfies CheckpointRequest);
    return promise;
  }
}
