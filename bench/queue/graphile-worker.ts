/**
 * graphile-worker with the settings of its own performance test: as many connections as jobs at once and one more;
 * and, as the other way, a local queue of 500 jobs with batched completion. A finished job is deleted.
 */
import pg from 'pg';
import type { Contender } from './contender.ts';

/** What is used of the package: it is not installed with the project, so its own types are not at hand. */
interface GraphileWorker {
  run(options: {
    pgPool: pg.Pool;
    noHandleSignals: true;
    taskList: Record<string, () => Promise<void>>;
    preset: { worker: object };
    logger: unknown;
  }): Promise<{ stop(): Promise<void> }>;
  makeWorkerUtils(options: { pgPool: pg.Pool; logger: unknown }): Promise<{
    migrate(): Promise<void>;
    addJob(task: string, payload: object): Promise<unknown>;
    addJobs(jobs: { identifier: string; payload: object }[]): Promise<unknown>;
    release(): Promise<void>;
  }>;
  readonly Logger: new (factory: () => (level: string, message: string) => void) => unknown;
}

const PACKAGE: string = 'graphile-worker';
const BATCH = 1_000;
const LOCAL_QUEUE = {
  localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
};

export async function graphileWorker(address: string, way: 'plain' | 'local queue'): Promise<Contender> {
  process.env['NO_LOG_SUCCESS'] = '1';
  const { run, makeWorkerUtils, Logger }: GraphileWorker = await import(PACKAGE);
  const logger = new Logger(() => (level, message) => {
    if (level === 'error') console.error(message);
  });
  return {
    async prepare() {
      const pgPool = pool(address, 2);
      const utils = await makeWorkerUtils({ pgPool, logger });
      await utils.migrate();
      await utils.release();
      await pgPool.end();
    },

    async producer() {
      const pgPool = pool(address, 10);
      const utils = await makeWorkerUtils({ pgPool, logger });
      return {
        async enqueueAll(jobs) {
          for (let left = jobs; left > 0; left -= BATCH) {
            const length = Math.min(left, BATCH);
            await utils.addJobs(Array.from({ length }, () => ({ identifier: 'noop', payload: {} })));
          }
        },
        async enqueue() {
          await utils.addJob('noop', {});
        },
        async close() {
          await utils.release();
          await pgPool.end();
        },
      };
    },

    async consumer({ concurrency, onStart }) {
      const pgPool = pool(address, concurrency + 1);
      // It is quickest on connections that are there.
      const connections = await Promise.all(Array.from({ length: concurrency + 1 }, () => pgPool.connect()));
      for (const connection of connections) connection.release();
      let runner: Awaited<ReturnType<GraphileWorker['run']>> | undefined;
      return {
        async start() {
          runner = await run({
            pgPool,
            noHandleSignals: true,
            taskList: {
              async noop() {
                onStart();
              },
            },
            preset: {
              worker: { concurrentJobs: concurrency, ...(way === 'local queue' ? LOCAL_QUEUE : {}) },
            },
            logger,
          });
        },
        async drained() {
          const { rowCount } = await pgPool.query('SELECT FROM graphile_worker._private_jobs LIMIT 1');
          return rowCount === 0;
        },
        async close() {
          await runner?.stop();
          await pgPool.end();
        },
      };
    },
  };
}

function pool(address: string, max: number): pg.Pool {
  const fail = (error: Error) => {
    throw error;
  };
  const made = new pg.Pool({ connectionString: address, max });
  // graphile-worker warns of a pool that does not listen for errors, its own and its clients'.
  return made.on('error', fail).on('connect', (client) => client.on('error', fail));
}
