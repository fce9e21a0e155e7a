/** The queue alone, on a SQLite file: no-op jobs, claims from small and large backlogs, latency when idle. */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSqliteStore, Queue, type Store, Worker } from '../src/queue/index.ts';
import { quantile } from './stats.ts';

export interface QueueFigures {
  /** Jobs accepted a second: all in one call; one a call, 50 calls at once. */
  readonly bulk_enqueue_per_s: number;
  readonly single_enqueue_per_s: number;
  /** No-op jobs a second from a backlog, by the worker's concurrency. */
  readonly noop_per_s: Readonly<Record<number, number>>;
  /** From calling enqueue to the handler's first line, on an idle worker, ms. */
  readonly idle: { readonly p50: number; readonly p99: number };
  /** Time of a claim of one job, by the number of jobs that wait, ms; and bytes on disk per waiting job. */
  readonly claim: readonly {
    readonly pending: number;
    readonly p50: number;
    readonly p99: number;
    readonly bytes: number;
  }[];
}

const JOB = { task: 'noop', queue: 'default', payload: null };

export async function benchQueue(jobs = 20_000): Promise<QueueFigures> {
  const folder = mkdtempSync(join(tmpdir(), 'dungbeetle-bench-'));
  try {
    const store = await openSqliteStore({ path: join(folder, 'queue.db') });
    const queue = new Queue(store);

    const bulk_enqueue_per_s = await rate(jobs, () =>
      queue.enqueueAll(Array.from({ length: jobs }, () => JOB)),
    );
    const noop_per_s: Record<number, number> = { 10: await drain(store, jobs, 10) };
    const single_enqueue_per_s = await rate(jobs, async () => {
      let left = jobs;
      const caller = async () => {
        while (left-- > 0) await queue.enqueue(JOB);
      };
      await Promise.all(Array.from({ length: 50 }, caller));
    });
    noop_per_s[100] = await drain(store, jobs, 100);
    const idle = await idleLatency(store, queue);
    await store.close();

    const claim: Awaited<ReturnType<typeof claimTime>>[] = [];
    for (const pending of [1_000, 1_000_000])
      claim.push(await claimTime(join(folder, `${pending}.db`), pending));
    return { bulk_enqueue_per_s, single_enqueue_per_s, noop_per_s, idle, claim };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function rate(count: number, work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work();
  return (count / (performance.now() - begin)) * 1000;
}

async function drain(store: Store, jobs: number, concurrency: number): Promise<number> {
  const done = Promise.withResolvers<void>();
  let left = jobs;
  const worker = new Worker({
    store,
    name: 'bench',
    queues: [{ queue: 'default', concurrency }],
    concurrency,
    handler: { run: async () => null },
    onEvent: ({ type }) => {
      if (type === 'succeeded' && --left === 0) done.resolve();
    },
  });
  const per_s = await rate(jobs, () => {
    worker.start();
    return done.promise;
  });
  await worker.stop();
  return per_s;
}

async function idleLatency(store: Store, queue: Queue): Promise<QueueFigures['idle']> {
  let began = Promise.withResolvers<number>();
  const worker = new Worker({
    store,
    name: 'bench',
    queues: [{ queue: 'default', concurrency: 10 }],
    concurrency: 10,
    handler: {
      async run() {
        began.resolve(performance.now());
        return null;
      },
    },
  });
  worker.start();
  const times: number[] = [];
  for (let n = 0; n < 500; n++) {
    began = Promise.withResolvers();
    const called = performance.now();
    const { job_id } = await queue.enqueue(JOB);
    times.push((await began.promise) - called);
    await queue.wait(job_id, { timeout_ms: 10_000 });
  }
  await worker.stop();
  return { p50: quantile(times, 0.5), p99: quantile(times, 0.99) };
}

async function claimTime(path: string, pending: number): Promise<QueueFigures['claim'][number]> {
  const store = await openSqliteStore({ path });
  for (let n = 0; n < pending; n += 10_000) {
    const count = Math.min(10_000, pending - n);
    await store.enqueue(Array.from({ length: count }, (_, i) => ({ ...JOB, job_id: `job_${n + i}` })));
  }
  const times: number[] = [];
  for (let n = 0; n < 500; n++) {
    const begin = performance.now();
    const { jobs } = await store.claim({
      worker: 'bench',
      queues: [{ queue: 'default', limit: 1 }],
      limit: 1,
      lease_ms: 60_000,
    });
    times.push(performance.now() - begin);
    if (jobs.length !== 1) throw new Error('nothing was claimed');
  }
  await store.close();
  return {
    pending,
    p50: quantile(times, 0.5),
    p99: quantile(times, 0.99),
    bytes: Math.round(statSync(path).size / pending),
  };
}

if (import.meta.main) console.log(await benchQueue());
