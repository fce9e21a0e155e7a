import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { type TestContext, test } from 'node:test';
import { QueueError } from '../../src/queue/errors.ts';
import type { Store } from '../../src/queue/store.ts';
import { openRedisStore, type RedisStoreOptions } from '../../src/queue/stores/redis.ts';
import { execute, freshDatabase, proxy, startPrivate } from '../support/services.ts';
import { until } from '../support/until.ts';
import { listen, newJob, only, range } from './conformance/subject.ts';
import { onOwn, onShared, optionsOf } from './redis.ts';

const KEPT = { appendonly: 'yes', appendfsync: 'always' };

async function open(t: TestContext, options: RedisStoreOptions): Promise<Store> {
  const store = await openRedisStore(options);
  t.after(() => store.close());
  return store;
}

async function isUnavailable(promise: Promise<unknown>, message: RegExp): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof QueueError, `${error}`);
    assert.equal(error.code, 'store_unavailable', `${error}`);
    assert.match(error.message, message);
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

onShared(
  'a server that is not there, not Redis, or refuses the password is said to be so, without the password',
  async (t, server) => {
    const options = optionsOf(await freshDatabase(t, server));
    const odd = createServer((socket) => void socket.end('220 mail.example.com ESMTP\r\n'));
    odd.listen(0, '127.0.0.1');
    await once(odd, 'listening');
    t.after(() => odd.close());
    const address = odd.address();
    assert.ok(address !== null && typeof address === 'object');
    const connect_timeout_ms = 300;
    await isUnavailable(
      openRedisStore({ ...options, addresses: ['127.0.0.1:1'], connect_timeout_ms }),
      /127\.0\.0\.1:1.*ECONNREFUSED/,
    );
    await isUnavailable(
      openRedisStore({ ...options, addresses: [`127.0.0.1:${address.port}`], connect_timeout_ms }),
      /127\.0\.0\.1/,
    );
    const started = performance.now();
    await assert.rejects(openRedisStore({ ...options, password: 'hunter2' }), (error) => {
      assert.ok(error instanceof QueueError);
      assert.equal(error.code, 'store_unavailable');
      assert.match(error.message, /refuses the user or the password/);
      assert.doesNotMatch(error.message, /hunter2/);
      return true;
    });
    assert.ok(performance.now() - started < 9_000, 'it is not tried again and again');
    const { password: _, ...without } = options;
    await isUnavailable(openRedisStore(without), /asks for a password/);
  },
);

test('options that cannot be are refused', async () => {
  for (const options of [
    { addresses: [] },
    { addresses: ['localhost'] },
    { addresses: ['localhost:99999'] },
    { addresses: ['127.0.0.1:1'], prefix: '' },
    { addresses: ['127.0.0.1:1'], prefix: 'a{b}' },
  ]) {
    await assert.rejects(openRedisStore(options), TypeError, JSON.stringify(options));
  }
});

onShared('stores of different prefixes in one database know nothing of each other', async (t, server) => {
  const options = optionsOf(await freshDatabase(t, server));
  const one = await open(t, options);
  const other = await open(t, { ...options, prefix: 'another one' });
  const again = await open(t, { ...options, prefix: 'another one' });
  assert.notEqual(one.store_id, other.store_id);
  assert.equal(again.store_id, other.store_id);
  await one.enqueue([newJob('a')]);
  await other.enqueue([newJob('a')]);
  assert.equal((await claim(one)).length, 1);
  assert.deepEqual(await ids(other), ['a']);
});

onShared('data of a newer version are refused, and left as they are', async (t, server) => {
  const dsn = await freshDatabase(t, server);
  const store = await openRedisStore(optionsOf(dsn));
  await store.enqueue([newJob('a')]);
  await store.close();
  await execute(dsn, ['HSET', '{dungbeetle}:store', 'version', '1000']);
  await isUnavailable(openRedisStore(optionsOf(dsn)), /newer version \(1000.*upgrade/);
  await execute(dsn, ['HSET', '{dungbeetle}:store', 'version', '1']);
  assert.deepEqual(await ids(await open(t, optionsOf(dsn))), ['a']);
});

onShared(
  'texts that UTF-8 has no room for, huge numbers and all that JSON can hold come back as they were',
  async (t, server) => {
    const dsn = await freshDatabase(t, server);
    const store = await open(t, optionsOf(dsn));
    const halves = ['q\ud800', 'q\ud801', 'q\ufffd', 'q'];
    const payload = {
      text: '\ud800\0\u2028"\\',
      number: 1e308,
      tiny: 5e-324,
      big: 2 ** 53 + 2,
      '\udfff': [[]],
    };
    await store.enqueue(
      halves.map((queue, n) => {
        return { ...newJob(`job-${n}`), queue, task: queue, key: queue, limit: queue, payload };
      }),
    );
    for (const [n, queue] of halves.entries()) {
      const { jobs } = await store.claim({
        worker: `worker${queue}`,
        queues: [{ queue, limit: 10 }],
        limit: 10,
        lease_ms: 60_000,
      });
      const job = only(jobs);
      assert.equal(job.job_id, `job-${n}`);
      assert.deepEqual(
        [job.queue, job.task, job.key, job.limit, job.worker, job.payload],
        [queue, queue, queue, queue, `worker${queue}`, payload],
      );
      assert.deepEqual(await store.limits([queue]), [
        { limit: queue, concurrency: null, running: 1, waiting: 0 },
      ]);
      await store.renew([{ lease: job.lease, progress: payload }], 60_000);
      assert.deepEqual((await store.get(job.job_id)).progress, payload);
      const isBad = n % 2 === 0;
      await store.finish([
        {
          lease: job.lease,
          outcome: isBad ? { state: 'FAILURE', error: queue } : { state: 'SUCCESS', result: payload },
        },
      ]);
      const ended = only((await store.list({ task: queue, queue }, 10)).items);
      assert.deepEqual([ended.job_id, ended.error], [job.job_id, isBad ? queue : '']);
      assert.deepEqual(ended.result, isBad ? null : payload);
    }
    assert.deepEqual(
      (await store.stats()).map(({ queue }) => queue),
      halves.toSorted(),
    );
  },
);

onOwn('what was accepted survives kill -9, and the store comes back by itself', async (t, kind) => {
  const redis = await startPrivate(t, kind, { settings: KEPT });
  const store = await open(t, optionsOf(redis.dsn));
  const heard = listen(store);
  await store.enqueue(range(20).map((job_id) => newJob(job_id)));
  const [running] = await claim(store, 1);
  assert.ok(running);
  await redis.kill();
  await isUnavailable(store.enqueue([newJob('meanwhile')]), /Redis at 127/);
  await isUnavailable(store.ping(), /Redis at 127/);
  heard.hints.length = 0;
  await redis.start();
  assert.deepEqual(await back(() => ids(store)), range(20).slice(1));
  assert.deepEqual(await store.finish([{ lease: running.lease, outcome: { state: 'SUCCESS', result: 1 } }]), [
    'SUCCESS',
  ]);
  assert.deepEqual(await store.states(['meanwhile']), [null]);
  // Listeners look for what they may have missed, and hear again.
  await until('it hints at all', () => heard.hints.some(({ type }) => type === 'cancel'));
  await store.ping();
  heard.hints.length = 0;
  const other = await open(t, optionsOf(redis.dsn));
  await other.enqueue([newJob('after')]);
  await until('it hears of the job', () => heard.hints.some(({ type }) => type === 'ready'));
});

onShared(
  'a server that does not answer: calls fail in time and are not carried out later',
  async (t, server) => {
    const dsn = await freshDatabase(t, server);
    const direct = await open(t, optionsOf(dsn));
    const line = await proxy(t, { port: Number(new URL(dsn).port) });
    const options = { ...optionsOf(line.through(dsn)), command_timeout_ms: 2_000, poll_ms: 200 };
    const store = await open(t, options);
    const { hints } = listen(store);
    await store.enqueue([newJob('before')]);
    await store.ping();
    line.freeze();
    hints.length = 0;
    const calls = [
      store.enqueue([newJob('late')]),
      claim(store),
      store.get('before'),
      store.enqueue([newJob('later')]),
    ];
    for (const call of calls) await isUnavailable(call, /no answer within 2000 ms/);
    await isUnavailable(store.enqueue([newJob('too')]), /no answer|not connected/);
    await until('it hints at what it may miss', () => hints.some(({ type }) => type === 'ready'));
    line.thaw();
    await back(() => store.ping());
    // What was on its way has arrived by now, and was refused.
    assert.deepEqual(await direct.states(['before', 'late', 'later', 'too']), ['PENDING', null, null, null]);
    hints.length = 0;
    await direct.enqueue([newJob('after')]);
    await until('it hears again', () => hints.some(({ type }) => type === 'ready'));
  },
);

onShared(
  'connections that are cut: calls under way fail or are answered, and all goes on',
  async (t, server) => {
    const dsn = await freshDatabase(t, server);
    const line = await proxy(t, { port: Number(new URL(dsn).port) });
    const store = await open(t, optionsOf(line.through(dsn)));
    const direct = await open(t, optionsOf(dsn));
    for (let round = 0; round < 5; round += 1) {
      const names = range(30, `job-${round}-`);
      await back(() => store.ping());
      const posts = names.map((job_id) => store.enqueue([newJob(job_id)]));
      // In the midst of an answer, in the midst of a call.
      if (round % 2 === 0) line.cutAfter('toClient', 40 * round);
      else line.cutAfter('toServer', 900 * round);
      const results = await Promise.allSettled(posts);
      // Whoever was refused tries again: then the job is there, once.
      for (const [index, result] of results.entries()) {
        const job_id = names[index] ?? '';
        if (result.status === 'fulfilled') continue;
        assert.equal(result.reason.code, 'store_unavailable');
        const again = await back(() =>
          store.enqueue([newJob(job_id)]).catch((error: unknown) => {
            if (!(error instanceof QueueError) || error.code !== 'job_active') throw error;
            return 'active';
          }),
        );
        assert.ok(again === 'active' || Array.isArray(again));
      }
      assert.ok(results.some(({ status }) => status === 'rejected'));
      assert.deepEqual((await ids(direct)).sort(), names.sort());
      for (const job of await claim(direct)) {
        await direct.finish([{ lease: job.lease, outcome: { state: 'SUCCESS', result: null } }]);
      }
    }
  },
);

onShared('an end whose answer was lost is not said to be a lost lease', async (t, server) => {
  const dsn = await freshDatabase(t, server);
  const line = await proxy(t, { port: Number(new URL(dsn).port) });
  const store = await open(t, optionsOf(line.through(dsn)));
  const direct = await open(t, optionsOf(dsn));
  await store.enqueue([newJob('a')]);
  const { lease } = only(await claim(store));
  line.cutAfter('toClient', 1);
  await isUnavailable(store.finish([{ lease, outcome: { state: 'SUCCESS', result: 1 } }]), /not connected/);
  await until('it is done', async () => (await direct.get('a')).state === 'SUCCESS');
});

onOwn('a server that forgets its scripts is told them again', async (t, kind) => {
  const redis = await startPrivate(t, kind);
  const store = await open(t, optionsOf(redis.dsn));
  await store.enqueue([newJob('a')]);
  await execute(redis.dsn, 'SCRIPT FLUSH');
  await store.enqueue([newJob('b')]);
  assert.deepEqual(await ids(store), ['a', 'b']);
});

onOwn('a replica takes no writes: the store is unavailable until it is the master again', async (t, kind) => {
  const redis = await startPrivate(t, kind);
  const master = await startPrivate(t, kind);
  const store = await open(t, optionsOf(redis.dsn));
  await store.enqueue([newJob('a')]);
  const { password, port } = new URL(master.dsn);
  await execute(redis.dsn, ['CONFIG', 'SET', 'masterauth', password]);
  await execute(redis.dsn, 'CONFIG SET replica-serve-stale-data yes');
  // A master that is not there: the data stay as they are.
  await master.kill();
  await execute(redis.dsn, ['REPLICAOF', '127.0.0.1', port]);
  await isUnavailable(store.enqueue([newJob('b')]), /replica, which cannot be written/);
  await until('it says so again', async () => {
    const error = await store.ping().catch((error: unknown) => error);
    return error instanceof QueueError && /replica/.test(error.message);
  });
  await execute(redis.dsn, 'REPLICAOF NO ONE');
  await back(() => store.enqueue([newJob('b')]));
  assert.deepEqual(await ids(store), ['a', 'b']);
});

onOwn(
  'a full memory: no new jobs, but those that are there run, and then there is room again',
  async (t, kind) => {
    const redis = await startPrivate(t, kind);
    const store = await open(t, optionsOf(redis.dsn));
    const payload = 'x'.repeat(20_000);
    await store.enqueue(range(50).map((job_id) => newJob(job_id, { payload })));
    await execute(redis.dsn, 'CONFIG SET maxmemory 1mb');
    await isUnavailable(store.enqueue([newJob('more'), newJob('and-more')]), /out of memory/);
    await isUnavailable(store.enqueue([newJob('one')]), /out of memory/);
    await isUnavailable(store.ping(), /out of memory/);
    assert.deepEqual(await store.states(['more', 'and-more', 'one']), [null, null, null]);
    const jobs = await claim(store);
    assert.equal(jobs.length, 50);
    assert.deepEqual(
      (
        await store.renew(
          jobs.map(({ lease }) => ({ lease, progress: 1 })),
          60_000,
        )
      ).lost,
      [],
    );
    const outcome = { state: 'SUCCESS', result: null } as const;
    const states = await store.finish(jobs.map(({ lease }) => ({ lease, outcome })));
    assert.deepEqual(new Set(states), new Set(['SUCCESS']));
    await until('time has gone on', async () => (await store.prune({ jobs_ms: 0, groups_ms: 0 })) > 0);
    await execute(redis.dsn, 'CONFIG SET maxmemory 100mb');
    await store.enqueue([newJob('more')]);
    assert.deepEqual(await ids(store), ['more']);
  },
);

onOwn(
  'a server that is loading its data is waited for at the start, and unavailable later',
  async (t, kind) => {
    const redis = await startPrivate(t, kind, { settings: { 'key-load-delay': '3000' } });
    const store = await open(t, optionsOf(redis.dsn));
    await store.enqueue([newJob('a')]);
    for (let n = 0; n < 400; n += 1) await execute(redis.dsn, ['SET', `filler-${n}`, '']);
    await execute(redis.dsn, 'SAVE');
    await redis.kill();
    const started = redis.start();
    await until('it loads', () => /Loading RDB|DB loaded/.test(redis.log.slice(-2_000)));
    await isUnavailable(
      openRedisStore({ ...optionsOf(redis.dsn), connect_timeout_ms: 150 }),
      /loading|no answer|ECONNREFUSED/i,
    );
    const patient = await open(t, { ...optionsOf(redis.dsn), connect_timeout_ms: 30_000 });
    assert.deepEqual(await ids(patient), ['a']);
    assert.deepEqual(await back(() => ids(store)), ['a']);
    await started;
  },
);

onOwn('data that are gone or replaced are said to be so, and not written to', async (t, kind) => {
  const redis = await startPrivate(t, kind);
  const options = optionsOf(redis.dsn);
  const store = await open(t, options);
  await store.enqueue([newJob('a')]);
  await execute(redis.dsn, 'FLUSHALL');
  await isUnavailable(store.enqueue([newJob('b')]), /lost the store's data; start again/);
  await isUnavailable(store.get('a'), /lost the store's data/);
  assert.deepEqual(await execute(redis.dsn, 'DBSIZE'), [['0']]);
  const fresh = await open(t, options);
  assert.notEqual(fresh.store_id, store.store_id);
  await isUnavailable(store.enqueue([newJob('b')]), /replaced by another one; start again/);
  assert.deepEqual(await ids(fresh), []);
});

onOwn(
  'writes that a restart has lost are said to be lost, and their fences are not given out again',
  async (t, kind) => {
    const redis = await startPrivate(t, kind);
    const said: string[] = [];
    const store = await open(t, { ...optionsOf(redis.dsn), onWarning: (message) => said.push(message) });
    await store.enqueue([newJob('kept')]);
    await execute(redis.dsn, 'SAVE');
    await store.enqueue([newJob('lost')]);
    const before = await claim(store);
    assert.equal(before.length, 2);
    said.length = 0;
    await redis.kill();
    await redis.start();
    assert.deepEqual(await back(() => ids(store)), ['kept']);
    assert.match(only(said), /has lost its last writes/);
    const { lease } = only(await claim(store));
    for (const old of before) assert.ok(old.lease.fence < lease.fence);
    // The same job, the same attempt, and yet not the same.
    const zombie = before[0]?.lease;
    assert.ok(zombie);
    assert.equal(zombie.attempt, lease.attempt);
    assert.deepEqual(await store.finish([{ lease: zombie, outcome: { state: 'SUCCESS', result: 1 } }]), [
      null,
    ]);
  },
);

onOwn('settings that put jobs at risk are said at the start', async (t, kind) => {
  const redis = await startPrivate(t, kind);
  const warned = async (...settings: readonly (readonly [string, string])[]) => {
    for (const [name, value] of settings) await execute(redis.dsn, ['CONFIG', 'SET', name, value]);
    const said: string[] = [];
    await (
      await openRedisStore({ ...optionsOf(redis.dsn), onWarning: (message) => said.push(message) })
    ).close();
    return said;
  };
  assert.match(only(await warned()), /in memory only/);
  assert.match(only(await warned(['save', '60 1'])), /snapshots only/);
  assert.deepEqual(await warned(['appendonly', 'yes']), []);
  assert.match(only(await warned(['appendfsync', 'no'])), /appendfsync no/);
  assert.deepEqual(await warned(['appendfsync', 'always']), []);
  assert.match(only(await warned(['maxmemory-policy', 'allkeys-lru'])), /throw the queue away.*allkeys-lru/);
  assert.deepEqual(await warned(['maxmemory-policy', 'volatile-lru']), []);
  await execute(redis.dsn, ['ACL', 'SETUSER', 'plain', 'on', '>secret', '~*', '&*', '+@all', '-config']);
  const said: string[] = [];
  const options = { ...optionsOf(redis.dsn), username: 'plain', password: 'secret' };
  await (await openRedisStore({ ...options, onWarning: (message) => said.push(message) })).close();
  assert.match(only(said), /CONFIG GET/);
});

onOwn('when the store is closed no connection is left', async (t, kind) => {
  const redis = await startPrivate(t, kind);
  const connections = async () => {
    const [[list] = []] = await execute(redis.dsn, 'CLIENT LIST');
    return String(list)
      .split('\n')
      .filter((line) => line.includes('name=dungbeetle')).length;
  };
  const store = await openRedisStore(optionsOf(redis.dsn));
  store.watch(() => {});
  await store.ping();
  assert.equal(await connections(), 2);
  await store.close();
  await until('they are closed', async () => (await connections()) === 0);
});
