/** Jobs that wait for others, and jobs on somebody's behalf. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Value } from 'typebox/value';
import { JobStatusView } from '../../src/http/schemas.ts';
import { api, LONG_NAME, RESULT } from './support.ts';

const PATH = '/tasks/get_profit_summary/jobs';
const TASK = 'get_profit_summary';

test('a job runs after those it names; how they end decides whether it does', async (t) => {
  const test = await api(t);
  await test.post(PATH, { job_id: 'first' });
  assert.equal((await test.post(PATH, { job_id: 'strict', after: ['first'] })).http, 200);
  assert.equal(
    (await test.post(PATH, { job_id: 'anyway', after: ['first', 'first'], on_failure: 'run' })).http,
    200,
  );
  const { data } = await test.get('/jobs/strict');
  assert.ok(Value.Check(JobStatusView, data));
  assert.equal(data.state, 'PENDING');
  assert.deepEqual([data.after, data.on_failure], [['first'], 'cancel']);
  const anyway = (await test.get('/jobs/anyway')).data;
  assert.deepEqual([anyway.after, anyway.on_failure], [['first'], 'run']);
  const first = (await test.get('/jobs/first')).data;
  assert.deepEqual([first.after, first.on_failure], [[], null]);

  const { lease } = await test.claim();
  await assert.rejects(test.claim(), /nothing to claim/);
  await test.store.finish([{ lease, outcome: { state: 'FAILURE', error: 'no' } }]);
  assert.equal((await test.get('/jobs/strict')).data.state, 'CANCELLED');
  assert.equal((await test.claim()).job_id, 'anyway');
});

test('jobs of a group wait for each other, in whatever order they are given', async (t) => {
  const test = await api(t);
  const answer = await test.post('/groups', {
    group_id: 'g',
    jobs: [
      { job_id: 'b', task: TASK, after: ['a'] },
      { job_id: 'a', task: TASK },
    ],
  });
  assert.equal(answer.http, 200, answer.message);
  const job = await test.claim();
  assert.equal(job.job_id, 'a');
  await test.store.finish([{ lease: job.lease, outcome: { state: 'SUCCESS', result: RESULT } }]);
  assert.equal((await test.claim()).job_id, 'b');
});

test('unknown parents are unknown, cycles and impossible ids invalid, and nothing is queued', async (t) => {
  const test = await api(t);
  const unknown = await test.post(PATH, { after: ['nobody'] });
  assert.equal(unknown.http, 404);
  assert.equal(unknown.code, 'unknown_job');
  assert.equal(unknown.message, 'after: there is no job "nobody"');
  const member = await test.post('/groups', { jobs: [{ task: TASK, after: ['nobody'] }] });
  assert.deepEqual([member.http, member.code], [404, 'unknown_job']);

  const bad: [unknown, RegExp][] = [
    [{ job_id: 'self', after: ['self'] }, /"self" form a cycle$/],
    [{ after: 'a' }, /^after: must be a list of at most 1000 job ids, not "a"$/],
    [{ after: ['a b'] }, /^after: must be a list of at most 1000 job ids, but after\[0\] is "a b"$/],
    [{ after: [7] }, /^after: .*but after\[0\] is 7$/],
    [{ after: Array.from({ length: 1001 }, (_, n) => `job${n}`) }, /^after: .*not a list of 1001$/],
    [{ after: [{ job_id: 'a' }] }, /^after: /],
    [{ on_failure: 'ignore' }, /^on_failure: must be "run" or "cancel", not "ignore"$/],
    [{ on_failure: true }, /^on_failure: /],
    [{ key: 'x'.repeat(129) }, /^key: must be 1 to 128 characters/],
    [{ key: 'a\nb' }, /^key: /],
    [{ key: 7 }, /^key: /],
    [{ kye: 'ada' }, /^unknown key "kye"; did you mean "key"\?$/],
  ];
  for (const [body, message] of bad) {
    const answer = await test.post(PATH, body);
    assert.equal(answer.http, 400, JSON.stringify(body));
    assert.equal(answer.code, 'invalid_request');
    assert.match(answer.message ?? '', message);
  }
  const cycle = await test.post('/groups', {
    jobs: [
      { job_id: 'a', task: TASK, after: ['b'] },
      { job_id: 'b', task: TASK, after: ['a'] },
    ],
  });
  assert.deepEqual([cycle.http, cycle.code], [400, 'invalid_request']);
  assert.match(cycle.message ?? '', /form a cycle$/);
  assert.deepEqual((await test.store.list({}, 10)).items, []);
});

test('a key is kept and shown; blanks are none', async (t) => {
  const test = await api(t);
  await test.post(PATH, { job_id: 'a', key: 'user/größe' });
  await test.post(PATH, { job_id: 'b', key: LONG_NAME });
  await test.post(PATH, { job_id: 'c', key: '', after: [], on_failure: '' });
  await test.post(PATH, { job_id: 'd', key: null, after: null, on_failure: null });
  const keys = await Promise.all(
    ['a', 'b', 'c', 'd'].map(async (id) => (await test.get(`/jobs/${id}`)).data.key),
  );
  assert.deepEqual(keys, ['user/größe', LONG_NAME, null, null]);
  assert.deepEqual(test.reports.requests.at(-1), { task: TASK, job_id: 'd' });
});
