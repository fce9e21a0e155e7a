import { QueueError } from '../../queue/errors.ts';
import { isFinished } from '../../queue/finished.ts';
import type { Job, JobFilter } from '../../queue/store.ts';
import { endUnread } from '../access-log.ts';
import { JSON_TYPE, jobsAnswer, statusAnswer } from '../answers.ts';
import { isGone } from '../connections.ts';
import { flagOf, limitOf, waitOf } from '../requests.ts';
import {
  JobParams,
  LIST_LIMIT,
  ListQuery,
  NoRequest,
  PENDING_LIMIT,
  PendingQuery,
  PurgeQuery,
  QueueParams,
  WaitQuery,
} from '../schemas.ts';
import { jobStatusView, success } from '../views.ts';
import type { App, RouteContext } from './context.ts';
import { dropTables, purgeWaitMs, waitForEnd } from './ending.ts';

export function jobRoutes(app: App, context: RouteContext): void {
  const { queue, connections, answers } = context;

  app.get('/jobs', { schema: { querystring: ListQuery } }, async (request, reply) => {
    const { state, task, queue: name, group, limit, cursor } = request.query;
    const filter: JobFilter = {
      ...(state ? { state } : {}),
      ...(task ? { task } : {}),
      ...(name ? { queue: name } : {}),
      ...(group ? { group_id: group } : {}),
    };
    const most = limitOf(limit, LIST_LIMIT);
    return answers.send(reply, `list ${JSON.stringify([filter, most, cursor])}`, async () => {
      const page = await queue.list(filter, most, cursor || undefined);
      return jobsAnswer({ cursor: page.cursor }, page.items);
    });
  });

  app.get(
    '/jobs/queue/:queue',
    { schema: { params: QueueParams, querystring: PendingQuery } },
    async (request, reply) => {
      const most = limitOf(request.query.limit, PENDING_LIMIT);
      return answers.send(reply, `pending ${most} ${request.params.queue}`, async () =>
        jobsAnswer(null, await queue.pending(request.params.queue, most)),
      );
    },
  );

  app.get(
    '/jobs/:job_id',
    { schema: { params: JobParams, querystring: WaitQuery } },
    async (request, reply) => {
      const { job_id } = request.params;
      request.subject = { job_id };
      const timeout_ms = waitOf(request.query.wait);
      if (timeout_ms === null) return success(jobStatusView(await queue.get(job_id)));
      const job = await connections.waiting(reply.raw, (signal) =>
        queue.wait(job_id, { timeout_ms, signal }),
      );
      if (isGone(reply)) return endUnread(request, reply);
      return reply.type(JSON_TYPE).send(statusAnswer(job));
    },
  );

  app.delete(
    '/jobs/:job_id',
    { schema: { params: JobParams, querystring: PurgeQuery } },
    async (request, reply) => {
      const { job_id } = request.params;
      request.subject = { job_id };
      await connections.waiting(reply.raw, async (signal) => {
        if (flagOf(request.query.purge)) await purge(context, job_id, signal);
        else await waitForEnd(context, await queue.cancel(job_id), context.cancel_wait_ms, signal);
      });
      return success(true);
    },
  );

  app.post('/jobs/:job_id/retry', { schema: { params: JobParams, body: NoRequest } }, async (request) => {
    const { job_id } = request.params;
    request.subject = { job_id };
    const job = await queue.retry(job_id);
    request.subject = { job_id, task: job.task };
    return success(jobStatusView(job));
  });
}

/** Ends a job if it is active, then forgets it and drops its table. */
async function purge(context: RouteContext, job_id: string, signal: AbortSignal): Promise<void> {
  const { queue } = context;
  let job: Job;
  try {
    job = await queue.get(job_id);
  } catch (error) {
    // Its record may have expired, or its store been replaced, before its table was dropped.
    const isForgotten = error instanceof QueueError && error.code === 'unknown_job';
    if (isForgotten && (await dropTables(context, [{ job_id }]))) return;
    throw error;
  }
  if (!isFinished(job.state)) {
    const cancelled = await cancelUnlessFinished(context, job_id);
    await waitForEnd(context, cancelled, purgeWaitMs(context), signal);
    job = await queue.get(job_id);
  }
  if (isFinished(job.state)) {
    // The table first: if it cannot be dropped, the record still says where it is, and this can be repeated.
    await dropTables(context, [job]);
    await queue.purge(job_id);
  } else {
    // It does not stop. Without its record it has lost its lease, so it cannot publish a table any more.
    await queue.purge(job_id);
    await dropTables(context, [job]);
  }
}

async function cancelUnlessFinished({ queue }: RouteContext, job_id: string): Promise<Job> {
  try {
    return await queue.cancel(job_id);
  } catch (error) {
    // It ended by itself just now.
    if (error instanceof QueueError && error.code === 'job_finished') return queue.get(job_id);
    throw error;
  }
}
