/**
 * That no call walks over jobs that it does not return: what each reads of the tables is counted by the server itself,
 * with few jobs and with many.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import pg from 'pg';
import type { ClaimedJob, NewJob, Store } from '../../src/queue/store.ts';
import { openPostgresStore } from '../../src/queue/stores/postgres.ts';
import { freshDatabase, type Service, servers } from '../support/services.ts';
import { until } from '../support/until.ts';
import { newJob, range } from './conformance/subject.ts';

const LEASE_MS = 3_600_000;

async function claim(store: Store, limit: number): Promise<readonly ClaimedJob[]> {
  const queues = [{ queue: 'default', limit }];
  return (await store.claim({ worker: 'w', queues, limit, lease_ms: LEASE_MS })).jobs;
}

const TABLES = ['jobs', 'waiting', 'leases', 'outcomes', 'dependencies', 'pools'];

interface Cost {
  /** Rows that were read of the tables of jobs, by index or not: those that are there. */
  readonly rows: number;
  /** Pages that were looked at, also for what is no longer there. */
  readonly pages: number;
}

/** That calls read no more rows with many jobs than with few, but for some that depend on where they are. */
function readsNoMore<Call extends string>(many: Record<Call, Cost>, few: Record<Call, Cost>): void {
  for (const [call, { rows }] of Object.entries<Cost>(many)) {
    const before = few[call as Call].rows;
    assert.ok(rows <= before + 60, `${call} reads ${rows} rows; with few jobs it was ${before}`);
  }
}

/** What sessions have read so far. */
async function reads(client: pg.Client): Promise<Cost> {
  const { rows } = await client.query<{ rows: string; pages: string }>(
    `SELECT sum(t.seq_tup_read) + sum(coalesce(t.idx_tup_fetch, 0)) AS rows,
       sum(b.heap_blks_hit + b.heap_blks_read + b.idx_blks_hit + b.idx_blks_read) AS pages
     FROM pg_stat_user_tables t JOIN pg_statio_user_tables b ON b.relid = t.relid
     WHERE t.relname = ANY ($1)`,
    [TABLES],
  );
  return { rows: Number(rows[0]?.rows), pages: Number(rows[0]?.pages) };
}

async function ways(t: TestContext, server: Service) {
  const dsn = await freshDatabase(t, server);
  const client = new pg.Client(dsn);
  await client.connect();
  t.after(() => client.end());
  let store = await openPostgresStore({ dsn, max_active: 1 });
  t.after(() => store.close());
  return {
    client,
    get store() {
      return store;
    },
    /** From now on nobody but the test sees to the statistics of the tables. */
    async keepStatistics(): Promise<void> {
      for (const table of TABLES) {
        await client.query(`ALTER TABLE dungbeetle.${table} SET (autovacuum_enabled = off)`);
      }
    },
    /** A session tells of what it has read when it ends, at the latest. */
    async cost(act: (store: Store) => Promise<unknown>): Promise<Cost> {
      await store.close();
      const before = await settled(client);
      store = await openPostgresStore({ dsn, max_active: 1 });
      await act(store);
      await store.close();
      const after = await settled(client);
      store = await openPostgresStore({ dsn, max_active: 1 });
      return { rows: after.rows - before.rows, pages: after.pages - before.pages };
    },
  };
}

/** When the sessions of the store are gone, and so what they have counted is there. */
async function settled(client: pg.Client): Promise<Cost> {
  await until('the sessions of the store are gone', async () => {
    const { rows } = await client.query(
      `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'dungbeetle'`,
    );
    return rows.length === 0;
  });
  return reads(client);
}

for (const server of servers('postgres')) {
  test(`calls read what they return, however many jobs there are: ${server.name}`, {
    skip: server.skip,
  }, async (t) => {
    const subject = await ways(t, server);
    const costs = async () => {
      let jobs: readonly ClaimedJob[] = [];
      const claiming = await subject.cost(async (store) => {
        jobs = await claim(store, 10);
      });
      assert.equal(jobs.length, 10);
      const finishing = await subject.cost((store) =>
        store.finish(jobs.map(({ lease }) => ({ lease, outcome: { state: 'SUCCESS', result: null } }))),
      );
      const listing = await subject.cost((store) => store.list({}, 10));
      const getting = await subject.cost((store) => store.get('few-15'));
      const stats = await subject.cost((store) => store.stats());
      return { claiming, finishing, listing, getting, stats };
    };
    await subject.store.enqueue(range(100, 'few-').map((job_id) => newJob(job_id)));
    // The statistics of a table that is almost empty make a scan look cheap.
    await subject.client.query('VACUUM ANALYZE');
    const few = await costs();
    await subject.store.enqueue(range(4_000, 'many-').map((job_id) => newJob(job_id)));
    await subject.store.enqueue(
      range(500, 'tied-').map((job_id) => newJob(job_id, { limit: 'l', key: 'k' })),
    );
    await subject.store.limit('l', 1);
    const many = await costs();
    for (const [call, { rows: reads }] of Object.entries(many)) {
      const before = few[call as keyof typeof few].rows;
      // A listing looks through a window of at most 2,000.
      const most = call === 'listing' ? before + 4_500 : before + 100;
      assert.ok(reads <= most, `${call} reads ${reads} rows; with few jobs it was ${before}`);
    }
  });
  for (const statistics of ['none', 'of few jobs']) {
    test(`what waits under a limit without a concurrency makes nothing dearer, with statistics: ${statistics}: ${server.name}`, {
      skip: server.skip,
    }, async (t) => {
      const subject = await ways(t, server);
      await subject.keepStatistics();
      await subject.store.limit('limited', 1);
      const costs = async (id: string) => ({
        posting: await subject.cost((store) => store.enqueue([newJob(`${id}-open`, { limit: 'open' })])),
        claiming: await subject.cost((store) => claim(store, 1)),
        limiting: await subject.cost((store) => store.limit(id, 3)),
        limitingAgain: await subject.cost((store) => store.limit('limited', 2)),
        reading: await subject.cost((store) => store.limits(['limited', 'unknown'])),
        cancelling: await subject.cost((store) => store.cancel(`${id}-open`)),
      });
      const wait = (count: number, prefix: string) =>
        subject.store.enqueue(range(count, prefix).map((id) => newJob(id, { limit: 'open' })));
      await wait(40, 'few-');
      if (statistics !== 'none') await subject.client.query('VACUUM ANALYZE');
      const few = await costs('one');
      await wait(3_000, 'many-');
      const many = await costs('another');
      readsNoMore(many, few);
    });
  }
  for (const statistics of ['none', 'of empty tables']) {
    test(`what waits for slots makes nothing dearer, with statistics: ${statistics}: ${server.name}`, {
      skip: server.skip,
    }, async (t) => {
      const subject = await ways(t, server);
      const { client } = subject;
      await subject.keepStatistics();
      await subject.store.enqueue([newJob('gone', { limit: 'l', key: 'k' })]);
      await subject.store.purge('gone');
      if (statistics !== 'none') await client.query('ANALYZE');
      await subject.store.limit('l', 1);
      await subject.store.enqueue([newJob('running', { limit: 'l', key: 'k', key_concurrency: 1 })]);
      const [running] = await claim(subject.store, 1);
      assert.ok(running);
      const wait = async (count: number, prefix: string) => {
        const kinds = [{ limit: 'l' }, { key: 'k', key_concurrency: 1 }, { limit: 'l', key: 'user' }];
        await subject.store.enqueue(
          range(count, prefix).map((job_id, n) =>
            newJob(job_id, n % 4 === 3 ? { limit: 'l', key: job_id } : { ...kinds[n % 4] }),
          ),
        );
        assert.deepEqual(await claim(subject.store, 1), []);
      };
      const costs = async (id: string) => ({
        posting: await subject.cost(async (store) => {
          await store.enqueue([newJob(`${id}-l`, { limit: 'l' })]);
          await store.enqueue([newJob(`${id}-k`, { key: 'k', key_concurrency: 1 })]);
          await store.enqueue([newJob(`${id}-lk`, { limit: 'l', key: 'user' })]);
          await store.enqueue([newJob(`${id}-lo`, { limit: 'l', key: id })]);
        }),
        cancelling: await subject.cost(async (store) => {
          for (const kind of ['l', 'k', 'lk', 'lo']) await store.cancel(`${id}-${kind}`);
        }),
        claiming: await subject.cost((store) => claim(store, 1)),
      });
      await wait(40, 'few-');
      const few = await costs('one');
      await wait(1_200, 'many-');
      const many = await costs('another');
      readsNoMore(many, few);
    });
  }

  test(`what many jobs cost at once grows as their number does: ${server.name}`, {
    skip: server.skip,
  }, async (t) => {
    const subject = await ways(t, server);
    const few = await bulkCosts(subject, 150);
    const many = await bulkCosts(subject, 900);
    for (const [call, { pages }] of Object.entries(many)) {
      const before = few[call as keyof typeof few].pages;
      assert.ok(pages <= 10 * before, `${call}: ${pages} pages for six times as many jobs as in ${before}`);
    }
    assert.ok(many.lifting.pages <= 2 * few.lifting.pages, 'a limit is lifted bit by bit');
  });
}

type Ways = Awaited<ReturnType<typeof ways>>;

async function bulkCosts(subject: Ways, count: number) {
  const id = (n: number) => `${count}-${n}`;
  const name = `of ${count}`;
  const tied = range(count, `${count}-`).map((job_id, n) =>
    newJob(job_id, { limit: name, key: `key-${n % 5}`, key_concurrency: 1 }),
  );
  const group = { group_id: `g-${count}`, concurrency: 1 };
  await subject.store.limit(name, 1);
  const posting = await subject.cost((store) => store.enqueue(tied, group));
  const cancelling = await subject.cost((store) => store.cancelGroup(group.group_id));
  await subject.store.enqueue(tied, group);
  const purging = await subject.cost((store) => store.purgeGroup(group.group_id));

  const chain = tied.map((job, n) => (n === 0 ? job : { ...job, after: [{ job_id: id(n - 1) }] }));
  await subject.store.enqueue(chain, group);
  const cascading = await subject.cost((store) => store.cancel(id(0)));
  const fan = tied.map((job, n): NewJob => {
    return n === 0 ? job : { ...job, after: [{ job_id: id(0), on_failure: 'run' }] };
  });
  await subject.store.enqueue(fan, group);
  const releasing = await subject.cost((store) => store.cancel(id(0)));
  const after = tied.map(({ job_id }) => ({ job_id, on_failure: 'run' as const }));
  const depending = await subject.cost((store) => store.enqueue([newJob(`child-${count}`, { after })]));
  await subject.store.purgeGroup(group.group_id);
  await subject.store.purge(`child-${count}`);

  const users = tied.map((job) => ({ ...job, key: job.job_id }));
  await subject.store.enqueue(users, { group_id: group.group_id });
  assert.equal((await claim(subject.store, 2)).length, 1);
  const lifting = await subject.cost((store) => store.limit(name, null));
  await subject.store.purgeGroup(group.group_id);
  return { posting, cancelling, purging, cascading, releasing, depending, lifting };
}
