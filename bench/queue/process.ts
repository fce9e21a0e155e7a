/** The process of a producer or a consumer: does what its parent asks, one thing after the other. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Consumer, Name, Producer } from './contender.ts';
import { load } from './load.ts';

export interface Part {
  readonly name: Name;
  readonly address: string;
  /** Of a consumer: the most jobs that it runs at once. */
  readonly concurrency: number;
}

/** What a parent may ask. Each is answered with a number; "nothing" is 0. */
export type Request =
  /** Makes what it needs on an empty server: nothing. */
  | { readonly type: 'prepare' }
  /** Connects: nothing. */
  | { readonly type: 'be'; readonly role: 'producer' | 'consumer' }
  /** Posts jobs by the way for many: how long it took, ms. */
  | { readonly type: 'post_many'; readonly jobs: number }
  /** Posts jobs one a call, by so many callers at once, for a time: jobs a second. */
  | { readonly type: 'post_each'; readonly callers: number; readonly ms: number }
  /** Posts a job: when the call began, ms of a clock that all processes of the machine share. */
  | { readonly type: 'post_one' }
  /** Begins to work: how long it took until that many jobs were over, ms. From then on it tells of each job. */
  | { readonly type: 'work'; readonly jobs: number }
  /** The time that this process has had of a processor, ms. */
  | { readonly type: 'cpu' }
  /** Disconnects: nothing. */
  | { readonly type: 'close' };

export type Answer =
  | { readonly type: 'done'; readonly value: number }
  | { readonly type: 'failed'; readonly message: string }
  /** A job's handler has begun: when, by the clock of `post_one`. */
  | { readonly type: 'started'; readonly at: number };

const part: Part = JSON.parse(process.argv[2] ?? '');
const contender = await load(part.name, part.address);
let producer: Producer | undefined;
let consumer: Consumer | undefined;
/** Handlers begun, and whom to tell. */
let begun = 0;
let awaited = { jobs: 0, resolve: () => {} };
let tells = false;

function onStart(): void {
  begun += 1;
  if (tells) tell({ type: 'started', at: now() });
  else if (begun === awaited.jobs) awaited.resolve();
}

async function answer(request: Request): Promise<number> {
  switch (request.type) {
    case 'prepare':
      await contender.prepare();
      return 0;
    case 'be':
      if (request.role === 'producer') producer = await contender.producer();
      else consumer = await contender.consumer({ concurrency: part.concurrency, onStart });
      return 0;
    case 'post_many': {
      const begin = now();
      await the(producer).enqueueAll(request.jobs);
      return now() - begin;
    }
    case 'post_each':
      return postEach(the(producer), request.callers, request.ms);
    case 'post_one': {
      const called = now();
      await the(producer).enqueue();
      return called;
    }
    case 'work':
      return work(the(consumer), request.jobs);
    case 'cpu': {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1_000;
    }
    case 'close':
      await producer?.close();
      await consumer?.close();
      producer = undefined;
      consumer = undefined;
      return 0;
  }
}

async function postEach(to: Producer, callers: number, ms: number): Promise<number> {
  let posted = 0;
  const begin = now();
  const caller = async () => {
    while (now() - begin < ms) {
      await to.enqueue();
      posted += 1;
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  return (posted / (now() - begin)) * 1_000;
}

async function work(worker: Consumer, jobs: number): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<void>();
  awaited = { jobs, resolve };
  begun = 0;
  tells = false;
  const begin = now();
  const running = worker.start();
  await promise;
  while (!(await worker.drained())) await delay(1);
  const took = now() - begin;
  await running;
  tells = true;
  return took;
}

function the<T>(role: T | undefined): T {
  if (role === undefined) throw new Error('this process does not have that role');
  return role;
}

function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

function tell(answer: Answer): void {
  process.send?.(answer);
}

process.on('message', (request: Request) => {
  void answer(request).then(
    (value) => tell({ type: 'done', value }),
    (error: unknown) =>
      tell({ type: 'failed', message: String(error instanceof Error ? error.stack : error) }),
  );
});

// Also when its parent has gone without a word.
process.on('disconnect', () => process.exit());
