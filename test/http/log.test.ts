import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../support/until.ts';
import { api, type LogLine, received, type TestApi } from './support.ts';

const PATH = '/tasks/get_profit_summary/jobs';
const DEBUG = 20;
const INFO = 30;
const WARN = 40;

/** The line of a request; it is written after the answer. */
function lineOf(test: TestApi, request_id: string): Promise<LogLine> {
  return until(`request ${request_id} is logged`, () =>
    test.log.find((line) => line.request_id === request_id),
  );
}

test('what changes something is told at info, with its job and its request', async (t) => {
  const test = await api(t);
  await test.post(PATH, { job_id: 'x', args: ['secret'] }, { 'x-request-id': 'r1' });
  const { level, method, path, http_status, job_id, task, ms } = await lineOf(test, 'r1');
  assert.deepEqual(
    { level, method, path, http_status, job_id, task },
    { level: INFO, method: 'POST', path: PATH, http_status: 200, job_id: 'x', task: 'get_profit_summary' },
  );
  assert.equal(typeof ms, 'number');
  const { data } = await test.post(PATH, {}, { 'x-request-id': 'r2' });
  assert.equal((await lineOf(test, 'r2')).job_id, data.job_id, 'also an id that was made up');
  await test.post('/groups', { group_id: 'g', jobs: [{ task: 'slow_query' }] }, { 'x-request-id': 'r3' });
  assert.equal((await lineOf(test, 'r3')).group_id, 'g');
});

test('polls are told at debug', async (t) => {
  const test = await api(t);
  await test.get('/jobs/x?wait=1s', { 'x-request-id': 'poll' });
  const line = await lineOf(test, 'poll');
  assert.equal(line.level, DEBUG);
  assert.equal(line.path, '/jobs/x');
  assert.equal(line.job_id, 'x');
  assert.equal(line.http_status, 404);
  assert.equal(line.code, 'unknown_job');
});

test('a store that is down is a warning', async (t) => {
  const test = await api(t);
  await test.store.close();
  await test.get('/jobs/x', { 'x-request-id': 'down' });
  const line = await lineOf(test, 'down');
  assert.equal(line.level, WARN);
  assert.match(JSON.stringify(line.err), /job store is unavailable/);
});

test('no argument and no body gets into the log, whatever happens to them', async (t) => {
  const test = await api(t);
  await test.post(PATH, { job_id: 'x', args: ['my-secret'] });
  await test.post(PATH, { job_id: 'x', args: ['my-secret'] });
  await test.post(PATH, '{"args":["my-secret');
  await test.post(PATH, { args: [['my-secret']] });
  await test.post(PATH, { args: 'my-secret' });
  await test.post('/groups', { jobs: [{ task: 'slow_query', args: ['my-secret'] }] });
  await test.get('/jobs?cursor=my-secret');
  await test.get('/jobs/x');
  const socket = await test.socket(t);
  const refused = received(socket);
  socket.write('POST /groups HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nmy-secret\r\n');
  await refused;
  await test.get('/', { 'x-request-id': 'last' });
  await lineOf(test, 'last');
  assert.ok(!JSON.stringify(test.log).includes('my-secret'));
});
