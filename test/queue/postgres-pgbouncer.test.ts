/** The store behind a pooler that hands each transaction to another session. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { openPostgresStore, type PostgresStoreOptions } from '../../src/queue/stores/postgres.ts';
import { noPgbouncer, pooled } from '../support/pgbouncer.ts';
import { execute, freshDatabase, servers } from '../support/services.ts';
import { until } from '../support/until.ts';
import { ids, listen, newJob, range } from './conformance/subject.ts';

const server = servers('postgres').at(-1);
assert.ok(server);
const skip = server.skip || noPgbouncer();

async function setUp(t: TestContext) {
  assert.ok(server);
  const direct = await freshDatabase(t, server);
  // Two sessions for all: a transaction seldom gets the one before.
  const dsn = await pooled(t, direct, 2);
  const warnings: string[] = [];
  const open = async (options: Partial<PostgresStoreOptions> = {}) => {
    const onWarning = (message: string) => void warnings.push(message);
    const store = await openPostgresStore({ dsn, onWarning, ...options });
    t.after(() => store.close());
    return store;
  };
  return { direct, open, warnings };
}

test('several stores that race behind a pooler hand out each job once, within its limit', {
  skip,
}, async (t) => {
  const { open } = await setUp(t);
  const stores = await Promise.all([open(), open(), open()]);
  const [first] = stores;
  assert.ok(first);
  await first.limit('few', 3);
  await Promise.all(
    stores.map((store, n) =>
      Promise.all([
        store.enqueue(range(40, `plain-${n}-`).map((id) => newJob(id))),
        store.enqueue(range(10, `few-${n}-`).map((id) => newJob(id, { limit: 'few', key: `key-${n}` }))),
        ...range(10, `single-${n}-`).map((id) => store.enqueue([newJob(id)])),
      ]),
    ),
  );
  const ran: string[] = [];
  let running = 0;
  await Promise.all(
    stores.map(async (store, n) => {
      for (;;) {
        const queues = [{ queue: 'default', limit: 7 }];
        const { jobs } = await store.claim({ worker: `w-${n}`, queues, limit: 7, lease_ms: 60_000 });
        const few = jobs.filter(({ limit }) => limit === 'few').length;
        running += few;
        assert.ok(running <= 3, `${running} run of a limit of 3`);
        ran.push(...ids(jobs));
        if (jobs.length === 0 && ran.length === 180) break;
        await store.renew(
          jobs.map(({ lease }) => ({ lease })),
          60_000,
        );
        running -= few;
        await store.finish(jobs.map(({ lease }) => ({ lease, outcome: { state: 'SUCCESS', result: null } })));
      }
    }),
  );
  assert.equal(new Set(ran).size, 180);
  const [stats] = await first.stats();
  assert.equal(stats?.counts.SUCCESS, 180);
});

test('news of other processes come by asking, or at once where there is a way around the pooler', {
  skip,
}, async (t) => {
  const { direct, open, warnings } = await setUp(t);
  const asking = await open({ poll_ms: 20 });
  const hearing = await open({ listen_dsn: direct, poll_ms: 600_000 });
  const teller = await open();
  const asked = listen(asking);
  const heard = listen(hearing);
  const isReady = ({ type }: { readonly type: string }) => type === 'ready';
  await until('it asks', () => asked.hints.some(isReady));
  assert.match(warnings.join('\n'), /behind a connection pooler: it is asked for news every 20 ms/);
  await until('it listens', async () => {
    const [row] = await execute(
      direct,
      "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'",
    );
    return row !== undefined;
  });
  heard.hints.length = 0;
  await teller.enqueue([newJob('a')]);
  await until('it has heard', () => heard.hints.some(isReady));
  asked.stop();
  heard.stop();
});
