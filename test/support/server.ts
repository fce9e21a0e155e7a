/** Servers as users run them: child processes, spoken to over HTTP. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

const BIN = fileURLToPath(new URL('../../bin/dungbeetle.js', import.meta.url));

export interface Answer<T = unknown> {
  readonly http: number;
  readonly status: 'success' | 'error';
  readonly message?: string;
  readonly code?: string;
  readonly data: T;
}

export interface JobView {
  readonly job_id: string;
  readonly state: string;
  readonly count: number;
  readonly error: string;
  readonly attempt: number;
  readonly worker: string | null;
  readonly progress: { readonly phase: string; readonly rows: number; readonly bytes: number } | null;
  readonly result: { readonly table: string; readonly rows: number; readonly backend: string } | null;
}

export class TestServer {
  readonly child: ChildProcess;
  /** Its log, parsed, so far. */
  readonly log: Record<string, unknown>[] = [];
  stderr = '';
  url = '';
  readonly #listening: Promise<void>;
  readonly #exited: Promise<number | NodeJS.Signals>;

  constructor(
    args: readonly string[],
    options: {
      cwd: string;
      env?: Record<string, string>;
      bin?: string;
      /** Is told each entry of its log. */
      onLog?: (entry: Record<string, unknown>) => void;
    },
  ) {
    this.child = spawn(process.execPath, [options.bin ?? BIN, ...args], {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#exited = once(this.child, 'close').then(([code, signal]) => code ?? signal);
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    const { stdout } = this.child;
    if (stdout === null) throw new Error('the server has no output to read');
    this.#listening = new Promise((resolve, reject) => {
      createInterface({ input: stdout }).on('line', (line) => {
        if (!line.startsWith('{')) return;
        const entry: Record<string, unknown> = JSON.parse(line);
        this.log.push(entry);
        options.onLog?.(entry);
        if (typeof entry['address'] === 'string') this.url = entry['address'];
        if (entry['msg'] === 'started') resolve();
      });
      void this.#exited.then((code) =>
        reject(new Error(`ended (${code}) before it had started: ${this.stderr}`)),
      );
    });
    this.#listening.catch(() => {}); // a test that wants the exit code does not await it
  }

  async started(): Promise<this> {
    await this.#listening;
    return this;
  }

  /** The exit code, or the signal that ended it. */
  exited(): Promise<number | NodeJS.Signals> {
    return this.#exited;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | NodeJS.Signals> {
    this.child.kill(signal);
    return this.#exited;
  }

  async request<T = unknown>(method: string, path: string, body?: unknown): Promise<Answer<T>> {
    const response = await fetch(this.url + path, {
      method,
      ...(body === undefined
        ? {}
        : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    const answer = (await response.json()) as Omit<Answer<T>, 'http'>;
    return { ...answer, http: response.status };
  }

  /** Posts a job that must be accepted; its id. */
  async post(task: string, body: Record<string, unknown> = {}): Promise<string> {
    const answer = await this.request<{ job_id: string }>('POST', `/tasks/${task}/jobs`, body);
    if (answer.http !== 200) throw new Error(`${task}: ${answer.http} ${answer.message}`);
    return answer.data.job_id;
  }

  async job(job_id: string): Promise<JobView> {
    const answer = await this.request<JobView>('GET', `/jobs/${job_id}`);
    if (answer.http !== 200) throw new Error(`${job_id}: ${answer.http} ${answer.message}`);
    return answer.data;
  }

  /** The job once it is finished. */
  async finished(job_id: string): Promise<JobView> {
    const deadline = performance.now() + 60_000;
    for (;;) {
      const answer = await this.request<JobView>('GET', `/jobs/${job_id}?wait=20s`);
      if (answer.http !== 200) throw new Error(`${job_id}: ${answer.http} ${answer.message}`);
      if (['SUCCESS', 'FAILURE', 'CANCELLED'].includes(answer.data.state)) return answer.data;
      if (performance.now() > deadline) throw new Error(`${job_id} is still ${answer.data.state}`);
    }
  }
}

/** A server on a free port in `folder`, with the given flags; killed after the test if it still runs. */
export function launch(
  t: TestContext,
  folder: string,
  args: readonly string[] = [],
  env: Record<string, string> = {},
): TestServer {
  const server = new TestServer(['--server', '127.0.0.1:0', ...args], { cwd: folder, env });
  t.after(() => server.stop('SIGKILL'));
  return server;
}
