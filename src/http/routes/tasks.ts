import { ReportError } from '../../reports/report.ts';
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
    const posted = plan(reports, toReportRequest(request.body, task));
    const job = await queue.enqueue(posted);
    request.subject = { job_id: job.job_id, task };
    return success(postedView(job));
  });
}

/** `reports.plan`, its errors told with the place in the request: `where` is empty or ends in a dot. */
export function plan(reports: ReportService, request: Parameters<ReportService['plan']>[0], where = '') {
  try {
    return reports.plan(request);
  } catch (error) {
    if (!(error instanceof ReportError)) throw error;
    if (error.code === 'unknown_task') {
      const names = reports.tasks().map((task) => task.name);
      const hint = didYouMean(request.task, names);
      throw new ApiError('unknown_task', `${where}task: ${error.message}${hint}`, { cause: error });
    }
    throw new ApiError(error.code, where + error.message, { cause: error });
  }
}
