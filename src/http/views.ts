/** Jobs, groups and tasks as the API shows them. */
import { Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { isFinished } from '../queue/finished.ts';
import { nameOf } from '../queue/identity.ts';
import type { Group, Job, QueueStats } from '../queue/store.ts';
import { queueMs } from '../queue/times.ts';
import type { DatabaseLoad } from '../reports/limits.ts';
import type { ReportPayload, ReportResult, TaskInfo } from '../reports/report.ts';
import type {
  GroupView,
  JobStatusView,
  JobView,
  LimitView,
  PostedGroupView,
  PostedView,
  QueueView,
  ResultView,
  TaskView,
} from './schemas.ts';
import { formatTime } from './values.ts';

export interface SuccessBody<T> {
  readonly status: 'success';
  readonly data: T;
}

export function success<T>(data: T): SuccessBody<T> {
  return { status: 'success', data };
}

export function postedView(job: Job): PostedView {
  return {
    job_id: job.job_id,
    task: job.task,
    task_name: job.task,
    queue: job.queue,
    eta: formatTime(job.eta),
    retries: job.retries,
  };
}

export function postedGroupView(group_id: string, jobs: readonly Job[]): PostedGroupView {
  return { group_id, jobs: jobs.map(postedView) };
}

/** A job's own status. */
export function jobStatusView(job: Job): JobStatusView {
  const payload = payloadOf(job);
  return { ...jobView(job, payload), args: payload === null ? null : [...payload.args] };
}

/** A job in a list or a group: without its arguments. */
export function jobView(job: Job, payload: ReportPayload | null = payloadOf(job)): JobView {
  const result = job.state === 'SUCCESS' ? resultOf(job) : null;
  return {
    job_id: job.job_id,
    task: job.task,
    queue: job.queue,
    state: job.state,
    status: job.state,
    count: result?.rows ?? 0,
    results: result === null ? [] : [{ Type: 'int64', Value: result.rows }],
    error: job.error,
    progress: job.state === 'STARTED' && progress.Check(job.progress) ? job.progress : null,
    group_id: job.group_id,
    attempt: job.attempt,
    retries: job.retries,
    priority: job.priority,
    key: job.key,
    after: job.after.map((parent) => parent.job_id),
    on_failure: onFailure(job),
    db: payload?.db ?? null,
    backend: payload?.results ?? null,
    ttl: payload?.ttl ?? null,
    timeout: payload?.timeout ?? null,
    eta: formatTime(job.eta),
    created_at: formatTime(job.created_at),
    started_at: formatTime(job.started_at),
    finished_at: formatTime(job.finished_at),
    queue_ms: queueMs(job),
    run_ms: runMs(job),
    worker: job.worker === null ? null : nameOf(job.worker),
    cancel_requested: job.cancel_requested,
    result: result === null ? null : resultView(result),
  };
}

export function groupView(group: Pick<Group, 'group_id' | 'jobs'>): GroupView {
  return {
    group_id: group.group_id,
    state: groupState(group.jobs),
    jobs: group.jobs.map((job) => jobView(job)),
  };
}

/** One state for all: see docs/api.md. */
export function groupState(jobs: readonly Pick<Job, 'state'>[]): GroupView['state'] {
  const some = (state: Job['state']) => jobs.some((job) => job.state === state);
  if (jobs.every((job) => isFinished(job.state))) {
    if (some('FAILURE')) return 'FAILURE';
    return some('CANCELLED') ? 'CANCELLED' : 'SUCCESS';
  }
  return jobs.every((job) => job.state === 'PENDING') ? 'PENDING' : 'STARTED';
}

export function taskView(task: TaskInfo, with_sql: boolean): TaskView {
  return {
    name: task.name,
    queue: task.queue,
    concurrency: task.concurrency,
    db: [...task.db],
    results: [...task.results],
    timeout: task.timeout,
    ttl: task.ttl,
    max_rows: task.max_rows,
    max_bytes: task.max_bytes,
    max_value_bytes: task.max_value_bytes,
    ...(with_sql ? { raw: task.sql } : {}),
  };
}

/** What its parents' failure means for it. Jobs that were not posted here may wait differently for each: the strictest. */
function onFailure({ after }: Job): JobView['on_failure'] {
  if (after.length === 0) return null;
  return after.every(({ on_failure }) => on_failure === 'run') ? 'run' : 'cancel';
}

export function queueView({ queue, paused, counts, oldest_ready_ms }: QueueStats): QueueView {
  return {
    queue,
    paused,
    counts: { ...counts },
    oldest_ready_ms: oldest_ready_ms === null ? null : Math.max(0, Math.round(oldest_ready_ms)),
  };
}

export function limitView({ db, concurrency, running, waiting }: DatabaseLoad): LimitView {
  return { db, concurrency, running, waiting };
}

/** How long its last attempt took. */
function runMs(job: Job): number | null {
  if (job.started_at === null || job.finished_at === null) return null;
  return Math.max(0, Math.round(job.finished_at - job.started_at));
}

function resultView({
  backend,
  table,
  columns,
  rows,
  bytes,
  expires_at,
  warnings,
}: ReportResult): ResultView {
  return {
    backend,
    table,
    columns: columns.map(({ name, type, source_type }) => ({ name, type, source_type })),
    rows,
    bytes,
    expires_at: formatTime(expires_at),
    warnings: [...warnings],
  };
}

// The queue carries jobs of any kind; one that is not a report's has no arguments, database or result to show.

const progress = Compile(Type.Object({ rows: Type.Integer(), bytes: Type.Integer(), phase: Type.String() }));

const nullableNumber = Type.Union([Type.Null(), Type.Number()]);

const payloads = Compile(
  Type.Object({
    args: Type.Array(Type.Union([Type.Null(), Type.String(), Type.Number(), Type.Boolean()])),
    db: Type.String(),
    results: Type.String(),
    ttl: nullableNumber,
    timeout: nullableNumber,
  }),
);

const reportResults = Compile(
  Type.Object({
    backend: Type.String(),
    table: Type.String(),
    columns: Type.Array(
      Type.Object({ name: Type.String(), type: Type.String(), source_type: Type.String() }),
    ),
    rows: Type.Integer(),
    bytes: Type.Integer(),
    expires_at: nullableNumber,
    warnings: Type.Array(Type.String()),
  }),
);

function payloadOf(job: Job): ReportPayload | null {
  const value: unknown = job.payload;
  return payloads.Check(value) ? value : null;
}

function resultOf(job: Job): ReportResult | null {
  const value: unknown = job.result;
  return reportResults.Check(value) ? value : null;
}
