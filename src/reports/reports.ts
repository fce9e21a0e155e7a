/** Runs one SQL report as one job: plans it, moves its rows, publishes its table. */
import type { Limits, Owner, ResultsBackend, Source, TransferProgress } from '../databases/database.ts';
import { DatabaseError } from '../databases/errors.ts';
import { QueueError } from '../queue/errors.ts';
import { type Handler, type HandlerContext, PermanentError } from '../queue/handler.ts';
import { isFinished, type PostedJob } from '../queue/queue.ts';
import type { ClaimedJob, Job, Store } from '../queue/store.ts';
import type { ResolvedTask } from '../tasks/registry.ts';
import type { Json } from '../util/json.ts';
import { asPayload } from './payload.ts';
import {
  ReportError,
  type ReportPayload,
  type ReportRequest,
  type ReportResult,
  type TaskInfo,
} from './report.ts';
import type { Health, ReportService } from './service.ts';

export interface ReportsOptions {
  readonly tasks: readonly ResolvedTask[];
  readonly sources: ReadonlyMap<string, Source>;
  readonly backends: ReadonlyMap<string, ResultsBackend>;
  /** Whose jobs are run. Its id is part of the fence on result tables. */
  readonly store: Pick<Store, 'store_id' | 'get'>;
  /** What holds for tasks that say nothing of their own. */
  readonly defaults: {
    /** The longest a job may run, ms; null: no limit. */
    readonly timeout_ms: number | null;
    readonly limits: Limits;
    /** How long a backend keeps tables, ms, by its name; null: until they are dropped. */
    readonly ttl_ms: ReadonlyMap<string, number | null>;
  };
  /** In [0, 1); picks among several sources or backends. */
  readonly random?: () => number;
}

export class Reports implements ReportService, Handler {
  readonly #options: ReportsOptions;
  readonly #tasks: ReadonlyMap<string, ResolvedTask>;

  constructor(options: ReportsOptions) {
    this.#options = options;
    this.#tasks = new Map(options.tasks.map((task) => [task.name, task]));
  }

  tasks(): readonly TaskInfo[] {
    return this.#options.tasks.map((task) => ({
      name: task.name,
      queue: task.queue,
      concurrency: task.concurrency,
      db: task.db,
      results: task.results,
      sql: task.sql,
      timeout: this.#timeoutOf(task),
      ttl: task.ttl,
      max_rows: this.#limitsOf(task).max_rows,
      max_bytes: this.#limitsOf(task).max_bytes,
    }));
  }

  plan(request: ReportRequest): PostedJob {
    const task = this.#tasks.get(request.task);
    if (task === undefined) {
      throw new ReportError('unknown_task', 'task', `there is no task "${request.task}"`);
    }
    const payload: ReportPayload = {
      args: request.args ?? [],
      db: this.#pick('db', request.db, task, task.db),
      results: this.#pick('results', request.results, task, task.results),
      ttl: request.ttl ?? task.ttl,
      timeout: request.timeout ?? null,
    };
    return {
      ...(request.job_id === undefined ? {} : { job_id: request.job_id }),
      task: task.name,
      queue: request.queue ?? task.queue,
      payload,
      priority: request.priority ?? task.priority ?? 0,
      eta: request.eta ?? null,
      retries: request.retries ?? 0,
    };
  }

  async run(job: ClaimedJob, context: HandlerContext): Promise<Json> {
    const payload = asPayload(job);
    const task = this.#tasks.get(job.task);
    // Not a PermanentError: during a rolling deployment another worker may know the task.
    if (task === undefined) throw new Error(`this worker has no task "${job.task}"`);
    const source = this.#options.sources.get(payload.db);
    if (source === undefined) throw new Error(`this worker has no database "${payload.db}"`);
    const backend = this.#options.backends.get(payload.results);
    if (backend === undefined) throw new Error(`this worker has no results backend "${payload.results}"`);

    const timeout = shorter(payload.timeout, this.#timeoutOf(task));
    // A timer of our own, not AbortSignal.timeout: that one would live on after the job.
    const clock = new AbortController();
    const timer =
      timeout === null
        ? undefined
        : setTimeout(() => clock.abort(new TimedOut(timeout)), Math.min(timeout * 1000, LONGEST_TIMER_MS));
    const signal = AbortSignal.any([context.signal, clock.signal]);
    try {
      return await this.#transfer({ job, task, payload, source, backend, context, signal, timeout });
    } catch (error) {
      if (error instanceof DatabaseError && !error.transient) {
        throw new PermanentError(error.message, { cause: error });
      }
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async #transfer(transfer: Transfer): Promise<Json> {
    const { job, task, payload, source, backend, context, signal, timeout } = transfer;
    const owner: Owner = {
      job_id: job.job_id,
      task: job.task,
      attempt: job.lease.attempt,
      store_id: this.#options.store.store_id,
      fence: job.lease.fence,
      seq: job.seq,
    };
    const limits = this.#limitsOf(task);
    const onProgress = (progress: TransferProgress) => context.progress({ ...progress });
    const result = await source.query(task.sql, payload.args, {
      accept: backend.accepts,
      limits,
      timeout_ms: timeout === null ? null : timeout * 1000,
      signal,
      owner,
      onProgress,
      onColumns: (columns) => backend.checkColumns(columns),
    });
    try {
      const ttl_ms =
        payload.ttl === null
          ? (this.#options.defaults.ttl_ms.get(payload.results) ?? null)
          : payload.ttl * 1000;
      const table = await backend.write(result, {
        owner,
        limits,
        signal,
        ttl_ms,
        onProgress,
        confirm: async () => {
          signal.throwIfAborted();
          await context.confirm();
        },
      });
      const { columns, ...rest } = table;
      const report: ReportResult = { backend: payload.results, columns, ...rest };
      return { ...report, columns: columns.map((column) => ({ ...column })) };
    } finally {
      await result[Symbol.asyncDispose]();
    }
  }

  /**
   * Drops the table of an attempt that did not count. Not while the job runs again or is about to: its next table
   * takes the place of this one, and readers would find nothing in between. If none comes, the sweep drops it.
   */
  async discard(job: ClaimedJob): Promise<void> {
    if (await this.#isActive(job)) return;
    const { results } = asPayload(job);
    await this.#options.backends.get(results)?.drop(job.job_id, job.lease.fence);
  }

  async #isActive({ job_id, seq }: ClaimedJob): Promise<boolean> {
    try {
      const now = await this.#options.store.get(job_id);
      return now.seq === seq && !isFinished(now.state);
    } catch (error) {
      if (error instanceof QueueError && error.code === 'unknown_job') return false;
      throw error;
    }
  }

  async drop(job: Pick<Job, 'job_id'>): Promise<void> {
    await Promise.all([...this.#options.backends.values()].map((backend) => backend.drop(job.job_id)));
  }

  async health(signal: AbortSignal): Promise<Readonly<Record<string, Health>>> {
    const parts: [string, Source | ResultsBackend][] = [
      ...[...this.#options.sources].map(([name, source]): [string, Source] => [`db.${name}`, source]),
      ...[...this.#options.backends].map(([name, backend]): [string, ResultsBackend] => [
        `results.${name}`,
        backend,
      ]),
    ];
    return Object.fromEntries(
      await Promise.all(
        parts.map(async ([name, part]): Promise<[string, Health]> => [name, await healthOf(part, signal)]),
      ),
    );
  }

  #pick(
    field: 'db' | 'results',
    asked: string | undefined,
    task: ResolvedTask,
    names: readonly string[],
  ): string {
    if (asked !== undefined) {
      if (names.includes(asked)) return asked;
      throw new ReportError(
        'invalid_request',
        field,
        `${field}: task "${task.name}" has no "${asked}"; it has ${names.map((name) => `"${name}"`).join(', ')}`,
      );
    }
    const picked = names[Math.floor((this.#options.random ?? Math.random)() * names.length)];
    if (picked === undefined) throw new Error(`task "${task.name}" has no ${field} to pick from`);
    return picked;
  }

  /** Seconds. A task's own timeout, longer or shorter, replaces the default. */
  #timeoutOf(task: ResolvedTask): number | null {
    const fallback = this.#options.defaults.timeout_ms;
    return task.timeout ?? (fallback === null ? null : fallback / 1000);
  }

  #limitsOf(task: ResolvedTask): Limits {
    const { limits } = this.#options.defaults;
    return {
      max_rows: task.max_rows ?? limits.max_rows,
      max_bytes: task.max_bytes ?? limits.max_bytes,
    };
  }
}

/** One attempt, with all it needs. `signal` is the context's, and the timeout. */
interface Transfer {
  readonly job: ClaimedJob;
  readonly task: ResolvedTask;
  readonly payload: ReportPayload;
  readonly source: Source;
  readonly backend: ResultsBackend;
  readonly context: HandlerContext;
  readonly signal: AbortSignal;
  /** Seconds, from the attempt's beginning; null: none. */
  readonly timeout: number | null;
}

/** setTimeout's longest delay, 24.8 days; beyond it Node fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The attempt took longer than it may. Not permanent: the next attempt may be quicker. */
export class TimedOut extends Error {
  constructor(seconds: number) {
    super(`timed out after ${seconds} s`);
    this.name = 'TimedOut';
  }
}

/** A request may shorten what the task allows, not lengthen it. */
function shorter(asked: number | null, allowed: number | null): number | null {
  if (asked === null) return allowed;
  return allowed === null ? asked : Math.min(asked, allowed);
}

async function healthOf(part: Source | ResultsBackend, signal: AbortSignal): Promise<Health> {
  const silence = Promise.withResolvers<Health>();
  const giveUp = () => silence.resolve({ ok: false, message: 'does not answer' });
  signal.addEventListener('abort', giveUp);
  try {
    // Not only by its own word: one that is stuck must not keep the others from being told.
    return await Promise.race([answerOf(part, signal), silence.promise]);
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}

async function answerOf(part: Source | ResultsBackend, signal: AbortSignal): Promise<Health> {
  try {
    await part.ping(signal);
    return { ok: true };
  } catch (error) {
    return { ok: false, message: error instanceof DatabaseError ? error.message : 'does not answer' };
  }
}
