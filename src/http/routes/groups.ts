import { randomUUID } from 'node:crypto';
import type { FastifyReply } from 'fastify';
import { QueueError } from '../../queue/errors.ts';
import { isFinished } from '../../queue/finished.ts';
import { endUnread } from '../access-log.ts';
import { jobsAnswer } from '../answers.ts';
import { isGone } from '../connections.ts';
import { ApiError } from '../errors.ts';
import { flagOf, toReportRequest, waitOf } from '../requests.ts';
import { GroupParams, GroupRequest, PurgeQuery, WaitQuery } from '../schemas.ts';
import { groupState, groupView, postedGroupView, success } from '../views.ts';
import type { App, RouteContext } from './context.ts';
import { dropTables, purgeWaitMs, waitForGroup } from './ending.ts';
import { enqueue, plan } from './tasks.ts';

export function groupRoutes(app: App, context: RouteContext): void {
  const { queue, reports, connections } = context;

  app.post('/groups', { schema: { querystring: WaitQuery, body: GroupRequest } }, async (request, reply) => {
    const group_id = request.body.group_id || `group_${randomUUID()}`;
    request.subject = { group_id };
    const timeout_ms = waitOf(request.query.wait);
    const { concurrency, jobs } = request.body;
    refuseRepeatedIds(jobs);
    const whereOf = (index: number) => `jobs[${index}].`;
    const requests = jobs.map((job, index) => toReportRequest(job, null, whereOf(index)));
    const posted = await plan(reports, requests, whereOf);
    const group = { group_id, ...(concurrency ? { concurrency } : {}) };
    const stored = await enqueue(() => queue.enqueueAll(posted, group));
    if (timeout_ms === null) return success(postedGroupView(group_id, stored));
    await connections.waiting(reply.raw, (signal) => waitForGroup(context, group_id, timeout_ms, signal));
    if (isGone(reply)) return endUnread(request, reply);
    try {
      return await sendGroup(context, reply, group_id);
    } catch (error) {
      // Accepted it is, whatever became of it or of the store.
      if (!(error instanceof QueueError || error instanceof ApiError)) throw error;
      return success(groupView({ group_id, jobs: stored }));
    }
  });

  app.get(
    '/groups/:group_id',
    { schema: { params: GroupParams, querystring: WaitQuery } },
    async (request, reply) => {
      const { group_id } = request.params;
      request.subject = { group_id };
      const timeout_ms = waitOf(request.query.wait);
      if (timeout_ms !== null) {
        await connections.waiting(reply.raw, (signal) =>
          queue.waitForGroup(group_id, { timeout_ms, signal }),
        );
        if (isGone(reply)) return endUnread(request, reply);
      }
      return sendGroup(context, reply, group_id);
    },
  );

  app.delete(
    '/groups/:group_id',
    { schema: { params: GroupParams, querystring: PurgeQuery } },
    async (request, reply) => {
      const { group_id } = request.params;
      request.subject = { group_id };
      await connections.waiting(reply.raw, async (signal) => {
        if (flagOf(request.query.purge)) await purge(context, group_id, signal);
        else {
          await queue.cancelGroup(group_id);
          await waitForGroup(context, group_id, context.cancel_wait_ms, signal);
        }
      });
      return success(true);
    },
  );
}

function sendGroup(
  { queue, answers }: RouteContext,
  reply: FastifyReply,
  group_id: string,
): Promise<FastifyReply> {
  return answers.send(reply, `group ${group_id}`, async () => {
    const { jobs } = await queue.group(group_id);
    return jobsAnswer({ group_id, state: groupState(jobs) }, jobs);
  });
}

/** Two jobs of one id cannot be active at once; which two they are, the store does not know. */
function refuseRepeatedIds(jobs: GroupRequest['jobs']): void {
  const seen = new Map<string, number>();
  for (const [i, { job_id }] of jobs.entries()) {
    if (!job_id) continue;
    const first = seen.get(job_id);
    if (first !== undefined) {
      throw new ApiError('job_active', `jobs[${i}].job_id: "${job_id}" is the id of jobs[${first}] too`);
    }
    seen.set(job_id, i);
  }
}

/** As for a job: see jobs.ts for why tables are dropped before or after. */
async function purge(context: RouteContext, group_id: string, signal: AbortSignal): Promise<void> {
  const { queue } = context;
  let { jobs } = await queue.group(group_id);
  if (!jobs.every((job) => isFinished(job.state))) {
    try {
      await queue.cancelGroup(group_id);
    } catch (error) {
      if (!(error instanceof QueueError && error.code === 'group_finished')) throw error;
    }
    await waitForGroup(context, group_id, purgeWaitMs(context), signal);
    ({ jobs } = await queue.group(group_id));
  }
  await dropTables(
    context,
    jobs.filter((job) => isFinished(job.state)),
  );
  await queue.purgeGroup(group_id);
  await dropTables(
    context,
    jobs.filter((job) => !isFinished(job.state)),
  );
}
