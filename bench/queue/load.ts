/** The contenders by name. */
import type { Contender, Name } from './contender.ts';

/** Loads no more code than the one contender's. */
export async function load(name: Name, address: string): Promise<Contender> {
  switch (name) {
    case 'sqlite':
    case 'postgres':
    case 'redis':
      return (await import('./ours.ts')).ours(name, address);
    case 'bullmq':
      return (await import('./bullmq.ts')).bullmq(address);
    case 'pg-boss':
      return (await import('./pg-boss.ts')).pgBoss(address);
    case 'graphile-worker':
      return (await import('./graphile-worker.ts')).graphileWorker(address, 'plain');
    case 'graphile-worker-local-queue':
      return (await import('./graphile-worker.ts')).graphileWorker(address, 'local queue');
  }
}
