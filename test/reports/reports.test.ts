import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { openResultsBackend, openSource } from '../../src/databases/open.ts';
import { type PostedJob, Queue } from '../../src/queue/queue.ts';
import type { ClaimedJob, Store } from '../../src/queue/store.ts';
import { openSqliteStore } from '../../src/queue/stores/sqlite.ts';
import { Worker } from '../../src/queue/worker.ts';
import { Databases } from '../../src/reports/databases.ts';
import { setLimits } from '../../src/reports/limits.ts';
import { ReportError, type ReportPayload, type ReportRequest } from '../../src/reports/report.ts';
import { Reports, type ReportsOptions } from '../../src/reports/reports.ts';
import { Sweeper } from '../../src/reports/sweeper.ts';
import { parseTasks } from '../../src/tasks/parser.ts';
import { resolveTasks } from '../../src/tasks/registry.ts';
import { tempFolder } from '../support/folder.ts';

const TASKS = `
-- name: plain
SELECT 1 AS one;
-- name: tagged
-- db: one
-- results: second
-- queue: special
-- ttl: 60
-- timeout: 2
-- priority: 7
SELECT 1 AS one;
-- name: endless
-- timeout: 1h
WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n;
`;

interface Place {
  readonly reports: Reports;
  readonly store: Store;
  readonly options: ReportsOptions;
  readonly results: (name: string) => DatabaseSync;
}

async function place(t: TestContext, random?: () => number): Promise<Place> {
  const folder = tempFolder(t);
  const sources = new Map();
  for (const name of ['one', 'two']) {
    const path = join(folder, `${name}.db`);
    new DatabaseSync(path).close();
    const source = await openSource({ type: 'sqlite', name, path });
    t.after(() => source.close());
    sources.set(name, source);
  }
  const backends = new Map();
  for (const name of ['first', 'second']) {
    const backend = await openResultsBackend({ type: 'sqlite', name, path: join(folder, `${name}.db`) });
    t.after(() => backend.close());
    backends.set(name, backend);
  }
  const store = await openSqliteStore({ path: ':memory:' });
  t.after(() => store.close());
  const tasks = resolveTasks(parseTasks(TASKS, 'tasks.sql'), {
    sources: ['one', 'two'],
    results: ['first', 'second'],
    default_queue: 'default',
    default_concurrency: 10,
    longest_name: 128,
  });
  const databases = new Databases({ tasks, sources, backends });
  t.after(() => databases.close());
  await databases.start();
  const options: ReportsOptions = {
    tasks,
    sources,
    backends,
    databases,
    store,
    limited: new Set(['one', 'two', 'three']),
    defaults: {
      timeout_ms: null,
      limits: { max_rows: null, max_bytes: null, max_value_bytes: 64_000_000 },
      ttl_ms: new Map(),
      key_concurrency: 3,
    },
    ...(random === undefined ? {} : { random }),
  };
  const results = (name: string) => {
    const database = new DatabaseSync(join(folder, `${name}.db`), { readOnly: true, timeout: 30_000 });
    t.after(() => database.close());
    return database;
  };
  return { reports: new Reports(options), store, options, results };
}

/** The job of one request. */
async function plan(reports: Reports, request: ReportRequest): Promise<PostedJob> {
  const [job] = await reports.plan([request]);
  assert.ok(job);
  return job;
}

function tables(database: DatabaseSync): unknown[] {
  const rows = database
    .prepare("SELECT name FROM sqlite_master WHERE name LIKE 'results\\_%' ESCAPE '\\'")
    .all();
  return rows.map((row) => row['name']);
}

async function claim(store: Store, lease_ms = 10_000): Promise<ClaimedJob> {
  const { jobs } = await store.claim({
    worker: 'w',
    queues: [{ queue: 'default', limit: 1 }],
    limit: 1,
    lease_ms,
  });
  assert.ok(jobs[0], 'there is a job to claim');
  return jobs[0];
}

const nothing = () => undefined;
const idle = { signal: new AbortController().signal, progress: nothing, confirm: async () => undefined };

test('a plan takes what the request says, then what the task says, then the defaults', async (t) => {
  const { reports } = await place(t, () => 0.99);
  const plain = await plan(reports, { task: 'plain' });
  assert.deepEqual(plain, {
    task: 'plain',
    queue: 'default',
    payload: { args: [], db: 'two', results: 'second', ttl: null, timeout: null },
    priority: 0,
    eta: null,
    retries: 0,
    limit: 'db:two',
  });
  const tagged = await plan(reports, { task: 'tagged', args: ['a', 1, null, true] });
  assert.equal(tagged.queue, 'special');
  assert.equal(tagged.priority, 7);
  assert.deepEqual(tagged.payload, {
    args: ['a', 1, null, true],
    db: 'one',
    results: 'second',
    ttl: 60,
    timeout: null,
  });
  const asked = await plan(reports, {
    task: 'plain',
    job_id: 'x',
    db: 'one',
    results: 'first',
    queue: 'q',
    ttl: 5,
    timeout: 9,
  });
  assert.equal(asked.job_id, 'x');
  assert.equal(asked.queue, 'q');
  assert.deepEqual(asked.payload, { args: [], db: 'one', results: 'first', ttl: 5, timeout: 9 });
});

test('each of several databases is picked in its turn of the dice', async (t) => {
  let dice = 0;
  const { reports } = await place(t, () => dice);
  const picked = async () => ((await plan(reports, { task: 'plain' })).payload as ReportPayload).db;
  assert.equal(await picked(), 'one');
  dice = 0.5;
  assert.equal(await picked(), 'two');
});

test('of several databases one with room is picked; if none has any, that with the shortest line', async (t) => {
  let dice = 0;
  const { reports, store } = await place(t, () => dice);
  const picks = async (jobs: number) => {
    const planned = await reports.plan(Array.from({ length: jobs }, () => ({ task: 'plain' })));
    return planned.map(({ payload, limit }) => {
      const { db } = payload as ReportPayload;
      assert.equal(limit, `db:${db}`);
      return db;
    });
  };
  await store.limit('db:one', 2);
  await store.limit('db:two', 1);
  // The first two slots of `one`, then that of `two`; then in line where it is shortest for each slot.
  assert.deepEqual(await picks(9), ['one', 'one', 'two', 'one', 'two', 'one', 'one', 'two', 'one']);
  dice = 0.99;
  assert.deepEqual(await picks(3), ['two', 'one', 'one']);

  // What others have posted counts, running or waiting; a request that says which database is not asked.
  await store.enqueue(
    ['a', 'b'].map((job_id) => ({ job_id, task: 'plain', queue: 'default', payload: null, limit: 'db:two' })),
  );
  await claim(store);
  assert.deepEqual(await reports.databases(), [
    { db: 'one', concurrency: 2, running: 0, waiting: 0 },
    { db: 'two', concurrency: 1, running: 1, waiting: 1 },
  ]);
  assert.deepEqual(await picks(2), ['one', 'one']);
  const [asked] = await reports.plan([{ task: 'plain', db: 'two' }]);
  assert.equal(asked?.limit, 'db:two');
  // Without a limit there is always room.
  await store.limit('db:one', null);
  assert.deepEqual(new Set(await picks(5)), new Set(['one']));
});

test('a key and parents go with the job; without them there is nothing of them', async (t) => {
  const { reports } = await place(t, () => 0);
  const job = await plan(reports, { task: 'plain', key: 'ada', after: ['a', 'b'], on_failure: 'run' });
  assert.equal(job.key, 'ada');
  assert.equal(job.key_concurrency, 3);
  assert.deepEqual(job.after, [
    { job_id: 'a', on_failure: 'run' },
    { job_id: 'b', on_failure: 'run' },
  ]);
  assert.deepEqual((await plan(reports, { task: 'plain', after: ['a'] })).after, [
    { job_id: 'a', on_failure: 'cancel' },
  ]);
  const plain = await plan(reports, { task: 'plain', on_failure: 'run' });
  for (const field of ['key', 'key_concurrency', 'after']) assert.ok(!(field in plain), field);
});

test('limits are told to the store, and whoever finds another figure there hears of it', async (t) => {
  const { store } = await place(t);
  const changes: unknown[] = [];
  const set = (limits: Record<string, number | null>) =>
    setLimits(store, new Map(Object.entries(limits)), (...change) => changes.push(change));
  await set({ one: 3, two: null });
  await set({ one: 3, two: null });
  assert.deepEqual(changes, [], 'the first to say it, and whoever says the same, changes nothing');
  assert.deepEqual(
    (await store.limits(['db:one', 'db:two'])).map(({ concurrency }) => concurrency),
    [3, null],
  );
  await set({ one: null, two: 2 });
  await set({ two: 5 });
  assert.deepEqual(changes, [
    ['one', 3, null],
    ['two', 2, 5],
  ]);
  assert.deepEqual(
    (await store.limits(['db:one', 'db:two'])).map(({ concurrency }) => concurrency),
    [null, 5],
  );
});

test('unknown tasks, databases and backends are refused, by field', async (t) => {
  const { reports } = await place(t);
  const cases: [ReportRequest, Partial<ReportError>][] = [
    [{ task: 'nope' }, { code: 'unknown_task', field: 'task' }],
    [{ task: 'constructor' }, { code: 'unknown_task', field: 'task' }],
    [
      { task: 'tagged', db: 'two' },
      { code: 'invalid_request', field: 'db' },
    ],
    [
      { task: 'tagged', results: 'first' },
      { code: 'invalid_request', field: 'results' },
    ],
  ];
  for (const [request, expected] of cases) {
    await assert.rejects(plan(reports, request), (error: unknown) => {
      assert.ok(error instanceof ReportError);
      assert.equal(error.code, expected.code);
      assert.equal(error.field, expected.field);
      return true;
    });
  }
});

test('a request can shorten the timeout of its task', async (t) => {
  const { reports, store } = await place(t);
  const queue = new Queue(store);
  const worker = new Worker({
    store,
    name: 'w',
    queues: [{ queue: 'default', concurrency: 1 }],
    concurrency: 1,
    handler: reports,
  });
  worker.start();
  t.after(() => worker.stop());
  const { job_id } = await queue.enqueue(await plan(reports, { task: 'endless', timeout: 0.2 }));
  const job = await queue.wait(job_id, { timeout_ms: 20_000 });
  assert.equal(job.state, 'FAILURE');
  assert.equal(job.error, 'timed out after 0.2 s: the "timeout" of its request');
});

test('a table published by an attempt that did not count is dropped', async (t) => {
  const { reports, store, options, results } = await place(t, () => 0);
  const queue = new Queue(store);
  await queue.enqueue({ ...(await plan(reports, { task: 'plain' })), job_id: 'late' });
  const job = await claim(store);
  await reports.run(job, idle);
  assert.deepEqual(tables(results('first')), ['results_late']);

  const sweeper = new Sweeper({
    store,
    backends: options.backends,
    interval_ms: 1_000,
    onSwept: nothing,
    onError: (_backend, error) => assert.fail(String(error)),
  });
  await sweeper.sweep();
  assert.deepEqual(tables(results('first')), ['results_late'], 'it may still be finished');

  await store.cancel('late');
  assert.deepEqual(await store.finish([{ lease: job.lease, outcome: { state: 'SUCCESS', result: null } }]), [
    'CANCELLED',
  ]);
  await sweeper.sweep();
  assert.deepEqual(tables(results('first')), []);
});

test('a table whose attempt came too late stays while the job runs again, so that readers find one', async (t) => {
  const { reports, store, results } = await place(t, () => 0);
  const queue = new Queue(store);
  await queue.enqueue({ ...(await plan(reports, { task: 'plain' })), job_id: 'late' });
  const job = await claim(store);
  await reports.run(job, idle);
  await store.release([job.lease]);
  await reports.discard(job);
  assert.deepEqual(tables(results('first')), ['results_late'], 'the job is to run again');

  const again = await claim(store);
  await reports.discard(job);
  assert.deepEqual(tables(results('first')), ['results_late'], 'it runs');
  await store.finish([{ lease: again.lease, outcome: { state: 'FAILURE', error: 'no' } }]);
  await reports.discard(job);
  assert.deepEqual(tables(results('first')), [], 'it failed: nobody waits for a table');
});

test('the sweep keeps the table of a job that succeeded, also when the job is forgotten', async (t) => {
  const { reports, store, options, results } = await place(t, () => 0);
  await store.enqueue([{ ...(await plan(reports, { task: 'plain' })), job_id: 'good' }]);
  const job = await claim(store);
  const result = await reports.run(job, idle);
  await store.finish([{ lease: job.lease, outcome: { state: 'SUCCESS', result } }]);
  const sweeper = new Sweeper({
    store,
    backends: options.backends,
    interval_ms: 1_000,
    onSwept: () => assert.fail('nothing was to be swept'),
    onError: (_backend, error) => assert.fail(String(error)),
  });
  await sweeper.sweep();
  await store.purge('good');
  await sweeper.sweep();
  assert.deepEqual(tables(results('first')), ['results_good']);
});

test('a job that carries no report fails for good; an unknown task may be known elsewhere', async (t) => {
  const { reports, store } = await place(t);
  await store.enqueue([{ job_id: 'odd', task: 'plain', queue: 'default', payload: { nothing: 'of use' } }]);
  await assert.rejects(reports.run(await claim(store), idle), { name: 'PermanentError' });
  const { payload } = await plan(reports, { task: 'plain' });
  await store.enqueue([{ job_id: 'newer', task: 'from_a_newer_server', queue: 'default', payload }]);
  await assert.rejects(reports.run(await claim(store), idle), { name: 'Error', message: /no task/ });
});

test('health names every database', async (t) => {
  const { reports } = await place(t);
  const health = await reports.health(AbortSignal.timeout(20_000));
  assert.deepEqual(health, {
    'db.one': { ok: true },
    'db.two': { ok: true },
    'results.first': { ok: true },
    'results.second': { ok: true },
  });
});

test('the sweeper starts and stops, again and again', async (t) => {
  const { store, options } = await place(t);
  for (let n = 0; n < 20; n++) {
    const sweeper = new Sweeper({
      store,
      backends: options.backends,
      interval_ms: 1,
      onSwept: nothing,
      onError: (_backend, error) => assert.fail(String(error)),
    });
    sweeper.start();
    await sweeper.stop();
  }
});
