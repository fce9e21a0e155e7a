/**
 * The queue as a library: durable jobs with one active run per id, leases and fencing, on a store of your
 * choice.
 *
 * @example
 * const store = await openSqliteStore({ path: 'queue.db' });
 * const queue = new Queue(store);
 * const worker = new Worker({
 *   store,
 *   name: 'worker-1',
 *   queues: [{ queue: 'default', concurrency: 10 }],
 *   concurrency: 10,
 *   handler: { run: async (job) => `hello ${job.payload}` },
 * });
 * const maintenance = new Maintenance({ store });
 * worker.start();
 * maintenance.start();
 * const { job_id } = await queue.enqueue({ task: 'greet', queue: 'default', payload: 'world' });
 * const job = await queue.wait(job_id, { timeout_ms: 10_000 });
 */
export type { Json } from '../util/json.ts';
export * from './errors.ts';
export { isFinished } from './finished.ts';
export {
  AttemptStopped,
  type Handler,
  type HandlerContext,
  PermanentError,
  type StopReason,
} from './handler.ts';
export { Maintenance, type MaintenanceOptions } from './maintenance.ts';
export { type PostedJob, Queue, type WaitOptions } from './queue.ts';
export type * from './store.ts';
export { openSqliteStore, type SqliteStoreOptions } from './stores/sqlite.ts';
export { type Backoff, type QueueLimit, Worker, type WorkerEvent, type WorkerOptions } from './worker.ts';
