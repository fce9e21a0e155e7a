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

const LEDGER_GONE = {
  'db.ledger': { ok: false, message: 'the file is gone' },
  'results.reports': { ok: true },
} as const;

test('ready says what is wrong with a database, and is 200 where the store alone counts', async (t) => {
  const test = await api(t);
  test.reports.parts = LEDGER_GONE;
  const answer = await test.get('/health/ready');
  assert.equal(answer.http, 200);
  assert.deepEqual(answer.data, { store: 'ok', 'db.ledger': 'the file is gone', 'results.reports': 'ok' });
});

for (const ready of [['db'], ['store', 'db.ledger'], ['results', 'db']]) {
  test(`ready is 503 while a part that counts is down, and says which and why: ${ready}`, async (t) => {
    const test = await api(t, { ready });
    test.reports.parts = LEDGER_GONE;
    const answer = await test.get('/health/ready');
    assert.equal(answer.http, 503);
    assert.equal(answer.code, 'unavailable');
    assert.equal(answer.message, 'not ready: db.ledger: the file is gone');
    assert.equal(answer.data, null);
    assert.equal(answer.headers.get('retry-after'), '5');
    test.reports.parts = { 'db.ledger': { ok: true } };
    assert.equal((await test.get('/health/ready')).http, 200);
  });
}

for (const ready of [['results'], ['store', 'db.other', 'results.reports']]) {
  test(`ready is 200 while a part that does not count is down: ${ready}`, async (t) => {
    const test = await api(t, { ready });
    test.reports.parts = LEDGER_GONE;
    assert.equal((await test.get('/health/ready')).http, 200);
  });
}

test('ready is 503 without the store, and the process lives on', async (t) => {
  const test = await api(t);
  await test.store.close();
  const answer = await test.get('/health/ready');
  assert.equal(answer.http, 503);
  assert.equal(answer.message, 'not ready: store: unavailable');
  assert.equal((await test.get('/health/live')).http, 200);
});

test('a part that does not answer is down, and its check is called off', async (t) => {
  const test = await api(t, { health_wait_ms: 20, ready: ['store', 'db'] });
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
