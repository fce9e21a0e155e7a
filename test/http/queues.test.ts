import assert from 'node:assert/strict';
import { test } from 'node:test';
import Type from 'typebox';
import { Value } from 'typebox/value';
import { LimitView, PausedView, QueueView } from '../../src/http/schemas.ts';
import { api, LONG_NAME } from './support.ts';

const PATH = '/tasks/get_profit_summary/jobs';
const NONE = { PENDING: 0, STARTED: 0, RETRY: 0, SUCCESS: 0, FAILURE: 0, CANCELLED: 0 };

test('queues are listed with their jobs by state and how long one has been ready', async (t) => {
  const test = await api(t);
  assert.deepEqual((await test.get('/queues')).data, []);
  for (const job_id of ['a', 'b', 'c']) await test.post(PATH, { job_id });
  await test.post(PATH, { job_id: 'later', queue: 'other', eta: '2999-01-01 00:00:00' });
  await test.claim();
  await test.delete('/jobs/b');
  const answer = await test.get('/queues');
  assert.equal(answer.http, 200);
  assert.ok(Value.Check(Type.Array(QueueView), answer.data));
  const [first, other] = answer.data;
  assert.ok(typeof first?.oldest_ready_ms === 'number');
  assert.ok(first.oldest_ready_ms >= 0 && first.oldest_ready_ms < 60_000);
  assert.deepEqual(
    { ...first, oldest_ready_ms: null },
    {
      queue: 'default',
      paused: false,
      counts: { ...NONE, PENDING: 1, STARTED: 1, CANCELLED: 1 },
      oldest_ready_ms: null,
    },
  );
  assert.deepEqual(other, {
    queue: 'other',
    paused: false,
    counts: { ...NONE, PENDING: 1 },
    oldest_ready_ms: null,
  });
});

test('a paused queue takes posts and hands nothing out until it is resumed', async (t) => {
  const test = await api(t);
  const paused = await test.post('/queues/default/pause');
  assert.equal(paused.http, 200);
  assert.ok(Value.Check(PausedView, paused.data));
  assert.deepEqual(paused.data, { queue: 'default', paused: true });
  assert.equal((await test.post(PATH, { job_id: 'a' })).http, 200);
  await assert.rejects(test.claim(), /nothing to claim/);
  assert.equal((await test.get('/queues')).data[0].paused, true);
  // Again changes nothing.
  assert.equal((await test.post('/queues/default/pause')).data.paused, true);
  assert.deepEqual((await test.post('/queues/default/resume')).data, { queue: 'default', paused: false });
  assert.equal((await test.claim()).job_id, 'a');
  assert.deepEqual((await test.post('/queues/default/resume')).data, { queue: 'default', paused: false });
});

test('the name of a queue may be anything that a job can name', async (t) => {
  const test = await api(t);
  for (const queue of ['größe/über', LONG_NAME, '__proto__', 'a b']) {
    await test.post(PATH, { queue });
    const answer = await test.post(`/queues/${encodeURIComponent(queue)}/pause`);
    assert.equal(answer.http, 200, answer.message);
    assert.equal(answer.data.queue, queue);
    const { data } = await test.get('/queues');
    assert.ok(data.some((one: { queue: string }) => one.queue === queue));
  }
  for (const queue of ['a%0Ab', `${LONG_NAME}x`, '%00']) {
    const answer = await test.post(`/queues/${queue}/pause`);
    assert.equal(answer.http, 400);
    assert.match(
      answer.message ?? '',
      /^queue: must be 1 to 128 characters, none of them a control character/,
    );
  }
  const body = await test.post('/queues/a/pause', { for: '1h' });
  assert.equal(body.http, 400);
  assert.match(body.message ?? '', /^unknown key "for"/);
  assert.equal((await test.get('/queues/a/pause')).http, 404);
});

test('a queue that nothing names is neither paused nor resumed', async (t) => {
  const test = await api(t);
  for (const change of ['pause', 'resume']) {
    const { http, code, message } = await test.post(`/queues/defualt/${change}`);
    assert.deepEqual([http, code], [404, 'unknown_queue']);
    assert.equal(
      message,
      'there is no queue "defualt": no task and no job names it; did you mean "default"?',
    );
  }
  assert.deepEqual((await test.get('/queues')).data, []);
  // One that is paused already can be resumed, whatever has become of its jobs.
  await test.store.pause('empty');
  assert.equal((await test.post('/queues/empty/pause')).http, 200);
  assert.equal((await test.post('/queues/empty/resume')).http, 200);
  assert.deepEqual((await test.get('/queues')).data, []);
});

test('limits are shown by database', async (t) => {
  const test = await api(t);
  test.reports.loads = [
    { db: 'ledger', concurrency: 3, running: 2, waiting: 10 },
    { db: 'copy', concurrency: null, running: 0, waiting: 0 },
  ];
  const answer = await test.get('/limits');
  assert.equal(answer.http, 200);
  assert.ok(Value.Check(Type.Array(LimitView), answer.data));
  assert.deepEqual(answer.data, test.reports.loads);
});
