/**
 * Answers that may be long, such as a group of ten thousand jobs: made in steps, between which others have their turn;
 * once for all who ask together; and not without end for clients that do not read them.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { FastifyReply } from 'fastify';
import type { Job } from '../queue/store.ts';
import { ApiError } from './errors.ts';
import { jobStatusView, jobView, success } from './views.ts';

/** The most bytes of such answers that clients have not read yet: some forty of the longest. */
const MOST_UNREAD_BYTES = 256 * 1024 * 1024;
/** The most that are made at once. */
const MADE_AT_ONCE = 8;
export const JSON_TYPE = 'application/json; charset=utf-8';
/** How many jobs one step shows. */
const JOBS_PER_STEP = 200;

interface Making {
  readonly answer: Promise<Buffer>;
  /** For those who have come since it was begun, and want to see what has happened since. */
  next: Promise<Buffer> | undefined;
}

export class LongAnswers {
  readonly #making = new Map<string, Making>();
  readonly #queue: (() => void)[] = [];
  #made = 0;
  readonly #readers = new Map<Buffer, number>();
  #unreadBytes = 0;
  readonly #mostUnread: number;

  constructor(most_unread_bytes = MOST_UNREAD_BYTES) {
    this.#mostUnread = most_unread_bytes;
  }

  /**
   * Sends what `make` gives, for all who ask by the same key. Nobody gets what was begun before they asked. Throws
   * `ApiError` unavailable while too much is unread.
   */
  async send(reply: FastifyReply, key: string, make: () => Promise<Buffer>): Promise<FastifyReply> {
    if (this.#unreadBytes > this.#mostUnread) {
      throw new ApiError('unavailable', 'too many long answers wait for clients that do not read them');
    }
    const answer = await this.#shared(key, make);
    this.#noteReader(answer, reply);
    return reply.type(JSON_TYPE).send(answer);
  }

  #shared(key: string, make: () => Promise<Buffer>): Promise<Buffer> {
    const making = this.#making.get(key);
    if (making === undefined) return this.#begin(key, make);
    const begin = () => this.#begin(key, make);
    making.next ??= making.answer.then(begin, begin);
    return making.next;
  }

  #begin(key: string, make: () => Promise<Buffer>): Promise<Buffer> {
    const answer = this.#inTurn(make);
    const making: Making = { answer, next: undefined };
    this.#making.set(key, making);
    const forget = () => {
      // Else the next one takes its place.
      if (making.next === undefined) this.#making.delete(key);
    };
    answer.then(forget, forget);
    return answer;
  }

  async #inTurn(make: () => Promise<Buffer>): Promise<Buffer> {
    if (this.#made === MADE_AT_ONCE) await new Promise<void>((resolve) => this.#queue.push(resolve));
    else this.#made += 1;
    try {
      return await make();
    } finally {
      const next = this.#queue.shift();
      if (next === undefined) this.#made -= 1;
      else next();
    }
  }

  #noteReader(answer: Buffer, { raw }: FastifyReply): void {
    if (raw.destroyed) return;
    const readers = this.#readers.get(answer) ?? 0;
    if (readers === 0) this.#unreadBytes += answer.length;
    this.#readers.set(answer, readers + 1);
    raw.once('close', () => {
      const left = (this.#readers.get(answer) ?? 1) - 1;
      this.#readers.set(answer, left);
      if (left > 0) return;
      this.#readers.delete(answer);
      this.#unreadBytes -= answer.length;
    });
  }
}

/** Of jobs that several clients have waited for: all of them are given the same object. */
const statuses = new WeakMap<Job, Buffer>();

/** A success whose data is the status of a job. */
export function statusAnswer(job: Job): Buffer {
  let answer = statuses.get(job);
  if (answer === undefined) {
    answer = Buffer.from(JSON.stringify(success(jobStatusView(job))));
    statuses.set(job, answer);
  }
  return answer;
}

/** A success whose data is a list of jobs, or holds one: `data` without its jobs, which come last. */
export async function jobsAnswer(data: object | null, jobs: readonly Job[]): Promise<Buffer> {
  const [begin, end] =
    data === null ? ['[', ']'] : [`${JSON.stringify({ ...data, jobs: [] }).slice(0, -2)}`, ']}'];
  const parts = [`{"status":"success","data":${begin}`];
  for (let start = 0; start < jobs.length; start += JOBS_PER_STEP) {
    if (start > 0) await nextTurn();
    const views = jobs.slice(start, start + JOBS_PER_STEP).map((job) => JSON.stringify(jobView(job)));
    parts.push(start > 0 ? ',' : '', views.join(','));
  }
  parts.push(end, '}');
  return Buffer.from(parts.join(''));
}
