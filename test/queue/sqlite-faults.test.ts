import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import type { Worker as Thread } from 'node:worker_threads';
import { QueueError } from '../../src/queue/errors.ts';
import { Queue, Worker } from '../../src/queue/index.ts';
import type { Hint, Store } from '../../src/queue/store.ts';
import { openSqliteStore, type SqliteStoreOptions } from '../../src/queue/stores/sqlite.ts';
import { tempFolder } from '../support/folder.ts';
import { mounted } from '../support/mount.ts';
import { until } from '../support/until.ts';
import { newJob, range } from './conformance/subject.ts';

async function open(t: TestContext, path: string, options: Partial<SqliteStoreOptions> = {}) {
  const store = await openSqliteStore({ path, ...options });
  t.after(() => store.close());
  return store;
}

async function isUnavailable(promise: Promise<unknown>, message: RegExp): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof QueueError, `${error}`);
    assert.equal(error.code, 'store_unavailable');
    assert.match(error.message, message);
    return true;
  });
}

test('what is not a store is refused, and left as it is', async (t) => {
  const folder = tempFolder(t);
  const text = join(folder, 'text.db');
  writeFileSync(text, 'these are my notes, and no database\n'.repeat(200));
  const foreign = join(folder, 'foreign.db');
  const database = new DatabaseSync(foreign);
  database.exec('CREATE TABLE ledger (id INTEGER); INSERT INTO ledger VALUES (1)');
  database.close();
  for (const [path, message] of [
    [text, /text\.db.*not a SQLite database/],
    [foreign, /foreign\.db.*not a job store/],
  ] as const) {
    const before = readFileSync(path);
    await isUnavailable(openSqliteStore({ path }), message);
    assert.deepEqual(readFileSync(path), before);
  }
  await isUnavailable(openSqliteStore({ path: folder }), /cannot be opened/);
  await isUnavailable(openSqliteStore({ path: join(folder, 'none', 'queue.db') }), /cannot be opened/);
});

test('a file of a newer version is refused, and left as it is', async (t) => {
  const path = join(tempFolder(t), 'queue.db');
  await (await openSqliteStore({ path })).close();
  const database = new DatabaseSync(path);
  database.exec('PRAGMA user_version = 1000');
  database.close();
  const before = readFileSync(path);
  await isUnavailable(openSqliteStore({ path }), /newer version \(schema 1000.*upgrade/);
  assert.deepEqual(readFileSync(path), before);
});

test('many that open the same new file at once get the same store', async (t) => {
  const path = join(tempFolder(t), 'with space, 100% odd?#.db');
  const stores = await Promise.all(range(8).map(() => open(t, path)));
  assert.equal(new Set(stores.map(({ store_id }) => store_id)).size, 1);
  await Promise.all(stores.map((store, n) => store.enqueue([newJob(`job-${n}`)])));
  assert.equal((await stores[0]?.pending('default', 100))?.length, 8);
  assert.ok(existsSync(path));
});

test('a store is the same after it was closed', async (t) => {
  const path = join(tempFolder(t), 'queue.db');
  const first = await openSqliteStore({ path });
  const [job] = await first.enqueue([newJob('a', { payload: 'x' })]);
  await first.close();
  const second = await open(t, path);
  assert.equal(second.store_id, first.store_id);
  assert.deepEqual(await second.get('a'), job);
});

test('a locked file is waited for, off the event loop; for too long, and the store is unavailable', async (t) => {
  const path = join(tempFolder(t), 'queue.db');
  const patient = await open(t, path);
  const hasty = await open(t, path, { busy_timeout_ms: 100 });
  const other = new DatabaseSync(path, { timeout: 30_000 });
  t.after(() => other.close());
  other.exec('BEGIN IMMEDIATE');
  const waits = patient.enqueue([newJob('patient')]);
  await isUnavailable(hasty.enqueue([newJob('hasty')]), /locked/);
  // Reads need no lock.
  assert.deepEqual(await hasty.list({}, 10), { items: [], cursor: null });
  other.exec('COMMIT');
  await waits;
  await hasty.enqueue([newJob('hasty')]);
  assert.equal((await hasty.pending('default', 10)).length, 2);
});

test('a file that was deleted or replaced is not written to; once it is back, all goes on', async (t) => {
  const folder = join(tempFolder(t), 'data');
  mkdirSync(folder);
  const path = join(folder, 'queue.db');
  const store = await open(t, path);
  await store.enqueue([newJob('before')]);
  renameSync(folder, `${folder}-away`);
  await isUnavailable(store.enqueue([newJob('meanwhile')]), /cannot be opened/);
  await isUnavailable(store.get('before'), /cannot be opened/);
  await isUnavailable(store.ping(), /cannot be opened/);
  mkdirSync(folder);
  await isUnavailable(store.enqueue([newJob('meanwhile')]), /cannot be opened/);
  assert.ok(!existsSync(path), 'it has made a new store in place of the one that is missing');
  await (await openSqliteStore({ path })).close();
  await isUnavailable(store.enqueue([newJob('meanwhile')]), /replaced by another store/);
  rmSync(folder, { recursive: true });
  renameSync(`${folder}-away`, folder);
  await store.enqueue([newJob('after')]);
  assert.deepEqual(
    (await store.pending('default', 10)).map(({ job_id }) => job_id),
    ['before', 'after'],
  );
});

test('a damaged file is said to be damaged', async (t) => {
  const path = join(tempFolder(t), 'queue.db');
  const store = await openSqliteStore({ path });
  await store.enqueue(range(500).map((job_id) => newJob(job_id)));
  await store.close();
  // All but the first pages: its header is good, what it points to is not.
  const { size } = statSync(path);
  const file = openSync(path, 'r+');
  for (let at = 4_096; at < size; at += 4_096) writeSync(file, Buffer.alloc(4_096, 0xa5), 0, 4_096, at);
  closeSync(file);
  await isUnavailable(
    openSqliteStore({ path }).then(async (damaged) => {
      t.after(() => damaged.close());
      await damaged.enqueue([newJob('x')]);
    }),
    /damaged/,
  );
  truncateSync(path, 100);
  await isUnavailable(openSqliteStore({ path }), /damaged|not a SQLite database/);
});

test('a full disk: what is refused is not there, what was accepted is, and it recovers by itself', async (t) => {
  const disk = mounted(t, 'size=2m');
  if (disk === null) return;
  const filler = join(disk, 'filler');
  writeFileSync(filler, Buffer.alloc(512 * 1_024));
  const store = await openSqliteStore({ path: join(disk, 'queue.db') });
  const payload = 'x'.repeat(20_000);
  const accepted: string[] = [];
  const refused = await until('the disk is full', async () => {
    const job_id = `job-${accepted.length}`;
    try {
      await store.enqueue([newJob(job_id, { payload }), newJob(`${job_id}-b`, { payload })]);
      accepted.push(job_id, `${job_id}-b`);
      return undefined;
    } catch (error) {
      assert.ok(error instanceof QueueError);
      assert.match(error.message, /the disk is full/);
      return job_id;
    }
  });
  assert.ok(accepted.length > 0);
  const waiting = async () => (await store.pending('default', 1_000)).map(({ job_id }) => job_id);
  assert.deepEqual(await waiting(), accepted);
  rmSync(filler);
  await store.enqueue([newJob(refused)]);
  assert.deepEqual(await waiting(), [...accepted, refused]);
  await store.close();
});

test('a full disk at the start is said to be full', async (t) => {
  const disk = mounted(t, 'size=2m');
  if (disk === null) return;
  const filler = join(disk, 'filler');
  // To the last byte.
  assert.throws(() => writeFileSync(filler, Buffer.alloc(4 * 1_024 * 1_024)), { code: 'ENOSPC' });
  const path = join(disk, 'queue.db');
  await isUnavailable(openSqliteStore({ path }), /the disk (is full|failed)/);
  rmSync(filler);
  await (await openSqliteStore({ path })).close();
});

test('a read-only disk is said to be read-only', async (t) => {
  const disk = mounted(t, 'size=2m');
  if (disk === null) return;
  const path = join(disk, 'queue.db');
  await (await openSqliteStore({ path })).close();
  execFileSync('mount', ['-o', 'remount,ro', disk]);
  await isUnavailable(openSqliteStore({ path }), /read-only|cannot be opened/);
  await isUnavailable(openSqliteStore({ path: join(disk, 'new.db') }), /read-only|cannot be opened/);
});

test('one call that fails half-way does not spoil its neighbours', async (t) => {
  const path = join(tempFolder(t), 'queue.db');
  const store = await open(t, path);
  await store.enqueue([newJob('a', { retries: 1 }), newJob('b')]);
  const request = { worker: 'w', queues: [{ queue: 'default', limit: 2 }], limit: 2, lease_ms: 60_000 };
  const [a, b] = (await store.claim(request)).jobs;
  assert.ok(a && b);
  // An error text that SQLite refuses, after the first of the two has been finished: the types forbid it.
  const bad = { state: 'FAILURE', error: { not: 'text' } as unknown as string } as const;
  const good = { state: 'SUCCESS', result: 1 } as const;
  const results = await Promise.allSettled([
    store.enqueue([newJob('c')]),
    store.finish([
      { lease: a.lease, outcome: good },
      { lease: b.lease, outcome: bad },
    ]),
    store.enqueue([newJob('d')]),
  ]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  );
  assert.deepEqual(await store.states(['a', 'b', 'c', 'd']), ['STARTED', 'STARTED', 'PENDING', 'PENDING']);
  const [{ counts } = {}] = await store.stats();
  assert.deepEqual([counts?.STARTED, counts?.PENDING, counts?.SUCCESS], [2, 2, 0]);
});

test('a call that cannot be sent to the thread is refused, and its neighbours are not', async (t) => {
  const store = await open(t, ':memory:');
  const odd = { task: (() => 1) as unknown as string };
  const results = await Promise.allSettled([
    store.enqueue([newJob('a')]),
    store.list(odd, 10),
    store.enqueue([newJob('b')]),
  ]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  );
  assert.deepEqual(await store.states(['a', 'b']), ['PENDING', 'PENDING']);
});

/** A store, and the threads that it has had so far. */
async function withThreads(t: TestContext, path: string) {
  const threads: Thread[] = [];
  const started = (thread: Thread) => threads.push(thread);
  process.on('worker', started);
  t.after(() => process.off('worker', started));
  const store = await open(t, path);
  const crash = async () => {
    const thread = threads.at(-1);
    assert.ok(thread);
    await thread.terminate();
  };
  return { store, threads, crash };
}

async function comesBack(store: Store): Promise<void> {
  await until('the store is back', () =>
    store.ping().then(
      () => true,
      (error) => {
        assert.ok(error instanceof QueueError && error.code === 'store_unavailable', `${error}`);
        return false;
      },
    ),
  );
}

test('a store whose thread has crashed comes back by itself, with all that was accepted', async (t) => {
  const path = join(tempFolder(t), 'queue.db');
  const { store, threads, crash } = await withThreads(t, path);
  await store.enqueue([newJob('before')]);
  const hints: Hint[] = [];
  t.after(store.watch((hint) => hints.push(hint)));
  const { store_id } = store;
  // A lock that another has keeps the call from being answered before the crash.
  const other = new DatabaseSync(path);
  t.after(() => other.close());
  other.exec('BEGIN IMMEDIATE');
  const cutOff = isUnavailable(store.enqueue([newJob('cut-off')]), /its thread ended/);
  await crash();
  await cutOff;
  await isUnavailable(store.get('before'), /its thread ended/);
  other.exec('ROLLBACK');
  await comesBack(store);
  assert.equal(store.store_id, store_id);
  assert.equal(threads.length, 2);
  assert.deepEqual(await store.states(['before', 'cut-off']), ['PENDING', null]);
  await store.enqueue([newJob('after')]);
  // What happened meanwhile it tells, and what others do from now on.
  for (const type of ['ready', 'cancel', 'finished'])
    assert.ok(
      hints.some((hint) => hint.type === type),
      type,
    );
  hints.length = 0;
  const neighbour = await open(t, path);
  await neighbour.cancel('after');
  await until('it hears of the cancel', () => hints.some(({ type }) => type === 'finished'));
});

test('a thread that starts again does not make a store that is missing', async (t) => {
  const folder = join(tempFolder(t), 'data');
  mkdirSync(folder);
  const path = join(folder, 'queue.db');
  const { store, threads, crash } = await withThreads(t, path);
  await store.enqueue([newJob('before')]);
  renameSync(folder, `${folder}-away`);
  mkdirSync(folder);
  await crash();
  await until('it has tried', () => threads.length >= 3);
  await isUnavailable(store.ping(), /cannot be opened/);
  assert.ok(!existsSync(path), 'it has made a new store in place of the one that is missing');
  await (await openSqliteStore({ path })).close();
  await until('it sees the other store', () =>
    store.ping().then(
      () => assert.fail('it has taken another store for its own'),
      (error: unknown) => error instanceof QueueError && error.message.includes('replaced by another store'),
    ),
  );
  rmSync(folder, { recursive: true });
  renameSync(`${folder}-away`, folder);
  await comesBack(store);
  assert.deepEqual(await store.states(['before']), ['PENDING']);
});

test('a job that runs while the thread of its store crashes runs on, and ends once', async (t) => {
  const { store, crash } = await withThreads(t, join(tempFolder(t), 'queue.db'));
  const queue = new Queue(store);
  const mayEnd = Promise.withResolvers<void>();
  const begun: string[] = [];
  const worker = new Worker({
    store,
    name: 'worker',
    queues: [{ queue: 'default', concurrency: 2 }],
    concurrency: 2,
    handler: {
      run: async ({ job_id }) => {
        begun.push(job_id);
        if (job_id === 'long') await mayEnd.promise;
        return job_id;
      },
    },
  });
  worker.start();
  t.after(() => worker.stop());
  await store.enqueue([newJob('long')]);
  await until('it runs', () => begun.includes('long'));
  await crash();
  mayEnd.resolve();
  await comesBack(store);
  await store.enqueue([newJob('next')]);
  const ended = await Promise.all(['long', 'next'].map((id) => queue.wait(id, { timeout_ms: 30_000 })));
  assert.deepEqual(
    ended.map(({ state, attempt }) => [state, attempt]),
    [
      ['SUCCESS', 1],
      ['SUCCESS', 1],
    ],
  );
  assert.deepEqual(begun, ['long', 'next']);
});

test('a store can be closed while its thread is away', async (t) => {
  const { store, crash } = await withThreads(t, join(tempFolder(t), 'queue.db'));
  await crash();
  await store.close();
  await isUnavailable(store.ping(), /closed/);
  await store.close();
});

test('a store in memory is lost with its thread, and says so', async (t) => {
  const { store, threads, crash } = await withThreads(t, ':memory:');
  await store.enqueue([newJob('a')]);
  await crash();
  await isUnavailable(store.get('a'), /in memory is lost/);
  await store.close();
  assert.equal(threads.length, 1);
});
