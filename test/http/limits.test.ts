import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { api, BODY_LIMIT, received } from './support.ts';

const PATH = '/tasks/get_profit_summary/jobs';

/** A request of so many bytes. */
function bodyOf(bytes: number): string {
  const frame = JSON.stringify({ args: [''] }).length;
  return JSON.stringify({ args: ['x'.repeat(bytes - frame)] });
}

test('a body of the limit passes, one of a byte more does not', async (t) => {
  const test = await api(t);
  assert.equal((await test.post(PATH, bodyOf(BODY_LIMIT))).http, 200);
  const answer = await test.post(PATH, bodyOf(BODY_LIMIT + 1));
  assert.equal(answer.http, 413);
  assert.equal(answer.code, 'too_large');
  assert.equal(answer.message, `the body is larger than ${BODY_LIMIT} bytes`);
});

test('a body of 2 MB is refused with an answer that arrives, also with no length given', async (t) => {
  const test = await api(t);
  const body = bodyOf(2_000_000);
  for (let n = 0; n < 5; n++) assert.equal((await test.post(PATH, body)).code, 'too_large');
  const chunked = await fetch(test.url + PATH, {
    method: 'POST',
    body: new Blob([body]).stream(),
    duplex: 'half',
  } as RequestInit);
  assert.equal(chunked.status, 413);
  assert.equal(((await chunked.json()) as { code: string }).code, 'too_large');
  assert.equal((await test.store.list({}, 1)).items.length, 0);
});

test('curl gets the answer to a body of 2 MB', async (t) => {
  const test = await api(t);
  const run = promisify(execFile)('curl', ['-s', '--data-binary', '@-', test.url + PATH]);
  run.child.stdin?.end(bodyOf(2_000_000));
  const { stdout } = await run;
  assert.equal(JSON.parse(stdout).code, 'too_large');
});

test('a body far over the limit is not heard out', async (t) => {
  const test = await api(t);
  const socket = await test.socket(t);
  const answer = received(socket);
  socket.write(`POST ${PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000000\r\n\r\n`);
  const text = await answer;
  assert.match(text, /^HTTP\/1\.1 413 /);
  assert.match(text, /"too_large"/);
});

test('a client that stops inside its body is told so in time', async (t) => {
  const test = await api(t, { timeouts: { headers: 60, request: 60, check: 10 } });
  const socket = await test.socket(t);
  const answer = received(socket);
  socket.write(`POST ${PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{`);
  const text = await answer;
  assert.match(text, /^HTTP\/1\.1 400 /);
  assert.match(text, /"message":"the request did not arrive in time","code":"invalid_request"/);
  assert.equal((await test.store.list({}, 1)).items.length, 0);
});

test('a client that stops inside its header is told so in time', async (t) => {
  const test = await api(t, { timeouts: { headers: 60, request: 60, check: 10 } });
  const socket = await test.socket(t);
  const answer = received(socket);
  socket.write('GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ');
  assert.match(await answer, /did not arrive in time/);
});

test('a connection on which nothing comes is closed', async (t) => {
  const test = await api(t, { timeouts: { headers: 60, request: 60, check: 10, silence: 60 } });
  const socket = await test.socket(t);
  socket.resume();
  await once(socket, 'close');
});

test('an idle connection is kept for the time given, and says which', async (t) => {
  const test = await api(t, { timeouts: { keep_alive: 95_000 } });
  const answer = await test.get('/');
  assert.equal(answer.headers.get('keep-alive'), 'timeout=95');
});

test('slow clients by the hundred hold nobody up', async (t) => {
  const test = await api(t, { timeouts: { close: 20 } });
  for (let n = 0; n < 100; n++) {
    const socket = await test.socket(t);
    socket.write(`POST ${PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{`);
  }
  assert.equal((await test.post(PATH, { job_id: 'quick' })).http, 200);
});

test('a client that goes away inside its body leaves no job', async (t) => {
  const test = await api(t);
  const socket = await test.socket(t);
  socket.write(`POST ${PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{}`);
  socket.end();
  await once(socket.resume(), 'close');
  assert.equal((await test.get('/')).http, 200);
  assert.equal((await test.store.list({}, 1)).items.length, 0);
});
