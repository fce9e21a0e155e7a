import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { until } from '../support/until.ts';
import { api, received, type TestApi } from './support.ts';

const TASK = 'get_profit_summary';

/** A server whose store counts how often a whole group is read, and a group of so many jobs. */
async function withGroup(
  t: Parameters<typeof api>[0],
  size: number,
  options: Parameters<typeof api>[1] = {},
) {
  const counts = { group: 0, get: 0, states: 0 };
  const server = await api(t, options, (store) => ({
    group: (group_id) => {
      counts.group += 1;
      return store.group(group_id);
    },
    get: (job_id) => {
      counts.get += 1;
      return store.get(job_id);
    },
    states: (job_ids) => {
      counts.states += 1;
      return store.states(job_ids);
    },
  }));
  const jobs = Array.from({ length: size }, () => ({ task: TASK }));
  assert.equal((await server.post('/groups', { group_id: 'g', jobs })).http, 200);
  return { server, counts };
}

/** How many requests about groups have come to their end, with an answer or without. */
function ended({ log }: TestApi): number {
  return log.filter(({ msg, path = '' }) => msg === 'request' && path.startsWith('/groups')).length;
}

test('for clients that have left nothing is read and nothing is made', async (t) => {
  const { server, counts } = await withGroup(t, 10_000);
  const posted = JSON.stringify({ group_id: 'h', jobs: [{ task: TASK }] });
  const sockets = await Promise.all(Array.from({ length: 30 }, () => server.socket(t)));
  for (const socket of sockets) socket.write('GET /groups/g?wait=60s HTTP/1.1\r\nHost: x\r\n\r\n');
  const poster = await server.socket(t);
  poster.write(
    `POST /groups?wait=60s HTTP/1.1\r\nHost: x\r\nContent-Length: ${posted.length}\r\n\r\n${posted}`,
  );
  await until('all have been heard', async () => (await server.store.unfinished(['h']))[0] === 1);
  const before = ended(server);
  for (const socket of [...sockets, poster]) socket.destroy();
  await until('all have left', () => ended(server) === before + 31);
  assert.equal((await server.get('/health/live')).http, 200);
  assert.deepEqual(counts, { group: 0, get: 0, states: 0 });
});

test('clients whose time is up together share one answer', async (t) => {
  const { server, counts } = await withGroup(t, 10_000);
  const waits = Array.from({ length: 10 }, () => server.get('/groups/g?wait=500ms'));
  for (const { http, data } of await Promise.all(waits)) {
    assert.equal(http, 200);
    assert.equal(data.jobs.length, 10_000);
  }
  assert.ok(counts.group < 6, `it was read ${counts.group} times`);
  assert.deepEqual([counts.get, counts.states], [0, 0]);
});

test('nobody is shown a group as it was before they asked', async (t) => {
  const { server } = await withGroup(t, 3_000);
  const before = Array.from({ length: 5 }, () => server.get('/groups/g'));
  await server.delete('/groups/g');
  const after = await Promise.all(Array.from({ length: 5 }, () => server.get('/groups/g')));
  for (const { data } of after) assert.equal(data.state, 'CANCELLED');
  await Promise.all(before);
});

test('lists of every length are whole', async (t) => {
  const { server } = await withGroup(t, 1_001);
  for (const limit of [1, 199, 200, 201, 400, 1000]) {
    const { data } = await server.get(`/jobs?limit=${limit}`);
    assert.equal(data.jobs.length, limit);
    assert.equal(typeof data.cursor, 'string');
    assert.equal((await server.get(`/jobs/queue/default?limit=${limit}`)).data.length, limit);
  }
  assert.deepEqual((await server.get('/jobs?task=nobody')).data, { jobs: [], cursor: null });
  assert.deepEqual((await server.get('/jobs/queue/nobody')).data, []);
});

test('long answers that nobody reads do not pile up', async (t) => {
  const { server } = await withGroup(t, 10_000, { most_unread_bytes: 20_000_000 });
  // Each list is another: none is shared.
  const slow = await Promise.all(Array.from({ length: 6 }, () => server.socket(t)));
  for (const [index, socket] of slow.entries()) {
    socket.pause();
    socket.write(`GET /jobs/queue/default?limit=${10_000 - index} HTTP/1.1\r\nHost: x\r\n\r\n`);
  }
  const asked = () => server.get('/jobs/queue/default?limit=1');
  await until('too much is unread', async () => (await asked()).code === 'unavailable');
  assert.equal((await server.get('/health/live')).http, 200);
  for (const socket of slow) socket.destroy();
  await until('it has been read, or nobody wants it', async () => (await asked()).http === 200);
});

test('an answer that many have waited for is the same for all', async (t) => {
  const { server } = await withGroup(t, 1);
  await server.post(`/tasks/${TASK}/jobs`, { job_id: 'j', queue: 'q', args: ['x'.repeat(1_000)] });
  const waits = Array.from({ length: 20 }, () => server.get('/jobs/j?wait=60s'));
  const raw = await server.socket(t);
  const text = received(raw);
  raw.write('GET /jobs/j?wait=60s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  await server.delete('/jobs/j');
  const [first, ...rest] = (await Promise.all(waits)).map(({ data }) => data);
  assert.equal(first.state, 'CANCELLED');
  for (const other of rest) assert.deepEqual(other, first);
  assert.match(await text, /content-type: application\/json; charset=utf-8\r\n/);
  await once(raw, 'close').catch(() => {});
});
