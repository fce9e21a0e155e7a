/** What a report is made of: the request for one, what its job carries, and what it leaves. */
import type { Argument, ResultTable } from '../databases/database.ts';
import type { OnFailure } from '../queue/store.ts';

/** A request for a report, as validated from the wire. Durations in seconds. */
export interface ReportRequest {
  readonly task: string;
  readonly job_id?: string;
  readonly queue?: string;
  /** ms since 1970 */
  readonly eta?: number | null;
  readonly retries?: number;
  readonly priority?: number;
  /** Seconds the result table is kept. */
  readonly ttl?: number;
  /** Seconds the job may run. */
  readonly timeout?: number;
  readonly args?: readonly Argument[];
  /** One of the task's sources, one of its results backends; absent: one is picked. */
  readonly db?: string;
  readonly results?: string;
  /** On whose behalf: keys take turns. */
  readonly key?: string;
  /** Ids of jobs that must have ended before it runs, and what one that does not succeed means for it. */
  readonly after?: readonly string[];
  readonly on_failure?: OnFailure;
}

/** The payload of a report's job. A type, not an interface, so that it is assignable to Json. */
export type ReportPayload = {
  readonly args: readonly Argument[];
  readonly db: string;
  readonly results: string;
  /** Seconds; null: the backend's default. */
  readonly ttl: number | null;
  readonly timeout: number | null;
};

/** The result of a report's job. */
export interface ReportResult extends ResultTable {
  /** The name of the results backend in the configuration. */
  readonly backend: string;
}

export type ReportErrorCode = 'unknown_task' | 'invalid_request';

/** A request that cannot become a job. `field` is the one that was wrong. */
export class ReportError extends Error {
  readonly code: ReportErrorCode;
  readonly field: string;
  /** Which of the requests it was, from 0. */
  readonly index: number;

  constructor(code: ReportErrorCode, field: string, message: string, index = 0) {
    super(message);
    this.name = 'ReportError';
    this.code = code;
    this.field = field;
    this.index = index;
  }
}

/** A task as the API lists it. */
export interface TaskInfo {
  readonly name: string;
  readonly queue: string;
  readonly concurrency: number;
  readonly db: readonly string[];
  readonly results: readonly string[];
  readonly sql: string;
  /** Seconds; null: none. */
  readonly timeout: number | null;
  readonly ttl: number | null;
  readonly max_rows: number | null;
  readonly max_bytes: number | null;
  readonly max_value_bytes: number;
}
