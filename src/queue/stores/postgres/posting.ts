/** Posting: one call for a batch, and one for single jobs that are posted at the same time. */
import type { CheckedJob } from '../../check.ts';
import { QueueError } from '../../errors.ts';
import type { Hints } from './hints.ts';
import type { Pool } from './pool.ts';
import type { Statements } from './statements.ts';

/** The most single jobs in one call. */
const MOST_AT_ONCE = 500;

export interface Posted {
  readonly seq: number;
  readonly now: number;
}

interface Single {
  readonly job: CheckedJob;
  resolve(posted: Posted | null): void;
  reject(error: unknown): void;
}

/** Whether a job has nothing to do with others. */
export function isPlain(job: CheckedJob): boolean {
  return job.after.length === 0 && job.limit === null && job.key === null;
}

export class Posting {
  readonly #pool: Pool;
  readonly #hints: Hints;
  readonly #sql: Statements;
  readonly #clockOffset: () => number;
  #singles: Single[] = [];
  #posting: Promise<void> | undefined;
  #last: Promise<unknown> | undefined;

  constructor(pool: Pool, hints: Hints, sql: Statements, clockOffset: () => number) {
    this.#pool = pool;
    this.#hints = hints;
    this.#sql = sql;
    this.#clockOffset = clockOffset;
  }

  /** Posts plain jobs, and tells of them: null for each whose id is active. Unless `each`, none of them is posted then. */
  async post(jobs: readonly CheckedJob[], each: boolean): Promise<readonly (Posted | null)[]> {
    const [row] = await this.#call<[indexes: number[], seqs: number[], now: number]>(this.#sql.post, [
      ...columns(jobs),
      each,
      this.#clockOffset(),
    ]);
    if (row === undefined) throw new Error('a post gave no answer');
    const [indexes, seqs, now] = row;
    const posted = jobs.map((): Posted | null => null);
    for (const [at, index] of indexes.entries()) posted[index - 1] = { seq: seqs[at] ?? 0, now };
    return posted;
  }

  async #postOne(job: CheckedJob): Promise<Posted | null> {
    const [row] = await this.#call<[seq: number | null, now: number]>(this.#sql.postOne, [
      ...columnsOf(job),
      this.#clockOffset(),
    ]);
    if (row === undefined) throw new Error('a post gave no answer');
    const [seq, now] = row;
    return seq === null ? null : { seq, now };
  }

  async #call<Row extends readonly unknown[]>(sql: string, values: readonly unknown[]): Promise<Row[]> {
    let isTold = false;
    const rows = await this.#pool.use((connection) => {
      const answer = connection.query<Row>(sql, values);
      // Also if the jobs are refused: a hint may be told for nothing.
      isTold = this.#hints.tellBehind(connection);
      return answer;
    });
    if (isTold) this.#hints.tellHere({ ready: true });
    else this.#hints.tell({ ready: true });
    return rows;
  }

  /**
   * Posts a plain job, together with others that come while one such call is under way: each has its own verdict, and
   * all wait for the disk once. Null: its id is active.
   */
  one(job: CheckedJob): Promise<Posted | null> {
    const { promise, resolve, reject } = Promise.withResolvers<Posted | null>();
    this.#singles.push({ job, resolve, reject });
    this.#last = promise;
    this.#posting ??= this.#postSingles();
    return promise;
  }

  /** Resolves when there are no single jobs left. */
  async settled(): Promise<void> {
    await this.#posting;
  }

  /** Resolves when the last of the single jobs given so far is posted or refused. */
  async underWay(): Promise<void> {
    await this.#last?.catch(() => {});
  }

  async #postSingles(): Promise<void> {
    // All of this turn go along.
    await new Promise(setImmediate);
    while (this.#singles.length > 0) {
      const batch = this.#takeSingles();
      try {
        await this.#postAll(batch);
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#posting = undefined;
  }

  async #postAll(batch: readonly Single[]): Promise<void> {
    const [first] = batch;
    try {
      const posted =
        batch.length === 1 && first !== undefined
          ? [await this.#postOne(first.job)]
          : await this.post(
              batch.map(({ job }) => job),
              true,
            );
      for (const [index, { resolve }] of batch.entries()) resolve(posted[index] ?? null);
    } catch (error) {
      if (error instanceof QueueError || batch.length === 1) throw error;
      // One of them is at fault: the others are not to suffer for it.
      await Promise.all(batch.map((single) => this.#postAll([single]).catch(single.reject)));
    }
  }

  /** No id twice: the second of them is to hear of the first. */
  #takeSingles(): Single[] {
    const ids = new Set<string>();
    const batch: Single[] = [];
    const rest: Single[] = [];
    for (const single of this.#singles) {
      if (batch.length === MOST_AT_ONCE || ids.has(single.job.job_id)) {
        rest.push(single);
      } else {
        ids.add(single.job.job_id);
        batch.push(single);
      }
    }
    this.#singles = rest;
    return batch;
  }
}

/** The arguments that the posts of several jobs begin with. */
export function columns(jobs: readonly CheckedJob[]): unknown[] {
  return [
    jobs.map(({ job_id }) => job_id),
    jobs.map(({ task }) => task),
    jobs.map(({ queue }) => queue),
    jobs.map(({ payload }) => payload),
    jobs.map(({ priority }) => priority),
    jobs.map(({ eta }) => eta),
    jobs.map(({ retries }) => retries),
  ];
}

function columnsOf({ job_id, task, queue, payload, priority, eta, retries }: CheckedJob): unknown[] {
  return [job_id, task, queue, payload, priority, eta, retries];
}
