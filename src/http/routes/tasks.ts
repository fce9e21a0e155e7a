import { QueueError } from '../../queue/errors.ts';
import type { PostedJob } from '../../queue/queue.ts';
import { ReportError, type ReportRequest } from '../../reports/report.ts';
import type { ReportService } from '../../reports/service.ts';
import { didYouMean } from '../../util/suggest.ts';
import { ApiError } from '../errors.ts';
import { flagOf, toReportRequest } from '../requests.ts';
import { JobRequest, TaskParams, TasksQuery } from '../schemas.ts';
import { postedView, success, taskView } from '../views.ts';
import type { App, RouteContext } from './context.ts';

export function taskRoutes(app: App, { queue, reports }: RouteContext): void {
  app.get('/tasks', { schema: { querystring: TasksQuery } }, async (request) => {
    const with_sql = flagOf(request.query.sql);
    return success(Object.fromEntries(reports.tasks().map((task) => [task.name, taskView(task, with_sql)])));
  });

  app.post('/tasks/:task/jobs', { schema: { params: TaskParams, body: JobRequest } }, async (request) => {
    const { task } = request.params;
    request.subject = { task, ...(request.body.job_id ? { job_id: request.body.job_id } : {}) };
    const [posted] = await plan(reports, [toReportRequest(request.body, task)]);
    if (posted === undefined) throw new Error('nothing was planned for a request');
    const job = await enqueue(() => queue.enqueue(posted));
    request.subject = { job_id: job.job_id, task };
    return success(postedView(job));
  });
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
