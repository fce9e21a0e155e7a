import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type JobView, launch } from '../support/server.ts';
import { leftovers, rows, setup } from '../support/setup.ts';
import { until } from '../support/until.ts';

test('two servers started at once on the same new files share the work, each job once', async (t) => {
  const place = setup(t);
  const servers = [launch(t, place.folder), launch(t, place.folder)];
  const [one, two] = await Promise.all(servers.map((server) => server.started()));
  assert.ok(one && two);
  const ids = await Promise.all(
    Array.from({ length: 60 }, (_, n) =>
      (n % 2 === 0 ? one : two).post('by_user', { job_id: `shared-${n}`, args: [`USER${n % 50}`] }),
    ),
  );
  for (const [n, id] of ids.entries()) {
    const job: JobView = await (n % 2 === 0 ? two : one).finished(id);
    assert.equal(job.state, 'SUCCESS', job.error);
    assert.equal(job.attempt, 1);
    assert.equal(job.count, 100);
  }
  const [{ tables } = {}] = rows(place.results, 'SELECT count(*) AS tables FROM dungbeetle_results');
  assert.equal(tables, ids.length);
  assert.deepEqual(leftovers(place), []);
});

test('of many posts of one id at two servers exactly one is accepted', async (t) => {
  const place = setup(t);
  const args = ['--queue', 'nobody-listens'];
  const [one, two] = await Promise.all([
    launch(t, place.folder, args).started(),
    launch(t, place.folder, args).started(),
  ]);
  const answers = await Promise.all(
    Array.from({ length: 40 }, (_, n) =>
      (n % 2 === 0 ? one : two).request('POST', '/tasks/total/jobs', { job_id: 'same' }),
    ),
  );
  assert.equal(answers.filter((answer) => answer.http === 200).length, 1);
  for (const answer of answers.filter((other) => other.http !== 200)) {
    assert.equal(answer.http, 409);
    assert.equal(answer.code, 'job_active');
  }
});

test('a cancel asked of one server ends a query that runs in another process', async (t) => {
  // The heartbeat alone would take most of a minute; the hint across processes is what makes it sooner.
  const place = setup(t, { app: 'lease = "120s"\nheartbeat = "50s"' });
  const server = await launch(t, place.folder, ['--queue', 'nobody-listens']).started();
  const worker = await launch(t, place.folder, ['--queue', 'gated', '--worker-only']).started();
  const id = await server.post('count_to_gate');
  await until('it runs', async () => (await server.job(id)).state === 'STARTED');
  const asked = performance.now();
  assert.equal((await server.request('DELETE', `/jobs/${id}`)).http, 200);
  const job = await server.finished(id);
  assert.equal(job.state, 'CANCELLED');
  assert.ok(performance.now() - asked < 20_000, `it took ${performance.now() - asked} ms`);
  assert.equal(await worker.stop(), 0);
});
