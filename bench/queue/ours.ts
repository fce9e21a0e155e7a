/** Our own queue, on each of its stores. */
import { Maintenance, openSqliteStore, Queue, type Store, Worker } from '../../src/queue/index.ts';
import type { Contender } from './contender.ts';

const JOB = { task: 'noop', queue: 'default', payload: null };
/** The most jobs in one call. */
const BATCH = 1_000;

/** By an address as the servers give it; for SQLite the file. */
export async function openStore(name: 'sqlite' | 'postgres' | 'redis', address: string): Promise<Store> {
  switch (name) {
    case 'sqlite':
      return openSqliteStore({ path: address });
    case 'postgres': {
      const { openPostgresStore } = await import('../../src/queue/stores/postgres.ts');
      return openPostgresStore({ dsn: address });
    }
    case 'redis': {
      const { openRedisStore } = await import('../../src/queue/stores/redis.ts');
      const { host, password, pathname } = new URL(address);
      return openRedisStore({ addresses: [host], password, db: Number(pathname.slice(1)) });
    }
  }
}

export function ours(name: 'sqlite' | 'postgres' | 'redis', address: string): Contender {
  return {
    async prepare() {
      await (await openStore(name, address)).close();
    },

    async producer() {
      const store = await openStore(name, address);
      const queue = new Queue(store);
      return {
        async enqueueAll(jobs) {
          for (let left = jobs; left > 0; left -= BATCH) {
            await queue.enqueueAll(Array.from({ length: Math.min(left, BATCH) }, () => JOB));
          }
        },
        async enqueue() {
          await queue.enqueue(JOB);
        },
        close: () => store.close(),
      };
    },

    async consumer({ concurrency, onStart }) {
      const store = await openStore(name, address);
      const worker = new Worker({
        store,
        name: `bench-${process.pid}`,
        queues: [{ queue: 'default', concurrency }],
        concurrency,
        handler: {
          async run() {
            onStart();
            return null;
          },
        },
      });
      const maintenance = new Maintenance({ store });
      return {
        async start() {
          maintenance.start();
          worker.start();
        },
        async drained() {
          for (const { counts } of await store.stats()) {
            if (counts.PENDING + counts.STARTED + counts.RETRY > 0) return false;
          }
          return true;
        },
        async close() {
          await worker.stop();
          await maintenance.stop();
          await store.close();
        },
      };
    },
  };
}
