import { NamedQueueParams, NoRequest } from '../schemas.ts';
import { limitView, queueView, success } from '../views.ts';
import type { App, RouteContext } from './context.ts';

export function queueRoutes(app: App, { queue, reports }: RouteContext): void {
  app.get('/queues', async () => success((await queue.stats()).map(queueView)));

  app.get('/limits', async () => success((await reports.databases()).map(limitView)));

  const schema = { params: NamedQueueParams, body: NoRequest };

  app.post('/queues/:queue/pause', { schema }, async ({ params }) => {
    await queue.pause(params.queue);
    return success({ queue: params.queue, paused: true });
  });

  app.post('/queues/:queue/resume', { schema }, async ({ params }) => {
    await queue.resume(params.queue);
    return success({ queue: params.queue, paused: false });
  });
}
