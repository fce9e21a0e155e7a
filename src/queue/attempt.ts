/** One attempt in this process: the signal that stops its handler, the progress it reports. */
import type { Json } from '../util/json.ts';
import { AttemptStopped, type StopReason } from './handler.ts';
import type { ClaimedJob, Lease, Renewal } from './store.ts';

export class Attempt {
  readonly job: ClaimedJob;
  readonly #abort = new AbortController();
  #stopped: StopReason | undefined;
  #progress: Json | undefined;
  /** Its handler has returned. */
  ended = false;
  /** When the store was asked that last said that the lease is held, by `performance.now()`. */
  held_at: number;
  /** Given back to the store while its handler went on: what comes of it no longer counts. */
  abandoned = false;

  constructor(job: ClaimedJob, held_at: number) {
    this.job = job;
    this.held_at = held_at;
  }

  get lease(): Lease {
    return this.job.lease;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Why it was stopped; undefined: it was not. */
  get stopped(): StopReason | undefined {
    return this.#stopped;
  }

  /** What the next heartbeat says of it. */
  get renewal(): Renewal {
    return this.#progress === undefined
      ? { lease: this.lease }
      : { lease: this.lease, progress: this.#progress };
  }

  /** The first reason stays. */
  stop(reason: StopReason): void {
    if (this.#stopped !== undefined) return;
    this.#stopped = reason;
    this.#abort.abort(new AttemptStopped(reason));
  }

  /** Throws `TypeError` for what is not JSON. */
  report(progress: Json): void {
    this.#progress = toJson(progress);
  }
}

/**
 * The value if it is JSON; undefined counts as null. Throws `TypeError` for a cycle or a bigint, here, where it is
 * one handler's error, and not in the store, where it would be that of a batch.
 */
export function toJson(value: Json | undefined): Json {
  if (value === undefined) return null;
  return JSON.stringify(value) === undefined ? null : value;
}
