/** The Redis store where its Redis is more than a server at an address: behind sentinels, a cluster, TLS. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { account, writeFor } from '../../scripts/services/accounts.ts';
import { freePort } from '../../scripts/services/ports.ts';
import { abandon, launch, removeAtEnd } from '../../scripts/services/processes.ts';
import { QueueError } from '../../src/queue/errors.ts';
import type { Store } from '../../src/queue/store.ts';
import { openRedisStore, type RedisStoreOptions } from '../../src/queue/stores/redis.ts';
import { afterOthers } from '../support/scope.ts';
import { execute, noPrivate, type PrivateServer, startPrivate } from '../support/services.ts';
import { until } from '../support/until.ts';
import { listen, newJob } from './conformance/subject.ts';
import { optionsOf } from './redis.ts';

const own = { skip: noPrivate('redis') };

async function open(t: TestContext, options: RedisStoreOptions): Promise<Store> {
  const store = await openRedisStore(options);
  t.after(() => store.close());
  return store;
}

function ignoreUnavailable(error: unknown): undefined {
  if (!(error instanceof QueueError) || error.code !== 'store_unavailable') throw error;
}

const ids = async (store: Store) => (await store.pending('default', 1_000)).map(({ job_id }) => job_id);

/** A master, its replica, and a sentinel that watches over them. */
async function watched(t: TestContext) {
  const master = await startPrivate(t, 'redis', { settings: { appendonly: 'yes' } });
  const { password, port } = new URL(master.dsn);
  const replica = await startPrivate(t, 'redis', {
    settings: { masterauth: password, replicaof: `127.0.0.1 ${port}` },
  });
  await until('the replica follows', async () => {
    const [[info] = []] = await execute(replica.dsn, 'INFO replication');
    return String(info).includes('master_link_status:up');
  });
  const folder = mkdtempSync(join(tmpdir(), 'dungbeetle-sentinel-'));
  removeAtEnd(folder);
  const as = account(['redis']);
  chmodSync(folder, 0o777); // it rewrites its own configuration
  const sentinelPort = await freePort();
  const config = join(folder, 'sentinel.conf');
  writeFor(
    as,
    config,
    [
      `port ${sentinelPort}`,
      'bind 127.0.0.1',
      `dir ${folder}`,
      `sentinel monitor reports 127.0.0.1 ${port} 1`,
      `sentinel auth-pass reports ${password}`,
      'sentinel down-after-milliseconds reports 300',
      'sentinel failover-timeout reports 3000',
      '',
    ].join('\n'),
  );
  const log = join(folder, 'log');
  const sentinel = await launch('/usr/bin/redis-server', [config, '--sentinel'], {
    as,
    folder,
    log,
    abandon: 'SIGKILL',
  });
  afterOthers(t, async () => {
    await abandon(sentinel.pid, 'SIGKILL');
    await sentinel.exited;
    rmSync(folder, { recursive: true, force: true, maxRetries: 20 });
  });
  const dsn = `redis://127.0.0.1:${sentinelPort}`;
  await until('the sentinel knows the replica', async () => {
    const rows = await execute(dsn, 'INFO sentinel').catch(() => [[]]);
    return String(rows[0]?.[0]).includes('status=ok') && String(rows[0]?.[0]).includes('slaves=1');
  });
  return { master, replica, password, address: `127.0.0.1:${sentinelPort}` };
}

test(
  'behind sentinels: the master dies, and the store goes on with the one that takes its place',
  own,
  async (t) => {
    const { master, replica, password, address } = await watched(t);
    const options = {
      addresses: [address],
      password,
      sentinel: { name: 'reports' },
      min_replicas: 1,
      command_timeout_ms: 3_000,
      poll_ms: 200,
    };
    const first = await open(t, options);
    const { hints } = listen(first);
    await first.enqueue([newJob('a')]);
    await first.ping();
    const request = { worker: 'w', queues: [{ queue: 'default', limit: 1 }], limit: 1, lease_ms: 60_000 };
    const [held] = (await first.claim(request)).jobs;
    assert.ok(held);
    await master.kill();
    await assert.rejects(first.enqueue([newJob('meanwhile')]), { code: 'store_unavailable' });
    const store = await open(t, { ...options, min_replicas: 0, connect_timeout_ms: 20_000 });
    assert.equal(store.store_id, first.store_id);
    await until('the replica is the master', async () => {
      const [[role] = []] = await execute(replica.dsn, 'ROLE');
      return role === 'master';
    });
    assert.deepEqual(await store.states(['a', 'meanwhile']), ['STARTED', null]);
    const outcome = { state: 'SUCCESS', result: 1 } as const;
    assert.deepEqual(await store.finish([{ lease: held.lease, outcome }]), ['SUCCESS']);
    // The one that was open all the time has moved, too: its reads answer, and it hears again.
    await until(
      'it reads',
      async () => (await first.states(['a']).catch(ignoreUnavailable))?.[0] === 'SUCCESS',
    );
    let posts = 0;
    await until('it hears of an end', async () => {
      posts += 1;
      await store.enqueue([newJob(`b-${posts}`)]);
      await store.cancel(`b-${posts}`);
      return hints.some((hint) => hint.type === 'finished' && hint.job_id?.startsWith('b-'));
    });
    await assert.rejects(
      openRedisStore({ ...options, sentinel: { name: 'nobody' }, connect_timeout_ms: 500 }),
      { code: 'store_unavailable' },
    );
  },
);

test('a cluster: all keys are in one slot, and the store follows it to another node', own, async (t) => {
  const settings = {
    'cluster-enabled': 'yes',
    'cluster-require-full-coverage': 'no',
    appendonly: 'yes',
    appendfsync: 'always',
  };
  // By itself it takes the port 10,000 above its own, which an outgoing connection may have.
  const buses = [String(await freePort()), String(await freePort())] as const;
  const [one, two] = await Promise.all([
    startPrivate(t, 'redis', { settings: { ...settings, 'cluster-port': buses[0] } }),
    startPrivate(t, 'redis', { settings: { ...settings, 'cluster-port': buses[1] } }),
  ]);
  const { password } = new URL(one.dsn);
  await execute(one.dsn, 'CLUSTER ADDSLOTSRANGE 0 16383');
  await execute(one.dsn, ['CLUSTER', 'MEET', '127.0.0.1', String(two.port), buses[1]]);
  const nodes = async (server: PrivateServer) => String((await execute(server.dsn, 'CLUSTER NODES'))[0]?.[0]);
  for (const server of [one, two]) {
    await until(
      'they know each other',
      async () => (await nodes(server)).split('\n').filter(Boolean).length === 2,
    );
    await until('all is well', async () =>
      String((await execute(server.dsn, 'CLUSTER INFO'))[0]?.[0]).includes('cluster_state:ok'),
    );
  }
  await until('both know who has the slots', async () => (await nodes(two)).includes('0-16383'));
  const options = {
    addresses: [`127.0.0.1:${two.port}`],
    password,
    cluster: true,
    poll_ms: 200,
    command_timeout_ms: 5_000,
  };
  await assert.rejects(open(t, { ...options, cluster: false }), {
    code: 'store_unavailable',
    message: /is a node of a cluster: set cluster = true/,
  });
  const store = await open(t, options);
  const { hints } = listen(store);
  await store.ping();
  await store.limit('l', 1);
  await store.enqueue(
    ['a', 'b', 'c'].map((job_id) => newJob(job_id, { limit: 'l', key: 'k', payload: 'x'.repeat(2_000) })),
    { group_id: 'g', concurrency: 2 },
  );
  await store.enqueue([newJob('child', { after: [{ job_id: 'a' }] })]);
  const request = { worker: 'w', queues: [{ queue: 'default', limit: 5 }], limit: 5, lease_ms: 60_000 };
  const { jobs } = await store.claim(request);
  assert.deepEqual(
    jobs.map(({ job_id }) => job_id),
    ['a'],
  );
  await store.finish(jobs.map(({ lease }) => ({ lease, outcome: { state: 'SUCCESS', result: null } })));
  assert.deepEqual(await ids(store), ['b', 'c', 'child']);
  await until('it hears', () => hints.some(({ type }) => type === 'finished'));

  // The slot moves, with all its keys.
  const slot = String((await execute(one.dsn, ['CLUSTER', 'KEYSLOT', '{dungbeetle}:store']))[0]?.[0]);
  const idOf = async (server: PrivateServer) => String((await execute(server.dsn, 'CLUSTER MYID'))[0]?.[0]);
  const [from, to] = [await idOf(one), await idOf(two)];
  await execute(two.dsn, ['CLUSTER', 'SETSLOT', slot, 'IMPORTING', from]);
  await execute(one.dsn, ['CLUSTER', 'SETSLOT', slot, 'MIGRATING', to]);
  const keys = (await execute(one.dsn, ['CLUSTER', 'GETKEYSINSLOT', slot, '1000'])).flat().map(String);
  assert.ok(keys.length > 10);
  await execute(one.dsn, [
    ...['MIGRATE', '127.0.0.1', String(two.port), '', '0', '5000', 'AUTH', password, 'KEYS'],
    ...keys,
  ]);
  for (const server of [two, one]) await execute(server.dsn, ['CLUSTER', 'SETSLOT', slot, 'NODE', to]);
  const found = await until('it finds its keys', () => ids(store).catch(ignoreUnavailable));
  assert.deepEqual(found, ['b', 'c', 'child']);
  await store.enqueue([newJob('d')]);
  assert.equal((await store.claim(request)).jobs.length, 3);

  // The node that has it dies, and comes back.
  await two.kill();
  await assert.rejects(store.enqueue([newJob('e')]), { code: 'store_unavailable' });
  await two.start();
  await until('it is back', () => store.enqueue([newJob('f')]).catch(ignoreUnavailable));
  assert.deepEqual(await store.states(['d', 'e', 'f']), ['STARTED', null, 'PENDING']);
  hints.length = 0;
  await store.ping();
  const other = await open(t, options);
  await other.enqueue([newJob('g')]);
  await other.cancel('g');
  await until('it hears', () => hints.some((hint) => hint.type === 'finished' && hint.job_id === 'g'));
});

test('TLS: with an authority that is trusted, and not without', own, async (t) => {
  const port = await freePort();
  const redis = await startPrivate(t, 'redis', { tls: true, settings: { 'tls-port': String(port) } });
  const options = { ...optionsOf(redis.dsn), addresses: [`localhost:${port}`], connect_timeout_ms: 5_000 };
  const store = await open(t, { ...options, tls: { ca: redis.ca } });
  const { hints } = listen(store);
  await store.ping();
  const other = await open(t, { ...options, tls: { ca: redis.ca } });
  await other.enqueue([newJob('a')]);
  await until('it hears', () => hints.some(({ type }) => type === 'ready'));
  assert.deepEqual(await ids(store), ['a']);
  await assert.rejects(openRedisStore({ ...options, tls: true, connect_timeout_ms: 1_000 }), (error) => {
    assert.ok(error instanceof QueueError);
    assert.equal(error.code, 'store_unavailable');
    assert.match(error.message, /certificate/);
    return true;
  });
  await assert.rejects(openRedisStore({ ...options, connect_timeout_ms: 500 }), {
    code: 'store_unavailable',
  });
});
