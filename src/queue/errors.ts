import { printable } from '../util/printable.ts';

/** Every error the queue throws on purpose. `code` is stable; messages are for people. */
export type QueueErrorCode =
  | 'job_active'
  | 'job_finished'
  | 'unknown_job'
  | 'group_active'
  | 'group_finished'
  | 'unknown_group'
  | 'invalid_job'
  | 'invalid_cursor'
  | 'lease_lost'
  | 'queue_full'
  | 'store_unavailable';

export class QueueError extends Error {
  readonly code: QueueErrorCode;

  constructor(code: QueueErrorCode, message: string, options?: ErrorOptions) {
    super(printable(message), options);
    this.name = 'QueueError';
    this.code = code;
  }
}

/** A job with this id waits or runs; the id is free again once it is finished. */
export const JobActive = (job_id: string) =>
  new QueueError('job_active', `job "${job_id}" is already queued or running`);
export const JobFinished = (job_id: string, state: string) =>
  new QueueError('job_finished', `job "${job_id}" is already finished (${state})`);
export const UnknownJob = (job_id: string) => new QueueError('unknown_job', `there is no job "${job_id}"`);
export const GroupActive = (group_id: string) =>
  new QueueError('group_active', `group "${group_id}" has jobs that are queued or running`);
export const GroupFinished = (group_id: string) =>
  new QueueError('group_finished', `all jobs of group "${group_id}" are already finished`);
export const UnknownGroup = (group_id: string) =>
  new QueueError('unknown_group', `there is no group "${group_id}"`);
export const InvalidJob = (message: string) => new QueueError('invalid_job', message);
export const InvalidCursor = () =>
  new QueueError('invalid_cursor', 'the cursor is not one that this list gave out');
export const LeaseLost = (job_id: string, attempt: number) =>
  new QueueError('lease_lost', `attempt ${attempt} of job "${job_id}" has lost its lease`);
/** The store cannot be read or written just now (locked, full, read-only, away). */
export const StoreUnavailable = (reason: string, cause?: unknown) =>
  new QueueError('store_unavailable', `the job store is unavailable: ${reason}`, { cause });
