/**
 * BullMQ, as its documentation has it: Queue.addBulk, and a Worker with a concurrency, on connections of their own.
 * Finished jobs are kept, which is its default.
 */
import type { Contender } from './contender.ts';

/** What is used of the package: it is not installed with the project, so its own types are not at hand. */
interface BullMQ {
  readonly Queue: new (
    name: string,
    options: { connection: Connection },
  ) => {
    addBulk(jobs: { name: string; data: object }[]): Promise<unknown>;
    add(name: string, data: object): Promise<unknown>;
    getJobCounts(...states: string[]): Promise<Record<string, number>>;
    waitUntilReady(): Promise<unknown>;
    close(): Promise<void>;
  };
  readonly Worker: new (
    name: string,
    handler: () => Promise<unknown>,
    options: { connection: Connection; concurrency: number; autorun: false },
  ) => { run(): Promise<void>; waitUntilReady(): Promise<unknown>; close(): Promise<void> };
}

interface Connection {
  readonly host: string;
  readonly port: number;
  readonly password: string;
  readonly db: number;
  readonly maxRetriesPerRequest: null;
}

const PACKAGE: string = 'bullmq';
const BATCH = 1_000;
const QUEUE = 'default';

export async function bullmq(address: string): Promise<Contender> {
  const { Queue, Worker }: BullMQ = await import(PACKAGE);
  const { hostname, port, password, pathname } = new URL(address);
  const connection: Connection = {
    host: hostname,
    port: Number(port),
    password,
    db: Number(pathname.slice(1)),
    maxRetriesPerRequest: null, // asked for by its Worker
  };
  return {
    async prepare() {},

    async producer() {
      const queue = new Queue(QUEUE, { connection });
      await queue.waitUntilReady();
      return {
        async enqueueAll(jobs) {
          for (let left = jobs; left > 0; left -= BATCH) {
            const length = Math.min(left, BATCH);
            await queue.addBulk(Array.from({ length }, () => ({ name: 'noop', data: {} })));
          }
        },
        async enqueue() {
          await queue.add('noop', {});
        },
        close: () => queue.close(),
      };
    },

    async consumer({ concurrency, onStart }) {
      const queue = new Queue(QUEUE, { connection });
      const worker = new Worker(
        QUEUE,
        async () => {
          onStart();
          return null;
        },
        { connection, concurrency, autorun: false },
      );
      await Promise.all([queue.waitUntilReady(), worker.waitUntilReady()]);
      let running: Promise<void> | undefined;
      return {
        async start() {
          running = worker.run();
        },
        async drained() {
          const counts = await queue.getJobCounts('wait', 'active', 'prioritized', 'delayed');
          return Object.values(counts).every((count) => count === 0);
        },
        async close() {
          await worker.close();
          await running;
          await queue.close();
        },
      };
    },
  };
}
