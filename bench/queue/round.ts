/** One round of one contender on an empty queue: every figure that is compared. */
import { setTimeout as delay } from 'node:timers/promises';
import { quantile } from '../stats.ts';
import { cpuOf } from './cpu.ts';
import { Player } from './player.ts';
import type { Part } from './process.ts';

/** Something done many times. */
export interface Throughput {
  readonly per_s: number;
  /** Processor time for each, µs: of the process that posts or works, and of the server. */
  readonly own_cpu_us: number;
  readonly server_cpu_us: number;
}

export interface Figures {
  readonly noop: Throughput;
  readonly bulk: Throughput;
  readonly single_1: Throughput;
  readonly single_50: Throughput;
  /** From the call that posts to the handler's first line, idle queue, ms. */
  readonly p50: number;
  readonly p99: number;
}

export interface Round extends Part {
  readonly jobs: number;
  /** The server's main process; null: it has none. */
  readonly server: number | null;
}

/** Posted and run before anything is measured: code is compiled, tables have statistics. */
const WARM_UP_JOBS = 2_000;
/** Latency is that of jobs one after the other, so many or for so long. */
const LATENCY = { jobs: 300, ms: 6_000, pause_ms: 5 };
const SINGLE_MS = 1_500;

/** `profiled`: options of Node.js for both processes, to see where their time goes. */
export async function play(
  { jobs, server, ...part }: Round,
  profiled: readonly string[] = [],
): Promise<Figures> {
  const producer = new Player(part, profiled);
  const consumer = new Player(part, profiled);
  /** The action resolves with how many times a second the thing was done, and how often in all. */
  const measured = async (
    who: Player,
    action: () => Promise<readonly [per_s: number, times: number]>,
  ): Promise<Throughput> => {
    const before = [await who.ask({ type: 'cpu' }), cpuOf(server)] as const;
    const [per_s, times] = await action();
    const after = [await who.ask({ type: 'cpu' }), cpuOf(server)] as const;
    return {
      per_s,
      own_cpu_us: ((after[0] - before[0]) * 1_000) / times,
      server_cpu_us: ((after[1] - before[1]) * 1_000) / times,
    };
  };
  const single = (callers: number) =>
    measured(producer, async () => {
      const per_s = await producer.ask({ type: 'post_each', callers, ms: SINGLE_MS });
      return [per_s, (per_s * SINGLE_MS) / 1_000];
    });
  try {
    await producer.ask({ type: 'prepare' });
    await producer.ask({ type: 'be', role: 'producer' });
    await producer.ask({ type: 'post_many', jobs: WARM_UP_JOBS });
    await consumer.ask({ type: 'be', role: 'consumer' });
    await consumer.ask({ type: 'work', jobs: WARM_UP_JOBS });
    await consumer.ask({ type: 'close' });

    const bulk = await measured(producer, async () => {
      return [(jobs / (await producer.ask({ type: 'post_many', jobs }))) * 1_000, jobs];
    });
    await consumer.ask({ type: 'be', role: 'consumer' });
    const noop = await measured(consumer, async () => {
      return [(jobs / (await consumer.ask({ type: 'work', jobs }))) * 1_000, jobs];
    });
    const latencies = await latency(producer, consumer);
    await consumer.close();

    const single_1 = await single(1);
    const single_50 = await single(50);
    await producer.close();
    const [p50, p99] = [quantile(latencies, 0.5), quantile(latencies, 0.99)];
    return { noop, bulk, single_1, single_50, p50, p99 };
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
