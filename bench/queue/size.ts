/** What finished jobs take, on disk or in memory, and what is left of it once they are forgotten. */
import { statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { redis } from '../../scripts/services/redis-client.ts';
import { openStore, ours } from './ours.ts';

type StoreName = 'sqlite' | 'postgres' | 'redis';

/** Bytes, by what they are. */
export type Sizes = Readonly<Record<string, number>>;

export interface Growth {
  /** After each tenth of the jobs, which was forgotten as soon as it was finished. */
  readonly pruned: readonly Sizes[];
  /** With all of the jobs, finished, on top. */
  readonly kept: Sizes;
  /** Of the jobs that were forgotten then, a second. */
  readonly pruned_per_s: number;
  readonly after: Sizes;
}

const CONCURRENCY = 500;
/** Those that a job without parents, group, limit and key is written to. */
const POSTGRES_TABLES = "'jobs', 'waiting', 'leases', 'outcomes', 'tallies'";

/** On an empty store: so many jobs one after the other, and once more so many that are kept. */
export async function growth(name: StoreName, address: string, jobs: number): Promise<Growth> {
  const store = await openStore(name, address);
  try {
    const prune = () => store.prune({ jobs_ms: 0, groups_ms: 0 });
    const pruned: Sizes[] = [];
    for (let round = 0; round < 10; round += 1) {
      await runJobs(name, address, jobs / 10);
      await prune();
      pruned.push(await sizes(name, address));
    }
    for (let round = 0; round < 10; round += 1) await runJobs(name, address, jobs / 10);
    const kept = await sizes(name, address);
    const begin = performance.now();
    const forgotten = await prune();
    const pruned_per_s = (forgotten / (performance.now() - begin)) * 1_000;
    return { pruned, kept, pruned_per_s, after: await sizes(name, address) };
  } finally {
    await store.close();
  }
}

async function runJobs(name: StoreName, address: string, jobs: number): Promise<void> {
  const contender = ours(name, address);
  const producer = await contender.producer();
  await producer.enqueueAll(jobs);
  await producer.close();
  const all = Promise.withResolvers<void>();
  let begun = 0;
  const onStart = () => {
    begun += 1;
    if (begun === jobs) all.resolve();
  };
  const consumer = await contender.consumer({ concurrency: CONCURRENCY, onStart });
  await consumer.start();
  await all.promise;
  while (!(await consumer.drained())) await delay(10);
  await consumer.close();
}

async function sizes(name: StoreName, address: string): Promise<Sizes> {
  switch (name) {
    case 'sqlite':
      return { file: statSync(address).size, 'write-ahead log': statSync(`${address}-wal`).size };
    case 'redis': {
      const info = async (section: string, field: string) => {
        const text = String(await redis(address, ['INFO', section]));
        return Number(new RegExp(`^${field}:(\\d+)`, 'm').exec(text)?.[1]);
      };
      // Otherwise it has all that was ever written since Redis last did so by itself.
      const rewritten = async () => {
        while ((await info('persistence', 'aof_rewrite_in_progress')) === 1) await delay(10);
      };
      // It does so by itself, too, and not twice at once.
      await rewritten();
      await redis(address, ['BGREWRITEAOF']);
      await rewritten();
      return {
        memory: await info('memory', 'used_memory'),
        'append-only file, rewritten': await info('persistence', 'aof_current_size'),
      };
    }
    case 'postgres':
      return postgresSizes(address);
  }
}

/** Each table with its indexes, and the sums of both. */
async function postgresSizes(dsn: string): Promise<Sizes> {
  const client = new pg.Client({ connectionString: dsn });
  await client.connect();
  try {
    const { rows } = await client.query<{ name: string; own: string; indexes: string }>(`
      SELECT relname AS name, pg_table_size(oid) AS own, pg_indexes_size(oid) AS indexes FROM pg_class
      WHERE relkind = 'r' AND relnamespace = 'dungbeetle'::regnamespace AND relname IN (${POSTGRES_TABLES})
      ORDER BY relname`);
    const sum = (of: 'own' | 'indexes') => rows.reduce((bytes, row) => bytes + Number(row[of]), 0);
    const each = rows.map(({ name, own, indexes }) => [name, Number(own) + Number(indexes)] as const);
    return { tables: sum('own'), indexes: sum('indexes'), ...Object.fromEntries(each) };
  } finally {
    await client.end();
  }
}
