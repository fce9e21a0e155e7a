import assert from 'node:assert/strict';
import { test } from 'node:test';
import { api } from './support.ts';

test('live says that the process answers', async (t) => {
  const test = await api(t);
  const answer = await test.get('/health/live');
  assert.equal(answer.http, 200);
  assert.deepEqual(answer.data, { process: 'ok' });
});

test('ready names every part', async (t) => {
  const test = await api(t);
  const answer = await test.get('/health/ready');
  assert.equal(answer.http, 200);
  assert.deepEqual(answer.data, { store: 'ok', 'db.ledger': 'ok', 'results.reports': 'ok' });
});

test('ready is 503 while a part is down, and says which and why', async (t) => {
  const test = await api(t);
  test.reports.parts = {
    'db.ledger': { ok: false, message: 'the file is gone' },
    'results.reports': { ok: true },
  };
  const answer = await test.get('/health/ready');
  assert.equal(answer.http, 503);
  assert.equal(answer.code, 'unavailable');
  assert.equal(answer.message, 'not ready: db.ledger: the file is gone');
  assert.equal(answer.data, null);
  assert.equal(answer.headers.get('retry-after'), '5');
  test.reports.parts = { 'db.ledger': { ok: true } };
  assert.equal((await test.get('/health/ready')).http, 200);
});

test('ready is 503 without the store, and the process lives on', async (t) => {
  const test = await api(t);
  await test.store.close();
  const answer = await test.get('/health/ready');
  assert.equal(answer.http, 503);
  assert.equal(answer.message, 'not ready: store: unavailable');
  assert.equal((await test.get('/health/live')).http, 200);
});

test('a part that does not answer is down, and its check is called off', async (t) => {
  const test = await api(t, { health_wait_ms: 20 });
  let signal: AbortSignal | undefined;
  test.reports.health = (given) => {
    signal = given;
    return new Promise(() => {});
  };
  const answer = await test.get('/health/ready');
  assert.equal(answer.http, 503);
  assert.equal(answer.message, 'not ready: databases: do not answer');
  assert.equal(signal?.aborted, true);
});
