/**
 * npm run bench:queue: the queue on each of its stores beside BullMQ on the same Redis, and pg-boss and graphile-worker
 * on the same Postgres, in one run. `-- --jobs 20000 --runs 3 --pending 1000,100000,1000000` are the defaults;
 * `--runs 0` leaves the comparison out, `--only redis` (or another store) the others. `--large` adds what a million
 * finished jobs take on disk or in memory, kept and forgotten, in some ten minutes; `--large-jobs` makes it fewer.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { flagsOf } from '../scripts/arguments.ts';
import { whenEnded } from '../scripts/services/signals.ts';
import { type ClaimFigures, claimCost } from './queue/claim.ts';
import type { Name } from './queue/contender.ts';
import { installPeers } from './queue/peers.ts';
import { type Figures, play } from './queue/round.ts';
import { type AppendFsync, startServers } from './queue/servers.ts';
import { type Growth, growth, type Sizes } from './queue/size.ts';
import { quantile } from './stats.ts';

type StoreName = 'sqlite' | 'postgres' | 'redis';

interface Match {
  readonly store: StoreName;
  /** What both sides say of their settings. */
  readonly title: string;
  readonly concurrency: number;
  readonly peer: { readonly name: Name; readonly concurrency: number } | null;
  readonly appendfsync?: AppendFsync;
}

const values = flagsOf('bench:queue', {
  jobs: '20000',
  runs: '3',
  pending: '1000,100000,1000000',
  only: '',
  large: false,
  'large-jobs': '1000000',
});
const JOBS = Number(values.jobs);
const RUNS = Number(values.runs);
const LARGE = Number(values['large-jobs']);
const PENDING = values.pending.split(',').filter(Boolean).map(Number);

const MATCHES: readonly Match[] = [
  { store: 'sqlite', title: 'SQLite, concurrency 100', concurrency: 100, peer: null },
  {
    store: 'redis',
    title: 'Redis, concurrency 100',
    concurrency: 100,
    peer: { name: 'bullmq', concurrency: 100 },
  },
  {
    store: 'redis',
    title: 'Redis, concurrency 500',
    concurrency: 500,
    peer: { name: 'bullmq', concurrency: 500 },
  },
  {
    store: 'redis',
    title: 'Redis with appendfsync always, concurrency 100',
    concurrency: 100,
    peer: { name: 'bullmq', concurrency: 100 },
    appendfsync: 'always',
  },
  {
    store: 'postgres',
    title: 'Postgres, batches of 100',
    concurrency: 100,
    peer: { name: 'pg-boss', concurrency: 100 },
  },
  {
    store: 'postgres',
    title: 'Postgres, concurrency 24',
    concurrency: 24,
    peer: { name: 'graphile-worker', concurrency: 24 },
  },
  {
    store: 'postgres',
    title: 'Postgres, 500 at once; graphile-worker with a local queue of 500 and batched completion',
    concurrency: 500,
    peer: { name: 'graphile-worker-local-queue', concurrency: 24 },
  },
];

interface Row {
  readonly what: string;
  readonly of: (figures: Figures) => number;
  readonly better: 'more' | 'less';
}

const ROWS: readonly Row[] = [
  ...throughput('no-op jobs', 'noop', 'worker'),
  ...throughput('enqueue in calls of 1,000', 'bulk', 'caller'),
  ...throughput('enqueue one a call, 1 caller', 'single_1', 'caller'),
  ...throughput('enqueue one a call, 50 callers', 'single_50', 'caller'),
  { what: 'enqueue → start, idle queue, p50 ms', of: ({ p50 }) => p50, better: 'less' },
  { what: 'enqueue → start, idle queue, p99 ms', of: ({ p99 }) => p99, better: 'less' },
];

const ended = whenEnded();
const peers = await installPeers();
const servers = await startServers(ended.signal);
const folder = mkdtempSync(join(tmpdir(), 'dungbeetle-bench-'));
let files = 0;
try {
  console.log(
    `Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown processor'}; ${servers.versions}; ${peers}`,
  );
  console.log(
    `${JOBS.toLocaleString('en')} jobs, the median of ${RUNS} rounds each, in turns; × ahead is the median of the rounds' ratios. Postgres and SQLite with fsync; Redis with appendonly, appendfsync everysec where nothing else is said.`,
  );
  const wanted = MATCHES.filter(({ store }) => values.only === '' || values.only === store);
  for (const match of RUNS > 0 ? wanted : []) {
    ended.signal.throwIfAborted();
    console.error(`${match.title} …`);
    show(match, await compare(match));
  }
  const claims: Record<string, Record<string, string>> = {};
  for (const store of new Set(wanted.map(({ store }) => store))) {
    if (PENDING.length === 0) continue;
    console.error(`claims from ${store} …`);
    claims[store] = claimRow(await claimCost(store, await fresh(store), PENDING, servers.redisRewritten));
  }
  if (PENDING.length > 0) console.log('\na claim of 10 jobs, p50 (p99), ms, by the number that wait');
  if (PENDING.length > 0) console.table(claims);
  for (const store of values.large ? new Set(wanted.map(({ store }) => store)) : []) {
    ended.signal.throwIfAborted();
    console.error(`${store}, ${LARGE.toLocaleString('en')} finished jobs …`);
    showGrowth(store, await growth(store, await fresh(store), LARGE));
  }
} finally {
  await servers.stop();
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}
process.exit(ended.code());

async function fresh(store: StoreName, appendfsync: AppendFsync = 'everysec'): Promise<string> {
  if (store === 'postgres') return servers.freshPostgres();
  if (store === 'redis') return servers.freshRedis(appendfsync);
  files += 1;
  return join(folder, `${files}.db`);
}

async function compare({ store, concurrency, peer, appendfsync }: Match) {
  const ours: Figures[] = [];
  const theirs: Figures[] = [];
  for (let run = 0; run < RUNS; run += 1) {
    ended.signal.throwIfAborted();
    const rounds = [
      async () => ours.push(await round(store, store, concurrency, appendfsync)),
      async () => peer && theirs.push(await round(store, peer.name, peer.concurrency, appendfsync)),
    ];
    // Neither is always the first.
    for (const each of run % 2 === 0 ? rounds : rounds.toReversed()) await each();
  }
  return { ours, theirs };
}

async function round(store: StoreName, name: Name, concurrency: number, appendfsync?: AppendFsync) {
  const address = await fresh(store, appendfsync);
  const server = store === 'sqlite' ? null : servers[store].pid;
  return play({ name, address, concurrency, jobs: JOBS, server });
}

function show({ title, peer }: Match, { ours, theirs }: Awaited<ReturnType<typeof compare>>): void {
  const table: Record<string, Record<string, string>> = {};
  for (const { what, of, better } of ROWS) {
    const [our, their] = [ours.map(of), theirs.map(of)];
    // SQLite's server is in the worker.
    if (our.some(Number.isNaN)) continue;
    table[what] = { ours: figure(quantile(our, 0.5)) };
    if (peer === null) continue;
    const ahead = our.map((value, run) => {
      const other = their[run] ?? Number.NaN;
      return better === 'more' ? value / other : other / value;
    });
    table[what][peer.name] = figure(quantile(their, 0.5));
    table[what]['× ahead'] = quantile(ahead, 0.5).toFixed(2);
  }
  console.log(`\n${title}`);
  console.table(table);
}

function throughput(
  what: string,
  key: 'noop' | 'bulk' | 'single_1' | 'single_50',
  who: string,
): readonly Row[] {
  return [
    { what: `${what}, /s`, of: (figures) => figures[key].per_s, better: 'more' },
    { what: `${what}: CPU of the ${who}, µs`, of: (figures) => figures[key].own_cpu_us, better: 'less' },
    { what: `${what}: CPU of the server, µs`, of: (figures) => figures[key].server_cpu_us, better: 'less' },
  ];
}

function showGrowth(store: StoreName, { pruned, kept, pruned_per_s, after }: Growth): void {
  const tenth = (LARGE / 10).toLocaleString('en');
  const rows: Record<string, Record<string, string>> = {};
  for (const [index, sizes] of pruned.entries()) {
    rows[`${index + 1} × ${tenth} jobs, each forgotten`] = megabytes(sizes);
  }
  rows[`${LARGE.toLocaleString('en')} more, kept`] = megabytes(kept);
  rows['those forgotten, too'] = megabytes(after);
  console.log(`\n${store}, MB; it forgets ${figure(pruned_per_s)} jobs/s`);
  console.table(rows);
}

function megabytes(sizes: Sizes): Record<string, string> {
  return Object.fromEntries(Object.entries(sizes).map(([of, bytes]) => [of, (bytes / 2 ** 20).toFixed(1)]));
}

function claimRow(figures: readonly ClaimFigures[]): Record<string, string> {
  return Object.fromEntries(
    figures.map(({ pending, p50, p99 }) => [
      pending.toLocaleString('en'),
      `${p50.toFixed(2)} (${p99.toFixed(2)})`,
    ]),
  );
}

function figure(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(1);
}
