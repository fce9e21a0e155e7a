/**
 * npm run bench:soak: small reports through the whole server, over HTTP, and the memory that it and the databases'
 * sessions have meanwhile: what a process keeps of every report that it has run shows here. `-- --reports 200000` is the
 * default, shared by the pairs; `--only postgres` (mysql, sqlite) leaves one.
 *
 * The tables expire after a few seconds, so that the sweeper is at work as well, and no pair has many at once.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { flagsOf } from '../scripts/arguments.ts';
import { MARIADB } from '../scripts/services/mariadb.ts';
import { POSTGRES_15 } from '../scripts/services/postgres.ts';
import { whenEnded } from '../scripts/services/signals.ts';
import { startServers } from '../scripts/services/start.ts';
import { TestServer } from '../test/support/server.ts';
import { databaseOf, execute } from '../test/support/services.ts';
import { type JobStatus, send } from './client.ts';
import { repeat } from './stats.ts';

const values = flagsOf('bench:soak', { reports: '200000', only: '', steps: '10', at_once: '20' });
const PAIRS = ['postgres', 'mysql', 'sqlite'] as const;
type Pair = (typeof PAIRS)[number];
const chosen = PAIRS.filter((pair) => values.only === '' || values.only === pair);
const STEPS = Number(values.steps);
const AT_ONCE = Number(values.at_once);
const REPORTS = Math.floor(Number(values.reports) / chosen.length / STEPS);

const ended = whenEnded();
const engines = { postgres: POSTGRES_15, mysql: MARIADB };
const servers = await startServers(
  (line) => console.error(line),
  ended.signal,
  chosen.flatMap((pair) => (pair === 'sqlite' ? [] : [engines[pair]])),
);
const folder = mkdtempSync(join(tmpdir(), 'dungbeetle-soak-'));
try {
  for (const pair of chosen) {
    console.log(`\n${pair} → ${pair}, ${REPORTS * STEPS} reports, memory in MB`);
    console.table(await soak(pair));
  }
} finally {
  await servers.stop();
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}
process.exit(ended.code());

/** A row after each step. */
async function soak(pair: Pair): Promise<readonly Readonly<Record<string, string | number>>[]> {
  const own = join(folder, pair);
  mkdirSync(join(own, 'sql'), { recursive: true });
  const placeholder = pair === 'postgres' ? '$1' : '?';
  writeFileSync(
    join(own, 'sql', 'tasks.sql'),
    `-- name: one_row\nSELECT * FROM one WHERE id = ${placeholder};\n`,
  );
  const [source, results] = await makeDatabases(pair, own);
  writeFileSync(
    join(own, 'config.toml'),
    `worker_concurrency = 10
[job_queue.state]
type = "sqlite"
expiry = "60s"
[app]
results_sweep = "2s"
[db.source]
type = "${pair}"
dsn = "${source}"
max_idle = 10
[results.results]
type = "${pair}"
dsn = "${results}"
max_idle = 10
`,
  );
  const server = new TestServer(['--server', '127.0.0.1:0'], { cwd: own });
  const agent = new Agent({ keepAlive: true, maxSockets: 64 });
  const report = async () => {
    const body = '{"args":["1"],"ttl":5}';
    let job: JobStatus = await send(agent, `${server.url}/tasks/one_row/jobs?wait=30s`, 'POST', body);
    while (!/SUCCESS|FAILURE|CANCELLED/.test(job.state)) {
      job = await send(agent, `${server.url}/jobs/${job.job_id}?wait=30s`, 'GET');
    }
    if (job.state !== 'SUCCESS') throw new Error(`${job.state}: ${job.error}`);
  };
  const rows: Record<string, string | number>[] = [];
  try {
    await server.started();
    const { pid } = server.child;
    if (pid === undefined) throw new Error('the server has no process id');
    for (let step = 0; step <= STEPS; step += 1) {
      ended.signal.throwIfAborted();
      // The first is to warm up.
      const count = step === 0 ? Math.min(1_000, REPORTS) : REPORTS;
      const { per_second } = await repeat(count, AT_ONCE, report);
      const children = descendants(pid).map(memoryOf);
      const sessions = await sessionsOf(pair, [source, results]);
      rows.push({
        reports: step * REPORTS,
        'a second': Math.round(per_second),
        server: megabytes(memoryOf(pid).all),
        'its processes': megabytes(sum(children.map(({ all }) => all))),
        'sessions of the databases': sessions.length,
        'the largest': megabytes(Math.max(0, ...sessions)),
        'all of them': megabytes(sum(sessions)),
      });
      // What is known so far is of use, too, where somebody ends this.
      console.error(JSON.stringify(rows.at(-1)));
      server.log.length = 0;
    }
    return rows;
  } finally {
    agent.destroy();
    await server.stop('SIGKILL');
  }
}

async function makeDatabases(pair: Pair, own: string): Promise<readonly [string, string]> {
  if (pair === 'sqlite') {
    const source = new DatabaseSync(join(own, 'source.db'));
    source.exec(
      "CREATE TABLE one (id INTEGER PRIMARY KEY, name TEXT, amount REAL); INSERT INTO one VALUES (1, 'one', 12.5)",
    );
    source.close();
    return ['sqlite:source.db', 'sqlite:results.db'];
  }
  const { variable } = engines[pair];
  const admin = servers.environment[variable];
  if (admin === undefined) throw new Error(`no ${variable}: there is no such server`);
  const made = ['soak_source', 'soak_results'];
  for (const name of made) await execute(admin, `CREATE DATABASE ${name}`);
  const [source = '', results = ''] = made.map((name) => databaseOf(admin, name));
  await execute(source, 'CREATE TABLE one (id bigint PRIMARY KEY, name varchar(20), amount numeric(10, 2))');
  await execute(source, "INSERT INTO one VALUES (1, 'one', 12.5)");
  return [source, results];
}

/**
 * The memory of the sessions that the databases have for us, bytes: of Postgres what each process has for itself, of MySQL
 * what the one process says of its threads, where it does, or else all of it.
 */
async function sessionsOf(pair: Pair, dsns: readonly string[]): Promise<readonly number[]> {
  if (pair === 'sqlite') return [];
  if (pair === 'postgres') {
    const pids = await Promise.all(
      dsns.map((dsn) =>
        execute(
          dsn,
          "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'dungbeetle%'",
        ),
      ),
    );
    return pids.flat().map(([pid]) => memoryOf(Number(pid)).own);
  }
  const rows = await execute(
    dsns[0] ?? '',
    "SELECT MEMORY_USED FROM information_schema.PROCESSLIST WHERE DB LIKE 'soak_%'",
  );
  return rows.map(([bytes]) => Number(bytes));
}

interface Memory {
  /** All that is in memory, and what of it is the process's own: bytes. */
  readonly all: number;
  readonly own: number;
}

/** Of a process; nothing if it has ended. */
function memoryOf(pid: number): Memory {
  const kilobytes = (status: string, name: string) =>
    1024 * Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0);
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return { all: kilobytes(status, 'VmRSS'), own: kilobytes(status, 'RssAnon') };
  } catch (error) {
    if (error instanceof Error && 'code' in error && /^(ENOENT|ESRCH)$/.test(String(error.code))) {
      return { all: 0, own: 0 };
    }
    throw error;
  }
}

function descendants(pid: number): readonly number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const parent = parentOf(name);
    if (parent !== null) parents.set(Number(name), parent);
  }
  const below = (of: number): number[] =>
    [...parents].filter(([, parent]) => parent === of).flatMap(([child]) => [child, ...below(child)]);
  return below(pid);
}

function parentOf(pid: string): number | null {
  try {
    const found = /^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return found === undefined ? null : Number(found);
  } catch {
    // It has ended meanwhile.
    return null;
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

function megabytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}
