/** A store that stands still, takes no writes or is killed while a query runs: it goes on, and all comes back. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import {
  execute,
  freshDatabase,
  noPrivate,
  type PrivateServer,
  proxy,
  runningQueries,
  setReadOnly,
  startPrivate,
} from '../support/services.ts';
import { until } from '../support/until.ts';
import {
  at,
  BEFORE_GATE,
  closeGate,
  DIALECTS,
  eventsOf,
  launch,
  loading,
  onlyTables,
  resultsServer,
  type Settings,
  service,
  setup,
  skipOf,
  type WatchedServer,
} from './databases/support.ts';
import { postgresStore, redisStore } from './stores.ts';

const POSTGRES = service('postgres-15');

interface Case {
  readonly name: 'postgres-15' | 'redis';
  /** So that a server that is killed has what it had. */
  readonly durable: Readonly<Record<string, string>>;
  store(dsn: string): Settings;
  /** Has the server refuse writes, or take them again. */
  refuseWrites(server: PrivateServer, on: boolean): Promise<unknown>;
}

const CASES: readonly Case[] = [
  {
    name: 'postgres-15',
    durable: {},
    store: (dsn) => ({ ...postgresStore(dsn), connect_timeout: '1s' }),
    refuseWrites: setReadOnly,
  },
  {
    name: 'redis',
    durable: { appendonly: 'yes', appendfsync: 'always' },
    store: redisStore,
    // A replica of nobody, as after a failover to another one.
    refuseWrites: ({ dsn }, on) => execute(dsn, on ? 'REPLICAOF 127.0.0.1 1' : 'REPLICAOF NO ONE'),
  },
];

/** Requests that a store which takes no writes may answer. */
const READS = [
  ['GET', '/jobs'],
  ['GET', '/jobs/running'],
  ['GET', '/jobs/running?wait=1s'],
  ['GET', '/jobs/queue/default'],
  ['GET', '/groups/none'],
  ['GET', '/queues'],
  ['GET', '/limits'],
  ['DELETE', '/jobs/ended'],
  ['DELETE', '/groups/none'],
  ['POST', '/jobs/ended/retry'],
] as const;
/**
 * Those that it cannot. What is refused while nothing comes through may be carried out once it does, so none of it
 * matters to what follows.
 */
const WRITES = [
  ['POST', '/tasks/one/jobs', { queue: 'unused' }],
  ['POST', '/groups', { jobs: [{ task: 'one', queue: 'unused' }] }],
  ['POST', '/queues/unused/pause'],
  ['POST', '/queues/unused/resume'],
  ['GET', '/health/ready'],
] as const;

/** The cancel of a job that waits. */
const waiting = (phase: string) => ['DELETE', `/jobs/waiting-${phase}`] as const;

/** Far above what the deadlines of stores and probes add up to, below what clients and proxies wait. */
const PROMPTLY_MS = 8_000;

/** Shorter than one of the outages, so that expired leases are part of it. */
const LEASE_MS = 4_000;

/** Each is answered with 503 in time, all at once; the process itself is well. */
async function areUnavailable(
  server: WatchedServer,
  routes: readonly (readonly [method: string, path: string, body?: object])[],
): Promise<void> {
  await Promise.all(
    routes.map(async ([method, path, body]) => {
      const asked = performance.now();
      const answer = await server.request(method, path, body);
      const took = performance.now() - asked;
      assert.equal(answer.http, 503, `${method} ${path}: ${answer.http} ${answer.message}`);
      assert.equal(answer.code, 'unavailable');
      assert.ok(took < PROMPTLY_MS, `${method} ${path} took ${took} ms`);
      if (path === '/health/ready') assert.match(answer.message ?? '', /^not ready: store: /);
    }),
  );
  assert.equal((await server.request('GET', '/health/live')).http, 200);
}

async function isBack(server: WatchedServer): Promise<void> {
  await until('it is ready', async () => (await server.request('GET', '/health/ready')).http === 200);
  const job = await server.finished(await server.post('one'));
  assert.equal(job.state, 'SUCCESS', job.error);
  assert.equal((await server.request('DELETE', `/jobs/${job.job_id}?purge=true`)).http, 200);
}

suite('a store', { concurrency: 2 }, () => {
  for (const { name, durable, store, refuseWrites } of CASES) {
    const skip = skipOf(POSTGRES, { skip: noPrivate(name) });
    test(`on ${name} that is away while a query runs`, { skip }, async (t) => {
      const server = await startPrivate(t, name, { settings: durable });
      const link = await proxy(t, { port: Number(new URL(server.dsn).port) });
      const source = await freshDatabase(t, POSTGRES);
      const results = resultsServer(await freshDatabase(t, POSTGRES));
      const place = setup(t, {
        tasks: `
-- name: gated
${DIALECTS.postgres.gated}
-- name: one
SELECT 1 AS n`,
        db: { app: at(source) },
        results: { reports: results.settings },
        store: store(link.through(server.dsn)),
        app: { lease: `${LEASE_MS}ms` },
      });
      const openGate = await closeGate(t, source);
      const ours = await launch(t, place).started();
      await ours.post('one', { job_id: 'ended' });
      assert.equal((await ours.finished('ended')).state, 'SUCCESS');
      for (const phase of ['frozen', 'read-only', 'killed']) {
        await ours.post('one', { job_id: `waiting-${phase}`, queue: 'unused' });
      }
      await ours.post('gated', { job_id: 'running' });
      await loading(ours, 'running');
      // The one that stands at the gate.
      const query = async () => (await runningQueries(source)).map(({ id }) => id);
      const running = await query();
      assert.equal(running.length, 1);

      await t.test('frozen', async () => {
        link.freeze();
        await areUnavailable(ours, [...READS, ...WRITES, waiting('frozen')]);
        link.thaw();
        await isBack(ours);
      });

      await t.test('read-only', async () => {
        await refuseWrites(server, true);
        await areUnavailable(ours, [...WRITES, waiting('read-only')]);
        await refuseWrites(server, false);
        await isBack(ours);
      });

      await t.test('killed, and back', async () => {
        await server.kill();
        const since = performance.now();
        await areUnavailable(ours, [...READS, ...WRITES, waiting('killed')]);
        await until('every lease has run out', () => performance.now() - since > LEASE_MS);
        await server.start();
        await isBack(ours);
      });

      assert.deepEqual(await query(), running, 'the one query runs still');
      await openGate();
      const job = await ours.finished('running');
      assert.equal(job.state, 'SUCCESS', job.error);
      assert.equal(job.attempt, 1);
      assert.equal(job.count, BEFORE_GATE + 1);
      await until('it is told', () => eventsOf(ours, 'running').includes('succeeded'));
      assert.deepEqual(eventsOf(ours, 'running'), ['started', 'succeeded']);
      assert.ok(ours.log.some(({ event }) => event === 'store_lost'));
      assert.ok(ours.log.some(({ event }) => event === 'store_back'));
      assert.equal((await ours.request('DELETE', '/jobs/ended?purge=true')).http, 200);
      await onlyTables(results, ['results_running']);
      assert.equal(await ours.stop(), 0);
    });
  }
});
