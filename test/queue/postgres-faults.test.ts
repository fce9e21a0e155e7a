import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import pg from 'pg';
import { QueueError } from '../../src/queue/errors.ts';
import type { Claimed, JobState, Store } from '../../src/queue/store.ts';
import { Connection } from '../../src/queue/stores/postgres/connection.ts';
import { openPostgresStore, type PostgresStoreOptions } from '../../src/queue/stores/postgres.ts';
import { clientConfig } from '../../src/util/postgres/dsn.ts';
import {
  execute,
  freshDatabase,
  noPrivate,
  proxy,
  servers,
  setReadOnly,
  startPrivate,
} from '../support/services.ts';
import { until } from '../support/until.ts';
import { listen, newJob, only, range } from './conformance/subject.ts';

const SERVERS = servers('postgres');
const server = SERVERS.at(-1);
assert.ok(server);
const shared = { skip: server.skip };
const own = { skip: noPrivate('postgres-18') };

async function open(t: TestContext, options: PostgresStoreOptions): Promise<Store> {
  const store = await openPostgresStore(options);
  t.after(() => store.close());
  return store;
}

async function isUnavailable(promise: Promise<unknown>, message: RegExp): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof QueueError, `${error}`);
    assert.equal(error.code, 'store_unavailable', `${error}`);
    assert.match(error.message, message);
    assert.doesNotMatch(error.message, /\n/);
    return true;
  });
}

/** Resolves with what it answers once it is available again. */
async function back<T>(call: () => Promise<T>): Promise<T> {
  const { value } = await until('the store is back', async () => {
    try {
      return { value: await call() };
    } catch (error) {
      if (error instanceof QueueError && error.code === 'store_unavailable') return undefined;
      throw error;
    }
  });
  return value;
}

async function claim(store: Store, limit = 100) {
  const queues = [{ queue: 'default', limit }];
  return (await store.claim({ worker: 'w', queues, limit, lease_ms: 60_000 })).jobs;
}

const ids = async (store: Store) => (await store.pending('default', 1_000)).map(({ job_id }) => job_id);

test('calls that gave up waiting for a connection take none with them', shared, async (t) => {
  const dsn = await freshDatabase(t, server);
  const line = await proxy(t, { port: Number(new URL(dsn).port) });
  const store = await open(t, {
    dsn: line.through(dsn),
    max_active: 2,
    connect_timeout_ms: 9_000,
    command_timeout_ms: 3_000,
  });
  const calls = (count: number) => Array.from({ length: count }, () => store.states(['nobody']));
  await Promise.all(calls(2));
  line.freeze();
  let gaveUp = 0;
  const frozen = calls(10).map((call) =>
    call.catch((error: unknown) => {
      if (/no connection was free/.test(String(error))) gaveUp += 1;
    }),
  );
  // Two have lost their connections by then, and new ones are being made for others.
  await until('those that waited have given up', () => gaveUp >= 6);
  line.thaw();
  await Promise.all(frozen);
  assert.equal((await back(() => Promise.all(calls(10)))).length, 10);
});

test('the isolation that a database or role begins transactions with does not matter', shared, async (t) => {
  const dsn = await freshDatabase(t, server);
  const name = new URL(dsn).pathname.slice(1);
  await execute(dsn, `ALTER DATABASE "${name}" SET default_transaction_isolation = 'serializable'`);
  const stores = await Promise.all([open(t, { dsn }), open(t, { dsn }), open(t, { dsn })]);
  await Promise.all(
    stores.flatMap((store, n) =>
      range(20, `job-${n}-`).map((id) => store.enqueue([newJob(id, { limit: 'shared', key: `key-${n}` })])),
    ),
  );
  const claimed = await Promise.all(stores.flatMap((store) => [claim(store, 7), claim(store, 7)]));
  const jobs = claimed.flat();
  assert.equal(new Set(jobs.map(({ job_id }) => job_id)).size, jobs.length);
  await Promise.all(
    jobs.map(({ lease }, n) =>
      stores[n % 3]?.finish([{ lease, outcome: { state: 'SUCCESS', result: null } }]),
    ),
  );
  const [stats] = (await stores[0]?.stats()) ?? [];
  assert.equal(stats?.counts.SUCCESS, jobs.length);
  assert.equal(stats?.counts.PENDING, 60 - jobs.length);
});

test('a server that cannot be used is told in one line, without the password', shared, async (t) => {
  const dsn = await freshDatabase(t, server);
  const wrong = new URL(dsn);
  wrong.password = 'not-this-one';
  const nowhere = await proxy(t, { port: Number(wrong.port) });
  const closed = nowhere.through(dsn);
  nowhere.refuse();
  const silent = await proxy(t, { port: Number(wrong.port) });
  silent.freeze();
  const missing = new URL(dsn);
  missing.pathname = '/no_such_database';
  for (const [options, message] of [
    [{ dsn: wrong.href }, /refuses the login \[28P01\]$/],
    [{ dsn: closed }, /no connection to Postgres \(connect ECONNREFUSED/],
    [{ dsn: silent.through(dsn), connect_timeout_ms: 200 }, /no answer within 0\.2 s/],
    [{ dsn: missing.href }, /its database does not exist/],
    [{ dsn: 'http://not-this-one@host/' }, /its DSN is not valid: it is not a postgres/],
    [{ dsn, schema: 'pg_not' }, /must have a name/],
    [{ dsn, schema: 'x'.repeat(64) }, /must have a name/],
  ] as const) {
    await isUnavailable(openPostgresStore(options), message);
    await assert.rejects(openPostgresStore(options), (error) => !String(error).includes('not-this-one'));
  }
});

test('a schema of a newer version is refused, and left as it is', shared, async (t) => {
  const dsn = await freshDatabase(t, server);
  await (await openPostgresStore({ dsn, schema: 'its' })).close();
  await execute(dsn, 'INSERT INTO its.migrations VALUES (1000, now())');
  await isUnavailable(openPostgresStore({ dsn, schema: 'its' }), /"its" is of a newer version \(1000,/);
  assert.deepEqual(await execute(dsn, 'SELECT max(version) FROM its.migrations'), [['1000']]);
});

for (const version of [1, 2, 3]) {
  test(
    `a schema of version ${version} gets the functions of this one, and keeps its jobs`,
    shared,
    async (t) => {
      const dsn = await freshDatabase(t, server);
      const old = await openPostgresStore({ dsn });
      await old.enqueue([newJob('a')]);
      await old.close();
      await execute(
        dsn,
        `DELETE FROM dungbeetle.migrations WHERE version > ${version};
       ${version === 1 ? 'DROP INDEX dungbeetle.leases_tied;' : ''}
       ALTER TABLE dungbeetle.waiting DROP COLUMN open_limit;
       ALTER TABLE dungbeetle.leases DROP COLUMN open_limit;
       ALTER TABLE dungbeetle.pools DROP COLUMN ties;
       CREATE OR REPLACE FUNCTION dungbeetle.now_ms(p_offset bigint) RETURNS bigint LANGUAGE plpgsql AS
         'BEGIN RAISE ''of an earlier version''; END'`,
      );
      const store = await open(t, { dsn });
      assert.deepEqual(
        (await claim(store)).map(({ job_id }) => job_id),
        ['a'],
      );
    },
  );
}

test(
  'a claim passes over jobs that another is at, and says that it is worth looking again',
  shared,
  async (t) => {
    const dsn = await freshDatabase(t, server);
    const store = await open(t, { dsn });
    const [first] = await store.enqueue(['a', 'b', 'c'].map((job_id) => newJob(job_id)));
    const other = new pg.Client(dsn);
    await other.connect();
    t.after(() => other.end());
    await other.query('BEGIN');
    await other.query(`SELECT 1 FROM dungbeetle.waiting WHERE seq = ${first?.seq} FOR UPDATE`);
    const ask = (limit: number) =>
      store.claim({ worker: 'w', queues: [{ queue: 'default', limit }], limit, lease_ms: 10_000 });
    const ids = ({ jobs }: Claimed) => jobs.map(({ job_id }) => job_id);
    const one = await ask(1);
    assert.deepEqual([ids(one), one.next_due_at], [['b'], null]);
    const two = await ask(2);
    assert.deepEqual([ids(two), two.next_due_at], [['c'], two.jobs[0]?.started_at]);
    await other.query('ROLLBACK');
    const three = await ask(2);
    assert.deepEqual([ids(three), three.next_due_at], [['a'], null]);
  },
);

for (const each of SERVERS) {
  test(`many that open the same new schema at once get the same store: ${each.name}`, {
    skip: each.skip,
  }, async (t) => {
    const dsn = await freshDatabase(t, each);
    const schema = `o'Neil "x"; DROP SCHEMA public; -- @jobs $1 ü%`;
    const stores = await Promise.all(range(5).map(() => open(t, { dsn, schema, max_active: 2 })));
    assert.equal(new Set(stores.map(({ store_id }) => store_id)).size, 1);
    await Promise.all(stores.map((store, n) => store.enqueue([newJob(`job-${n}`)])));
    const [first] = stores;
    assert.ok(first);
    await first.ping();
    assert.equal((await first.pending('default', 100)).length, 5);
    assert.equal((await first.list({}, 2)).items.length, 2);
    assert.equal((await first.stats())[0]?.counts.PENDING, 5);
  });
}

test('stores in several schemas of a database do not hear or see each other', shared, async (t) => {
  const dsn = await freshDatabase(t, server);
  const one = await open(t, { dsn, schema: 'one' });
  const other = await open(t, { dsn, schema: 'other' });
  const another = await open(t, { dsn, schema: 'one' });
  const heard = { other: listen(other), another: listen(another) };
  await Promise.all([other.ping(), another.ping()]);
  heard.other.hints.length = 0;
  await one.enqueue([newJob('a')]);
  await until('its own kind hears', () => heard.another.hints.some(({ type }) => type === 'ready'));
  // What is sent to one channel is delivered in order with what is sent to the other.
  await other.enqueue([newJob('b')]);
  await until('it hears of its own', () => heard.other.hints.some(({ type }) => type === 'ready'));
  assert.equal(heard.other.hints.length, 1);
  assert.deepEqual(await ids(other), ['b']);
});

test('a server that is restarted or killed is away for a while, and nothing is lost', own, async (t) => {
  const server = await startPrivate(t, 'postgres-18');
  const store = await open(t, { dsn: server.dsn, connect_timeout_ms: 2_000 });
  const heard = listen(store);
  await store.ping();
  await store.enqueue([newJob('running'), newJob('waiting')]);
  const [held] = await claim(store, 1);
  assert.ok(held);
  for (const restart of [() => server.restart(), () => server.kill().then(() => server.start())]) {
    const restarted = restart();
    await until('it is away', async () => {
      try {
        await store.ping();
        return false;
      } catch (error) {
        assert.ok(error instanceof QueueError && error.code === 'store_unavailable', `${error}`);
        return true;
      }
    });
    heard.hints.length = 0;
    await restarted;
    await back(() => store.ping());
    assert.deepEqual(await ids(store), ['waiting']);
    await until('it hears again', () => heard.hints.some(({ type }) => type === 'finished'));
  }
  assert.deepEqual(await store.finish([{ lease: held.lease, outcome: { state: 'SUCCESS', result: 1 } }]), [
    'SUCCESS',
  ]);
  assert.equal((await store.get('running')).state, 'SUCCESS');
});

test('a server that has become read-only is unavailable until it can be written', own, async (t) => {
  const server = await startPrivate(t, 'postgres-18');
  const store = await open(t, { dsn: server.dsn });
  await store.enqueue([newJob('a')]);
  await setReadOnly(server, true);
  await isUnavailable(store.ping(), /read-only/);
  await isUnavailable(store.enqueue([newJob('b')]), /read-only/);
  await isUnavailable(claim(store), /read-only/);
  assert.deepEqual(await ids(store), ['a'], 'what is there can be seen');
  await setReadOnly(server, false);
  assert.deepEqual(
    (await back(() => claim(store))).map(({ job_id }) => job_id),
    ['a'],
  );
});

test('connections that are cut are made anew', shared, async (t) => {
  const dsn = await freshDatabase(t, server);
  const between = await proxy(t, { port: Number(new URL(dsn).port) });
  const store = await open(t, { dsn: between.through(dsn) });
  await store.enqueue([newJob('a')]);
  for (let round = 0; round < 5; round += 1) {
    between.cut();
    await back(() => store.ping());
  }
  assert.deepEqual(await ids(store), ['a']);
});

test('a post whose answer is lost is there once, or not at all', shared, async (t) => {
  const dsn = await freshDatabase(t, server);
  const between = await proxy(t, { port: Number(new URL(dsn).port) });
  const store = await open(t, { dsn: between.through(dsn), max_active: 1 });
  for (let round = 0; round < 20; round += 1) {
    await back(() => store.ping());
    // Somewhere in the answer.
    between.cutAfter('toClient', 1 + round * 4);
    const job = newJob(`job-${round}`);
    try {
      await back(() => store.enqueue([job]));
    } catch (error) {
      assert.ok(error instanceof QueueError && error.code === 'job_active', `${error}`);
    }
    assert.equal((await back(() => store.get(job.job_id))).state, 'PENDING');
  }
  assert.deepEqual(await back(() => ids(store)), range(20));
});

test('connections that are half-open are given up, and others made', shared, async (t) => {
  const dsn = await freshDatabase(t, server);
  const between = await proxy(t, { port: Number(new URL(dsn).port) });
  const options = { connect_timeout_ms: 2_000, command_timeout_ms: 2_000, poll_ms: 50 };
  const store = await open(t, { dsn: between.through(dsn), ...options });
  const direct = await open(t, { dsn });
  const heard = listen(store);
  await store.ping();
  between.freeze();
  await isUnavailable(store.ping(), /no connection to Postgres/);
  heard.hints.length = 0;
  await until('it asks, since it cannot hear', () => heard.hints.some(({ type }) => type === 'ready'));
  between.thaw();
  await back(() => store.ping());
  await until('it listens again', async () => {
    heard.hints.length = 0;
    await direct.enqueue([newJob('a')]);
    await direct.purge('a');
    return heard.hints.some((hint) => hint.type === 'finished' && hint.job_id === 'a');
  });
});

test('what waits for a connection waits no longer than it takes to make one', shared, async (t) => {
  const dsn = await freshDatabase(t, server);
  const store = await open(t, { dsn, max_active: 1, connect_timeout_ms: 2_000, command_timeout_ms: 20_000 });
  const blocker = new pg.Client(dsn);
  await blocker.connect();
  t.after(() => blocker.end());
  await blocker.query('BEGIN; LOCK TABLE dungbeetle.paused_queues');
  const blocked = store.pause('default');
  await isUnavailable(store.get('a'), /no connection was free within 2 s/);
  await blocker.query('ROLLBACK');
  await blocked;
  await assert.rejects(store.get('a'), { code: 'unknown_job' });
});

test('who waits for a lock for long gives up, and nothing has changed', shared, async (t) => {
  const dsn = await freshDatabase(t, server);
  const store = await open(t, { dsn, command_timeout_ms: 3_000 });
  const blocker = new pg.Client(dsn);
  await blocker.connect();
  t.after(() => blocker.end());
  await store.enqueue([newJob('a')]);
  await blocker.query('BEGIN; LOCK TABLE dungbeetle.outcomes');
  await isUnavailable(store.cancel('a'), /took too long/);
  await blocker.query('ROLLBACK');
  assert.equal((await store.get('a')).state, 'PENDING');
  assert.equal((await store.cancel('a')).state, 'CANCELLED');
});

test('a session that is killed in the middle of a call leaves nothing half done', shared, async (t) => {
  const dsn = await freshDatabase(t, server);
  const store = await open(t, { dsn });
  await store.enqueue(range(100).map((job_id) => newJob(job_id)));
  const blocker = new pg.Client(dsn);
  await blocker.connect();
  t.after(() => blocker.end());
  // It has taken jobs out of what waits by the time it is stopped here.
  await blocker.query('BEGIN; LOCK TABLE dungbeetle.tallies');
  const claimed = claim(store);
  const failed = isUnavailable(claimed, /shuts down|no connection/);
  await until('it is in the middle', async () => {
    // Not by the blocker: what a transaction sees of others' activity stays as it was at first.
    const stopped = await execute(
      dsn,
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%claim%'`,
    );
    return stopped.length > 0;
  });
  await failed;
  await blocker.query('ROLLBACK');
  assert.equal((await back(() => claim(store))).length, 100);
});

test('jobs are finished while their leases are renewed', shared, async (t) => {
  const dsn = await freshDatabase(t, server);
  const [store, other] = [await open(t, { dsn }), await open(t, { dsn })];
  await store.enqueue(range(200).map((job_id) => newJob(job_id)));
  const jobs = await claim(store, 200);
  let unfinished = jobs.length;
  const renewing = async () => {
    while (unfinished > 0) {
      await other.renew(
        jobs.map(({ lease }) => ({ lease })),
        60_000,
      );
    }
  };
  const finishing = async () => {
    const states: (JobState | null)[] = [];
    for (let n = 0; n < jobs.length; n += 8) {
      const some = jobs.slice(n, n + 8).map(({ lease }) => lease);
      states.push(
        ...(await store.finish(
          some.map((lease) => ({ lease, outcome: { state: 'SUCCESS', result: null } })),
        )),
      );
      unfinished -= some.length;
    }
    return states;
  };
  const [states] = await Promise.all([finishing(), renewing(), renewing()]);
  assert.deepEqual(new Set(states), new Set(['SUCCESS']));
  assert.deepEqual(await store.leases(), []);
  const [stats] = await store.stats();
  assert.equal(stats?.counts.SUCCESS, jobs.length);
  assert.equal(stats?.counts.STARTED, 0);
});

test('several processes that claim and finish at once share the jobs out', shared, async (t) => {
  const dsn = await freshDatabase(t, server);
  const stores = await Promise.all(range(4).map(() => open(t, { dsn, max_active: 2 })));
  const [first] = stores;
  assert.ok(first);
  const plain = range(600);
  await first.enqueue(plain.map((job_id) => newJob(job_id)));
  const tied = range(200, 'tied-');
  await first.enqueue(
    tied.map((job_id, n) => newJob(job_id, { limit: 'db', key: `k${n % 7}`, key_concurrency: 2 })),
  );
  await first.limit('db', 5);
  const ran: string[] = [];
  let running = 0;
  await Promise.all(
    stores.map(async (store) => {
      while (ran.length < 800) {
        const jobs = await claim(store, 20);
        const limited = jobs.filter(({ limit }) => limit !== null).length;
        running += limited;
        assert.ok(running <= 5, `${running} of a limit of 5`);
        // The others go on meanwhile.
        await store.renew(jobs, 60_000);
        running -= limited;
        ran.push(...jobs.map(({ job_id }) => job_id));
        const ends = jobs.map(({ lease }) => ({
          lease,
          outcome: { state: 'SUCCESS' as const, result: null },
        }));
        const states = await store.finish(ends);
        assert.ok(states.every((state) => state === 'SUCCESS'));
      }
    }),
  );
  assert.deepEqual(ran.toSorted(), [...plain, ...tied].toSorted());
  assert.deepEqual(only(await first.limits(['db'])), { limit: 'db', concurrency: 5, running: 0, waiting: 0 });
  assert.equal((await first.stats())[0]?.counts.SUCCESS, 800);
});

test('a stricter time limit of the role or the DSN holds', shared, async (t) => {
  assert.ok(server);
  const dsn = await freshDatabase(t, server);
  for (const [database, parameter, expected] of [
    ['0', '', '8s'],
    ['1500ms', '', '1500ms'],
    ['1h', '', '8s'],
    ['0', '?statement_timeout=2s', '2s'],
    ['0', '?statement_timeout=90000', '8s'],
  ] as const) {
    await execute(
      dsn,
      `ALTER DATABASE "${new URL(dsn).pathname.slice(1)}" SET statement_timeout = '${database}'`,
    );
    const connection = await Connection.open({
      config: clientConfig(dsn + parameter),
      connect_timeout_ms: 10_000,
      command_timeout_ms: 10_000,
      application_name: 'test',
    });
    t.after(() => connection.close());
    assert.deepEqual(await connection.query("SELECT current_setting('statement_timeout')", []), [[expected]]);
  }
});
