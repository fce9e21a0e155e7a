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

/** `active`: its id is. `limited`: its limit, or that of another of its batch, has a concurrency; nothing was posted. */
export type Verdict = Posted | 'active' | 'limited';

interface Single {
  readonly job: CheckedJob;
  resolve(verdict: Verdict): void;
  reject(error: unknown): void;
}

export class Posting {
  readonly #pool: Pool;
  readonly #hints: Hints;
  readonly #sql: Statements;
  readonly #clockOffset: () => number;
  /** Limits that had a concurrency when last heard of. The server knows better; who asks it in vain asks twice. */
  readonly #limited = new Set<string>();
  #singles: Single[] = [];
  #posting: Promise<void> | undefined;
  #last: Promise<unknown> | undefined;

  constructor(pool: Pool, hints: Hints, sql: Statements, clockOffset: () => number) {
    this.#pool = pool;
    this.#hints = hints;
    this.#sql = sql;
    this.#clockOffset = clockOffset;
  }

  /** Whether a job has nothing to do with others, as far as is known here. */
  isPlain({ after, key, limit }: CheckedJob): boolean {
    return after.length === 0 && key === null && (limit === null || !this.#limited.has(limit));
  }

  /** Takes note of what was heard of a limit. */
  heardOf(limit: string, hasConcurrency: boolean): void {
    if (hasConcurrency) this.#limited.add(limit);
    else this.#limited.delete(limit);
  }

  /** Posts plain jobs, and tells of them. Unless `each`, none of them is posted if one is active. */
  async post(jobs: readonly CheckedJob[], each: boolean): Promise<readonly Verdict[]> {
    type Row = [indexes: number[] | null, seqs: number[] | null, now: number | null, limits: string[]];
    const [row] = await this.#call<Row>(this.#sql.post, [
      ...columns(jobs),
      jobs.every(({ limit }) => limit === null) ? null : jobs.map(({ limit }) => limit),
      each,
      this.#clockOffset(),
    ]);
    if (row === undefined) throw new Error('a post gave no answer');
    const [indexes, seqs, now, limits] = row;
    for (const limit of limits) this.heardOf(limit, true);
    if (indexes === null || seqs === null || now === null) return jobs.map(() => 'limited');
    const verdicts = jobs.map((): Verdict => 'active');
    for (const [at, index] of indexes.entries()) verdicts[index - 1] = { seq: seqs[at] ?? 0, now };
    return verdicts;
  }

  async #postOne(job: CheckedJob): Promise<Verdict> {
    type Row = [seq: number | null, now: number, isLimited: boolean];
    const [row] = await this.#call<Row>(this.#sql.postOne, [
      ...columnsOf(job),
      job.limit,
      this.#clockOffset(),
    ]);
    if (row === undefined) throw new Error('a post gave no answer');
    const [seq, now, isLimited] = row;
    if (isLimited && job.limit !== null) this.heardOf(job.limit, true);
    if (seq === null) return isLimited ? 'limited' : 'active';
    return { seq, now };
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
   * all wait for the disk once.
   */
  one(job: CheckedJob): Promise<Verdict> {
    const { promise, resolve, reject } = Promise.withResolvers<Verdict>();
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
    let verdicts: readonly Verdict[];
    try {
      verdicts =
        batch.length === 1 && first !== undefined
          ? [await this.#postOne(first.job)]
          : await this.post(
              batch.map(({ job }) => job),
              true,
            );
    } catch (error) {
      if (error instanceof QueueError || batch.length === 1) throw error;
      // One of them is at fault: the others are not to suffer for it.
      await Promise.all(batch.map((single) => this.#postAll([single]).catch(single.reject)));
      return;
    }
    if (batch.length === 1 || !verdicts.includes('limited')) {
      for (const [index, { resolve }] of batch.entries()) resolve(verdicts[index] ?? 'active');
      return;
    }
    const singles = Map.groupBy(batch, ({ job }) => this.isPlain(job));
    for (const { resolve } of singles.get(false) ?? []) resolve('limited');
    const plain = singles.get(true);
    if (plain !== undefined) await this.#postAll(plain);
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
