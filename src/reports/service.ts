import type { PostedJob } from '../queue/queue.ts';
import type { Job } from '../queue/store.ts';
import type { DatabaseLoad } from './limits.ts';
import type { ReportRequest, TaskInfo } from './report.ts';

/** State of one thing that the server depends on. `message` names no secret. */
export type Health = { readonly ok: true } | { readonly ok: false; readonly message: string };

/** What the HTTP room needs of the reports: see reports.ts for the real one. */
export interface ReportService {
  tasks(): readonly TaskInfo[];
  /**
   * Checks requests that are posted together and makes the jobs of them, in order. Throws `ReportError`, and what
   * the store does when it is asked which databases have room.
   */
  plan(requests: readonly ReportRequest[]): Promise<readonly PostedJob[]>;
  /** How much of each database is in use. */
  databases(): Promise<readonly DatabaseLoad[]>;
  /** Drops the result tables that a job's id has left, in whichever backend. Whether there was one. */
  drop(job: Pick<Job, 'job_id'>): Promise<boolean>;
  /** By name, as "db.NAME" and "results.NAME". Those that have not answered when the signal aborts are not well. */
  health(signal: AbortSignal): Promise<Readonly<Record<string, Health>>>;
}
