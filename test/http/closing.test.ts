import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { test } from 'node:test';
import { until } from '../support/until.ts';
import { api, received } from './support.ts';

const PATH = '/tasks/get_profit_summary/jobs';

test('a wait is answered at once when the server closes, and its connection ends', async (t) => {
  const test = await api(t);
  await test.post(PATH, { job_id: 'x' });
  let waits = 0;
  const wait = test.queue.wait.bind(test.queue);
  test.queue.wait = (...args) => {
    waits += 1;
    return wait(...args);
  };
  const socket = await test.socket(t);
  const answer = received(socket);
  socket.write('GET /jobs/x?wait=60s HTTP/1.1\r\nHost: x\r\n\r\n');
  await until('it waits', () => waits === 1);
  await test.app.close();
  const text = await answer;
  assert.match(text, /^HTTP\/1\.1 200 /);
  assert.match(text, /^connection: close/im);
  assert.match(text, /"state":"PENDING"/);
});

test('closing does not wait for connections that are silent, idle or half a header', async (t) => {
  const test = await api(t);
  const silent = await test.socket(t);
  const half = await test.socket(t);
  half.write('GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ');
  const agent = new Agent({ keepAlive: true });
  t.after(() => agent.destroy());
  const [response] = await once(request(`${test.url}/`, { agent }).end(), 'response');
  response.resume();
  await once(response, 'end');
  const ends = [silent, half].map((socket) => once(socket.resume(), 'close'));
  await test.app.close();
  await Promise.all(ends);
  await until('the idle one is gone', () => Object.keys(agent.freeSockets).length === 0);
});

test('a request in work is finished before the server has closed', async (t) => {
  const test = await api(t);
  let go = () => {};
  const gate = new Promise<void>((resolve) => {
    go = resolve;
  });
  let entered = false;
  const enqueue = test.queue.enqueue.bind(test.queue);
  test.queue.enqueue = async (job) => {
    entered = true;
    await gate;
    return enqueue(job);
  };
  const posting = test.post(PATH, { job_id: 'x' });
  await until('it is in work', () => entered);
  let closed = false;
  const closing = test.app.close().then(() => {
    closed = true;
  });
  await until('it takes no more connections', () => !test.app.server.listening);
  await assert.rejects(test.socket(t), { code: 'ECONNREFUSED' });
  assert.equal(closed, false);
  go();
  const answer = await posting;
  assert.equal(answer.http, 200);
  assert.equal(answer.data.job_id, 'x');
  await closing;
});

test('a request on a connection that is still open while the server closes is refused', async (t) => {
  const test = await api(t);
  let go = () => {};
  const gate = new Promise<void>((resolve) => {
    go = resolve;
  });
  let entered = false;
  const list = test.queue.list.bind(test.queue);
  test.queue.list = async (...args) => {
    entered = true;
    await gate;
    return list(...args);
  };
  const socket = await test.socket(t);
  const answer = received(socket);
  socket.write('GET /jobs HTTP/1.1\r\nHost: x\r\n\r\n');
  await until('it is in work', () => entered);
  const closing = test.app.close();
  await until('it takes no more connections', () => !test.app.server.listening);
  const second = once(test.app.server, 'request');
  socket.write(`POST ${PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}`);
  await second;
  go();
  await closing;
  const text = await answer;
  assert.match(text, /^HTTP\/1\.1 200 /);
  assert.equal((await test.store.list({}, 1)).items.length, 0, 'nothing was queued');
});

test('closing is bounded by a client that never finishes its request', async (t) => {
  const test = await api(t, { timeouts: { close: 30 } });
  const begun = once(test.app.server, 'request');
  const socket = await test.socket(t);
  socket.write(`POST ${PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{`);
  const ended = once(socket.resume(), 'close');
  await begun;
  await test.app.close();
  await ended;
});
