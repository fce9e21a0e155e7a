/** The only place where the parts meet: opens them in order, and closes them in the opposite one. */
import type { Logger } from 'pino';
import type { Config } from './config/config.ts';
import type { ResultsBackend, Source } from './databases/database.ts';
import { openResultsBackend, openSource } from './databases/open.ts';
import { buildServer, listen } from './http/server.ts';
import { LONGEST_NAME } from './queue/check.ts';
import { Maintenance } from './queue/maintenance.ts';
import { promptStore } from './queue/prompt-store.ts';
import { Queue } from './queue/queue.ts';
import { openStore } from './queue/stores/open.ts';
import { Worker } from './queue/worker.ts';
import { type DatabaseEvent, Databases } from './reports/databases.ts';
import { JobLog } from './reports/job-log.ts';
import { setLimits } from './reports/limits.ts';
import { Reports } from './reports/reports.ts';
import { Sweeper } from './reports/sweeper.ts';
import { loadTasks } from './tasks/load.ts';
import { queueConcurrency, type ResolvedTask, resolveTasks } from './tasks/registry.ts';
import { version } from './util/version.ts';

export interface App {
  /** The HTTP server's URL; null without one. */
  readonly address: string | null;
  /** Begins no more jobs, lets those that run end within `shutdown_timeout`, closes everything. */
  drain(): Promise<void>;
  /** Closes everything at once; jobs that run go back to their queues. */
  stop(): Promise<void>;
}

const DEFAULT_QUEUE = 'default';
/** How long after a store's return, beside a heartbeat, a worker may take to renew its leases. */
const RENEWED_MS = 3_000;
/** How long the store may take to answer what a request is about: less than clients and proxies wait. */
const ANSWER_MS = 5_000;

/**
 * Starts a server, or a worker only, as configured. Throws what is wrong with the tasks and the
 * databases (`TaskError`, or `DatabaseError`), the store (`QueueError`) or the address, with everything closed again.
 */
export async function startApp(config: Config, logger: Logger): Promise<App> {
  const closers: (() => Promise<void>)[] = [];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  try {
    return await start(config, logger, closers, close);
  } catch (error) {
    await close();
    throw error;
  }
}

async function start(
  config: Config,
  logger: Logger,
  closers: (() => Promise<void>)[],
  close: () => Promise<void>,
): Promise<App> {
  const tasks = resolveTasks(await loadTasks(config.sql_directories), {
    sources: Object.keys(config.db),
    results: Object.keys(config.results),
    default_queue: DEFAULT_QUEUE,
    default_concurrency: config.worker.concurrency,
    longest_name: LONGEST_NAME,
  });
  const queues = queueConcurrency(
    tasks,
    config.queues ?? [...new Set([DEFAULT_QUEUE, ...tasks.map((task) => task.queue)])],
    config.worker.concurrency,
  );

  const sources = new Map<string, Source>();
  for (const [name, db] of Object.entries(config.db)) {
    const source = await openSource(
      db.type === 'sqlite'
        ? { type: db.type, name, path: db.path, max_active: db.max_active, warm_processes: db.max_idle }
        : { ...db, name },
    );
    closers.push(() => source.close());
    sources.set(name, source);
  }
  const backends = new Map<string, ResultsBackend>();
  for (const [name, results] of Object.entries(config.results)) {
    const backend = await openResultsBackend({ ...results, name });
    closers.push(() => backend.close());
    backends.set(name, backend);
  }
  const databases = new Databases({
    tasks,
    sources,
    backends,
    onEvent: (event) => logDatabase(logger, event),
  });
  closers.push(() => databases.close());
  await databases.start();

  const store = await openStore(config.store, (message) => logger.warn({ event: 'store' }, message));
  closers.push(() => store.close());
  const limits = new Map(Object.entries(config.db).map(([name, { concurrency }]) => [name, concurrency]));
  const limitDatabases = () =>
    setLimits(store, limits, (db, before, now) =>
      logger.warn(
        { event: 'limit_changed', db, before, now },
        'the store had another limit for this database: processes that share a store should have the same configuration',
      ),
    );
  await limitDatabases();
  // A store that was away may have come back from a backup, or with nothing.
  const limitAgain = () =>
    limitDatabases().catch((err) => logger.warn({ err }, 'the limits of databases could not be set again'));
  // What HTTP asks for must be answered, if only by saying that it cannot be.
  const prompt = promptStore(store, ANSWER_MS);
  const queue = new Queue(prompt);
  const reports = new Reports({
    tasks,
    sources,
    backends,
    databases,
    store: prompt,
    limited: new Set([...limits].flatMap(([name, concurrency]) => (concurrency === null ? [] : [name]))),
    defaults: {
      timeout_ms: config.app.default_job_ttl_ms,
      timeout_key: config.app.default_job_ttl_key,
      limits: config.app,
      ttl_ms: new Map(Object.entries(config.results).map(([name, { ttl_ms }]) => [name, ttl_ms])),
      key_concurrency: config.app.key_concurrency,
    },
  });

  let isDraining = false;
  let address: string | null = null;
  if (!config.worker.only) {
    const server = buildServer({
      version,
      queue,
      reports,
      logger,
      body_limit: config.app.body_limit,
      allowed_hosts: config.app.allowed_hosts,
      ready: config.app.ready,
      isDraining: () => isDraining,
    });
    closers.push(() => server.close());
    address = await listen(server, config.server);
  }

  const maintenance = new Maintenance({
    store,
    sweep_ms: config.app.sweep_ms,
    grace_ms: config.app.heartbeat_ms + RENEWED_MS,
    max_crashes: config.app.max_crashes,
    jobs_ms: config.store.expiry_ms,
    groups_ms: config.store.meta_expiry_ms,
    onRecovered: ({ requeued, poisoned, cancelled }) => {
      for (const lease of requeued)
        logger.warn({ event: 'recovered', ...lease }, 'a worker died; its job runs again');
      for (const lease of poisoned)
        logger.error({ event: 'poisoned', ...lease }, 'a job that kills its workers failed');
      for (const lease of cancelled)
        logger.info({ event: 'cancelled', ...lease }, 'a job whose worker died was cancelled');
    },
    onPruned: (jobs) => logger.debug({ event: 'pruned', jobs }, 'forgot old jobs'),
    onError: (error) => logger.warn({ err: error }, 'the store could not be looked after; it is tried again'),
  });
  const sweeper = new Sweeper({
    store,
    backends,
    interval_ms: config.app.results_sweep_ms,
    onSwept: (backend, swept) => logger.info({ event: 'swept', backend, ...swept }, 'dropped result tables'),
    onError: (backend, err) => logger.warn({ backend, err }, 'results could not be swept; it is tried again'),
  });
  const jobLog = new JobLog(logger, config.worker.name);
  const worker = new Worker({
    store,
    name: config.worker.name,
    queues: [...queues].map(([queue, concurrency]) => ({ queue, concurrency })),
    concurrency: config.worker.concurrency,
    handler: reports,
    lease_ms: config.app.lease_ms,
    heartbeat_ms: config.app.heartbeat_ms,
    onEvent: (event) => {
      jobLog.tell(event);
      if (event.type === 'store_back') void limitAgain();
    },
  });
  closers.push(async () => {
    await Promise.all([maintenance.stop(), sweeper.stop()]);
  });
  maintenance.start();
  sweeper.start();
  worker.start();

  warnOfComments(tasks, logger);
  warnOfUnheardQueues(tasks, queues, logger);
  warnOfEndlessResults(config, logger);
  logger.info(
    {
      address: address ?? undefined,
      worker: config.worker.name,
      queues: [...queues.keys()],
      tasks: tasks.length,
    },
    'started',
  );

  // Polls are answered while jobs end, and posts accepted: they are durable, another server runs them.
  const end = async (timeout_ms: number) => {
    isDraining = true;
    await worker.drain(timeout_ms);
    await close();
  };
  return {
    address,
    drain: () => {
      logger.info({ running: worker.size }, 'draining');
      return end(config.app.shutdown_timeout_ms);
    },
    stop: () => end(0),
  };
}

function logDatabase(logger: Logger, event: DatabaseEvent): void {
  const about = { event: `database_${event.type}`, database: event.name };
  if (event.type === 'awaited') {
    logger.error(
      { ...about, err: event.error },
      'a database cannot be reached; its jobs wait until it is there',
    );
    return;
  }
  logger.info(about, 'a database is there that was awaited; its jobs run');
  for (const fault of event.faults) logger.error({ ...about, fault }, 'what needs this will fail');
}

function warnOfComments(tasks: readonly ResolvedTask[], logger: Logger): void {
  for (const { name, file, mistakable } of tasks) {
    for (const { tag, line } of mistakable) {
      logger.warn(
        { task: name, tag, place: `${file}:${line}` },
        'a comment below the first line of a query looks like a tag and is none; tags are between the name and the query',
      );
    }
  }
}

/** Each report leaves a table: without an end of theirs a database grows until somebody notices. */
function warnOfEndlessResults({ results }: Config, logger: Logger): void {
  for (const [backend, { ttl_ms }] of Object.entries(results)) {
    if (ttl_ms !== null) continue;
    logger.warn(
      { event: 'no_results_ttl', backend },
      'result tables of this backend are kept until they are deleted, unless the task or the request has a ttl: set results_ttl',
    );
  }
}

function warnOfUnheardQueues(
  tasks: readonly ResolvedTask[],
  queues: ReadonlyMap<string, number>,
  logger: Logger,
): void {
  for (const queue of new Set(tasks.map((task) => task.queue))) {
    if (queues.has(queue)) continue;
    const names = tasks.filter((task) => task.queue === queue).map((task) => task.name);
    logger.warn({ queue, tasks: names }, 'tasks use a queue that this process does not listen on');
  }
}
