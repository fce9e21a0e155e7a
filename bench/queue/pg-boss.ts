/**
 * pg-boss: insert for many jobs, send for one. Batches of a hundred are fetched and completed in a loop, by which it
 * is quickest: work() takes one batch per poll. Latency is that of work() at its shortest poll, 0.5 s.
 */
import type { Contender } from './contender.ts';

/** What is used of the package: it is not installed with the project, so its own types are not at hand. */
type PgBoss = new (options: {
  connectionString: string;
  max: number;
}) => {
  on(event: 'error', listener: (error: Error) => void): void;
  start(): Promise<unknown>;
  stop(options: { graceful: boolean }): Promise<void>;
  createQueue(name: string): Promise<void>;
  insert(jobs: { name: string; data: object }[]): Promise<unknown>;
  send(name: string, data: object): Promise<unknown>;
  fetch(name: string, options: { batchSize: number }): Promise<{ id: string }[]>;
  complete(name: string, ids: string[]): Promise<unknown>;
  work(
    name: string,
    options: { batchSize: number; pollingIntervalSeconds: number },
    handler: (jobs: unknown[]) => Promise<void>,
  ): Promise<unknown>;
  getQueueSize(name: string, options: { before: 'completed' }): Promise<number>;
};

const PACKAGE: string = 'pg-boss';
const BATCH = 1_000;
const QUEUE = 'default';

export async function pgBoss(address: string): Promise<Contender> {
  const { default: Boss }: { default: PgBoss } = await import(PACKAGE);
  const open = async () => {
    const boss = new Boss({ connectionString: address, max: 10 });
    boss.on('error', (error) => {
      throw error;
    });
    await boss.start();
    return boss;
  };
  return {
    async prepare() {
      const boss = await open();
      await boss.createQueue(QUEUE);
      await boss.stop({ graceful: false });
    },

    async producer() {
      const boss = await open();
      return {
        async enqueueAll(jobs) {
          for (let left = jobs; left > 0; left -= BATCH) {
            const length = Math.min(left, BATCH);
            await boss.insert(Array.from({ length }, () => ({ name: QUEUE, data: {} })));
          }
        },
        async enqueue() {
          await boss.send(QUEUE, {});
        },
        close: () => boss.stop({ graceful: false }),
      };
    },

    async consumer({ concurrency, onStart }) {
      const boss = await open();
      return {
        async start() {
          for (;;) {
            const jobs = await boss.fetch(QUEUE, { batchSize: concurrency });
            if (jobs.length === 0) break;
            for (const _ of jobs) onStart();
            await boss.complete(
              QUEUE,
              jobs.map(({ id }) => id),
            );
          }
          const options = { batchSize: concurrency, pollingIntervalSeconds: 0.5 };
          await boss.work(QUEUE, options, async (jobs) => {
            for (const _ of jobs) onStart();
          });
        },
        drained: async () => (await boss.getQueueSize(QUEUE, { before: 'completed' })) === 0,
        close: () => boss.stop({ graceful: false }),
      };
    },
  };
}
