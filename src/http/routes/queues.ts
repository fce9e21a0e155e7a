import { didYouMean } from '../../util/suggest.ts';
import { ApiError } from '../errors.ts';
import { NamedQueueParams, NoRequest } from '../schemas.ts';
import { limitView, queueView, success } from '../views.ts';
import type { App, RouteContext } from './context.ts';

export function queueRoutes(app: App, { queue, reports }: RouteContext): void {
  app.get('/queues', async () => success((await queue.stats()).map(queueView)));

  app.get('/limits', async () => success((await reports.databases()).map(limitView)));

  /** A slip in a name must not look as if it had stopped a queue. Throws `ApiError`. */
  const checkKnown = async (name: string) => {
    const named = reports.tasks().map((task) => task.queue);
    const known = new Set([...named, ...(await queue.stats()).map((one) => one.queue)]);
    if (known.has(name)) return;
    throw new ApiError(
      'unknown_queue',
      `there is no queue "${name}": no task and no job names it${didYouMean(name, known)}`,
    );
  };

  const schema = { params: NamedQueueParams, body: NoRequest };

  app.post('/queues/:queue/pause', { schema }, async ({ params }) => {
    await checkKnown(params.queue);
    await queue.pause(params.queue);
    return success({ queue: params.queue, paused: true });
  });

  app.post('/queues/:queue/resume', { schema }, async ({ params }) => {
    await checkKnown(params.queue);
    await queue.resume(params.queue);
    return success({ queue: params.queue, paused: false });
  });
}
