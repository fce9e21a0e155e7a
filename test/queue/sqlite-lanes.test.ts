import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { tempFolder } from '../support/folder.ts';
import { range, Subject } from './conformance/subject.ts';
import { open } from './sqlite.ts';

async function opened(t: TestContext) {
  const path = join(tempFolder(t), 'queue.db');
  const s = new Subject(await open(t, path));
  const database = new DatabaseSync(path, { readOnly: true });
  t.after(() => database.close());
  const count = (table: string, where = '1') =>
    Number(database.prepare(`SELECT count(*) AS rows FROM ${table} WHERE ${where}`).get()?.['rows']);
  return { s, count };
}

test('lanes and pools are forgotten with their last unfinished job; limits that are set are not', async (t) => {
  const { s, count } = await opened(t);
  await s.store.limit('kept', 3);
  const jobs = range(20).map((job_id, n) => ({
    job_id,
    limit: n % 3 === 0 ? 'kept' : 'other',
    key: `key-${n % 4}`,
    key_concurrency: 2,
    after: n > 10 ? [{ job_id: `job-${n - 10}` }] : [],
  }));
  await s.postAll(jobs, { group_id: 'g', concurrency: 4 });
  assert.equal(count('pools'), 7);
  assert.equal((await s.runAll()).length, 20);
  assert.deepEqual([count('pools'), count('lanes'), count('waiting')], [1, 0, 0]);
  await s.store.limit('kept', null);
  await s.store.limit('never used', null);
  assert.equal(count('pools'), 0);

  await s.postAll(jobs, { group_id: 'g', concurrency: 4 });
  await s.store.limit('kept', 1);
  await s.claim(3);
  await s.store.limit('kept', null);
  await s.store.purgeGroup('g');
  assert.deepEqual([count('pools'), count('lanes'), count('waiting')], [0, 0, 0]);
});

test('of a crowd that waits for one slot claims look at one a lane, once', async (t) => {
  const { s, count } = await opened(t);
  await s.store.limit('db', 1);
  const keys = range(50, 'key-');
  for (let n = 0; n < 20; n += 1) {
    await s.postAll(keys.map((key) => ({ job_id: `${key}-${n}`, key, limit: 'db' })));
  }
  assert.equal(count('waiting', 'held_by IS NULL'), 50);
  assert.deepEqual(await s.claimIds(), ['key-0-0']);
  assert.equal(count('waiting', 'held_by IS NULL'), 0);
  assert.equal(count('waiting', 'held_by > 0'), 50);
  await s.store.recover({ max_crashes: 3 });
  await s.store.purge('key-0-0');
  assert.equal(count('waiting', 'held_by IS NULL'), 1);
  assert.deepEqual(await s.claimIds(), ['key-1-0']);
  assert.equal(count('waiting', 'held_by IS NULL'), 0);
});

test('a clock that is set back holds up no key that was served before', async (t) => {
  const { s } = await opened(t);
  s.advance(3_600_000);
  await s.post('before', { key: 'k' });
  assert.deepEqual(await s.claimIds(), ['before']);
  s.advance(-3_600_000);
  await s.postAll([
    { job_id: 'a', key: 'k' },
    { job_id: 'b', key: 'k' },
    { job_id: 'later', key: 'other', eta: Date.now() + 60_000 },
  ]);
  assert.deepEqual(await s.claimIds(), ['a', 'b']);
  s.advance(61_000);
  await s.post('c', { key: 'k' });
  assert.deepEqual(await s.claimIds(), ['later', 'c']);
});
