import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { pause } from '../support/pause.ts';
import { launch } from '../support/server.ts';
import { leftovers, openGate, rows, setup } from '../support/setup.ts';
import { until } from '../support/until.ts';

/** Shorter leases than usual, and long enough for a machine with much else to do: nobody is to lose one by that. */
const QUICK = {
  DUNGBEETLE_APP__LEASE: '5s',
  DUNGBEETLE_APP__HEARTBEAT: '200ms',
  DUNGBEETLE_APP__SWEEP: '100ms',
  DUNGBEETLE_APP__RESULTS_SWEEP: '200ms',
};

test('a server killed with 100 jobs queued and 10 running loses none and doubles none', async (t) => {
  const place = setup(t);
  const doomed = await launch(t, place.folder, [], QUICK).started();
  const running = await Promise.all(
    Array.from({ length: 10 }, (_, n) => doomed.post('count_to_gate', { job_id: `running-${n}` })),
  );
  for (const id of running) await until('it runs', async () => (await doomed.job(id)).state === 'STARTED');
  const queued = await Promise.all(
    Array.from({ length: 100 }, (_, n) =>
      doomed.post('by_user', { job_id: `queued-${n}`, args: [`USER${n % 50}`], queue: 'gated' }),
    ),
  );
  for (const id of queued) assert.equal((await doomed.job(id)).state, 'PENDING');
  assert.equal(await doomed.stop('SIGKILL'), 'SIGKILL');

  openGate(place);
  const server = await launch(t, place.folder, [], QUICK).started();
  for (const id of running) {
    const job = await server.finished(id);
    assert.equal(job.state, 'SUCCESS', job.error);
    assert.equal(job.attempt, 2, 'the attempt that died counts');
    assert.equal(job.count, 300);
  }
  for (const [n, id] of queued.entries()) {
    const job = await server.finished(id);
    assert.equal(job.state, 'SUCCESS', job.error);
    assert.equal(job.attempt, 1, 'a job that waited runs once');
    assert.deepEqual(
      rows(place.results, `SELECT * FROM "results_${id}"`),
      rows(place.ledger, 'SELECT * FROM entries WHERE user_id = ?', `USER${n % 50}`),
    );
  }
  const [{ tables } = {}] = rows(place.results, 'SELECT count(*) AS tables FROM dungbeetle_results');
  assert.equal(tables, 110, 'one table a job');
  await until('staging is swept', () => leftovers(place).length === 0);
  assert.equal(await server.stop(), 0);
});

test('killed while it loads a large result: no half table, no staging left, and it runs again', async (t) => {
  const place = setup(t);
  const doomed = await launch(t, place.folder, [], { ...QUICK, DUNGBEETLE_APP__HEARTBEAT: '20ms' }).started();
  const id = await doomed.post('numbers', { job_id: 'large', args: [2_000_000] });
  await until('it loads', async () => (await doomed.job(id)).progress?.phase === 'load');
  await doomed.stop('SIGKILL');
  assert.deepEqual(rows(place.results, "SELECT name FROM sqlite_master WHERE name = 'results_large'"), []);

  const server = await launch(t, place.folder, [], QUICK).started();
  const job = await server.finished(id);
  assert.equal(job.state, 'SUCCESS', job.error);
  assert.deepEqual(
    rows(place.results, 'SELECT count(*) AS count, sum(n) AS sum FROM results_large').map((row) => ({
      ...row,
    })),
    [{ count: 2_000_000, sum: 2_000_001_000_000 }],
  );
  await until('staging is swept', () => leftovers(place).length === 0);
});

test('a worker that was paused past its lease neither finishes the job nor publishes its table', async (t) => {
  const place = setup(t);
  const server = await launch(t, place.folder, ['--queue', 'none-of-them'], QUICK).started();
  const zombie = await launch(t, place.folder, ['--queue', 'gated', '--worker-only'], QUICK).started();
  const id = await server.post('count_to_gate', { job_id: 'paused' });
  await until('it runs', async () => (await server.job(id)).state === 'STARTED');
  const first = (await server.job(id)).worker;
  await pause(zombie.child.pid, [place.queue, place.results]);

  openGate(place);
  const successor = await launch(t, place.folder, ['--queue', 'gated', '--worker-only'], QUICK).started();
  const job = await server.finished(id);
  assert.equal(job.state, 'SUCCESS', job.error);
  assert.equal(job.attempt, 2);
  assert.notEqual(job.worker, first);
  const catalog = rows(place.results, 'SELECT * FROM dungbeetle_results');

  zombie.child.kill('SIGCONT');
  await until('the zombie has noticed', () => zombie.log.some((entry) => entry['event'] === 'lost'));
  assert.equal(await zombie.stop(), 0);
  assert.equal(await successor.stop(), 0);
  const after = await server.job(id);
  assert.equal(after.state, 'SUCCESS');
  assert.equal(after.attempt, 2);
  const facts = (table: Record<string, unknown>[]) =>
    table.map(({ fence, attempt, rows }) => ({ fence, attempt, rows }));
  assert.deepEqual(facts(rows(place.results, 'SELECT * FROM dungbeetle_results')), facts(catalog));
});

test('queries of a killed server end with it', async (t) => {
  const place = setup(t);
  const server = await launch(t, place.folder, [], QUICK).started();
  const id = await server.post('count_to_gate');
  await until('it runs', async () => (await server.job(id)).state === 'STARTED');
  const children = childrenOf(server.child.pid);
  assert.ok(children.length > 0, 'queries run in child processes');
  await server.stop('SIGKILL');
  await until('its child processes are gone', () => children.every((pid) => !isAlive(pid)));
});

function childrenOf(pid: number | undefined): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((child) => parentOf(child) === pid);
}

function parentOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return undefined; // it ended meanwhile
  }
}

function isAlive(pid: number): boolean {
  try {
    // A zombie has ended; it only waits for whoever inherited it.
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
