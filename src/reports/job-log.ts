/** What the log says of the jobs that this process runs. */
import type { ClaimedJob } from '../queue/store.ts';
import { queueMs } from '../queue/times.ts';
import type { WorkerEvent } from '../queue/worker.ts';
import type { Logger } from '../util/log.ts';
import { payloadOf } from './payload.ts';

export class JobLog {
  readonly #logger: Logger;
  readonly #worker: string;
  /** When they began, by this process's own clock. */
  readonly #begun = new WeakMap<ClaimedJob, number>();

  constructor(logger: Logger, worker: string) {
    this.#logger = logger;
    this.#worker = worker;
  }

  tell(event: WorkerEvent): void {
    const logger = this.#logger;
    if (event.type === 'store_lost') {
      logger.error({ event: event.type, err: event.error }, 'the store does not answer; running jobs go on');
      return;
    }
    if (event.type === 'store_back') {
      logger.info({ event: event.type }, 'the store answers again');
      return;
    }
    const about = this.#about(event);
    switch (event.type) {
      case 'started':
        logger.info(about, 'job started');
        break;
      case 'succeeded':
        logger.info({ ...about, ...figures(event.result) }, 'job succeeded');
        break;
      case 'retrying':
        logger.warn(
          { ...about, err: event.error, delay_ms: Math.round(event.delay_ms) },
          'attempt failed; it is retried',
        );
        break;
      case 'failed':
        logger.error({ ...about, err: event.error }, 'job failed');
        break;
      case 'discard_failed':
        logger.warn(
          { ...about, err: event.error },
          'a table that is not wanted could not be dropped; the sweep will',
        );
        break;
      case 'cancelled':
        logger.info(about, 'job cancelled');
        break;
      case 'lost':
        logger.warn(about, 'the lease was lost; another attempt has the job');
        break;
      case 'released':
        logger.info(about, 'job given back');
        break;
    }
  }

  /** How long it stood ready before it began, and how long it has run, besides what it is. */
  #about({ type, job }: Extract<WorkerEvent, { readonly job: ClaimedJob }>) {
    if (type === 'started') this.#begun.set(job, performance.now());
    const begun = this.#begun.get(job);
    const payload = payloadOf(job);
    return {
      event: type,
      job_id: job.job_id,
      attempt: job.lease.attempt,
      task: job.task,
      queue: job.queue,
      worker: this.#worker,
      ...(payload === null ? {} : { db: payload.db, backend: payload.results }),
      queue_ms: queueMs(job),
      ...(type === 'started' || begun === undefined ? {} : { run_ms: Math.round(performance.now() - begun) }),
    };
  }
}

/** Of a report's result, what is worth a line. */
function figures(result: unknown): { rows?: unknown; bytes?: unknown; table?: unknown } {
  if (typeof result !== 'object' || result === null) return {};
  const { rows, bytes, table } = result as Record<string, unknown>;
  return { rows, bytes, table };
}
