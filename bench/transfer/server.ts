/** The whole server between two Postgres databases: one-row reports, and its API while four large copies run. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { join } from 'node:path';
import { TestServer } from '../../test/support/server.ts';
import { execute } from '../../test/support/services.ts';
import { type JobStatus, send } from '../client.ts';
import { quantile, repeat } from '../stats.ts';
import { QUERY } from './data.ts';

export interface ServerBench {
  readonly folder: string;
  readonly source: string;
  readonly results: string;
  /** What the queue is on, and the `[job_queue.state]` that says so. */
  readonly stores: Readonly<Record<string, string>>;
}

interface Round {
  readonly requests: 'one request each' | 'two requests each';
  readonly at_once: number;
  readonly jobs: number;
}

const WARMING_UP: Round = { requests: 'one request each', at_once: 10, jobs: 500 };
const ROUNDS: readonly Round[] = [
  { requests: 'one request each', at_once: 1, jobs: 300 },
  { requests: 'one request each', at_once: 10, jobs: 3_000 },
  { requests: 'two requests each', at_once: 10, jobs: 3_000 },
  { requests: 'one request each', at_once: 10, jobs: 3_000 },
  { requests: 'two requests each', at_once: 10, jobs: 3_000 },
];

export async function benchServer({ folder, source, results, stores }: ServerBench): Promise<void> {
  await execute(
    source,
    "CREATE TABLE one (id bigint PRIMARY KEY, name text, amount numeric); INSERT INTO one VALUES (1, 'one', 12.5)",
  );
  mkdirSync(join(folder, 'sql'));
  writeFileSync(
    join(folder, 'sql', 'tasks.sql'),
    `-- name: one_row\nSELECT * FROM one WHERE id = $1;\n\n-- name: all_rows\n${QUERY};\n`,
  );
  for (const [index, [name, store]] of Object.entries(stores).entries()) {
    writeFileSync(
      join(folder, 'config.toml'),
      `worker_concurrency = 10
[job_queue.state]
${store}
[db.source]
type = "postgres"
dsn = "${source}"
max_idle = 10
[results.results]
type = "postgres"
dsn = "${results}"
unlogged = true
max_idle = 10
`,
    );
    await benchStore(folder, name, index === 0);
  }
}

/** `withCopies`: large copies too, which are the same whatever the queue is on. */
async function benchStore(folder: string, store: string, withCopies: boolean): Promise<void> {
  const server = new TestServer(['--server', '127.0.0.1:0'], { cwd: folder });
  const agent = new Agent({ keepAlive: true, maxSockets: 64 });
  const call = (method: string, path: string, body?: string) => send(agent, server.url + path, method, body);
  const report = async (task: string, body: string, wait = ''): Promise<JobStatus> => {
    let job = await call('POST', `/tasks/${task}/jobs${wait}`, body);
    while (!/SUCCESS|FAILURE|CANCELLED/.test(job.state))
      job = await call('GET', `/jobs/${job.job_id}?wait=30s`);
    if (job.state !== 'SUCCESS') throw new Error(`${job.state}: ${job.error}`);
    return job;
  };
  try {
    await server.started();
    for (const round of [WARMING_UP, ...ROUNDS]) {
      const { requests, at_once, jobs } = round;
      const wait = requests === 'one request each' ? '?wait=30s' : '';
      const { per_second, times } = await repeat(jobs, at_once, () =>
        report('one_row', '{"args":["1"],"ttl":3600}', wait),
      );
      if (round === WARMING_UP) continue;
      console.log(
        `one-row reports postgres → postgres over HTTP, the queue on ${store}, ${at_once} at once, ${requests}: ${Math.round(per_second)}/s, p50 ${quantile(times, 0.5).toFixed(1)} ms, p99 ${quantile(times, 0.99).toFixed(1)} ms`,
      );
    }
    if (!withCopies) return;

    const pings: number[] = [];
    let copying = true;
    const pinging = (async () => {
      while (copying) {
        const sent = performance.now();
        await call('GET', '/tasks');
        pings.push(performance.now() - sent);
      }
    })();
    const begun = performance.now();
    await Promise.all([1, 2, 3, 4].map((n) => report('all_rows', `{"job_id":"copy_${n}"}`)));
    copying = false;
    await pinging;
    console.log(
      `the API while four copies postgres → postgres run (${((performance.now() - begun) / 1000).toFixed(1)} s): p50 ${quantile(pings, 0.5).toFixed(1)} ms, p99 ${quantile(pings, 0.99).toFixed(1)} ms`,
    );
  } finally {
    agent.destroy();
    await server.stop('SIGKILL');
  }
}
