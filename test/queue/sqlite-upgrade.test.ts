import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { APPLICATION_ID, MIGRATIONS } from '../../src/queue/stores/sqlite/schema.ts';
import { openSqliteStore } from '../../src/queue/stores/sqlite.ts';
import { tempFolder } from '../support/folder.ts';
import { ids, named, range, Subject } from './conformance/subject.ts';

/** When version 1 wrote the file, ms since 1970. */
const WRITTEN_AT = 1_800_000_000_000;

/** A file of version 1, to be opened ten seconds after it was written. */
function written(t: TestContext) {
  const path = join(tempFolder(t), 'queue.db');
  const old = new DatabaseSync(path);
  const [schema = ''] = MIGRATIONS;
  const content = readFileSync(new URL('sqlite-version-1.sql', import.meta.url), 'utf8');
  old.exec(`${schema}; ${content}; PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = 1`);
  old.close();
  let offset = WRITTEN_AT + 10_000 - Date.now();
  const connect = async () => {
    const store = await openSqliteStore({ path, clockOffset: () => offset });
    t.after(() => store.close());
    return store;
  };
  const advance = (ms: number) => {
    offset += ms;
  };
  return { path, connect, advance };
}

async function upgraded(t: TestContext): Promise<Subject> {
  const { connect, advance } = written(t);
  return new Subject({ store: await connect(), connect, advance });
}

test('a file of version 1 is upgraded with all that is in it', async (t) => {
  const s = await upgraded(t);
  assert.equal(s.store.store_id, 'ebd8f6a5e989bad9e7199cd5691e6178');
  const job = await s.store.get('g-4');
  assert.deepEqual(
    [job.state, job.attempt, job.fence, job.priority, job.payload, job.limit, job.key, job.key_concurrency],
    ['STARTED', 1, 3, 2, { of: 'g-4' }, null, null, null],
  );
  assert.deepEqual(await s.pendingIds(), [
    'g-2',
    'g-3',
    'free-1',
    'free-2',
    'h-1',
    'h-2',
    'plain-1',
    'g-later',
    'g-child',
  ]);
  assert.deepEqual(await s.pendingIds('other'), ['g-5', 'g-6']);
  assert.equal((await s.store.group('old')).jobs.length, 2);
  assert.deepEqual(
    (await s.store.leases()).map(({ fence }) => fence),
    [3, 4],
  );
});

test('groups of a file of version 1 keep their concurrency and their order', async (t) => {
  const s = await upgraded(t);
  const running = [
    { job_id: 'g-4', attempt: 1, fence: 3 },
    { job_id: 'g-1', attempt: 1, fence: 4 },
  ] as const;
  const first = await s.claim(100, ['default', 'other']);
  assert.deepEqual(ids(first), ['free-1', 'free-2', 'h-1', 'plain-1']);
  assert.deepEqual(await s.claimIds(100, ['default', 'other']), []);
  await s.succeed({ lease: running[0] });
  const next = await s.claim(100, ['other']);
  assert.deepEqual(ids(next), ['g-5']);
  assert.deepEqual(await s.claimIds(100, ['default', 'other']), []);
  await s.succeed(named(first, 'h-1'));
  // It waited for g-1; the order is that of posting.
  await s.succeed({ lease: running[1] });
  assert.deepEqual(await s.runAll(['default']), ['g-2', 'g-3', 'g-child', 'h-2']);
  s.advance(3_600_000);
  await s.succeed(named(next, 'g-5'));
  assert.deepEqual(await s.runAll(['default', 'other']), ['g-6', 'g-later']);
});

test('a job of a group that had ended in version 1 can be retried', async (t) => {
  const s = await upgraded(t);
  await s.store.cancel('h-1');
  await s.store.cancel('h-2');
  await s.store.retry('h-2');
  await s.store.retry('old-2');
  await s.store.retry('h-1');
  assert.deepEqual(await s.claimIds(), ['free-1', 'free-2', 'h-2', 'old-2', 'plain-1']);
});

test('several that upgrade one file at once all get it', async (t) => {
  const { connect, path } = written(t);
  const stores = await Promise.all(range(4).map(() => connect()));
  assert.equal(new Set(stores.map(({ store_id }) => store_id)).size, 1);
  assert.equal((await Promise.all(stores.map((store) => store.pending('other', 9)))).flat().length, 8);
  const database = new DatabaseSync(path, { readOnly: true });
  t.after(() => database.close());
  assert.deepEqual({ ...database.prepare('PRAGMA user_version').get() }, { user_version: MIGRATIONS.length });
});
