/** One round of one contender on an empty queue: every figure that is compared. */
import { setTimeout as delay } from 'node:timers/promises';
import { quantile } from '../stats.ts';
import type { Name } from './contender.ts';
import { Player } from './player.ts';

/** Jobs a second. */
export interface Figures {
  readonly noop_per_s: number;
  /** Processor time of the worker's process for a job, µs. */
  readonly worker_cpu_us: number;
  readonly bulk_per_s: number;
  readonly single_1_per_s: number;
  readonly single_50_per_s: number;
  /** From the call that posts to the handler's first line, idle queue, ms. */
  readonly p50: number;
  readonly p99: number;
}

export interface Round {
  readonly name: Name;
  readonly address: string;
  readonly concurrency: number;
  readonly jobs: number;
  /** For the worker's process. */
  readonly execArgv?: readonly string[];
}

/** Posted and run before anything is measured: code is compiled, tables have statistics. */
const WARM_UP_JOBS = 2_000;
/** Latency is that of jobs one after the other, so many or for so long. */
const LATENCY = { jobs: 300, ms: 6_000, pause_ms: 5 };
const SINGLE_MS = 1_500;

export async function play({ jobs, execArgv, ...part }: Round): Promise<Figures> {
  const producer = new Player(part);
  const consumer = new Player(part, execArgv);
  try {
    await producer.ask({ type: 'prepare' });
    await producer.ask({ type: 'be', role: 'producer' });
    await producer.ask({ type: 'post_many', jobs: WARM_UP_JOBS });
    await consumer.ask({ type: 'be', role: 'consumer' });
    await consumer.ask({ type: 'work', jobs: WARM_UP_JOBS });
    await consumer.ask({ type: 'close' });

    const bulk_ms = await producer.ask({ type: 'post_many', jobs });
    await consumer.ask({ type: 'be', role: 'consumer' });
    const cpu = await consumer.ask({ type: 'cpu' });
    const work_ms = await consumer.ask({ type: 'work', jobs });
    const worker_cpu_us = (((await consumer.ask({ type: 'cpu' })) - cpu) / jobs) * 1_000;
    const latencies = await latency(producer, consumer);
    await consumer.close();

    const single_1_per_s = await producer.ask({ type: 'post_each', callers: 1, ms: SINGLE_MS });
    const single_50_per_s = await producer.ask({ type: 'post_each', callers: 50, ms: SINGLE_MS });
    await producer.close();
    return {
      noop_per_s: (jobs / work_ms) * 1_000,
      worker_cpu_us,
      bulk_per_s: (jobs / bulk_ms) * 1_000,
      single_1_per_s,
      single_50_per_s,
      p50: quantile(latencies, 0.5),
      p99: quantile(latencies, 0.99),
    };
  } finally {
    for (const player of [producer, consumer]) await player.kill();
  }
}

/** Between two processes, with nothing else to do. */
async function latency(producer: Player, consumer: Player): Promise<number[]> {
  const times: number[] = [];
  const begin = performance.now();
  while (times.length < LATENCY.jobs && performance.now() - begin < LATENCY.ms) {
    await delay(LATENCY.pause_ms);
    const next = consumer.nextStart();
    const called = await producer.ask({ type: 'post_one' });
    times.push((await next) - called);
  }
  return times;
}
