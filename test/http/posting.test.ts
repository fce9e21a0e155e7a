import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Value } from 'typebox/value';
import { PostedView } from '../../src/http/schemas.ts';
import { api, LONG_NAME } from './support.ts';

const PATH = '/tasks/get_profit_summary/jobs';

test('a post is answered with what was accepted', async (t) => {
  const { post, reports, queue } = bind(await api(t));
  const answer = await post(PATH, {
    job_id: 'myjob',
    queue: 'fast',
    eta: '2999-12-31 23:59:59',
    retries: 3,
    ttl: 60,
    timeout: 0.5,
    priority: -2,
    args: ['USER1', 1, 1.5, true, null],
    db: 'copy',
    results: 'reports',
  });
  assert.equal(answer.http, 200);
  assert.equal(answer.status, 'success');
  assert.deepEqual(answer.data, {
    job_id: 'myjob',
    task: 'get_profit_summary',
    task_name: 'get_profit_summary',
    queue: 'fast',
    eta: '2999-12-31T23:59:59.000Z',
    retries: 3,
  });
  assert.ok(Value.Check(PostedView, answer.data));
  assert.deepEqual(reports.requests, [
    {
      task: 'get_profit_summary',
      job_id: 'myjob',
      queue: 'fast',
      eta: Date.parse('2999-12-31T23:59:59Z'),
      retries: 3,
      priority: -2,
      ttl: 60,
      timeout: 0.5,
      args: ['USER1', 1, 1.5, true, null],
      db: 'copy',
      results: 'reports',
    },
  ]);
  assert.equal((await queue.get('myjob')).state, 'PENDING');
});

test('what the Go client sends, every field always, means what was left out', async (t) => {
  const { post, reports } = bind(await api(t));
  const body =
    '{"task":"get_profit_summary","job_id":"","queue":"","eta":"","retries":0,"ttl":0,"args":null,"db":""}';
  const answer = await post(PATH, body, { 'content-type': 'application/json' });
  assert.equal(answer.http, 200, answer.message);
  assert.match(answer.data.job_id, /^job_[0-9a-f-]{36}$/);
  assert.equal(answer.data.queue, 'default');
  assert.equal(answer.data.eta, null);
  assert.deepEqual(reports.requests, [{ task: 'get_profit_summary', retries: 0 }]);
});

test('null, like the blank of its type, means a field that was left out', async (t) => {
  const { post, reports } = bind(await api(t));
  for (const body of [
    {
      job_id: null,
      task: null,
      queue: null,
      eta: null,
      retries: null,
      ttl: null,
      args: null,
      db: null,
      results: null,
      priority: null,
      timeout: null,
    },
    { job_id: '', task: '', queue: '', eta: '', ttl: 0, db: '', results: '', timeout: 0 },
  ]) {
    const answer = await post(PATH, body);
    assert.equal(answer.http, 200, answer.message);
  }
  assert.deepEqual(reports.requests, [{ task: 'get_profit_summary' }, { task: 'get_profit_summary' }]);
});

test('a body is JSON whatever Content-Type says, and an empty body is an empty request', async (t) => {
  const { app, store } = await api(t);
  const types = [
    undefined,
    'application/json',
    'application/json; charset=utf-8',
    'application/x-www-form-urlencoded',
    'text/plain',
    'multipart/form-data',
    '',
    'not a type;;;',
  ];
  for (const type of types) {
    for (const payload of [undefined, '', ' \r\n', '{}', '\ufeff{}']) {
      const answer = await app.inject({
        method: 'POST',
        url: PATH,
        ...(payload === undefined ? {} : { payload }),
        ...(type === undefined ? {} : { headers: { 'content-type': type } }),
      });
      assert.equal(answer.statusCode, 200, `${type} ${JSON.stringify(payload)}: ${answer.body}`);
    }
  }
  const { items } = await store.list({}, 1000);
  assert.equal(items.length, types.length * 5);
});

test('an eta in the past is accepted and runs now', async (t) => {
  const { post, claim } = bind(await api(t));
  const answer = await post(PATH, { job_id: 'late', eta: '2020-01-01 00:00:00' });
  assert.equal(answer.http, 200);
  assert.equal((await claim()).job_id, 'late');
});

test('a job id is refused while its job is active, and free again after', async (t) => {
  const { post, claim, store } = bind(await api(t));
  assert.equal((await post(PATH, { job_id: 'one' })).http, 200);
  const again = await post(PATH, { job_id: 'one' });
  assert.equal(again.http, 409);
  assert.equal(again.code, 'job_active');
  assert.match(again.message ?? '', /"one"/);
  const { lease } = await claim();
  assert.equal((await post(PATH, { job_id: 'one' })).code, 'job_active');
  await store.finish([{ lease, outcome: { state: 'FAILURE', error: 'no' } }]);
  assert.equal((await post(PATH, { job_id: 'one' })).http, 200);
});

test('of many posts of one id at once, one is accepted', async (t) => {
  const { post } = bind(await api(t));
  const answers = await Promise.all(Array.from({ length: 20 }, () => post(PATH, { job_id: 'same' })));
  assert.deepEqual(answers.map((answer) => answer.http).sort(), [
    200,
    ...Array.from({ length: 19 }, () => 409),
  ]);
});

test('task names are percent-decoded, whatever they hold and however long they are', async (t) => {
  const { post } = bind(await api(t));
  for (const name of ['größe/über', LONG_NAME]) {
    const answer = await post(`/tasks/${encodeURIComponent(name)}/jobs`, { task: name });
    assert.equal(answer.http, 200, answer.message);
    assert.equal(answer.data.task, name);
  }
});

test('unknown tasks, the names of prototypes among them, are unknown', async (t) => {
  const { post } = bind(await api(t));
  for (const name of [
    'nope',
    '__proto__',
    'constructor',
    'toString',
    'hasOwnProperty',
    '%00',
    '..%2f..',
    '%E2%98%83',
  ]) {
    const answer = await post(`/tasks/${name}/jobs`, {});
    assert.equal(answer.http, 404, name);
    assert.equal(answer.code, 'unknown_task');
  }
  const slip = await post('/tasks/get_profit_sumary/jobs', {});
  assert.equal(
    slip.message,
    'task: there is no task "get_profit_sumary"; did you mean "get_profit_summary"?',
  );
});

test('what is wrong with a request is said, and nothing is queued', async (t) => {
  const { post, store } = bind(await api(t));
  const bad: [body: unknown, message: RegExp][] = [
    // ids
    [{ job_id: 'a.b' }, /^job_id: must be 1 to 128 of A-Z a-z 0-9 _ : -, not "a\.b"$/],
    [{ job_id: "a'b" }, /^job_id: /],
    [{ job_id: 'a"b' }, /^job_id: /],
    [{ job_id: 'größe' }, /^job_id: /],
    [{ job_id: 'a b' }, /^job_id: /],
    [{ job_id: 'a\n' }, /^job_id: /],
    [{ job_id: 'a\u0000' }, /^job_id: /],
    [{ job_id: 'x'.repeat(129) }, /^job_id: .*a text of 129 characters$/],
    [{ job_id: 'x; DROP TABLE jobs' }, /^job_id: /],
    [{ job_id: 7 }, /^job_id: .*, not 7$/],
    // queues
    [{ queue: 'x'.repeat(129) }, /^queue: must be 1 to 128 characters/],
    [{ queue: 'a\nb' }, /^queue: /],
    [{ queue: ['a'] }, /^queue: .*a list of 1$/],
    // times
    [{ eta: '2024-02-30 00:00:00' }, /^eta: must be a time that exists.*"2024-02-30 00:00:00"$/],
    [{ eta: 'tomorrow' }, /^eta: /],
    [{ eta: '2024-01-01T00:00:00' }, /^eta: /],
    [{ eta: 1_700_000_000 }, /^eta: /],
    // numbers
    [{ retries: -1 }, /^retries: must be a whole number from 0 to 2147483647, not -1$/],
    [{ retries: 1.5 }, /^retries: .*not 1\.5$/],
    [{ retries: '3' }, /^retries: .*not "3"$/],
    [{ retries: 2 ** 31 }, /^retries: /],
    [{ retries: true }, /^retries: /],
    [{ priority: 0.5 }, /^priority: /],
    [{ ttl: -1 }, /^ttl: must be a whole number of seconds/],
    [{ ttl: 0.5 }, /^ttl: /],
    [{ ttl: '60' }, /^ttl: /],
    [{ timeout: -0.1 }, /^timeout: must be a number of seconds/],
    [{ timeout: 1e10 }, /^timeout: /],
    // args
    [
      { args: 'USER1' },
      /^args: must be a list of at most 65535 strings, numbers, booleans and nulls, not "USER1"$/,
    ],
    [{ args: { a: 1 } }, /^args: .*not an object$/],
    [{ args: ['a', ['b']] }, /^args: .*but args\[1\] is a list of 1$/],
    [{ args: [{}] }, /^args: .*but args\[0\] is an object$/],
    [
      '{"args":[9007199254740993]}',
      /^args\[0\]: the number 9007199254740993 may be rounded.*send it as a string/,
    ],
    ['{"args":[0.1, 12345678901234567.89]}', /^args\[1\]: the number 12345678901234567\.89 may be rounded/],
    ['{"args":["\\ud800"]}', /^args\[0\]: holds half a surrogate pair/],
    // names
    [{ task: 'slow_query' }, /^task: is "slow_query" in the body and "get_profit_summary" in the path/],
    [{ db: 'nope' }, /^db: task "get_profit_summary" has no "nope"$/],
    [{ db: 1 }, /^db: must be the name of one of the databases/],
    // keys
    [{ retires: 3 }, /^unknown key "retires"; did you mean "retries"\?$/],
    [{ zzzzzzzz: 3 }, /^unknown key "zzzzzzzz"; known are job_id, task, queue,/],
    ['{"__proto__":{"retries":3}}', /^unknown key "__proto__"/],
    ['{"constructor":{"prototype":{}}}', /^unknown key "constructor"/],
    [{ k0: 1, k1: 1, k2: 1, k3: 1, k4: 1, k5: 1, k6: 1, k7: 1, k8: 1, k9: 1 }, /^unknown key "k0"/],
    [{ ['x'.repeat(100_000)]: 1 }, /^unknown key "x{64}…"/],
    ['{"retries":1,"retries":2}', /^the key "retries" is there twice$/],
    // JSON
    ['[]', /^the body must be a JSON object, not a list of 0$/],
    ['"text"', /^the body must be a JSON object, not "text"$/],
    ['null', /^the body must be a JSON object, not null$/],
    ['7', /^the body must be a JSON object, not 7$/],
    ['{', /^the body is not valid JSON: /],
    ['{}{}', /^the body is not valid JSON: /],
    ['job_id=1', /^the body is not valid JSON: /],
    ["{'a': 1}", /^the body is not valid JSON: /],
    ['['.repeat(200_000), /^the body is not valid JSON: /],
    [`{"args":${'['.repeat(100_000)}${']'.repeat(100_000)}}`, /^the body is nested deeper than 32 levels$/],
  ];
  for (const [body, message] of bad) {
    const answer = await post(PATH, body);
    const shown = JSON.stringify(body).slice(0, 80);
    assert.equal(answer.http, 400, shown);
    assert.equal(answer.code, 'invalid_request', shown);
    assert.equal(answer.status, 'error', shown);
    assert.equal(answer.data, null, shown);
    assert.match(answer.message ?? '', message, shown);
    assert.ok((answer.message ?? '').length < 500, `${shown}: a message to read`);
  }
  assert.deepEqual((await store.list({}, 10)).items, []);
});

test('a body that is not UTF-8, or compressed, is refused', async (t) => {
  const { app } = await api(t);
  const latin = await app.inject({
    method: 'POST',
    url: PATH,
    payload: Buffer.from('{"job_id":"\xe4"}', 'latin1'),
  });
  assert.equal(latin.statusCode, 400);
  assert.equal(latin.json().message, 'the body is not UTF-8');
  const gzip = await app.inject({
    method: 'POST',
    url: PATH,
    payload: Buffer.from([0x1f, 0x8b]),
    headers: { 'content-encoding': 'gzip' },
  });
  assert.equal(gzip.statusCode, 400);
  assert.match(gzip.json().message, /Content-Encoding/);
});

test('arguments arrive as they were sent', async (t) => {
  const { post, queue } = bind(await api(t));
  const args = [
    '',
    ' ',
    'null',
    '12345678901234567890',
    '😀',
    'a\u0000b',
    "'; --",
    0,
    -1,
    9007199254740991,
    0.1,
    1e21,
    true,
    false,
    null,
  ];
  await post(PATH, { job_id: 'args', args });
  assert.deepEqual((await queue.get('args')).payload, {
    args,
    db: 'ledger',
    results: 'reports',
    ttl: null,
    timeout: null,
  });
});

/** So that methods can be taken off. */
function bind(test: Awaited<ReturnType<typeof api>>) {
  return {
    ...test,
    post: test.post.bind(test),
    get: test.get.bind(test),
    delete: test.delete.bind(test),
    claim: test.claim.bind(test),
  };
}
