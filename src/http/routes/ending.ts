/** Ending jobs from a request: waiting, within bounds, for what was asked; dropping what they left. */
import { QueueError } from '../../queue/errors.ts';
import { isFinished } from '../../queue/finished.ts';
import type { Job } from '../../queue/store.ts';
import { ApiError } from '../errors.ts';
import type { RouteContext } from './context.ts';

/** How long an answer to a cancel waits for the query to end: normally it does so within a second. */
export const CANCEL_WAIT_MS = 2_000;

/** Before a purge the wait is longer: a job that has ended leaves nothing behind it to clean up. */
export function purgeWaitMs(context: RouteContext): number {
  return 2 * context.cancel_wait_ms;
}

/** How many tables of a group are dropped at once: results databases have other work too. */
const DROPS_AT_ONCE = 4;

/** Resolves when the job has ended, or the time is up, or the signal aborts, or nobody can tell. */
export async function waitForEnd(
  { queue }: RouteContext,
  job: Job,
  timeout_ms: number,
  signal: AbortSignal,
): Promise<void> {
  if (isFinished(job.state)) return;
  await untilNobodyCanTell(queue.wait(job.job_id, { timeout_ms, signal }));
}

/** The same of all jobs of a group. */
export async function waitForGroup(
  { queue }: RouteContext,
  group_id: string,
  timeout_ms: number,
  signal: AbortSignal,
): Promise<void> {
  await untilNobodyCanTell(queue.waitForGroup(group_id, { timeout_ms, signal }));
}

/** Purged by somebody else: that is an end too. A store that is away just now has the post or the cancel already. */
async function untilNobodyCanTell(end: Promise<unknown>): Promise<void> {
  try {
    await end;
  } catch (error) {
    const expected = ['unknown_job', 'unknown_group', 'store_unavailable'];
    if (!(error instanceof QueueError && expected.includes(error.code))) throw error;
  }
}

/** Drops the result tables of jobs. Throws `ApiError` unavailable if one cannot be dropped now. Whether there was one. */
export async function dropTables(
  { reports }: RouteContext,
  jobs: readonly Pick<Job, 'job_id'>[],
): Promise<boolean> {
  const rest = jobs.values();
  let some = false;
  const worker = async () => {
    for (const job of rest) {
      try {
        if (await reports.drop(job)) some = true;
      } catch (error) {
        throw new ApiError(
          'unavailable',
          `the result table of job "${job.job_id}" cannot be dropped for now; ask again`,
          { cause: error },
        );
      }
    }
  };
  await Promise.all(Array.from({ length: DROPS_AT_ONCE }, worker));
  return some;
}
