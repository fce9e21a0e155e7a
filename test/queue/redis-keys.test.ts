/** What the Redis store leaves behind: nothing that grows with what it was asked to do once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openRedisStore } from '../../src/queue/stores/redis.ts';
import { freshDatabase, servers } from '../support/services.ts';
import { execute } from '../support/sql.ts';
import { newJob, range, Subject } from './conformance/subject.ts';
import { optionsOf } from './redis.ts';

const [server] = servers('redis');
assert.ok(server);

test('no key is left of queues that have had jobs, in whatever way these have ended', {
  skip: server.skip,
}, async (t) => {
  const dsn = await freshDatabase(t, server);
  let offset = 0;
  const store = await openRedisStore({ ...optionsOf(dsn), clockOffset: () => offset });
  t.after(() => store.close());
  const s = new Subject({
    store,
    connect: () => assert.fail('one connection is enough'),
    advance: (ms) => {
      offset += ms;
    },
  });
  const keys = async () => (await execute(dsn, ['KEYS', '*'])) as unknown[];
  await store.stats();
  const queues = range(8, 'queue-');
  const post = (index: number, more = {}) =>
    s.post(`${queues[index]}-job`, { queue: queues[index] ?? '', priority: index, ...more });
  await post(0);
  await store.cancel('queue-0-job');
  await post(1, { eta: Date.now() + 60_000 });
  await store.cancel('queue-1-job');
  await post(2);
  await store.purge('queue-2-job');
  await post(3);
  await s.succeed(await s.claimOne('queue-3'));
  await post(4, { key: 'k', key_concurrency: 1, limit: 'l' });
  await s.fail(await s.claimOne('queue-4'));
  await post(5, { key: 'k', limit: 'l' });
  await store.cancel('queue-5-job');
  await store.enqueue([
    newJob('parent', { queue: 'queue-6' }),
    newJob('child', { queue: 'queue-6', after: [{ job_id: 'parent' }] }),
  ]);
  await store.cancel('parent');
  await store.enqueue(
    range(3, 'g-').map((id) => newJob(id, { queue: 'queue-7' })),
    { group_id: 'g', concurrency: 1 },
  );
  await s.claimOne('queue-7');
  await store.purgeGroup('g');
  for (const queue of queues) {
    await store.pause(queue);
    await store.resume(queue);
  }
  const named = (await keys()).filter((key) => queues.some((queue) => String(key).includes(queue)));
  assert.deepEqual(named, []);
  s.advance(1_000);
  await store.prune({ jobs_ms: 0, groups_ms: 0 });
  assert.deepEqual((await keys()).map(String), ['{dungbeetle}:store']);
  // It still works.
  await post(0);
  await s.succeed(await s.claimOne('queue-0'));
});
