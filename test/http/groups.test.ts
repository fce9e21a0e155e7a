import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Value } from 'typebox/value';
import { GroupView, PostedGroupView } from '../../src/http/schemas.ts';
import { groupState } from '../../src/http/views.ts';
import type { JobState } from '../../src/queue/store.ts';
import { until } from '../support/until.ts';
import { api, RESULT } from './support.ts';

const TASK = 'get_profit_summary';

test('a group is accepted as the Go client sends it, and shown with its jobs', async (t) => {
  const test = await api(t);
  const job = (job_id: string) => ({
    task: TASK,
    job_id,
    queue: 'test',
    eta: '',
    retries: 4,
    ttl: 0,
    args: null,
    db: '',
  });
  const posted = await test.post('/groups', { group_id: 'testgroup', jobs: [job('job1'), job('job2')] });
  assert.equal(posted.http, 200, posted.message);
  assert.ok(Value.Check(PostedGroupView, posted.data));
  const accepted = (job_id: string) => ({
    job_id,
    task: TASK,
    task_name: TASK,
    queue: 'test',
    eta: null,
    retries: 4,
  });
  assert.deepEqual(posted.data, { group_id: 'testgroup', jobs: [accepted('job1'), accepted('job2')] });

  const shown = await test.get('/groups/testgroup');
  assert.ok(Value.Check(GroupView, shown.data));
  assert.equal(shown.data.state, 'PENDING');
  assert.deepEqual(
    shown.data.jobs.map((each: { job_id: string }) => each.job_id),
    ['job1', 'job2'],
  );
  assert.ok(!JSON.stringify(shown.data).includes('args'));
});

test('a group may be waited for, when it is posted and later', async (t) => {
  const test = await api(t);
  const jobs = [
    { job_id: 'a', task: TASK },
    { job_id: 'b', task: TASK },
  ];
  let answered = 0;
  const count = <T>(answer: T): T => {
    answered += 1;
    return answer;
  };
  const posting = test.post('/groups?wait=60s', { group_id: 'g', jobs }).then(count);
  await until(
    'both wait in the queue',
    async () => (await test.get('/jobs/queue/default')).data.length === 2,
  );
  const waiting = test.get('/groups/g?wait=60s').then(count);
  const ends = [await test.claim(), await test.claim()].map(({ lease }) => {
    return { lease, outcome: { state: 'SUCCESS', result: RESULT } } as const;
  });
  await test.store.finish(ends.slice(0, 1));
  assert.equal((await test.get('/groups/g?wait=20ms')).data.state, 'STARTED');
  assert.equal(answered, 0);
  await test.store.finish(ends.slice(1));
  for (const { http, data } of [await posting, await waiting]) {
    assert.equal(http, 200);
    assert.ok(Value.Check(GroupView, data));
    assert.equal(data.state, 'SUCCESS');
  }
  assert.equal((await test.get('/groups/g?wait=60s')).data.state, 'SUCCESS');
  assert.equal((await test.get('/groups/g?wait=soon')).http, 400);
  assert.equal((await test.get('/groups/nobody?wait=60s')).http, 404);
  assert.equal((await test.post('/groups?wait=61s', { group_id: 'h', jobs: [{ task: TASK }] })).http, 400);
  assert.equal((await test.get('/groups/h')).http, 404, 'refused, and not queued');
});

test('a slip in the name of a parameter is told, and nothing is done', async (t) => {
  const test = await api(t);
  await test.post('/groups', { group_id: 'g', jobs: [{ job_id: 'x', task: TASK }] });
  for (const [method, path] of [
    ['GET', '/jobs/x?wiat=1s'],
    ['GET', '/groups/g?wiat=1s'],
    ['GET', '/jobs/queue/default?limits=1'],
    ['GET', '/tasks?sqll=1'],
    ['DELETE', '/jobs/x?prune=true'],
    ['DELETE', '/groups/g?prune=true'],
    ['POST', '/groups?wiat=1s'],
  ] as const) {
    const answer = await test.request(
      method,
      path,
      method === 'POST' ? { jobs: [{ task: TASK }] } : undefined,
    );
    assert.deepEqual([answer.http, answer.code], [400, 'invalid_request'], path);
    assert.match(answer.message ?? '', /^unknown parameter "/);
  }
  const posted = await test.post(`/tasks/${TASK}/jobs?wiat=1s`, {});
  assert.match(posted.message ?? '', /^unknown parameter "wiat"; did you mean "wait"/);
  assert.equal((await test.get('/jobs/x')).data.state, 'PENDING');
  assert.equal((await test.get('/jobs')).data.jobs.length, 1);
});

test('ids are made up where there are none', async (t) => {
  const test = await api(t);
  const { data } = await test.post('/groups', {
    group_id: '',
    jobs: [{ task: TASK }, { task: 'slow_query' }],
  });
  assert.match(data.group_id, /^group_[0-9a-f-]{36}$/);
  assert.match(data.jobs[1].job_id, /^job_[0-9a-f-]{36}$/);
  assert.equal(data.jobs[1].queue, 'slow');
});

test('concurrency bounds how many of a group run at once; 0 and null do not', async (t) => {
  const test = await api(t);
  const jobs = [{ task: TASK }, { task: TASK }, { task: TASK }];
  const claimable = async () => {
    const { jobs: claimed } = await test.store.claim({
      worker: 'w',
      queues: [{ queue: 'default', limit: 10 }],
      limit: 10,
      lease_ms: 60_000,
    });
    return claimed.length;
  };
  await test.post('/groups', { concurrency: 2, jobs });
  assert.equal(await claimable(), 2);
  for (const concurrency of [0, null]) {
    await test.post('/groups', { concurrency, jobs });
    assert.equal(await claimable(), 3);
  }
});

test('a group has one state for all of its jobs', () => {
  const cases: [string, JobState[]][] = [
    ['PENDING', ['PENDING', 'PENDING']],
    ['STARTED', ['PENDING', 'STARTED']],
    ['STARTED', ['PENDING', 'SUCCESS']],
    ['STARTED', ['PENDING', 'FAILURE']],
    ['STARTED', ['RETRY', 'PENDING']],
    ['SUCCESS', ['SUCCESS', 'SUCCESS']],
    ['FAILURE', ['SUCCESS', 'FAILURE', 'CANCELLED']],
    ['CANCELLED', ['SUCCESS', 'CANCELLED']],
    ['CANCELLED', ['CANCELLED']],
  ];
  for (const [expected, states] of cases) {
    assert.equal(groupState(states.map((state) => ({ state }))), expected, states.join(' '));
  }
});

test('of a group with one wrong job none is accepted, and the message says which it is', async (t) => {
  const test = await api(t);
  await test.post(`/tasks/${TASK}/jobs`, { job_id: 'taken' });
  const ok = { task: TASK };
  const bad: [body: unknown, http: number, code: string, message: RegExp][] = [
    ['', 400, 'invalid_request', /^jobs: is missing; it must be a list of 1 to 10000 job requests$/],
    [
      { jobs: [] },
      400,
      'invalid_request',
      /^jobs: must be a list of 1 to 10000 job requests, not a list of 0$/,
    ],
    [{ jobs: null }, 400, 'invalid_request', /^jobs: /],
    [
      { jobs: Array.from({ length: 10_001 }, () => ok) },
      400,
      'invalid_request',
      /^jobs: .*not a list of 10001$/,
    ],
    [{ jobs: [ok, 7] }, 400, 'invalid_request', /^jobs\[1\]: must be a JSON object, not 7$/],
    [{ jobs: [ok, {}] }, 400, 'invalid_request', /^jobs\[1\]\.task: is missing/],
    [{ jobs: [ok, { task: '' }] }, 400, 'invalid_request', /^jobs\[1\]\.task: is missing/],
    [{ jobs: [ok, { task: 'nope' }] }, 404, 'unknown_task', /^jobs\[1\]\.task: there is no task "nope"/],
    [{ jobs: [ok, { task: TASK, db: 'nope' }] }, 400, 'invalid_request', /^jobs\[1\]\.db: /],
    [
      { jobs: [ok, { task: TASK, retries: -1 }] },
      400,
      'invalid_request',
      /^jobs\[1\]\.retries: must be a whole number/,
    ],
    [{ jobs: [ok, { task: TASK, eta: 'x' }] }, 400, 'invalid_request', /^jobs\[1\]\.eta: /],
    [
      { jobs: [ok, { task: TASK, args: [[]] }] },
      400,
      'invalid_request',
      /^jobs\[1\]\.args: .*but jobs\[1\]\.args\[0\] is a list/,
    ],
    [{ jobs: [ok, { task: TASK, job_id: "x'; DROP" }] }, 400, 'invalid_request', /^jobs\[1\]\.job_id: /],
    [
      { jobs: [ok, { task: TASK, job_di: 'x' }] },
      400,
      'invalid_request',
      /^jobs\[1\]: unknown key "job_di"; did you mean "job_id"\?$/,
    ],
    [{ jobs: [ok], group: 'x' }, 400, 'invalid_request', /^unknown key "group"/],
    [{ jobs: [ok], group_id: 'a.b' }, 400, 'invalid_request', /^group_id: must be 1 to 128 of/],
    [{ jobs: [ok], concurrency: -1 }, 400, 'invalid_request', /^concurrency: /],
    [{ jobs: [ok], concurrency: 1.5 }, 400, 'invalid_request', /^concurrency: /],
    [{ jobs: [ok, { task: TASK, job_id: 'taken' }] }, 409, 'job_active', /"taken"/],
    [
      { jobs: [{ task: TASK, job_id: 'a' }, ok, { task: TASK, job_id: 'a' }] },
      409,
      'job_active',
      /^jobs\[2\]\.job_id: "a" is the id of jobs\[0\] too$/,
    ],
  ];
  for (const [body, http, code, message] of bad) {
    const answer = await test.post('/groups', body);
    const shown = JSON.stringify(body).slice(0, 100);
    assert.equal(answer.http, http, `${shown}: ${answer.message}`);
    assert.equal(answer.code, code, shown);
    assert.match(answer.message ?? '', message, shown);
  }
  const { items } = await test.store.list({}, 10);
  assert.deepEqual(
    items.map((job) => job.job_id),
    ['taken'],
  );
});

test('a group id is refused while its group is active', async (t) => {
  const test = await api(t);
  const body = { group_id: 'g', jobs: [{ task: TASK }] };
  assert.equal((await test.post('/groups', body)).http, 200);
  const again = await test.post('/groups', body);
  assert.equal(again.http, 409);
  assert.equal(again.code, 'job_active');
  await test.delete('/groups/g');
  assert.equal((await test.post('/groups', body)).http, 200);
});

test('a cancel of a group reaches all of its jobs', async (t) => {
  const test = await api(t, { cancel_wait_ms: 30_000 });
  await test.post('/groups', {
    group_id: 'g',
    jobs: [
      { task: TASK, job_id: 'runs' },
      { task: TASK, job_id: 'waits' },
    ],
  });
  const { lease } = await test.claim();
  const cancelling = test.delete('/groups/g');
  await until('the cancel is asked for', async () => (await test.get('/jobs/runs')).data.cancel_requested);
  assert.equal((await test.get('/jobs/waits')).data.state, 'CANCELLED');
  await test.store.finish([{ lease, outcome: { state: 'CANCELLED' } }]);
  assert.equal((await cancelling).data, true);
  assert.equal((await test.get('/groups/g')).data.state, 'CANCELLED');
  const again = await test.delete('/groups/g');
  assert.equal(again.http, 409);
  assert.equal(again.code, 'job_finished');
});

test('a purge of a group forgets it with its jobs, and drops every table', async (t) => {
  const test = await api(t, { cancel_wait_ms: 15_000 });
  const jobs = Array.from({ length: 10 }, (_, n) => ({ task: TASK, job_id: `j${n}` }));
  await test.post('/groups', { group_id: 'g', jobs });
  const done = await test.claim();
  await test.store.finish([{ lease: done.lease, outcome: { state: 'SUCCESS', result: RESULT } }]);
  const runs = await test.claim();
  const purging = test.delete('/groups/g?purge=true');
  await until(
    'the cancel is asked for',
    async () => (await test.get(`/jobs/${runs.job_id}`)).data?.cancel_requested,
  );
  await test.store.finish([{ lease: runs.lease, outcome: { state: 'CANCELLED' } }]);
  assert.equal((await purging).data, true);
  assert.deepEqual(
    test.reports.dropped.toSorted(),
    jobs.map((job) => job.job_id),
  );
  assert.equal((await test.get('/groups/g')).code, 'unknown_group');
  assert.equal((await test.get('/jobs/j0')).code, 'unknown_job');
});

test('a finished group can be purged, one that does not stop too', async (t) => {
  const test = await api(t, { cancel_wait_ms: 10 });
  await test.post('/groups', { group_id: 'ended', jobs: [{ task: TASK, job_id: 'a' }] });
  await test.delete('/groups/ended');
  assert.equal((await test.delete('/groups/ended?purge=true')).data, true);
  await test.post('/groups', { group_id: 'stuck', jobs: [{ task: TASK, job_id: 'b' }] });
  const { lease } = await test.claim();
  assert.equal((await test.delete('/groups/stuck?purge=true')).data, true);
  assert.equal((await test.store.renew([{ lease }], 60_000)).lost.length, 1);
  assert.deepEqual(test.reports.dropped, ['a', 'b']);
});

test('unknown groups are unknown, impossible ids invalid', async (t) => {
  const test = await api(t);
  for (const [method, path] of [
    ['GET', '/groups/none'],
    ['DELETE', '/groups/none'],
    ['DELETE', '/groups/none?purge=true'],
  ] as const) {
    const answer = await test.request(method, path);
    assert.equal(answer.http, 404);
    assert.equal(answer.code, 'unknown_group');
  }
  assert.equal((await test.get('/groups/a.b')).http, 400);
  assert.equal((await test.delete('/groups/a%27b')).http, 400);
});

test('ten thousand jobs in one request', async (t) => {
  const test = await api(t);
  const answer = await test.post('/groups', {
    group_id: 'many',
    jobs: Array.from({ length: 10_000 }, () => ({ task: TASK })),
  });
  assert.equal(answer.http, 200, answer.message);
  assert.equal(answer.data.jobs.length, 10_000);
});
