import type { ServerResponse } from 'node:http';
import { QueueError } from '../../queue/errors.ts';
import type { PostedJob } from '../../queue/queue.ts';
import type { Job } from '../../queue/store.ts';
import { ReportError, type ReportRequest } from '../../reports/report.ts';
import type { ReportService } from '../../reports/service.ts';
import { didYouMean } from '../../util/suggest.ts';
import { endUnread } from '../access-log.ts';
import { isGone } from '../connections.ts';
import { ApiError } from '../errors.ts';
import { flagOf, toReportRequest, waitOf } from '../requests.ts';
import { JobRequest, TaskParams, TasksQuery, WaitQuery } from '../schemas.ts';
import { jobStatusView, postedView, success, taskView } from '../views.ts';
import type { App, RouteContext } from './context.ts';

export function taskRoutes(app: App, context: RouteContext): void {
  const { queue, reports } = context;

  app.get('/tasks', { schema: { querystring: TasksQuery } }, async (request) => {
    const with_sql = flagOf(request.query.sql);
    return success(Object.fromEntries(reports.tasks().map((task) => [task.name, taskView(task, with_sql)])));
  });

  app.post(
    '/tasks/:task/jobs',
    { schema: { params: TaskParams, querystring: WaitQuery, body: JobRequest } },
    async (request, reply) => {
      const { task } = request.params;
      request.subject = { task, ...(request.body.job_id ? { job_id: request.body.job_id } : {}) };
      const timeout_ms = waitOf(request.query.wait);
      const [posted] = await plan(reports, [toReportRequest(request.body, task)]);
      if (posted === undefined) throw new Error('nothing was planned for a request');
      const job = await enqueue(() => queue.enqueue(posted));
      request.subject = { job_id: job.job_id, task };
      if (timeout_ms === null) return success(postedView(job));
      const waited = await waitForPosted(context, job, timeout_ms, reply.raw);
      if (isGone(reply)) return endUnread(request, reply);
      return success({ ...postedView(job), ...jobStatusView(waited) });
    },
  );
}

/**
 * The job as it is when it is finished or the time is up. An accepted job is not refused because of the wait: not
 * where the store is away, nor where somebody purges the job meanwhile.
 */
async function waitForPosted(
  { queue, connections }: RouteContext,
  job: Job,
  timeout_ms: number,
  response: ServerResponse,
): Promise<Job> {
  try {
    return await connections.waiting(response, (signal) => queue.wait(job.job_id, { timeout_ms, signal }));
  } catch (error) {
    if (error instanceof QueueError && ['store_unavailable', 'unknown_job'].includes(error.code)) return job;
    throw error;
  }
}

/** `reports.plan`, its errors told with the place in the request: what `whereOf` gives is empty or ends in a dot. */
export async function plan(
  reports: ReportService,
  requests: readonly ReportRequest[],
  whereOf: (index: number) => string = () => '',
): Promise<readonly PostedJob[]> {
  try {
    return await reports.plan(requests);
  } catch (error) {
    if (!(error instanceof ReportError)) throw error;
    const where = whereOf(error.index);
    if (error.code === 'unknown_task') {
      const names = reports.tasks().map((task) => task.name);
      const hint = didYouMean(requests[error.index]?.task ?? '', names);
      throw new ApiError('unknown_task', `${where}task: ${error.message}${hint}`, { cause: error });
    }
    throw new ApiError(error.code, where + error.message, { cause: error });
  }
}

/** The only jobs that a post may know and the store not are those it is to wait for. */
export async function enqueue<T>(post: () => Promise<T>): Promise<T> {
  try {
    return await post();
  } catch (error) {
    if (!(error instanceof QueueError && error.code === 'unknown_job')) throw error;
    throw new ApiError('unknown_job', `after: ${error.message}`, { cause: error });
  }
}
