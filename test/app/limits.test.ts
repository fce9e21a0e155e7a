/** Limits that hold for all processes on one store: per database, per key; and turns among keys. */
import assert from 'node:assert/strict';
import { suite, type TestContext, test } from 'node:test';
import { freshDatabase, runningQueries } from '../support/services.ts';
import { until } from '../support/until.ts';
import {
  at,
  DIALECTS,
  DOOMED,
  launch,
  service,
  setup,
  skipOf,
  type WatchedServer,
} from './databases/support.ts';
import { STORES, type StoreCase } from './stores.ts';

const POSTGRES = service('postgres-15');

interface Limited {
  readonly place: ReturnType<typeof setup>;
  /** How many of the hanging queries run in the database of that name now. */
  hanging(db: 'small' | 'large'): Promise<number>;
}

/** On a SQLite file where no store is named. */
async function open(t: TestContext, store?: StoreCase): Promise<Limited> {
  const dsns = { small: await freshDatabase(t, POSTGRES), large: await freshDatabase(t, POSTGRES) };
  const place = setup(t, {
    tasks: `
-- name: hang
-- db: small
${DIALECTS.postgres.hang}
-- name: spread
-- db: small, large
${DIALECTS.postgres.hang}
-- name: one
-- db: other
SELECT 1 AS n`,
    db: {
      small: { ...at(dsns.small), concurrency: 2 },
      large: { ...at(dsns.large), concurrency: 4 },
      other: at(dsns.small),
    },
    results: { reports: at(await freshDatabase(t, POSTGRES)) },
    ...(store === undefined ? {} : { store: await store.open(t) }),
  });
  return {
    place,
    hanging: async (db) =>
      (await runningQueries(dsns[db])).filter(({ query }) => query.includes('pg_sleep')).length,
  };
}

interface View {
  readonly job_id: string;
  readonly db: string;
  readonly worker: string;
  readonly started_at: string;
}

async function started(server: WatchedServer): Promise<readonly View[]> {
  const { data } = await server.request<{ jobs: View[] }>('GET', '/jobs?state=STARTED&limit=1000');
  return data.jobs;
}

/** Resolves when the worker has looked at all that waits: what comes last, and is held up by nothing, has run. */
async function workersHaveLooked(server: WatchedServer): Promise<void> {
  assert.equal((await server.finished(await server.post('one'))).state, 'SUCCESS');
}

async function loads(server: WatchedServer) {
  const { data } = await server.request<{ db: string; running: number; waiting: number }[]>('GET', '/limits');
  return Object.fromEntries(data.map(({ db, ...load }) => [db, load]));
}

suite('limits', { concurrency: 2 }, () => {
  for (const store of STORES) {
    const skip = skipOf(POSTGRES, ...store.needs);

    test(`of a database hold for all processes, and are free again when one dies: ${store.name}`, {
      skip,
    }, async (t) => {
      const { place, hanging } = await open(t, store);
      const doomed = await launch(t, place, ['--worker-name', 'doomed'], DOOMED).started();
      const other = await launch(t, place, ['--worker-name', 'other'], DOOMED).started();
      const posted = await Promise.all(
        Array.from({ length: 8 }, (_, n) =>
          (n % 2 === 0 ? doomed : other).post('hang', { job_id: `hang-${n}` }),
        ),
      );
      await until('two run', async () => (await hanging('small')) === 2);
      await workersHaveLooked(doomed);
      await workersHaveLooked(other);
      assert.equal(await hanging('small'), 2);
      assert.deepEqual(await loads(other), {
        small: { concurrency: 2, running: 2, waiting: 6 },
        large: { concurrency: 4, running: 0, waiting: 0 },
        other: { concurrency: null, running: 0, waiting: 0 },
      });

      const [first] = await started(other);
      assert.ok(first);
      assert.equal((await other.request('DELETE', `/jobs/${first.job_id}`)).http, 200);
      await until(
        'another one has taken its place',
        async () => (await loads(other))['small']?.waiting === 5,
      );
      await until('two run', async () => (await hanging('small')) === 2);

      assert.equal(await doomed.stop('SIGKILL'), 'SIGKILL');
      const left = await until('all that run have a worker that lives', async () => {
        const jobs = await started(other);
        assert.ok(jobs.length <= 2, 'never more than two');
        return jobs.length === 2 && jobs.every(({ worker }) => worker === 'other') ? jobs : undefined;
      });
      assert.ok(left.every(({ db }) => db === 'small'));
      await workersHaveLooked(other);
      assert.equal((await started(other)).length, 2);

      // Whoever starts with another figure sets it, and hears that there was one.
      const env = { DUNGBEETLE_DB__SMALL__CONCURRENCY: '3' };
      const third = await launch(t, place, [], env).started();
      assert.deepEqual(
        third.log
          .filter(({ event }) => event === 'limit_changed')
          .map(({ db, before, now }) => [db, before, now]),
        [['small', 2, 3]],
      );
      await until('a third one runs', async () => (await started(other)).length === 3);
      assert.ok(!doomed.log.some(({ event }) => event === 'limit_changed'));
      for (const job_id of posted) {
        const { http } = await other.request('DELETE', `/jobs/${job_id}?purge=true`);
        assert.equal(http, 200);
      }
    });
  }

  // In what order they are handed out is the same on every store, and tested there.
  test('of databases spread the jobs that may go to either, and keys take turns', {
    skip: skipOf(POSTGRES),
  }, async (t) => {
    const { place } = await open(t);
    const server = await launch(t, place, [], { DUNGBEETLE_WORKER_CONCURRENCY: '6' }).started();
    for (let n = 0; n < 6; n += 1) await server.post('spread', { job_id: `spread-${n}` });
    await until('all six run', async () => (await started(server)).length === 6);
    const dbs = (await started(server)).map(({ db }) => db).sort();
    assert.deepEqual(dbs, ['large', 'large', 'large', 'large', 'small', 'small']);
    const picked = await server.post('spread', { job_id: 'asked', db: 'small' });
    assert.equal((await server.request<View>('GET', `/jobs/${picked}`)).data.db, 'small');
    assert.equal((await server.request('DELETE', '/jobs/asked')).http, 200);
    for (let n = 0; n < 6; n += 1) {
      assert.equal((await server.request('DELETE', `/jobs/spread-${n}?purge=true`)).http, 200);
    }

    // Half of six workers for one key: three.
    for (let n = 0; n < 5; n += 1)
      await server.post('spread', { job_id: `big-${n}`, key: 'big', db: 'large' });
    await server.post('spread', { job_id: 'small-0', key: 'small', db: 'large' });
    await until('the other key has its turn', async () => (await started(server)).length === 4);
    await workersHaveLooked(server);
    assert.deepEqual((await started(server)).map(({ job_id }) => job_id).sort(), [
      'big-0',
      'big-1',
      'big-2',
      'small-0',
    ]);
    for (const { job_id } of (await server.request<{ jobs: View[] }>('GET', '/jobs')).data.jobs) {
      assert.equal((await server.request('DELETE', `/jobs/${job_id}?purge=true`)).http, 200);
    }
    assert.equal(await server.stop(), 0);

    const env = { DUNGBEETLE_WORKER_CONCURRENCY: '1', DUNGBEETLE_APP__KEY_CONCURRENCY: '0' };
    const narrow = await launch(t, place, [], env).started();
    assert.equal((await narrow.request('POST', '/queues/default/pause')).http, 200);
    for (const job_id of ['a1', 'a2', 'a3', 'b1', 'c1', 'b2']) {
      await narrow.post('one', { job_id, key: job_id.slice(0, 1) });
    }
    assert.equal((await narrow.request('POST', '/queues/default/resume')).http, 200);
    const runs: View[] = [];
    for (const job_id of ['a1', 'a2', 'a3', 'b1', 'c1', 'b2']) {
      const job = await narrow.finished(job_id);
      assert.equal(job.state, 'SUCCESS', job.error);
      runs.push((await narrow.request<View>('GET', `/jobs/${job_id}`)).data);
    }
    assert.deepEqual(
      runs
        .toSorted((one, other) => one.started_at.localeCompare(other.started_at))
        .map(({ job_id }) => job_id),
      ['a1', 'b1', 'c1', 'a2', 'b2', 'a3'],
    );
  });
});
