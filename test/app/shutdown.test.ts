import assert from 'node:assert/strict';
import { test } from 'node:test';
import { launch } from '../support/server.ts';
import { openGate, rows, setup } from '../support/setup.ts';
import { until } from '../support/until.ts';

test('SIGTERM lets a running job end, begins no other, and exits 0', async (t) => {
  const place = setup(t);
  const server = await launch(t, place.folder).started();
  const running = await server.post('numbers', { job_id: 'running', args: [3_000_000] });
  await until('it runs', async () => (await server.job(running)).state === 'STARTED');
  server.child.kill('SIGTERM');
  await until('it drains', () => server.log.some((entry) => entry['msg'] === 'draining'));
  await server.post('total', { job_id: 'late' });
  assert.equal(await server.exited(), 0);
  const [table] = rows(place.results, 'SELECT count(*) AS count FROM results_running');
  assert.equal(table?.['count'], 3_000_000);

  const next = await launch(t, place.folder).started();
  assert.equal((await next.job(running)).state, 'SUCCESS');
  assert.equal((await next.job(running)).attempt, 1);
  assert.equal((await next.finished('late')).state, 'SUCCESS');
});

test('what does not end within shutdown_timeout goes back uncounted', async (t) => {
  const place = setup(t, { app: 'shutdown_timeout = "200ms"' });
  const server = await launch(t, place.folder).started();
  const id = await server.post('count_to_gate');
  await until('it runs', async () => (await server.job(id)).state === 'STARTED');
  assert.equal(await server.stop('SIGINT'), 0);

  openGate(place);
  const next = await launch(t, place.folder).started();
  const job = await next.finished(id);
  assert.equal(job.state, 'SUCCESS', job.error);
  assert.equal(job.attempt, 1, 'the interrupted attempt was not counted');
});

test('a second signal stops at once', async (t) => {
  const place = setup(t);
  const server = await launch(t, place.folder).started();
  const id = await server.post('count_to_gate');
  await until('it runs', async () => (await server.job(id)).state === 'STARTED');
  server.child.kill('SIGTERM');
  await until('it drains', () => server.log.some((entry) => entry['msg'] === 'draining'));
  server.child.kill('SIGTERM');
  assert.notEqual(await server.exited(), 0);
});
