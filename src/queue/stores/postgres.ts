/** A store in Postgres: for any number of processes on any number of machines. */
import { randomBytes } from 'node:crypto';
import { clientConfig, type PostgresConfig } from '../../util/postgres/dsn.ts';
import { type CheckedJob, checkBatch, checkLimit, checkQueue } from '../check.ts';
import {
  GroupActive,
  GroupFinished,
  JobActive,
  JobFinished,
  StoreUnavailable,
  UnknownGroup,
  UnknownJob,
} from '../errors.ts';
import { isFinished } from '../finished.ts';
import type {
  Claimed,
  ClaimRequest,
  Group,
  Hint,
  Job,
  JobFilter,
  JobState,
  Lease,
  Limit,
  NewGroup,
  NewJob,
  Outcome,
  Page,
  QueueStats,
  Recovered,
  RecoverOptions,
  Renewal,
  Renewed,
  Store,
} from '../store.ts';
import { asPosted, fromCursor, noCounts, resultText, toCursor, toLease } from './common.ts';
import { type Happened, Hints } from './postgres/hints.ts';
import { checkSchema, migrate } from './postgres/migrate.ts';
import { Pool } from './postgres/pool.ts';
import { columns, Posting } from './postgres/posting.ts';
import { type ClaimedRow, type JobRow, toClaimedJob, toJob } from './postgres/rows.ts';
import { type Listed, type Statements, statementsOf } from './postgres/statements.ts';

export interface PostgresStoreOptions {
  /** A URL (`postgres://…`) or `keyword=value` pairs, as libpq takes them. */
  readonly dsn: string;
  /** Where its tables are; made if it is not there. Default "dungbeetle". */
  readonly schema?: string;
  /** The most connections for calls; one more listens. Default 10. */
  readonly max_active?: number;
  /** The longest that making a connection, or waiting for a free one, may take, ms. Default 5 s. */
  readonly connect_timeout_ms?: number;
  /** How long an answer is waited for before the connection is given up, ms. Default 10 s. */
  readonly command_timeout_ms?: number;
  /** How often it is asked for news while it cannot be listened to, ms. Default 500. */
  readonly poll_ms?: number;
  /** Where to LISTEN if `dsn` leads to a connection pooler. */
  readonly listen_dsn?: string;
  /** Added to the store's clock, ms: lets tests move time. */
  readonly clockOffset?: () => number;
  /** Told what works less well than it could. */
  readonly onWarning?: (message: string) => void;
}

/** How many jobs one step of `prune` deletes: other calls come in between. */
const PRUNED_PER_STEP = 1_000;
/** How many jobs one step ties to a limit that is about to have a concurrency. */
const TIED_PER_STEP = 1_000;
/** How many jobs a listing looks at in one step. */
const WINDOW = 2_000;
/**
 * After how many claims the tables that they read are vacuumed, and after how many forgotten jobs the tables of jobs, unless
 * that is a small part of them: autovacuum looks once a minute.
 */
const VACUUM_AFTER = { claimed: 20_000, forgotten: 50_000, part: 0.05 };
/** How many rows of sums there may be before they are summed up. */
const MOST_SUMS = 200;

/**
 * Opens a store, makes its tables, or brings them up to date. Throws `StoreUnavailable` if the server cannot be reached
 * in time, refuses, or has a schema that this version does not understand.
 *
 * @example
 * const store = await openPostgresStore({ dsn: 'postgres://jobs:secret@db/jobs' });
 * const queue = new Queue(store);
 * await store.close();
 */
export async function openPostgresStore(options: PostgresStoreOptions): Promise<Store> {
  const { dsn, schema = 'dungbeetle', max_active = 10, connect_timeout_ms = 5_000 } = options;
  const {
    command_timeout_ms = 10_000,
    poll_ms = 500,
    listen_dsn,
    clockOffset = () => 0,
    onWarning = () => {},
  } = options;
  checkSchema(schema);
  const config = configOf(dsn);
  const listen = listen_dsn === undefined ? null : configOf(listen_dsn);
  const pool = new Pool({
    config,
    connect_timeout_ms,
    command_timeout_ms,
    max_active,
    application_name: 'dungbeetle',
  });
  try {
    const store_id = await pool.use((connection) => migrate(connection, schema));
    const hints = new Hints({
      pool,
      channel: `dungbeetle_${store_id}`,
      instance: randomBytes(6).toString('hex'),
      listen,
      config,
      connect_timeout_ms,
      command_timeout_ms,
      poll_ms,
      onWarning,
    });
    return new PostgresStore(store_id, pool, hints, statementsOf(schema), clockOffset);
  } catch (error) {
    await pool.close();
    throw error;
  }
}

function configOf(dsn: string): PostgresConfig {
  try {
    return clientConfig(dsn, { writes: true });
  } catch (error) {
    if (error instanceof TypeError) throw StoreUnavailable(`its DSN is not valid: ${error.message}`);
    throw error;
  }
}

class PostgresStore implements Store {
  readonly store_id: string;
  readonly #pool: Pool;
  readonly #hints: Hints;
  readonly #sql: Statements;
  readonly #clockOffset: () => number;
  readonly #posting: Posting;
  #closing: Promise<void> | undefined;
  /** Jobs claimed here since the last vacuum. */
  #claimed = 0;
  /** Jobs forgotten here since. */
  #forgotten = 0;
  #vacuum: Promise<void> | undefined;

  constructor(store_id: string, pool: Pool, hints: Hints, sql: Statements, clockOffset: () => number) {
    this.store_id = store_id;
    this.#pool = pool;
    this.#hints = hints;
    this.#sql = sql;
    this.#clockOffset = clockOffset;
    this.#posting = new Posting(pool, hints, sql, clockOffset);
  }

  // --- posting

  async enqueue(posted: readonly NewJob[], group?: NewGroup): Promise<readonly Job[]> {
    const { jobs, order } = checkBatch(posted, group);
    this.#checkOpen();
    const [first] = jobs;
    if (first === undefined) return [];
    const isPlain = group === undefined && jobs.every((job) => this.#posting.isPlain(job));
    if (!isPlain) return this.#enqueueTied(jobs, order, group);
    const verdicts =
      jobs.length === 1 ? [await this.#posting.one(first)] : await this.#posting.post(jobs, false);
    if (verdicts.includes('limited')) return this.#enqueueTied(jobs, order, group);
    // Of a batch that was refused each has either none or, if it is active itself, is the reason.
    if (jobs.length > 1 && verdicts.every((verdict) => verdict === 'active')) {
      throw JobActive(await this.#firstActive(jobs));
    }
    return jobs.map((job, index) => {
      const verdict = verdicts[index];
      if (typeof verdict !== 'object') throw JobActive(job.job_id);
      return asPosted(job, verdict.seq, verdict.now, null, false);
    });
  }

  async #firstActive(jobs: readonly CheckedJob[]): Promise<string> {
    const states = await this.states(jobs.map(({ job_id }) => job_id));
    const index = states.findIndex((state) => state !== null && !isFinished(state));
    // It may have ended since: any of them says as much.
    return (jobs[index] ?? jobs[0])?.job_id ?? '';
  }

  async #enqueueTied(
    jobs: readonly CheckedJob[],
    order: readonly number[] | null,
    group: NewGroup | undefined,
  ): Promise<readonly Job[]> {
    type Row = [
      verdict: 'ok' | 'active' | 'group_active' | 'unknown',
      which: string,
      seqs: number[],
      cancelled: number[],
      now: number,
      ready: boolean,
      finished: string,
    ];
    const sorted = order === null ? jobs : order.flatMap((index) => jobs[index] ?? []);
    const ranks = new Map(jobs.map(({ job_id }, index) => [job_id, index + 1]));
    const [verdict, which, seqs, cancelled, now, ready, finished] = await this.#row<Row>(this.#sql.postTied, [
      ...columns(sorted),
      sorted.map(({ limit }) => limit),
      sorted.map(({ key }) => key),
      sorted.map(({ key_concurrency }) => key_concurrency),
      sorted.map(({ after }) => edges(after, ranks)),
      sorted.map(({ job_id }) => ranks.get(job_id)),
      group?.group_id ?? null,
      group?.concurrency ?? null,
      this.#clockOffset(),
    ]);
    if (verdict === 'active') throw JobActive(which);
    if (verdict === 'group_active') throw GroupActive(group?.group_id ?? '');
    if (verdict === 'unknown') throw UnknownJob(which);
    this.#tell({ ready, finished });
    const doomed = new Set(cancelled);
    return jobs.map((job, index) =>
      asPosted(job, seqs[index] ?? 0, now, group?.group_id ?? null, doomed.has(index + 1)),
    );
  }

  async retry(job_id: string): Promise<Job> {
    // What was posted before it comes before it.
    await this.#posting.underWay();
    type Row = [
      verdict: 'ok' | 'unknown' | 'active' | 'finished',
      seq: number,
      ready: boolean,
      finished: string,
    ];
    const [verdict, seq, ready, finished] = await this.#row<Row>(this.#sql.runAgain, [
      known(job_id),
      this.#clockOffset(),
    ]);
    if (verdict === 'unknown') throw UnknownJob(job_id);
    if (verdict === 'active') throw JobActive(job_id);
    if (verdict === 'finished') throw JobFinished(job_id, 'SUCCESS');
    this.#tell({ ready, finished });
    return this.#bySeq(seq, job_id);
  }

  // --- running

  async claim({ worker, queues, limit, lease_ms }: ClaimRequest): Promise<Claimed> {
    const limits = new Map<string, number>();
    for (const { queue, limit } of queues) limits.set(queue, (limits.get(queue) ?? 0) + Math.max(0, limit));
    const [head, ...rows] = await this.#pool.call<ClaimedRow>(this.#sql.claim, [
      [...limits.keys()],
      [...limits.values()].map((most) => Math.min(most, Math.max(0, limit))),
      Math.max(0, limit),
      worker,
      Math.ceil(lease_ms),
      this.#clockOffset(),
    ]);
    this.#claimed += rows.length;
    if (this.#claimed >= VACUUM_AFTER.claimed) this.#vacuum ??= this.#vacuumNow();
    return { jobs: rows.map((row) => toClaimedJob(row, worker)), next_due_at: head?.[0] ?? null };
  }

  async #vacuumNow(): Promise<void> {
    this.#claimed = 0;
    await this.#vacuumQuietly(this.#sql.vacuum);
    this.#vacuum = undefined;
  }

  async #vacuumQuietly(sql: string): Promise<void> {
    try {
      await this.#pool.call(sql, []);
    } catch {
      // It makes things cheaper or smaller, no more: autovacuum does the same later.
    }
  }

  async renew(renewals: readonly Renewal[], lease_ms: number): Promise<Renewed> {
    this.#checkOpen();
    if (renewals.length === 0) return { lost: [], cancelled: [] };
    const sorted = [...firstOfEach(renewals, ({ lease }) => lease)].sort(
      (one, other) => one.lease.fence - other.lease.fence,
    );
    const [held, cancelled] = await this.#row<[held: number[], cancelled: number[]]>(this.#sql.renew, [
      ...leaseColumns(sorted.map(({ lease }) => lease)),
      sorted.map(({ progress }) => (progress === undefined ? null : JSON.stringify(progress))),
      Math.ceil(lease_ms),
      this.#clockOffset(),
    ]);
    const isHeld = new Set(held);
    const isCancelled = new Set(cancelled);
    const leases = renewals.map(({ lease }) => toLease(lease));
    return {
      lost: leases.filter(({ fence }) => !isHeld.has(fence)),
      cancelled: leases.filter(({ fence }) => isCancelled.has(fence)),
    };
  }

  async finish(
    ends: readonly { readonly lease: Lease; readonly outcome: Outcome }[],
  ): Promise<readonly (JobState | null)[]> {
    const results = ends.map(({ outcome }) => resultOf(outcome));
    this.#checkOpen();
    if (ends.length === 0) return [];
    const indexed = ends.map((end, index) => ({ ...end, index, result: results[index] ?? null }));
    // The second of a lease that is given twice finds it ended. Rows are locked in one order by all.
    const first = firstOfEach(indexed, ({ lease }) => lease);
    const sorted = [...first].sort((one, other) => one.lease.fence - other.lease.fence);
    const [indexes, states, ready, finished] = await this.#row<
      [indexes: number[], states: JobState[], ready: boolean, finished: string]
    >(this.#sql.finish, [
      ...leaseColumns(sorted.map(({ lease }) => lease)),
      sorted.map(({ outcome }) => outcome.state),
      sorted.map(({ outcome }) => errorOf(outcome)),
      sorted.map(({ result }) => result),
      sorted.map(({ outcome }) => (outcome.state === 'RETRY' ? Math.max(0, Math.ceil(outcome.delay_ms)) : 0)),
      this.#clockOffset(),
    ]);
    const verdicts = ends.map((): JobState | null => null);
    const ended: string[] = [];
    for (const [at, state] of states.entries()) {
      const end = sorted[(indexes[at] ?? 0) - 1];
      if (end === undefined) throw new Error('an end was judged that nobody asked for');
      verdicts[end.index] = state;
      if (isFinished(state)) ended.push(end.lease.job_id);
    }
    this.#hints.tell({
      ready,
      finished: finished === '*' ? '*' : [...new Set([...ended, ...words(finished)])],
    });
    return verdicts;
  }

  async release(leases: readonly Lease[], delay_ms = 0): Promise<void> {
    this.#checkOpen();
    if (leases.length === 0) return;
    const [ready, finished] = await this.#row<[ready: boolean, finished: string]>(this.#sql.release, [
      ...leaseColumns(leases),
      Math.max(0, Math.ceil(delay_ms)),
      this.#clockOffset(),
    ]);
    this.#tell({ ready, finished });
  }

  async recover({ max_crashes }: RecoverOptions): Promise<Recovered> {
    type Row = [
      how: 'requeued' | 'poisoned' | 'cancelled',
      job_id: string,
      attempt: number,
      fence: number,
      ready: boolean,
      finished: string,
    ];
    const rows = await this.#pool.call<Row>(this.#sql.recover, [max_crashes, this.#clockOffset()]);
    await this.#pool.call(this.#sql.sumUp, [MOST_SUMS]);
    const last = rows.at(-1);
    // Whoever still works on one of these should hear of it.
    if (last !== undefined) this.#tell({ ready: last[4], finished: last[5], stopped: true });
    const of = (kind: Row[0]): Lease[] =>
      rows.filter(([how]) => how === kind).map(([, job_id, attempt, fence]) => ({ job_id, attempt, fence }));
    return { requeued: of('requeued'), poisoned: of('poisoned'), cancelled: of('cancelled') };
  }

  async leases(): Promise<readonly Lease[]> {
    type Row = [job_id: string, attempt: number, fence: number];
    const rows = await this.#pool.call<Row>(this.#sql.leases, [this.#clockOffset()]);
    return rows.map(([job_id, attempt, fence]) => ({ job_id, attempt, fence }));
  }

  // --- changing

  async cancel(job_id: string): Promise<Job> {
    type Row = [verdict: Verdict, seq: number, stopped: boolean, ready: boolean, finished: string];
    const [verdict, seq, stopped, ready, finished] = await this.#row<Row>(this.#sql.cancel, [
      known(job_id),
      this.#clockOffset(),
    ]);
    if (verdict === 'unknown') throw UnknownJob(job_id);
    this.#tell({ stopped, ready, finished });
    const job = await this.#bySeq(seq, job_id);
    if (verdict === 'finished') throw JobFinished(job_id, job.state);
    return job;
  }

  async cancelGroup(group_id: string): Promise<Group> {
    const verdict = await this.#change(this.#sql.cancelGroup, group_id);
    if (verdict === 'unknown') throw UnknownGroup(group_id);
    if (verdict === 'finished') throw GroupFinished(group_id);
    return this.group(group_id);
  }

  async purge(job_id: string): Promise<void> {
    if ((await this.#change(this.#sql.purge, job_id)) === 'unknown') throw UnknownJob(job_id);
  }

  async purgeGroup(group_id: string): Promise<void> {
    if ((await this.#change(this.#sql.purgeGroup, group_id)) === 'unknown') throw UnknownGroup(group_id);
  }

  async #change(sql: string, id: string): Promise<Verdict> {
    type Row = [verdict: Verdict, stopped: boolean, ready: boolean, finished: string];
    const [verdict, stopped, ready, finished] = await this.#row<Row>(sql, [known(id), this.#clockOffset()]);
    this.#tell({ stopped, ready, finished });
    return verdict;
  }

  async pause(queue: string): Promise<void> {
    checkQueue(queue);
    await this.#pool.call(this.#sql.pause, [queue]);
  }

  async resume(queue: string): Promise<void> {
    await this.#pool.call(this.#sql.resume, [known(queue)]);
    this.#hints.tell({ ready: true });
  }

  async limit(limit: string, concurrency: number | null): Promise<void> {
    checkLimit(limit, concurrency);
    if (concurrency !== null) await this.#tie(limit);
    const [ready] = await this.#row<[ready: boolean]>(this.#sql.setLimit, [
      limit,
      concurrency,
      this.#clockOffset(),
    ]);
    this.#posting.heardOf(limit, concurrency !== null);
    this.#hints.tell({ ready });
  }

  /** Other calls come in between: a limit may be given its first concurrency while very many jobs wait that name it. */
  async #tie(limit: string): Promise<void> {
    const [isNew] = await this.#row<[isNew: boolean]>(this.#sql.beginTying, [limit]);
    let tied = isNew ? TIED_PER_STEP : 0;
    // Fewer than that are left to the last step.
    while (tied === TIED_PER_STEP) {
      const values: unknown[] = [limit, TIED_PER_STEP, this.#clockOffset()];
      [tied] = await this.#row<[tied: number]>(this.#sql.tieSome, values);
    }
  }

  async prune({
    jobs_ms,
    groups_ms,
  }: {
    readonly jobs_ms: number;
    readonly groups_ms: number;
  }): Promise<number> {
    let forgotten = 0;
    for (;;) {
      const [step] = await this.#row<[step: number | null]>(this.#sql.prune, [
        Math.ceil(jobs_ms),
        Math.ceil(groups_ms),
        PRUNED_PER_STEP,
        this.#clockOffset(),
      ]);
      if (step === null) break;
      forgotten += step;
    }
    this.#forgotten += forgotten;
    if (this.#forgotten >= VACUUM_AFTER.forgotten) await this.#vacuumHistory();
    return forgotten;
  }

  async #vacuumHistory(): Promise<void> {
    const [jobs] = await this.#row<[jobs: number]>(this.#sql.roughlyJobs, []);
    if (this.#forgotten < jobs * VACUUM_AFTER.part) return;
    this.#forgotten = 0;
    await this.#vacuumQuietly(this.#sql.vacuumHistory);
  }

  // --- reading

  async get(job_id: string): Promise<Job> {
    const [row] = await this.#pool.call<JobRow>(this.#sql.newestJob, [known(job_id)]);
    if (row === undefined) throw UnknownJob(job_id);
    return toJob(row);
  }

  async #bySeq(seq: number, job_id: string): Promise<Job> {
    const [row] = await this.#pool.call<JobRow>(this.#sql.jobBySeq, [seq]);
    // Purged by somebody else in between.
    if (row === undefined) throw UnknownJob(job_id);
    return toJob(row);
  }

  async states(job_ids: readonly string[]): Promise<readonly (JobState | null)[]> {
    const [states] = await this.#row<[states: (JobState | null)[]]>(this.#sql.states, [job_ids.map(known)]);
    return states;
  }

  async group(group_id: string): Promise<Group> {
    type Row = [seq: number, group_id: string, concurrency: number | null, created_at: number];
    const [row] = await this.#pool.call<Row>(this.#sql.newestGroup, [known(group_id)]);
    if (row === undefined) throw UnknownGroup(group_id);
    const [seq, , concurrency, created_at] = row;
    const jobs = await this.#pool.call<JobRow>(this.#sql.jobsOfGroup, [group_id, seq]);
    return { group_id, concurrency, created_at, jobs: jobs.map(toJob) };
  }

  async unfinished(group_ids: readonly string[]): Promise<readonly (number | null)[]> {
    const rows = await this.#pool.call<[left: number | null]>(this.#sql.unfinished, [group_ids.map(known)]);
    return rows.map(([left]) => left);
  }

  async pending(queue: string, limit: number): Promise<readonly Job[]> {
    const rows = await this.#pool.call<JobRow>(this.#sql.pending, [
      known(queue),
      Math.max(0, limit),
      this.#clockOffset(),
    ]);
    return rows.map(toJob);
  }

  async list(filter: JobFilter, limit: number, cursor?: string): Promise<Page<Job>> {
    const [group_id, task, queue] = [filter.group_id, filter.task, filter.queue].map((text) =>
      text === undefined ? null : known(text),
    );
    const { state = null } = filter;
    const window = this.#sql.window[group_id === null ? listedOf(state) : 'ofGroup'];
    let before = cursor === undefined ? Number.MAX_SAFE_INTEGER : fromCursor(cursor);
    const items: Job[] = [];
    // One more than asked for says whether there is a next page.
    while (items.length <= limit) {
      const [low, count] = await this.#row<[low: number | null, count: number]>(window, [
        before,
        WINDOW,
        group_id,
      ]);
      if (low === null) break;
      const rows = await this.#pool.call<JobRow>(this.#sql.listed, [
        before,
        low,
        group_id,
        task,
        queue,
        state,
        limit + 1 - items.length,
      ]);
      items.push(...rows.map(toJob));
      before = low;
      if (count < WINDOW) break;
    }
    if (items.length <= limit) return { items, cursor: null };
    const page = items.slice(0, limit);
    return { items: page, cursor: toCursor(page.at(-1)?.seq ?? 0) };
  }

  async stats(): Promise<readonly QueueStats[]> {
    const counts = await this.#pool.call<[queue: string, state: JobState, jobs: number]>(
      this.#sql.counts,
      [],
    );
    const paused = (await this.#pool.call<[queue: string]>(this.#sql.pausedQueues, [])).map(
      ([queue]) => queue,
    );
    const queues = [...new Set([...counts.map(([queue]) => queue), ...paused])].sort();
    type Row = [queue: string, due_at: number | null, now: number];
    const oldest = await this.#pool.call<Row>(this.#sql.oldest, [queues, this.#clockOffset()]);
    const ages = new Map(
      oldest.map(([queue, due_at, now]) => [queue, due_at === null ? null : now - due_at]),
    );
    return queues.map((queue) => {
      const of = noCounts();
      for (const [name, state, jobs] of counts) if (name === queue) of[state] = jobs;
      return { queue, paused: paused.includes(queue), counts: of, oldest_ready_ms: ages.get(queue) ?? null };
    });
  }

  async limits(limits: readonly string[]): Promise<readonly Limit[]> {
    type Row = [concurrency: number | null, running: number, waiting: number];
    const rows = await this.#pool.call<Row>(this.#sql.limits, [limits.map(known)]);
    return limits.map((limit, index) => {
      const [concurrency, running, waiting] = rows[index] ?? [null, 0, 0];
      this.#posting.heardOf(limit, concurrency !== null);
      return { limit, concurrency, running, waiting };
    });
  }

  watch(listener: (hint: Hint) => void): () => void {
    return this.#hints.watch(listener);
  }

  async ping(): Promise<void> {
    await this.#pool.call(this.#sql.ping, []);
    await this.#hints.settled();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#posting.settled();
    await this.#vacuum;
    await this.#hints.close();
    await this.#pool.close();
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw StoreUnavailable('it is closed');
  }

  async #row<Row extends readonly unknown[]>(sql: string, values: readonly unknown[]): Promise<Row> {
    const [row] = await this.#pool.call<Row>(sql, values);
    if (row === undefined) throw new Error('a statement of the store gave no row');
    return row;
  }

  #tell({ finished, ...happened }: Omit<Happened, 'finished'> & { readonly finished: string | null }): void {
    this.#hints.tell({ ...happened, finished: finished === '*' ? '*' : words(finished ?? '') });
  }
}

type Verdict = 'ok' | 'unknown' | 'finished';

/** JSON: [[job_id, on_failure, place in the batch from 1, or null], ...]; null where there are none. */
function edges(after: CheckedJob['after'], ranks: ReadonlyMap<string, number>): string | null {
  if (after.length === 0) return null;
  return JSON.stringify(
    after.map(({ job_id, on_failure }) => [job_id, on_failure, ranks.get(job_id) ?? null]),
  );
}

function leaseColumns(leases: readonly Lease[]): unknown[] {
  return [
    leases.map(({ fence }) => fence),
    leases.map(({ job_id }) => job_id),
    leases.map(({ attempt }) => attempt),
  ];
}

/** Without those that name a lease again. */
function firstOfEach<T>(items: readonly T[], leaseOf: (item: T) => Lease): Iterable<T> {
  const first = new Map<string, T>();
  for (const item of items) {
    const { fence, attempt, job_id } = leaseOf(item);
    const name = `${fence} ${attempt} ${job_id}`;
    if (!first.has(name)) first.set(name, item);
  }
  return first.values();
}

function resultOf(outcome: Outcome): string | null {
  return outcome.state === 'SUCCESS' ? resultText(outcome.result) : null;
}

function errorOf(outcome: Outcome): string {
  if (outcome.state === 'SUCCESS') return '';
  // Postgres' text has no NUL.
  return (outcome.error ?? '').replaceAll('\0', '\u{FFFD}');
}

/** A text that is asked for. Postgres' text has no NUL, and no name is the empty text, any more than one with a NUL. */
function known(text: string): string {
  return text.includes('\0') ? '' : text;
}

function words(text: string): string[] {
  return text === '' ? [] : text.split(' ');
}

function listedOf(state: JobState | null): Listed {
  switch (state) {
    case 'PENDING':
      return 'waiting';
    case 'RETRY':
      return 'retrying';
    case 'STARTED':
      return 'running';
    case 'FAILURE':
      return 'failed';
    case 'CANCELLED':
      return 'cancelled';
    default:
      return 'all';
  }
}
