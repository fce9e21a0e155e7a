import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
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
  const ready = await server.request('GET', '/health/ready');
  assert.deepEqual([ready.http, ready.message], [503, 'not ready: the server is shutting down']);
  await server.post('total', { job_id: 'late' });
  assert.equal(await server.exited(), 0);
  assert.equal(server.log.at(-1)?.['msg'], 'stopped');
  const [table] = rows(place.results, 'SELECT count(*) AS count FROM results_running');
  assert.equal(table?.['count'], 3_000_000);

  const next = await launch(t, place.folder).started();
  assert.equal((await next.job(running)).state, 'SUCCESS');
  assert.equal((await next.job(running)).attempt, 1);
  assert.equal((await next.finished('late')).state, 'SUCCESS');
});

test('SIGHUP drains too, and says why', async (t) => {
  const place = setup(t);
  const server = await launch(t, place.folder).started();
  assert.equal(await server.stop('SIGHUP'), 0);
  const said = server.log.map((entry) => String(entry['msg']));
  assert.deepEqual(said.slice(-3), [
    'the configuration is not read again: this drains and ends, as on SIGTERM',
    'draining',
    'stopped',
  ]);
});

test('what a job was, and how long it waited and ran, is in its log lines', async (t) => {
  const place = setup(t);
  const server = await launch(t, place.folder, ['--worker-name', 'w-1']).started();
  const backend = server.log.find((entry) => entry['event'] === 'no_results_ttl');
  assert.deepEqual([backend?.['level'], backend?.['backend']], ['warn', 'reports']);
  const id = await server.post('total');
  await server.finished(id);
  assert.equal(await server.stop(), 0);
  const lines = server.log.filter((entry) => entry['job_id'] === id && entry['worker'] !== undefined);
  assert.deepEqual(
    lines.map(({ event, worker, db, backend }) => [event, worker, db, backend]),
    ['started', 'succeeded'].map((event) => [event, 'w-1', 'ledger', 'reports']),
  );
  const [started, ended] = lines;
  for (const ms of [started?.['queue_ms'], ended?.['queue_ms'], ended?.['run_ms']]) {
    assert.ok(Number.isSafeInteger(ms) && Number(ms) >= 0, String(ms));
  }
});

test('npm start passes a SIGTERM on, and nothing is left running', async (t) => {
  const place = setup(t);
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const args = ['start', '--', '--server', '127.0.0.1:0', '--config', join(place.folder, 'config.toml')];
  const npm = spawn('npm', [...args, '--sql-directory', join(place.folder, 'sql')], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => npm.kill('SIGKILL'));
  let pid = 0;
  const said: string[] = [];
  const lines = createInterface({ input: npm.stdout }).on('line', (line) => {
    if (!line.startsWith('{')) return;
    const entry: { readonly msg: string; readonly pid: number } = JSON.parse(line);
    pid = entry.pid;
    said.push(entry.msg);
  });
  const ended = once(lines, 'close');
  await until('it has started', () => said.includes('started'));
  npm.kill('SIGTERM');
  await ended;
  assert.equal(said.at(-1), 'stopped');
  await until('the server has ended', () => {
    try {
      return !process.kill(pid, 0);
    } catch {
      return true;
    }
  });
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
