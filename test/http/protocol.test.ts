import assert from 'node:assert/strict';
import { test } from 'node:test';
import { api, received } from './support.ts';

/** The body of the last answer in what a socket received. */
function lastBody(text: string): { status: string; code: string; message: string; data: null } {
  return JSON.parse(text.slice(text.lastIndexOf('\r\n\r\n') + 4));
}

test('the root names the program and its version', async (t) => {
  const test = await api(t);
  const answer = await test.get('/');
  assert.equal(answer.http, 200);
  assert.deepEqual([answer.status, answer.data], ['success', 'dungbeetle 1.2.3']);
  assert.equal(answer.headers.get('content-type'), 'application/json; charset=utf-8');
  assert.equal(answer.headers.get('cache-control'), 'no-store');
  assert.equal(answer.headers.get('x-content-type-options'), 'nosniff');
});

test('what there is no route for is not found, with a hint where there is one', async (t) => {
  const test = await api(t);
  const cases: [method: string, path: string, message: RegExp][] = [
    ['GET', '/nope', /^there is no \/nope here$/],
    ['GET', '/jobs/x/y/z', /^there is no/],
    ['GET', '/tasks/', /; did you mean \/tasks\?$/],
    ['GET', '//jobs', /; did you mean \/jobs\?$/],
    ['POST', '/groups/', /; did you mean \/groups\?$/],
    ['GET', '/jobs//x', /; did you mean \/jobs\/x\?$/],
    ['GET', '/Jobs', /^there is no \/Jobs here$/],
    ['GET', '/../etc/passwd', /^there is no \/etc\/passwd here$/],
    ['GET', '/__proto__', /^there is no/],
    ['GET', '/metrics', /^there is no/],
    ['GET', `/${'x'.repeat(5000)}`, /^there is no \/x{199}… here$/],
    ['PUT', '/jobs/x', /^PUT is not a method of \/jobs\/x; it has GET, HEAD, DELETE$/],
    ['POST', '/', /^POST is not a method of \/; it has GET, HEAD$/],
    ['GET', '/tasks/x/jobs', /^GET is not a method of \/tasks\/x\/jobs; it has POST$/],
    ['DELETE', '/jobs', /^DELETE is not a method of \/jobs; it has GET, HEAD$/],
    ['OPTIONS', '/groups', /^OPTIONS is not a method of \/groups; it has POST$/],
    ['PATCH', '/groups/g', /it has GET, HEAD, DELETE$/],
    ['PROPFIND', '/tasks', /it has GET, HEAD$/],
  ];
  for (const [method, path, message] of cases) {
    const answer = await test.request(method, path);
    assert.equal(answer.http, 404, `${method} ${path}`);
    assert.equal(answer.code, 'not_found');
    assert.match(answer.message ?? '', message);
    assert.equal(answer.headers.get('allow'), / it has (.*)$/.exec(answer.message ?? '')?.[1] ?? null);
  }
});

test('what has no route is not found whatever its body is', async (t) => {
  const test = await api(t);
  for (const body of ['{', 'x'.repeat(100), 'x'.repeat(2_000_000)]) {
    const answer = await test.post('/nope', body);
    assert.equal(answer.code, 'not_found');
  }
});

test('HEAD answers as GET does, without the body', async (t) => {
  const test = await api(t);
  for (const path of ['/', '/tasks', '/nope', '/jobs/a.b']) {
    const get = await fetch(test.url + path);
    const head = await fetch(test.url + path, { method: 'HEAD' });
    assert.equal(head.status, get.status, path);
    assert.equal(head.headers.get('content-length'), String((await get.arrayBuffer()).byteLength), path);
    assert.equal(await head.text(), '');
  }
});

test('paths that are no percent-encoded UTF-8 are refused in the envelope', async (t) => {
  const test = await api(t);
  for (const path of ['/jobs/%zz', '/jobs/%', '/jobs/%C3', '/jobs/%C3%28', '/tasks/%ff/jobs']) {
    const answer = await test.request(path.startsWith('/tasks') ? 'POST' : 'GET', path, undefined, {
      'x-request-id': 'r1',
    });
    assert.equal(answer.http, 400, path);
    assert.equal(answer.code, 'invalid_request');
    assert.equal(answer.message, 'the path is not valid percent-encoded UTF-8');
    assert.equal(answer.headers.get('x-request-id'), 'r1');
  }
});

test('bytes that are no HTTP are refused in the envelope, and the connection is closed', async (t) => {
  const test = await api(t);
  const cases: [bytes: string, status: string, message: RegExp][] = [
    ['hello\r\n\r\n', '400', /not a valid HTTP/],
    ['GET / HTTP/9.9\r\n\r\n', '400', /not a valid HTTP/],
    ['GET / HTTP/1.1\r\nbad header\r\n\r\n', '400', /not a valid HTTP/],
    ['GET / HTTP/1.1\r\nHost: x\r\nx: a\u0000b\r\n\r\n', '400', /not a valid HTTP/],
    ['POST /groups HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n', '400', /not a valid HTTP/],
    [
      'POST /groups HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
      '400',
      /not a valid HTTP/,
    ],
    [
      'POST /groups HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
      '400',
      /not a valid HTTP/,
    ],
    [
      'POST /groups HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
      '400',
      /not a valid HTTP/,
    ],
    ['\u0016\u0003\u0001\u0002\u0000\u0001\u0000', '400', /not a valid HTTP/],
    [
      `GET / HTTP/1.1\r\nx: ${'a'.repeat(20_000)}\r\n\r\n`,
      '413',
      /header of the request is larger than 16384 bytes/,
    ],
    [`GET /${'a'.repeat(20_000)} HTTP/1.1\r\n\r\n`, '413', /larger than 16384 bytes/],
  ];
  for (const [bytes, status, message] of cases) {
    const socket = await test.socket(t);
    const answer = received(socket);
    socket.write(bytes, 'latin1');
    const text = await answer;
    const shown = JSON.stringify(bytes.slice(0, 80));
    assert.ok(text.startsWith(`HTTP/1.1 ${status} `), `${shown}: ${text}`);
    assert.match(text, /^content-type: application\/json/im);
    const body = lastBody(text);
    assert.equal(body.status, 'error');
    assert.equal(body.code, status === '413' ? 'too_large' : 'invalid_request');
    assert.match(body.message, message);
    assert.equal(body.data, null);
  }
  assert.equal((await test.get('/')).http, 200);
});

test('odd but valid requests are answered', async (t) => {
  const test = await api(t);
  const requests = [
    'GET / HTTP/1.0\r\n\r\n',
    'GET / HTTP/1.1\r\nConnection: close\r\n\r\n', // no Host
    'GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: x\r\nExpect: a-miracle\r\nConnection: close\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n',
    'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\n{{{',
    '\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    'GET http://elsewhere/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
  ];
  for (const request of requests) {
    const socket = await test.socket(t);
    const answer = received(socket);
    socket.write(request);
    const text = await answer;
    assert.match(text, /^HTTP\/1\.1 200 /, JSON.stringify(request));
    assert.equal(JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4)).data, 'dungbeetle 1.2.3');
  }
});

test('a chunked body is read, an empty one is an empty request', async (t) => {
  const test = await api(t);
  const head =
    'POST /tasks/get_profit_summary/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n';
  for (const [chunks, job_id] of [
    ['0\r\n\r\n', /^job_/],
    ['1\r\n{\r\n10\r\n"job_id":"chunk"\r\n1\r\n}\r\n0\r\n\r\n', /^chunk$/],
  ] as const) {
    const socket = await test.socket(t);
    const answer = received(socket);
    socket.write(head + chunks);
    const text = await answer;
    assert.match(text, /^HTTP\/1\.1 200 /);
    assert.match(JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4)).data.job_id, job_id);
  }
});

test('a broken request after one that is still in work does not take its answer', async (t) => {
  const test = await api(t);
  await test.post('/tasks/get_profit_summary/jobs', { job_id: 'x' });
  const socket = await test.socket(t);
  const answer = received(socket);
  socket.write('GET /jobs/x?wait=60s HTTP/1.1\r\nHost: x\r\n\r\nrubbish\r\n\r\n');
  assert.equal(await answer, '');
});

test('curl as in the documents of the original, without a content type', async (t) => {
  const test = await api(t);
  const answer = await test.post(
    '/tasks/get_profit_summary/jobs',
    '{"job_id": "myjob", "queue": "high_priority", "args": ["USER1", "2017-12-01", "2017-01-01"]}',
    { 'content-type': 'application/x-www-form-urlencoded' },
  );
  assert.equal(answer.http, 200);
  assert.equal(answer.data.job_id, 'myjob');
  assert.equal(answer.data.queue, 'high_priority');
});

test('a request id that can be printed is kept, another is replaced', async (t) => {
  const test = await api(t);
  const ask = async (id: string) => (await test.get('/', { 'x-request-id': id })).headers.get('x-request-id');
  assert.equal(await ask('abc-123:/+=._X'), 'abc-123:/+=._X');
  for (const id of ['a b', 'x'.repeat(129), '{"a":1}', 'ä', 'a,b']) {
    assert.match((await ask(id)) ?? '', /^[0-9a-f]{8}-[0-9a-f-]{27}$/, id);
  }
});

test('an error nobody foresaw is told to the log, not to the client', async (t) => {
  const test = await api(t);
  test.reports.tasks = () => {
    throw new Error('postgres://user:password@host SELECT secret');
  };
  const answer = await test.get('/tasks', { 'x-request-id': 'find-me' });
  assert.equal(answer.http, 500);
  assert.equal(answer.code, 'internal');
  assert.equal(answer.message, 'the server failed to handle the request; its log has the details');
  assert.ok(!JSON.stringify(answer).includes('secret'));
  const line = test.log.find((entry) => entry.request_id === 'find-me' && entry.level === 50);
  assert.match(JSON.stringify(line), /SELECT secret/);
});
