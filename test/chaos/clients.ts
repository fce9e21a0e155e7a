/** Applications that post jobs, and post again what may not have been heard. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Kept } from './world.ts';

/** A try that is not answered in this time is given up, ms. */
const PATIENCE_MS = 8_000;
const PAUSE_MS = 250;
const MOST_POSTING = 64;

export interface Planned {
  readonly job_id: string;
  /** How long its query takes, ms. */
  readonly milliseconds: number;
  readonly rows: number;
  readonly ends: 'SUCCESS' | 'FAILURE';
  /** Its client cancels it once it has been accepted. */
  readonly cancelled: boolean;
}

/** What a client knows of a job that was accepted. */
export interface Accepted extends Planned {
  readonly accepted_at: number;
  /** A try that was not answered may have been heard all the same, after the next one. */
  readonly posted_again: boolean;
  /** Its client was told that it is cancelled. */
  cancel_heard: boolean;
}

export interface Figures {
  tries: number;
  unavailable: number;
  unanswered: number;
  /** The longest time in which no job at all was accepted, ms. */
  longest_silence_ms: number;
  /** Answers that nobody should get. */
  readonly wrong: string[];
}

interface Answer {
  readonly status: number;
  readonly code: string | null;
  readonly message: string;
  readonly data: { readonly state?: string } | null;
}

export class Clients {
  readonly accepted = new Map<string, Accepted>();
  readonly figures: Figures = { tries: 0, unavailable: 0, unanswered: 0, longest_silence_ms: 0, wrong: [] };
  readonly #servers: readonly Kept[];
  #last = performance.now();

  constructor(servers: readonly Kept[]) {
    this.#servers = servers;
  }

  /** Posts all jobs, spread evenly over the time; resolves when each was accepted. */
  async post(jobs: readonly Planned[], milliseconds: number): Promise<void> {
    const begun = performance.now();
    this.#last = begun;
    const posting = new Set<Promise<void>>();
    for (const [index, job] of jobs.entries()) {
      const due = begun + (index / jobs.length) * milliseconds;
      const wait = due - performance.now();
      if (wait > 0) await delay(wait);
      // As many clients as that wait for an answer; what they cannot post in time is posted later.
      while (posting.size >= MOST_POSTING) await Promise.race(posting);
      const one: Promise<void> = this.#postOne(job).finally(() => posting.delete(one));
      posting.add(one);
    }
    await Promise.all(posting);
  }

  /** A job as some server tells of it; null where there is none. */
  async get(job_id: string): Promise<Answer['data']> {
    for (;;) {
      const answer = await this.#ask('GET', `/jobs/${job_id}`);
      if (answer?.status === 200) return answer.data;
      if (answer?.status === 404) return null;
      await delay(PAUSE_MS);
    }
  }

  async #postOne(job: Planned): Promise<void> {
    const { job_id, milliseconds, rows } = job;
    let posted_again = false;
    for (let first = true; ; first = false) {
      const answer = await this.#ask('POST', '/tasks/report/jobs', {
        job_id,
        args: [job_id, String(milliseconds), String(rows)],
      });
      if (answer?.status === 200 || (answer?.status === 409 && !first)) break;
      if (answer !== null && answer.status !== 503) {
        this.figures.wrong.push(`POST ${job_id}: ${answer.status} ${answer.message}`);
        return;
      }
      await delay(PAUSE_MS * (0.5 + Math.random()));
      // It may have been heard. If it was, and is not yet finished, posting again is refused; if it is finished, it
      // would run again.
      if ((await this.get(job_id)) !== null) break;
      posted_again = true;
    }
    const now = performance.now();
    this.figures.longest_silence_ms = Math.max(this.figures.longest_silence_ms, now - this.#last);
    this.#last = now;
    const accepted: Accepted = { ...job, accepted_at: Date.now(), posted_again, cancel_heard: false };
    this.accepted.set(job_id, accepted);
    if (job.cancelled) await this.#cancel(accepted);
  }

  async #cancel(job: Accepted): Promise<void> {
    for (;;) {
      const answer = await this.#ask('DELETE', `/jobs/${job.job_id}`);
      // 409: it has ended, perhaps by an earlier try of ours.
      if (answer?.status === 200) job.cancel_heard = true;
      if (answer?.status === 200 || answer?.status === 409) return;
      if (answer !== null && answer.status !== 503) {
        this.figures.wrong.push(`DELETE ${job.job_id}: ${answer.status} ${answer.message}`);
        return;
      }
      await delay(PAUSE_MS);
    }
  }

  /** Null: no answer. */
  async #ask(method: string, path: string, body?: unknown): Promise<Answer | null> {
    const up = this.#servers.filter(({ url }) => url !== '');
    const server = up[Math.floor(Math.random() * up.length)];
    if (server === undefined) return null;
    this.figures.tries += 1;
    try {
      const response = await fetch(server.url + path, {
        method,
        signal: AbortSignal.timeout(PATIENCE_MS),
        ...(body === undefined
          ? {}
          : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
      });
      const { data = null, code = null, message = '' } = (await response.json()) as Partial<Answer>;
      if (response.status === 503) this.figures.unavailable += 1;
      return { status: response.status, code, message, data };
    } catch {
      // Refused, reset, or too late: what a client sees of a server in trouble.
      this.figures.unanswered += 1;
      return null;
    }
  }
}
