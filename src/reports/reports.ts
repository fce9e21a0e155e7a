/** Runs one SQL report as one job: plans it, moves its rows, publishes its table. */
import type { Limits, Owner, ResultsBackend, Source, TransferProgress } from '../databases/database.ts';
import { DatabaseError } from '../databases/errors.ts';
import { QueueError } from '../queue/errors.ts';
import { isFinished } from '../queue/finished.ts';
import { type Early, type Handler, type HandlerContext, PermanentError } from '../queue/handler.ts';
import type { PostedJob } from '../queue/queue.ts';
import type { ClaimedJob, Job, Store } from '../queue/store.ts';
import type { ResolvedTask } from '../tasks/registry.ts';
import { withDeadline } from '../util/abort.ts';
import type { Json } from '../util/json.ts';
import type { Databases } from './databases.ts';
import { type DatabaseLoad, limitOf, loadOf, pickOne, Room } from './limits.ts';
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
  /** What is known of these: started. */
  readonly databases: Databases;
  /** Whose jobs are run. Its id is part of the fence on result tables. */
  readonly store: Pick<Store, 'store_id' | 'get' | 'limits'>;
  /** The databases that take only so many jobs at once. */
  readonly limited: ReadonlySet<string>;
  /** What holds for tasks that say nothing of their own. */
  readonly defaults: {
    /** The longest a job may run, ms; null: no limit. */
    readonly timeout_ms: number | null;
    /** The key of the configuration that says so. */
    readonly timeout_key?: 'timeout' | 'default_job_ttl';
    readonly limits: Limits;
    /** How long a backend keeps tables, ms, by its name; null: until they are dropped. */
    readonly ttl_ms: ReadonlyMap<string, number | null>;
    /** How many jobs of a key run at once, wherever; null: any number. */
    readonly key_concurrency: number | null;
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
      ...this.#limitsOf(task),
    }));
  }

  async plan(requests: readonly ReportRequest[]): Promise<readonly PostedJob[]> {
    const tasks = requests.map((request, index) => this.#taskOf(request, index));
    const room = await this.#roomFor(requests, tasks);
    return requests.map((request, index) => {
      const task = tasks[index];
      if (task === undefined) throw new Error(`request ${index} has no task`);
      return this.#planOne(request, task, room, index);
    });
  }

  databases(): Promise<readonly DatabaseLoad[]> {
    return loadOf(this.#options.store, [...this.#options.sources.keys()]);
  }

  #taskOf({ task: name }: ReportRequest, index: number): ResolvedTask {
    const task = this.#tasks.get(name);
    if (task !== undefined) return task;
    throw new ReportError('unknown_task', 'task', `there is no task "${name}"`, index);
  }

  /** The room of databases between which there is a choice; the store is asked only where there are limits. */
  async #roomFor(requests: readonly ReportRequest[], tasks: readonly ResolvedTask[]): Promise<Room> {
    const { limited, store, random = Math.random } = this.#options;
    const choices = new Set<string>();
    for (const [index, task] of tasks.entries()) {
      if (requests[index]?.db !== undefined || task.db.length === 1) continue;
      for (const db of task.db) choices.add(db);
    }
    const asked = [...choices].filter((db) => limited.has(db));
    return new Room(asked.length > 0 ? await loadOf(store, asked) : [], random);
  }

  #planOne(request: ReportRequest, task: ResolvedTask, room: Room, index: number): PostedJob {
    const { random = Math.random, defaults } = this.#options;
    const { key, after = [], on_failure = 'cancel' } = request;
    const db = asked('db', request, task, index) ?? room.pick(this.#options.databases.there(task.db));
    const payload: ReportPayload = {
      args: request.args ?? [],
      db,
      results: asked('results', request, task, index) ?? pickOne(task.results, random),
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
      // Also where the database has no limit now: it may be given one while the job waits.
      limit: limitOf(db),
      ...(key === undefined ? {} : { key, key_concurrency: defaults.key_concurrency }),
      ...(after.length === 0 ? {} : { after: after.map((job_id) => ({ job_id, on_failure })) }),
    };
  }

  early(jobs: readonly ClaimedJob[]): Early | null {
    return this.#options.databases.early(jobs);
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
    const late = () => new TimedOut(timeout ?? 0, this.#limitOn(timeout, payload, task));
    const transfer = async (signal: AbortSignal) => {
      await this.#options.databases.recheck(task, payload, signal);
      return this.#transfer({ job, task, payload, source, backend, context, signal, timeout });
    };
    try {
      return await (timeout === null
        ? transfer(context.signal)
        : withDeadline(timeout * 1000, late, context.signal, transfer));
    } catch (error) {
      if (error instanceof DatabaseError && !error.transient) {
        throw new PermanentError(error.message, { cause: error });
      }
      throw error;
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
      allow_cut: task.allow_cut,
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
          await context.confirm(CONFIRMED_MS);
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

  async drop(job: Pick<Job, 'job_id'>): Promise<boolean> {
    const dropped = await Promise.all(
      [...this.#options.backends.values()].map((backend) => backend.drop(job.job_id)),
    );
    return dropped.includes(true);
  }

  health(signal: AbortSignal): Promise<Readonly<Record<string, Health>>> {
    return this.#options.databases.health(signal);
  }

  /** Whose limit it was, in the words in which it was set. */
  #limitOn(timeout: number | null, payload: ReportPayload, task: ResolvedTask): string {
    if (timeout === payload.timeout) return 'the "timeout" of its request';
    if (task.timeout !== null) return `the "timeout" tag of task "${task.name}"`;
    return `${this.#options.defaults.timeout_key ?? 'default_job_ttl'} in [app] of the configuration`;
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
      max_value_bytes: task.max_value_bytes ?? limits.max_value_bytes,
    };
  }
}

/** The database or results backend that a request asks for, if it does. */
function asked(
  field: 'db' | 'results',
  request: ReportRequest,
  task: ResolvedTask,
  index: number,
): string | undefined {
  const name = request[field];
  const names = task[field];
  if (name === undefined || names.includes(name)) return name;
  const known = names.map((one) => `"${one}"`).join(', ');
  throw new ReportError(
    'invalid_request',
    field,
    `${field}: task "${task.name}" has no "${name}"; it has ${known}`,
    index,
  );
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

/**
 * What the store said so lately is enough for a report: if more has happened since, its backend refuses the table of
 * an older attempt, and a table that does not count is dropped.
 */
const CONFIRMED_MS = 1_000;

/** The attempt took longer than it may. Not permanent: the next attempt may be quicker. */
export class TimedOut extends Error {
  constructor(seconds: number, limit: string) {
    super(`timed out after ${seconds} s: ${limit}`);
    this.name = 'TimedOut';
  }
}

/** A request may shorten what the task allows, not lengthen it. */
function shorter(asked: number | null, allowed: number | null): number | null {
  if (asked === null) return allowed;
  return allowed === null ? asked : Math.min(asked, allowed);
}
