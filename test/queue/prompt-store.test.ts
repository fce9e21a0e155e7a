import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { promptStore } from '../../src/queue/prompt-store.ts';
import { openSqliteStore } from '../../src/queue/stores/sqlite.ts';
import { tempFolder } from '../support/folder.ts';

const job = (job_id: string) => ({ job_id, task: 'task', queue: 'default', payload: null });

test('what has no answer in time is unavailable, and may be carried out all the same', async (t) => {
  const path = join(tempFolder(t), 'queue.db');
  const store = await openSqliteStore({ path });
  t.after(() => store.close());
  const lock = new DatabaseSync(path);
  t.after(() => lock.close());
  lock.exec('BEGIN IMMEDIATE');
  await assert.rejects(promptStore(store, 20).enqueue([job('late')]), {
    code: 'store_unavailable',
    message: 'the job store is unavailable: no answer within 0.02 s',
  });
  lock.exec('ROLLBACK');
  // Calls are carried out in order: this one comes after the one that was given up.
  await store.ping();
  assert.equal((await store.get('late')).state, 'PENDING');
});

test('what has one is passed on, errors too', async (t) => {
  const store = await openSqliteStore({ path: ':memory:' });
  const prompt = promptStore(store, 60_000);
  t.after(() => prompt.close());
  assert.equal(prompt.store_id, store.store_id);
  assert.equal((await prompt.enqueue([job('a')])).length, 1);
  assert.deepEqual(await prompt.states(['a', 'b']), ['PENDING', null]);
  await assert.rejects(prompt.get('b'), { code: 'unknown_job' });
});
