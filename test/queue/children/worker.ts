/**
 * A worker in a process of its own. Arguments: the store's file, its name, lease and heartbeat in ms. Tells its
 * parent of what it does as messages `{type, job_id}`. Tasks: "quick" returns its payload, "endless" goes on
 * until it is stopped, "deaf" does not heed that.
 */
import { AttemptStopped } from '../../../src/queue/handler.ts';
import { openSqliteStore } from '../../../src/queue/stores/sqlite.ts';
import { Worker } from '../../../src/queue/worker.ts';

const [path, name, lease_ms, heartbeat_ms] = process.argv.slice(2);
if (path === undefined || name === undefined) throw new Error('tell me the file and my name');

export type Told = { readonly type: string; readonly job_id?: string };

function tell(told: Told): void {
  process.send?.(told);
}

const store = await openSqliteStore({ path });
const worker = new Worker({
  store,
  name,
  queues: [{ queue: 'default', concurrency: 10 }],
  concurrency: 10,
  lease_ms: Number(lease_ms),
  heartbeat_ms: Number(heartbeat_ms),
  abort_grace_ms: 200,
  handler: {
    async run({ job_id, task, payload }, { signal }) {
      if (task === 'quick') return payload;
      await new Promise((resolve) => {
        // Keeps the process alive, as a connection to a database would.
        const timer = setInterval(() => {}, 60_000);
        if (task === 'deaf') return;
        signal.addEventListener('abort', () => {
          clearInterval(timer);
          resolve(undefined);
        });
      });
      const { reason } = signal;
      tell({ type: `stopped: ${reason instanceof AttemptStopped ? reason.reason : reason}`, job_id });
      throw reason;
    },
  },
  onEvent: (event) =>
    tell('job' in event ? { type: event.type, job_id: event.job.job_id } : { type: event.type }),
});
worker.start();
process.on('SIGTERM', async () => {
  await worker.drain(200);
  await store.close();
  process.disconnect();
});
tell({ type: 'ready' });
