/** An HTTP server over a real store, with a report service that only knows a few tasks. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { buildServer, listen, type ServerOptions } from '../../src/http/server.ts';
import { type PostedJob, Queue } from '../../src/queue/queue.ts';
import type { ClaimedJob, Job, Store } from '../../src/queue/store.ts';
import { openSqliteStore } from '../../src/queue/stores/sqlite.ts';
import type { DatabaseLoad } from '../../src/reports/limits.ts';
import { ReportError, type ReportRequest, type TaskInfo } from '../../src/reports/report.ts';
import type { Health, ReportService } from '../../src/reports/service.ts';
import { storeWith } from '../queue/store-with.ts';

/** The name of a task: as long as a queue takes. */
export const LONG_NAME = 'x'.repeat(128);

export const BODY_LIMIT = 1024 * 1024;

export interface Answer {
  readonly http: number;
  readonly headers: Headers;
  readonly status: string;
  readonly message?: string;
  readonly code?: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  readonly data: any;
}

/** A line of the log, with what tests look at. */
export interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly request_id?: string;
  readonly method?: string;
  readonly path?: string;
  readonly http_status?: number;
  readonly code?: string;
  readonly ms?: number;
  readonly job_id?: string;
  readonly group_id?: string;
  readonly task?: string;
  readonly err?: unknown;
}

function task(name: string, more: Partial<TaskInfo> = {}): TaskInfo {
  return {
    name,
    queue: 'default',
    concurrency: 10,
    db: ['ledger', 'copy'],
    results: ['reports'],
    sql: `SELECT '${name}'`,
    timeout: null,
    ttl: null,
    max_rows: null,
    max_bytes: null,
    max_value_bytes: 64_000_000,
    ...more,
  };
}

export class TestReports implements ReportService {
  readonly requests: ReportRequest[] = [];
  readonly dropped: string[] = [];
  /** The jobs of which there are tables. */
  tables: ReadonlySet<string> = new Set();
  /** Called before a drop is done. */
  beforeDrop: (job: Pick<Job, 'job_id'>) => void = () => {};
  loads: readonly DatabaseLoad[] = [];
  parts: Record<string, Health> = { 'db.ledger': { ok: true }, 'results.reports': { ok: true } };
  readonly #tasks = new Map(
    [
      task('get_profit_summary'),
      task('slow_query', { queue: 'slow' }),
      task('größe/über'),
      task(LONG_NAME),
    ].map((info) => [info.name, info]),
  );

  tasks(): readonly TaskInfo[] {
    return [...this.#tasks.values()];
  }

  async plan(requests: readonly ReportRequest[]): Promise<readonly PostedJob[]> {
    return requests.map((request, index) => this.#planOne(request, index));
  }

  #planOne(request: ReportRequest, index: number): PostedJob {
    const info = this.#tasks.get(request.task);
    if (info === undefined) {
      throw new ReportError('unknown_task', 'task', `there is no task "${request.task}"`, index);
    }
    if (request.db !== undefined && !info.db.includes(request.db)) {
      throw new ReportError('invalid_request', 'db', `db: task "${info.name}" has no "${request.db}"`, index);
    }
    this.requests.push(request);
    const { key, after = [], on_failure = 'cancel' } = request;
    return {
      ...(request.job_id === undefined ? {} : { job_id: request.job_id }),
      task: info.name,
      queue: request.queue ?? info.queue,
      priority: request.priority ?? 0,
      eta: request.eta ?? null,
      retries: request.retries ?? 0,
      ...(key === undefined ? {} : { key }),
      after: after.map((job_id) => ({ job_id, on_failure })),
      payload: {
        args: request.args ?? [],
        db: request.db ?? 'ledger',
        results: request.results ?? 'reports',
        ttl: request.ttl ?? null,
        timeout: request.timeout ?? null,
      },
    };
  }

  async databases(): Promise<readonly DatabaseLoad[]> {
    return this.loads;
  }

  async drop(job: Pick<Job, 'job_id'>): Promise<boolean> {
    this.beforeDrop(job);
    this.dropped.push(job.job_id);
    return this.tables.has(job.job_id);
  }

  async health(_signal: AbortSignal): Promise<Readonly<Record<string, Health>>> {
    return this.parts;
  }
}

export class TestApi {
  readonly app: FastifyInstance;
  readonly store: Store;
  readonly queue: Queue;
  readonly reports: TestReports;
  /** The log so far, parsed. */
  readonly log: LogLine[];
  url = '';
  port = 0;

  constructor(options: Partial<ServerOptions>, store: Store) {
    this.store = store;
    this.queue = new Queue(store);
    this.reports = new TestReports();
    const log: LogLine[] = [];
    this.log = log;
    this.app = buildServer({
      version: '1.2.3',
      queue: this.queue,
      reports: this.reports,
      logger: pino({ level: 'debug' }, { write: (line: string) => log.push(JSON.parse(line)) }),
      body_limit: BODY_LIMIT,
      ...options,
    });
  }

  async request(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const response = await fetch(this.url + path, {
      method,
      headers,
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const answer = (await response.json()) as Omit<Answer, 'http' | 'headers'>;
    return { ...answer, http: response.status, headers: response.headers };
  }

  get(path: string, headers?: Record<string, string>): Promise<Answer> {
    return this.request('GET', path, undefined, headers);
  }
  post(path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer> {
    return this.request('POST', path, body, headers);
  }
  delete(path: string): Promise<Answer> {
    return this.request('DELETE', path);
  }

  /** Claims the next job of a queue, as a worker does. */
  async claim(queue = 'default'): Promise<ClaimedJob> {
    const { jobs } = await this.store.claim({
      worker: 'tester',
      queues: [{ queue, limit: 1 }],
      limit: 1,
      lease_ms: 60_000,
    });
    const [job] = jobs;
    if (job === undefined) throw new Error(`nothing to claim in "${queue}"`);
    return job;
  }

  /** A connection for raw bytes. */
  async socket(t: TestContext): Promise<Socket> {
    const socket = connect(this.port, '127.0.0.1');
    t.after(() => socket.destroy());
    await once(socket, 'connect');
    return socket;
  }
}

/** A server that listens on a free port, closed after the test; its store has some calls of the test's own. */
export async function api(
  t: TestContext,
  options: Partial<ServerOptions> = {},
  callsOf: (store: Store) => Partial<Store> = () => ({}),
): Promise<TestApi> {
  const opened = await openSqliteStore({ path: ':memory:' });
  const store = storeWith(opened, callsOf(opened));
  const test = new TestApi(options, store);
  t.after(async () => {
    await test.app.close();
    await store.close();
  });
  test.url = await listen(test.app, { host: 'localhost', port: 0 });
  test.port = Number(new URL(test.url).port);
  return test;
}

/** A report's result, as its handler returns it. */
export const RESULT = {
  backend: 'reports',
  table: 'results_x',
  columns: [{ name: 'total', type: 'BIGINT', source_type: 'INTEGER' }],
  rows: 2,
  bytes: 16,
  expires_at: 1_700_000_000_000,
  warnings: [],
};

/** Everything a socket receives until the server ends the connection. */
export async function received(socket: Socket): Promise<string> {
  let text = '';
  socket.setEncoding('utf8');
  for await (const chunk of socket) text += chunk;
  return text;
}
