/**
 * npm run bench:transfer: every source with every results backend, beside the engines' own tools and one INSERT a row,
 * in one run. `-- --rows 1000000 --large 10000000 --runs 3` are the defaults; `--runs 0` leaves the pairs out,
 * `--large 0` the large copy: with both what is left is the whole server.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { flagsOf } from '../scripts/arguments.ts';
import { enginesOfRun } from '../scripts/services/engines.ts';
import { whenEnded } from '../scripts/services/signals.ts';
import { startServers } from '../scripts/services/start.ts';
import type { ResultsConfig, SourceConfig } from '../src/databases/open.ts';
import { databaseOf, execute } from '../test/support/services.ts';
import { quantile } from './stats.ts';
import type { CopyFigures, CopyRequest } from './transfer/copy.ts';
import { type BackendEngine, fill, type SourceEngine } from './transfer/data.ts';
import { benchResults } from './transfer/one-row.ts';
import { benchServer } from './transfer/server.ts';
import { copyByTools, insertOneByOne } from './transfer/tools.ts';

const values = flagsOf('bench:transfer', { rows: '1000000', large: '10000000', runs: '3' });
const ROWS = Number(values.rows);
const LARGE = Number(values.large);
const RUNS = Number(values.runs);
const POOL = { max_active: 20, max_idle: 10, connect_timeout_ms: 10_000 };

const run = promisify(execFile);
const ended = whenEnded();
const servers = await startServers((line) => console.error(line), ended.signal, enginesOfRun(false));
const folder = mkdtempSync(join(tmpdir(), 'dungbeetle-bench-'));
try {
  const dsns = await makeDatabases();
  const oneByOne = new Map<BackendEngine, number>();
  console.log(machine());
  if (RUNS > 0) await everyPair();
  else await fill('postgres', dsns.source.postgres, ROWS);

  if (LARGE > 0) {
    console.error(`postgres → postgres, ${count(LARGE)} rows …`);
    await execute(dsns.source.postgres, 'DROP TABLE entries');
    await fill('postgres', dsns.source.postgres, LARGE);
    const figures = await copied('postgres', 'postgres', 'standard');
    console.log(`\npostgres → postgres, ${count(LARGE)} rows: ${shown(figures)}`);
  }

  console.error('the whole server …');
  await benchServer({
    folder,
    source: dsns.source.postgres,
    results: dsns.backend.postgres,
    stores: {
      SQLite: 'type = "sqlite"',
      Redis: redisStore(),
      Postgres: `type = "postgres"\ndsn = "${dsns.queue}"`,
    },
  });
  const alone = await benchResults(
    sourceConfig('postgres', dsns.source.postgres),
    backendConfig('postgres', dsns.backend.postgres, 'standard'),
  );
  console.log(`query and publication alone, without queue and HTTP, 10 at once: ${count(alone)}/s`);

  async function everyPair(): Promise<void> {
    const results: Record<string, Record<string, string>> = {};
    for (const to of ['postgres', 'mysql', 'sqlite'] as const) {
      oneByOne.set(to, await insertOneByOne(to, dsns.backend[to]));
    }
    for (const from of ['postgres', 'mysql', 'clickhouse', 'sqlite'] as const) {
      await fill(from, dsns.source[from], ROWS);
      for (const to of ['postgres', 'mysql', 'sqlite'] as const) {
        console.error(`${from} → ${to} …`);
        results[`${from} → ${to}`] = await pair(from, to);
      }
    }
    console.log(`\n${count(ROWS)} rows of nine columns, the median of ${RUNS} runs each`);
    console.table(results);
    for (const [to, rate] of oneByOne) console.log(`one INSERT a row into ${to}: ${count(rate)} rows/s`);
  }

  async function pair(from: SourceEngine, to: BackendEngine): Promise<Record<string, string>> {
    const ours: CopyFigures[] = [];
    const same: number[] = [];
    const tools: number[] = [];
    for (let n = 0; n < RUNS; n += 1) {
      ours.push(await copied(from, to, 'standard'));
      // The tools' table has the source's own types: so has this one.
      if (from === 'postgres' && to === 'postgres') same.push((await copied(from, to, 'source')).ms);
      const byTools = await copyByTools(from, to, dsns.source[from], dsns.backend[to], ROWS);
      if (byTools !== null) tools.push(byTools);
    }
    const { ms, rows, megabytes, cpu_ms, rss_mb } = median(ours);
    const rate = (rows / ms) * 1000;
    const toolsMs = tools.length > 0 ? quantile(tools, 0.5) : null;
    const compared = same.length > 0 ? quantile(same, 0.5) : ms;
    return {
      ms: String(Math.round(ms)),
      'rows/s': count(rate),
      'MB/s': (megabytes / (ms / 1000)).toFixed(0),
      'Node CPU, ms': String(Math.round(cpu_ms)),
      'RSS, MB': `+${rss_mb.toFixed(0)}`,
      'own tools, ms': toolsMs === null ? '' : String(Math.round(toolsMs)),
      '× own tools':
        toolsMs === null ? '' : (toolsMs / compared).toFixed(2) + (same.length > 0 ? ' (same types)' : ''),
      // Into a file of its own process, INSERTs one by one are what a copy is made of.
      '× one INSERT a row': to === 'sqlite' ? '' : (rate / (oneByOne.get(to) ?? 0)).toFixed(0),
    };
  }

  async function copied(
    from: SourceEngine,
    to: BackendEngine,
    types: 'standard' | 'source',
  ): Promise<CopyFigures> {
    const request: CopyRequest = {
      source: sourceConfig(from, dsns.source[from]),
      backend: backendConfig(to, dsns.backend[to], types),
    };
    const script = new URL('./transfer/copy.ts', import.meta.url).pathname;
    const { stdout } = await run(process.execPath, [script, JSON.stringify(request)]);
    return JSON.parse(stdout) as CopyFigures;
  }
} finally {
  await servers.stop();
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}
process.exit(ended.code());

/** The address of a server that was started or named. */
function dsn(variable: string): string {
  const found = servers.environment[variable] ?? process.env[variable];
  if (found === undefined) throw new Error(`no ${variable}: there is no such server`);
  return found;
}

function redisStore(): string {
  const { host, username, password, pathname } = new URL(dsn('TEST_REDIS_URL'));
  return [
    'type = "redis"',
    `addresses = ["${host}"]`,
    `username = "${username}"`,
    `password = "${password}"`,
    `db = ${pathname.slice(1) || 0}`,
    'prefix = "dungbeetle-bench"',
  ].join('\n');
}

async function makeDatabases() {
  const admin = {
    postgres: dsn('TEST_POSTGRES_15_DSN'),
    mysql: dsn('TEST_MARIADB_DSN'),
    clickhouse: dsn('TEST_CLICKHOUSE_DSN'),
  };
  for (const each of Object.values(admin)) {
    for (const name of ['bench_source', 'bench_results', 'bench_queue'])
      await execute(each, `CREATE DATABASE ${name}`);
  }
  return {
    queue: databaseOf(admin.postgres, 'bench_queue'),
    source: {
      postgres: databaseOf(admin.postgres, 'bench_source'),
      mysql: databaseOf(admin.mysql, 'bench_source'),
      clickhouse: databaseOf(admin.clickhouse, 'bench_source'),
      sqlite: `sqlite:${join(folder, 'source.db')}`,
    },
    backend: {
      postgres: databaseOf(admin.postgres, 'bench_results'),
      mysql: databaseOf(admin.mysql, 'bench_results'),
      sqlite: `sqlite:${join(folder, 'results.db')}`,
    },
  };
}

function sourceConfig(engine: SourceEngine, dsn: string): SourceConfig {
  return engine === 'sqlite'
    ? { type: 'sqlite', name: 'source', path: dsn.replace('sqlite:', '') }
    : { type: engine, name: 'source', dsn, ...POOL };
}

function backendConfig(
  engine: BackendEngine,
  dsn: string,
  column_types: 'standard' | 'source',
): ResultsConfig {
  const common = { name: 'results', dsn, results_table: 'results_%s', column_types, ...POOL };
  if (engine === 'sqlite') return { type: 'sqlite', name: 'results', path: dsn.replace('sqlite:', '') };
  return engine === 'postgres'
    ? { type: 'postgres', unlogged: true, ...common }
    : { type: 'mysql', ...common };
}

function median(figures: readonly CopyFigures[]): CopyFigures {
  const sorted = figures.toSorted((one, other) => one.ms - other.ms);
  const middle = sorted[Math.floor((sorted.length - 1) / 2)];
  if (middle === undefined) throw new Error('there was no run');
  return middle;
}

function shown({ rows, ms, megabytes, cpu_ms, rss_mb }: CopyFigures): string {
  return `${(ms / 1000).toFixed(1)} s, ${count((rows / ms) * 1000)} rows/s, ${(megabytes / (ms / 1000)).toFixed(0)} MB/s, Node CPU ${(cpu_ms / 1000).toFixed(1)} s, RSS +${rss_mb.toFixed(0)} MB`;
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en');
}

function machine(): string {
  return `Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown processor'}`;
}
