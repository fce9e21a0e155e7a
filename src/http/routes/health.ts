import { QueueError } from '../../queue/errors.ts';
import type { Health } from '../../reports/service.ts';
import { ApiError } from '../errors.ts';
import { success } from '../views.ts';
import type { App, RouteContext } from './context.ts';

/** A part that takes longer counts as down: probes give up after a few seconds themselves. */
export const HEALTH_WAIT_MS = 2_000;

export function healthRoutes(app: App, context: RouteContext): void {
  const { queue, reports, health_wait_ms, ready } = context;
  app.get('/health/live', async () => success({ process: 'ok' }));

  app.get('/health/ready', async () => {
    // So that no more comes here; what comes all the same is taken.
    if (context.isDraining()) throw new ApiError('unavailable', 'not ready: the server is shutting down');
    const controller = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<null>((resolve) => {
      timer = setTimeout(() => {
        controller.abort();
        // In a turn of its own, so that the databases can still say which of them it was.
        setImmediate(() => resolve(null));
      }, health_wait_ms);
    });
    try {
      const [store, databases] = await Promise.all([
        Promise.race([storeHealth(queue), late]),
        Promise.race([reports.health(controller.signal), late]),
      ]);
      const parts: Record<string, Health> = {
        store: store ?? { ok: false, message: 'does not answer' },
        ...(databases ?? { databases: { ok: false, message: 'do not answer' } }),
      };
      const counts = (name: string) => ready.includes(name) || ready.includes(name.split('.', 1)[0] ?? name);
      const down = Object.entries(parts).filter(([, health]) => !health.ok);
      if (
        down.some(
          ([name]) => counts(name) || (name === 'databases' && ready.some((part) => part !== 'store')),
        )
      ) {
        throw new ApiError('unavailable', `not ready: ${down.map(told).join('; ')}`);
      }
      return success(
        Object.fromEntries(Object.entries(parts).map(([name, health]) => [name, wordFor(health)])),
      );
    } finally {
      clearTimeout(timer);
      controller.abort();
    }
  });
}

function told([name, health]: readonly [string, Health]): string {
  return `${name}: ${wordFor(health)}`;
}

function wordFor(health: Health): string {
  return health.ok ? 'ok' : health.message;
}

async function storeHealth(queue: RouteContext['queue']): Promise<Health> {
  try {
    await queue.ping();
    return { ok: true };
  } catch (error) {
    if (error instanceof QueueError) return { ok: false, message: 'unavailable' };
    throw error;
  }
}
