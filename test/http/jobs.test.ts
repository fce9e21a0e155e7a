import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Value } from 'typebox/value';
import { JobPageView, JobStatusView, JobView } from '../../src/http/schemas.ts';
import { StoreUnavailable } from '../../src/queue/errors.ts';
import { until } from '../support/until.ts';
import { api, RESULT } from './support.ts';

const PATH = '/tasks/get_profit_summary/jobs';

test('a job is shown in every state of its life', async (t) => {
  const test = await api(t);
  const request = { args: ['USER1', 2], retries: 1, ttl: 60, timeout: 9, priority: 5, key: 'ada' };
  await test.post(PATH, { job_id: 'x', ...request });

  const pending = (await test.get('/jobs/x')).data;
  assert.ok(Value.Check(JobStatusView, pending), JSON.stringify([...Value.Errors(JobStatusView, pending)]));
  const { created_at, ...rest } = pending;
  assert.match(created_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.deepEqual(rest, {
    job_id: 'x',
    task: 'get_profit_summary',
    queue: 'default',
    state: 'PENDING',
    status: 'PENDING',
    count: 0,
    results: [],
    error: '',
    progress: null,
    group_id: null,
    attempt: 0,
    retries: 1,
    priority: 5,
    key: 'ada',
    after: [],
    on_failure: null,
    db: 'ledger',
    backend: 'reports',
    ttl: 60,
    timeout: 9,
    eta: null,
    started_at: null,
    finished_at: null,
    queue_ms: null,
    run_ms: null,
    worker: null,
    cancel_requested: false,
    result: null,
    args: ['USER1', 2],
  });

  const first = await test.claim();
  const progress = { rows: 10, bytes: 100, phase: 'load' };
  await test.store.renew([{ lease: first.lease, progress }], 60_000);
  const started = (await test.get('/jobs/x')).data;
  assert.equal(started.state, 'STARTED');
  assert.equal(started.attempt, 1);
  assert.equal(started.worker, 'tester');
  assert.deepEqual(started.progress, progress);
  assert.equal(typeof started.queue_ms, 'number');
  assert.equal(started.run_ms, null);

  await test.store.finish([
    { lease: first.lease, outcome: { state: 'RETRY', error: 'lost it', delay_ms: 0 } },
  ]);
  const retry = (await test.get('/jobs/x')).data;
  assert.equal(retry.status, 'RETRY');
  assert.equal(retry.error, 'lost it');
  assert.equal(retry.progress, null);

  const second = await test.claim();
  await test.store.finish([{ lease: second.lease, outcome: { state: 'SUCCESS', result: RESULT } }]);
  const done = (await test.get('/jobs/x')).data;
  assert.ok(Value.Check(JobStatusView, done), JSON.stringify([...Value.Errors(JobStatusView, done)]));
  assert.equal(done.state, 'SUCCESS');
  assert.equal(done.status, 'SUCCESS');
  assert.equal(done.count, 2);
  assert.deepEqual(done.results, [{ Type: 'int64', Value: 2 }]);
  assert.deepEqual(done.result, { ...RESULT, expires_at: '2023-11-14T22:13:20.000Z' });
  assert.equal(done.error, '');
  assert.equal(done.attempt, 2);
  assert.ok(done.run_ms !== null && done.run_ms >= 0);
  assert.ok(Date.parse(done.finished_at ?? '') >= Date.parse(done.started_at ?? ''));
});

test('a failed job is no failed request', async (t) => {
  const test = await api(t);
  await test.post(PATH, { job_id: 'bad' });
  const { lease } = await test.claim();
  await test.store.finish([{ lease, outcome: { state: 'FAILURE', error: 'no such column: x' } }]);
  const answer = await test.get('/jobs/bad');
  assert.equal(answer.http, 200);
  assert.equal(answer.data.state, 'FAILURE');
  assert.equal(answer.data.error, 'no such column: x');
  assert.equal(answer.data.count, 0);
  assert.deepEqual(answer.data.results, []);
});

test('a job that is no report is shown without what only reports have', async (t) => {
  const test = await api(t);
  await test.queue.enqueue({ job_id: 'other', task: 'mail', queue: 'default', payload: { to: 'x' } });
  const { data } = await test.get('/jobs/other');
  assert.ok(Value.Check(JobStatusView, data));
  assert.equal(data.args, null);
  assert.equal(data.db, null);
});

test('unknown ids are unknown, impossible ones invalid', async (t) => {
  const test = await api(t);
  for (const id of ['aaaa', '__proto__', 'constructor', 'queue', 'x'.repeat(128)]) {
    for (const [method, path] of [
      ['GET', `/jobs/${id}`],
      ['GET', `/jobs/${id}?wait=1s`],
      ['DELETE', `/jobs/${id}`],
      ['DELETE', `/jobs/${id}?purge=true`],
      ['POST', `/jobs/${id}/retry`],
    ] as const) {
      const answer = await test.request(method, path);
      assert.equal(answer.http, 404, `${method} ${path}`);
      assert.equal(answer.code, 'unknown_job');
    }
  }
  for (const id of ['a.b', 'a%22b', "a'b", 'x'.repeat(129), '%C3%A4', 'a%00', 'a%2Fb', 'a%20b']) {
    for (const [method, path] of [
      ['GET', `/jobs/${id}`],
      ['DELETE', `/jobs/${id}`],
      ['POST', `/jobs/${id}/retry`],
    ] as const) {
      const answer = await test.request(method, path);
      assert.equal(answer.http, 400, `${method} ${path}`);
      assert.match(answer.message ?? '', /^job_id: must be 1 to 128 of/);
    }
  }
});

test('wait answers when the job ends', async (t) => {
  const test = await api(t);
  await test.post(PATH, { job_id: 'x' });
  const { lease } = await test.claim();
  let answered = false;
  const waiting = test.get('/jobs/x?wait=60s').then((answer) => {
    answered = true;
    return answer;
  });
  assert.equal((await test.get('/jobs/x')).data.state, 'STARTED');
  assert.equal(answered, false);
  await test.store.finish([{ lease, outcome: { state: 'SUCCESS', result: RESULT } }]);
  assert.equal((await waiting).data.state, 'SUCCESS');
});

test('wait answers at once for a finished job, and at its time for another', async (t) => {
  const test = await api(t);
  await test.post(PATH, { job_id: 'x' });
  assert.equal((await test.get('/jobs/x?wait=20ms')).data.state, 'PENDING');
  assert.equal((await test.get('/jobs/x?wait=0.02')).data.state, 'PENDING');
  await test.delete('/jobs/x');
  assert.equal((await test.get('/jobs/x?wait=60s')).data.state, 'CANCELLED');
});

test('a post may wait for its job: one answer with what it was posted as and how it ended', async (t) => {
  const test = await api(t);
  let answered = false;
  const posting = test.post(`${PATH}?wait=60s`, { job_id: 'x', retries: 2 }).then((answer) => {
    answered = true;
    return answer;
  });
  const { lease } = await until('it can be claimed', async () => {
    const { data } = await test.get('/jobs/queue/default');
    return data.length === 1 ? test.claim() : undefined;
  });
  assert.equal(answered, false);
  await test.store.finish([{ lease, outcome: { state: 'SUCCESS', result: RESULT } }]);
  const { data } = await posting;
  const status = (await test.get('/jobs/x')).data;
  assert.deepEqual(data, { ...status, task_name: status.task });
  assert.deepEqual([data.state, data.retries, data.result.rows], ['SUCCESS', 2, RESULT.rows]);
});

test('a post that waits is answered at its time, and refused as any other', async (t) => {
  const test = await api(t);
  assert.equal((await test.post(`${PATH}?wait=20ms`, { job_id: 'x' })).data.state, 'PENDING');
  const active = await test.post(`${PATH}?wait=60s`, { job_id: 'x' });
  assert.deepEqual([active.http, active.code], [409, 'job_active']);
  for (const wait of ['0', '61s', 'soon', '']) {
    const answer = await test.post(`${PATH}?wait=${wait}`, { job_id: 'y' });
    assert.equal(answer.http, 400, wait);
    assert.match(answer.message ?? '', /^wait: must be a duration such as 30s/);
  }
  assert.equal((await test.get('/jobs/y')).http, 404, 'refused, and not queued');
});

test('a post that waits is accepted although the store goes away meanwhile', async (t) => {
  const test = await api(t);
  test.queue.wait = async () => {
    throw StoreUnavailable('the store is away');
  };
  const { http, data } = await test.post(`${PATH}?wait=60s`, { job_id: 'x' });
  assert.deepEqual([http, data.job_id, data.state], [200, 'x', 'PENDING']);
});

test('a post that waits is accepted although the job is purged meanwhile', async (t) => {
  const test = await api(t);
  const posting = test.post(`${PATH}?wait=60s`, { job_id: 'x' });
  await until('it is queued', async () => (await test.get('/jobs/x')).http === 200);
  await test.store.purge('x');
  const { http, data } = await posting;
  assert.deepEqual([http, data.job_id, data.state], [200, 'x', 'PENDING']);
});

test('a wait that is none, or too long, is refused', async (t) => {
  const test = await api(t);
  await test.post(PATH, { job_id: 'x' });
  for (const wait of ['0', '0s', '61s', '2m', '60.001', '-1s', 'soon', '', '1e1']) {
    const answer = await test.get(`/jobs/x?wait=${wait}`);
    assert.equal(answer.http, 400, wait);
    assert.match(answer.message ?? '', /^wait: must be a duration such as 30s/);
  }
  assert.equal((await test.get('/jobs/x?wait=1s&wait=2s')).http, 400);
});

test('a wait ends when its client goes away', async (t) => {
  const test = await api(t);
  await test.post(PATH, { job_id: 'x' });
  const signals: AbortSignal[] = [];
  const wait = test.queue.wait.bind(test.queue);
  test.queue.wait = (id, options) => {
    if (options.signal !== undefined) signals.push(options.signal);
    return wait(id, options);
  };
  const socket = await test.socket(t);
  socket.write('GET /jobs/x?wait=60s HTTP/1.1\r\nHost: localhost\r\n\r\n');
  const signal = await until('the wait has begun', () => signals[0]);
  assert.equal(signal.aborted, false);
  const aborted = once(signal, 'abort');
  socket.destroy();
  await aborted;
  await until('the log says so', () => test.log.some((line) => line.msg === 'the client went away'));
});

test('a pending job is cancelled at once, once', async (t) => {
  const test = await api(t);
  await test.post(PATH, { job_id: 'x' });
  const answer = await test.delete('/jobs/x?purge=false');
  assert.equal(answer.http, 200);
  assert.equal(answer.data, true);
  assert.equal((await test.get('/jobs/x')).data.state, 'CANCELLED');
  const again = await test.delete('/jobs/x');
  assert.equal(again.http, 409);
  assert.equal(again.code, 'job_finished');
  await assert.rejects(test.claim(), /nothing to claim/);
});

test('the answer to a cancel of a running job comes when it has ended', async (t) => {
  const test = await api(t, { cancel_wait_ms: 30_000 });
  await test.post(PATH, { job_id: 'x' });
  const { lease } = await test.claim();
  let answered = false;
  const cancelling = test.delete('/jobs/x').then((answer) => {
    answered = true;
    return answer;
  });
  await until('the cancel is asked for', async () => (await test.get('/jobs/x')).data.cancel_requested);
  assert.equal(answered, false);
  const { cancelled } = await test.store.renew([{ lease }], 60_000);
  assert.equal(cancelled.length, 1);
  await test.store.finish([{ lease, outcome: { state: 'CANCELLED' } }]);
  assert.equal((await cancelling).data, true);
  assert.equal((await test.get('/jobs/x')).data.state, 'CANCELLED');
});

test('the answer to a cancel comes even if the job does not end', async (t) => {
  const test = await api(t, { cancel_wait_ms: 20 });
  await test.post(PATH, { job_id: 'x' });
  await test.claim();
  assert.equal((await test.delete('/jobs/x')).data, true);
  const { data } = await test.get('/jobs/x');
  assert.equal(data.state, 'STARTED');
  assert.equal(data.cancel_requested, true);
});

test('purge forgets a finished job and drops its table', async (t) => {
  const test = await api(t);
  await test.post(PATH, { job_id: 'x' });
  const { lease } = await test.claim();
  await test.store.finish([{ lease, outcome: { state: 'SUCCESS', result: RESULT } }]);
  assert.equal((await test.delete('/jobs/x')).code, 'job_finished');
  assert.equal((await test.delete('/jobs/x?purge=true')).data, true);
  assert.deepEqual(test.reports.dropped, ['x']);
  assert.equal((await test.get('/jobs/x')).code, 'unknown_job');
});

test('purge cancels first what is active', async (t) => {
  const test = await api(t, { cancel_wait_ms: 15_000 });
  await test.post(PATH, { job_id: 'waits' });
  assert.equal((await test.delete('/jobs/waits?purge=1')).data, true);
  assert.equal((await test.get('/jobs/waits')).http, 404);

  await test.post(PATH, { job_id: 'runs' });
  const { lease } = await test.claim();
  const purging = test.delete('/jobs/runs?purge=true');
  await until('the cancel is asked for', async () => (await test.get('/jobs/runs')).data?.cancel_requested);
  assert.deepEqual(test.reports.dropped, ['waits'], 'the table is dropped when nobody writes it any more');
  await test.store.finish([{ lease, outcome: { state: 'CANCELLED' } }]);
  assert.equal((await purging).data, true);
  assert.deepEqual(test.reports.dropped, ['waits', 'runs']);
});

test('purge takes the lease of a job that does not stop before it drops its table', async (t) => {
  const test = await api(t, { cancel_wait_ms: 10 });
  await test.post(PATH, { job_id: 'stuck' });
  const { lease } = await test.claim();
  assert.equal((await test.delete('/jobs/stuck?purge=true')).data, true);
  assert.deepEqual(test.reports.dropped, ['stuck']);
  const { lost } = await test.store.renew([{ lease }], 60_000);
  assert.equal(lost.length, 1);
});

test('a table that cannot be dropped leaves the record, so that the purge can be repeated', async (t) => {
  const test = await api(t);
  await test.post(PATH, { job_id: 'x' });
  const { lease } = await test.claim();
  await test.store.finish([{ lease, outcome: { state: 'SUCCESS', result: RESULT } }]);
  test.reports.beforeDrop = () => {
    throw new Error('secret://dsn is away');
  };
  const answer = await test.delete('/jobs/x?purge=true');
  assert.equal(answer.http, 503);
  assert.equal(answer.code, 'unavailable');
  assert.equal(answer.message, 'the result table of job "x" cannot be dropped for now; ask again');
  assert.equal((await test.get('/jobs/x')).data.state, 'SUCCESS');
  test.reports.beforeDrop = () => {};
  assert.equal((await test.delete('/jobs/x?purge=true')).data, true);
});

test('the table of a job that is forgotten can be dropped, once', async (t) => {
  const test = await api(t);
  test.reports.tables = new Set(['old']);
  assert.equal((await test.delete('/jobs/old')).code, 'unknown_job');
  assert.deepEqual(test.reports.dropped, []);
  assert.equal((await test.delete('/jobs/old?purge=true')).data, true);
  assert.deepEqual(test.reports.dropped, ['old']);
  test.reports.tables = new Set();
  assert.equal((await test.delete('/jobs/old?purge=true')).code, 'unknown_job');
});

test('a purge that is neither true nor false is refused before anything is cancelled', async (t) => {
  const test = await api(t);
  await test.post(PATH, { job_id: 'x' });
  for (const purge of ['yes', '2', 'TrUe', 'true&purge=false']) {
    const answer = await test.delete(`/jobs/x?purge=${purge}`);
    assert.equal(answer.http, 400, purge);
    assert.match(answer.message ?? '', /^purge: must be true or false/);
  }
  assert.equal((await test.get('/jobs/x')).data.state, 'PENDING');
});

test('a failed or cancelled job runs again as it was posted', async (t) => {
  const test = await api(t);
  await test.post(PATH, { job_id: 'x', args: ['a'], retries: 2 });
  assert.equal((await test.post('/jobs/x/retry')).code, 'job_active');
  await test.delete('/jobs/x');
  const answer = await test.post('/jobs/x/retry');
  assert.equal(answer.http, 200);
  assert.equal(answer.data.state, 'PENDING');
  assert.deepEqual(answer.data.args, ['a']);
  const { lease } = await test.claim();
  await test.store.finish([{ lease, outcome: { state: 'FAILURE', error: 'no' } }]);
  assert.equal((await test.post('/jobs/x/retry', {})).http, 200);
  const again = await test.claim();
  await test.store.finish([{ lease: again.lease, outcome: { state: 'SUCCESS', result: RESULT } }]);
  assert.equal((await test.post('/jobs/x/retry')).code, 'job_finished');
  const keyed = await test.post('/jobs/x/retry', { retries: 3 });
  assert.equal(keyed.http, 400);
  assert.equal(keyed.message, 'unknown key "retries"; none is taken here');
});

test('the list has filters and pages, newest first, without arguments', async (t) => {
  const test = await api(t);
  for (let n = 0; n < 5; n++) await test.post(PATH, { job_id: `j${n}`, args: ['secret'] });
  await test.post('/tasks/slow_query/jobs', { job_id: 'slow' });
  await test.post('/groups', { group_id: 'g', jobs: [{ job_id: 'in', task: 'slow_query' }] });
  await test.delete('/jobs/j0');
  const ids = async (query: string) => {
    const { http, data, message } = await test.get(`/jobs${query}`);
    assert.equal(http, 200, message);
    assert.ok(Value.Check(JobPageView, data));
    return data.jobs.map((job: { job_id: string }) => job.job_id).join(' ');
  };
  assert.equal(await ids(''), 'in slow j4 j3 j2 j1 j0');
  assert.equal(await ids('?state=CANCELLED'), 'j0');
  assert.equal(await ids('?state=PENDING&task=get_profit_summary'), 'j4 j3 j2 j1');
  assert.equal(await ids('?queue=slow'), 'in slow');
  assert.equal(await ids('?group=g'), 'in');
  assert.equal(await ids('?task=__proto__'), '');
  assert.equal(await ids('?state=&task=&queue=&group=&cursor='), 'in slow j4 j3 j2 j1 j0');

  const seen: string[] = [];
  let cursor = '';
  do {
    const { data } = await test.get(
      `/jobs?limit=3${cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`}`,
    );
    assert.ok(data.jobs.length <= 3);
    seen.push(...data.jobs.map((job: { job_id: string }) => job.job_id));
    cursor = data.cursor ?? '';
  } while (cursor !== '');
  assert.equal(seen.join(' '), 'in slow j4 j3 j2 j1 j0');

  const { data } = await test.get('/jobs');
  assert.ok(!JSON.stringify(data).includes('secret'));
});

test('a list that cannot be is refused', async (t) => {
  const test = await api(t);
  for (const [query, message] of [
    [
      'state=DONE',
      /^state: must be one of PENDING, STARTED, RETRY, SUCCESS, FAILURE, CANCELLED, not "DONE"$/,
    ],
    ['limit=0', /^limit: must be a whole number from 1 to 1000, not "0"$/],
    ['limit=1001', /^limit: /],
    ['limit=1e2', /^limit: /],
    ['limit=-1', /^limit: /],
    ['limit=', /^limit: /],
    ['cursor=nonsense', /cursor/],
    ['stat=FAILURE', /^unknown parameter "stat"; did you mean "state"\?$/],
    ['__proto__=1', /^unknown parameter "__proto__"/],
  ] as const) {
    const answer = await test.get(`/jobs?${query}`);
    assert.equal(answer.http, 400, query);
    assert.equal(answer.code, 'invalid_request');
    assert.match(answer.message ?? '', message, query);
  }
});

test('the pending jobs of a queue come in the order in which they will run', async (t) => {
  const test = await api(t);
  await test.post(PATH, { job_id: 'a' });
  await test.post(PATH, { job_id: 'b', priority: 1, args: ['secret'] });
  await test.post(PATH, { job_id: 'c' });
  await test.post('/tasks/slow_query/jobs', { job_id: 'other' });
  const { data } = await test.get('/jobs/queue/default');
  assert.ok(Array.isArray(data));
  assert.deepEqual(
    data.map((job) => job.job_id),
    ['b', 'a', 'c'],
  );
  for (const job of data) {
    assert.ok(Value.Check(JobView, job));
    // The Go client decodes these as its own.
    assert.ok(!('job' in job) && !('payload' in job) && !('args' in job));
  }
  assert.deepEqual(
    (await test.get('/jobs/queue/default?limit=1')).data.map((job: { job_id: string }) => job.job_id),
    ['b'],
  );
  assert.deepEqual((await test.get('/jobs/queue/none')).data, []);
  assert.deepEqual((await test.get('/jobs/queue/%F0%9F%98%80%2F')).data, []);
  assert.equal((await test.get('/jobs/queue/default?limit=10001')).http, 400);
});

test('the tasks are a map by name; their queries are shown when asked for', async (t) => {
  const test = await api(t);
  const plain = (await test.get('/tasks')).data;
  assert.deepEqual(plain.get_profit_summary, {
    name: 'get_profit_summary',
    queue: 'default',
    concurrency: 10,
    db: ['ledger', 'copy'],
    results: ['reports'],
    timeout: null,
    ttl: null,
    max_rows: null,
    max_bytes: null,
    max_value_bytes: 64_000_000,
  });
  assert.ok(Object.hasOwn(plain, 'größe/über'));
  assert.equal((await test.get('/tasks?sql=1')).data.slow_query.raw, "SELECT 'slow_query'");
  assert.equal('raw' in (await test.get('/tasks?sql=0')).data.slow_query, false);
  assert.equal((await test.get('/tasks?sql=yes')).http, 400);
});

test('a store that is down is 503, says when to come back, and tells nothing of itself', async (t) => {
  const test = await api(t);
  await test.post(PATH, { job_id: 'x' });
  await test.store.close();
  for (const [method, path] of [
    ['GET', '/jobs/x'],
    ['GET', '/jobs'],
    ['POST', PATH],
    ['DELETE', '/jobs/x'],
  ] as const) {
    const answer = await test.request(method, path, method === 'POST' ? {} : undefined);
    assert.equal(answer.http, 503, `${method} ${path}: ${answer.message}`);
    assert.equal(answer.code, 'unavailable');
    assert.equal(answer.headers.get('retry-after'), '5');
    assert.equal(answer.message, 'the job store is unavailable for now; try again');
  }
  assert.equal(StoreUnavailable('x').code, 'store_unavailable');
});
