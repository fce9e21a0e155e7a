/** Rows as the statements give them, and the jobs that they stand for. */
import type { Dependency, Job, JobState, OnFailure } from '../../store.ts';

/** The columns of a job, in the order of the statements: arrays are cheaper than objects to pass on. */
export type JobRow = readonly [
  seq: number,
  job_id: string,
  task: string,
  queue: string,
  payload: string,
  state: JobState,
  priority: number,
  eta: number | null,
  retries: number,
  attempt: number,
  failures: number,
  fence: number | null,
  group_id: string | null,
  parents: string | null,
  worker: string | null,
  error: string,
  result: string | null,
  progress: string | null,
  cancel_requested: number,
  created_at: number,
  due_at: number,
  started_at: number | null,
  finished_at: number | null,
  place: number,
  limit: string | null,
  key: string | null,
  key_concurrency: number | null,
];

export function toJob(row: JobRow): Job {
  const [seq, job_id, task, queue, payload, state, priority, eta, retries, attempt, failures, fence] = row;
  const [, , , , , , , , , , , , group_id, parents, worker, error, result, progress, cancel_requested] = row;
  const [, , , , , , , , , , , , , , , , , , , created_at, due_at, started_at, finished_at] = row;
  const [, , , , , , , , , , , , , , , , , , , , , , , , limit, key, key_concurrency] = row;
  return {
    seq,
    job_id,
    task,
    queue,
    payload: JSON.parse(payload),
    state,
    priority,
    eta,
    retries,
    attempt,
    failures,
    fence,
    group_id,
    after: parents === null ? [] : toParents(parents).map(toDependency),
    limit,
    key,
    key_concurrency,
    worker,
    error,
    result: result === null ? null : JSON.parse(result),
    progress: progress === null ? null : JSON.parse(progress),
    cancel_requested: cancel_requested === 1,
    created_at,
    due_at,
    started_at,
    finished_at,
  };
}

/** An edge to the run of a parent that was meant when the child was posted. */
export type Parent = readonly [job_id: string, on_failure: OnFailure, seq: number];

export function toParents(parents: string | null): readonly Parent[] {
  return parents === null ? [] : JSON.parse(parents);
}

function toDependency([job_id, on_failure]: Parent): Dependency {
  return { job_id, on_failure };
}

/** What a change of a job's state has to know of it. */
export type CoreRow = readonly [
  seq: number,
  job_id: string,
  queue: string,
  state: JobState,
  hold: number | null,
  lane: number | null,
  attempt: number,
  failures: number,
  crashes: number,
  fence: number | null,
  group_seq: number | null,
  cancel_requested: number,
  parents: string | null,
  worker: string | null,
];

export interface Core {
  readonly seq: number;
  readonly job_id: string;
  readonly queue: string;
  readonly state: JobState;
  readonly hold: number | null;
  readonly lane: number | null;
  readonly attempt: number;
  readonly failures: number;
  readonly crashes: number;
  readonly fence: number | null;
  readonly group_seq: number | null;
  readonly cancel_requested: boolean;
  readonly parents: string | null;
  readonly worker: string | null;
}

export function toCore(row: CoreRow): Core {
  const [
    seq,
    job_id,
    queue,
    state,
    hold,
    lane,
    attempt,
    failures,
    crashes,
    fence,
    group_seq,
    asked,
    parents,
    worker,
  ] = row;
  return {
    seq,
    job_id,
    queue,
    state,
    hold,
    lane,
    attempt,
    failures,
    crashes,
    fence,
    group_seq,
    cancel_requested: asked === 1,
    parents,
    worker,
  };
}
