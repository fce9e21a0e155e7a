/** What the bench asks of a queue, ours or another's. A contender lives in one process and plays one of the roles. */

/** Takes jobs in: the process that posts. */
export interface Producer {
  /** Posts no-op jobs by the queue's way for many. */
  enqueueAll(jobs: number): Promise<void>;
  enqueue(): Promise<void>;
  close(): Promise<void>;
}

/** Runs jobs: the process that works. It is connected when it is made, and idle. */
export interface Consumer {
  /** Begins, and resolves when it likes. */
  start(): Promise<void>;
  /** Whether the server has it that every job is over. */
  drained(): Promise<boolean>;
  close(): Promise<void>;
}

export interface ConsumerOptions {
  /** The most jobs that run at once. */
  readonly concurrency: number;
  /** The first line of each job's handler. */
  onStart(): void;
}

export interface Contender {
  /** Makes what it needs on an empty server. */
  prepare(): Promise<void>;
  producer(): Promise<Producer>;
  consumer(options: ConsumerOptions): Promise<Consumer>;
}

export type Name =
  | 'sqlite'
  | 'postgres'
  | 'redis'
  | 'bullmq'
  | 'pg-boss'
  | 'graphile-worker'
  | 'graphile-worker-local-queue';
