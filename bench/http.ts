/** One-row reports through the whole server: a POST that waits, run, publish, SUCCESS. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { TestServer } from '../test/support/server.ts';
import { type JobStatus, send } from './client.ts';
import { quantile, repeat } from './stats.ts';

export interface HttpFigures {
  readonly at_once: number;
  readonly jobs: number;
  readonly jobs_per_s: number;
  /** From sending the POST to reading SUCCESS, ms. */
  readonly p50: number;
  readonly p99: number;
}

export interface IdleFigures {
  /** From when the store accepted a job to when its attempt began, ms, by the store's clock. */
  readonly p50: number;
  readonly p99: number;
}

/** Starts a server over a small source, measures, and ends it. */
export async function benchHttp(): Promise<{ reports: HttpFigures[]; idle: IdleFigures }> {
  const folder = mkdtempSync(join(tmpdir(), 'dungbeetle-bench-'));
  const source = new DatabaseSync(join(folder, 'source.db'));
  source.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (1, 'one')");
  source.close();
  mkdirSync(join(folder, 'sql'));
  writeFileSync(join(folder, 'sql', 'tasks.sql'), '-- name: one_row\nSELECT * FROM t WHERE id = ?;\n');
  writeFileSync(
    join(folder, 'config.toml'),
    `[db.source]
type = "sqlite"
dsn = "sqlite:source.db"
max_active = 10
[results.results]
type = "sqlite"
dsn = "sqlite:results.db"
results_table = "results_%s"
`,
  );
  const server = new TestServer(['--server', '127.0.0.1:0'], { cwd: folder });
  const agent = new Agent({ keepAlive: true, maxSockets: 64 });
  try {
    await server.started();
    const call = (method: string, path: string, body?: string) =>
      send(agent, server.url + path, method, body);
    const report = async (): Promise<JobStatus> => {
      const job = await call('POST', '/tasks/one_row/jobs?wait=30s', '{"args":[1],"ttl":3600}');
      if (job.state !== 'SUCCESS') throw new Error(`${job.state}: ${job.error}`);
      return job;
    };
    for (let n = 0; n < 50; n++) await report(); // warm up

    const queued: number[] = [];
    for (let n = 0; n < 200; n++) queued.push((await report()).queue_ms);
    const idle = { p50: quantile(queued, 0.5), p99: quantile(queued, 0.99) };

    const reports: HttpFigures[] = [];
    for (const [at_once, jobs] of [
      [1, 300],
      [10, 2_000],
      [50, 2_000],
    ] as const) {
      const { per_second, times } = await repeat(jobs, at_once, report);
      reports.push({
        at_once,
        jobs,
        jobs_per_s: per_second,
        p50: quantile(times, 0.5),
        p99: quantile(times, 0.99),
      });
    }
    return { reports, idle };
  } finally {
    agent.destroy();
    await server.stop('SIGKILL');
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}
