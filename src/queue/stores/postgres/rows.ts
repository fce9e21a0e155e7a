/** Rows as the statements give them, and the jobs that they stand for. */
import type { ClaimedJob, Dependency, Job, JobState, OnFailure } from '../../store.ts';

/** The columns of `all_jobs` that make a job, in the order of `JobRow`. */
export const COLUMNS = `seq, job_id, task, queue, payload, state, priority, eta, retries, attempt, failures, fence,
  group_id, parents, limit_name, key, key_concurrency, worker, error, result, progress, cancel_requested, created_at,
  due_at, started_at, finished_at`;

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
  limit: string | null,
  key: string | null,
  key_concurrency: number | null,
  worker: string | null,
  error: string,
  result: string | null,
  progress: string | null,
  cancel_requested: boolean,
  created_at: number,
  due_at: number,
  started_at: number | null,
  finished_at: number | null,
];

export function toJob(row: JobRow): Job {
  return {
    seq: row[0],
    job_id: row[1],
    task: row[2],
    queue: row[3],
    payload: JSON.parse(row[4]),
    state: row[5],
    priority: row[6],
    eta: row[7],
    retries: row[8],
    attempt: row[9],
    failures: row[10],
    fence: row[11],
    group_id: row[12],
    after: toDependencies(row[13]),
    limit: row[14],
    key: row[15],
    key_concurrency: row[16],
    worker: row[17],
    error: row[18],
    result: row[19] === null ? null : JSON.parse(row[19]),
    progress: row[20] === null ? null : JSON.parse(row[20]),
    cancel_requested: row[21],
    created_at: row[22],
    due_at: row[23],
    started_at: row[24],
    finished_at: row[25],
  };
}

/** A row of `claim`: the first has only the time, the others only a job. */
export type ClaimedRow = readonly [
  next_due_at: number | null,
  seq: number,
  job_id: string,
  task: string,
  queue: string,
  payload: string,
  priority: number,
  eta: number | null,
  retries: number,
  attempt: number,
  failures: number,
  fence: number,
  group_id: string | null,
  parents: string | null,
  limit: string | null,
  key: string | null,
  key_concurrency: number | null,
  error: string,
  created_at: number,
  due_at: number,
  started_at: number,
];

export function toClaimedJob(row: ClaimedRow, worker: string): ClaimedJob {
  return {
    seq: row[1],
    job_id: row[2],
    task: row[3],
    queue: row[4],
    payload: JSON.parse(row[5]),
    state: 'STARTED',
    priority: row[6],
    eta: row[7],
    retries: row[8],
    attempt: row[9],
    failures: row[10],
    fence: row[11],
    group_id: row[12],
    after: toDependencies(row[13]),
    limit: row[14],
    key: row[15],
    key_concurrency: row[16],
    worker,
    error: row[17],
    result: null,
    progress: null,
    cancel_requested: false,
    created_at: row[18],
    due_at: row[19],
    started_at: row[20],
    finished_at: null,
    lease: { job_id: row[2], attempt: row[9], fence: row[11] },
  };
}

/** An edge to the run of a parent that was meant when the child was posted. */
type Parent = readonly [job_id: string, on_failure: OnFailure, seq: number];

function toDependencies(parents: string | null): readonly Dependency[] {
  if (parents === null) return [];
  const edges: readonly Parent[] = JSON.parse(parents);
  return edges.map(([job_id, on_failure]) => ({ job_id, on_failure }));
}
