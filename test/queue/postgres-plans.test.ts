/**
 * That no call walks over jobs that it does not return: what each reads of the tables is counted by the server itself,
 * with few jobs and with many.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import pg from 'pg';
import type { ClaimedJob, Store } from '../../src/queue/store.ts';
import { openPostgresStore } from '../../src/queue/stores/postgres.ts';
import { freshDatabase, type Service, servers } from '../support/services.ts';
import { until } from '../support/until.ts';
import { newJob, range } from './conformance/subject.ts';

const LEASE_MS = 3_600_000;

async function claim(store: Store, limit: number): Promise<readonly ClaimedJob[]> {
  const queues = [{ queue: 'default', limit }];
  return (await store.claim({ worker: 'w', queues, limit, lease_ms: LEASE_MS })).jobs;
}

/** Rows that sessions have read of the tables of jobs since the last look, by index or not. */
async function reads(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ reads: string }>(
    `SELECT sum(seq_tup_read) + sum(coalesce(idx_tup_fetch, 0)) AS reads FROM pg_stat_user_tables
     WHERE relname IN ('jobs', 'waiting', 'leases', 'outcomes')`,
  );
  return Number(rows[0]?.reads);
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
    /** A session tells of what it has read when it ends, at the latest. */
    async cost(act: (store: Store) => Promise<unknown>): Promise<number> {
      await store.close();
      const before = await settled(client);
      store = await openPostgresStore({ dsn, max_active: 1 });
      await act(store);
      await store.close();
      const after = await settled(client);
      store = await openPostgresStore({ dsn, max_active: 1 });
      return after - before;
    },
  };
}

/** When the sessions of the store are gone, and so what they have counted is there. */
async function settled(client: pg.Client): Promise<number> {
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
    for (const [call, reads] of Object.entries(many)) {
      const before = few[call as keyof typeof few];
      // A listing looks through a window of at most 2,000.
      const most = call === 'listing' ? before + 4_500 : before + 100;
      assert.ok(reads <= most, `${call} reads ${reads} rows; with few jobs it was ${before}`);
    }
  });
}
