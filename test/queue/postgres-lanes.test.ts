import assert from 'node:assert/strict';
import { suite, type TestContext, test } from 'node:test';
import pg from 'pg';
import { freshDatabase, type Service, servers } from '../support/services.ts';
import { model } from './conformance/model.ts';
import { ids, newJob, QUEUE, range, Subject } from './conformance/subject.ts';
import { open } from './postgres.ts';

const newest = servers('postgres').slice(-1);

/** A store that brings one front of a pool into play at once, where others bring a hundred. */
async function openSparing(t: TestContext, server: Service) {
  const dsn = await freshDatabase(t, server);
  const opened = await open(t, dsn, 'dungbeetle');
  const client = new pg.Client(dsn);
  await client.connect();
  try {
    for (const name of ['wake_pool', 'wake_followers']) {
      const { rows } = await client.query<{ text: string }>(
        `SELECT pg_get_functiondef(p.oid) AS text FROM pg_proc p
         WHERE p.proname = $1 AND p.pronamespace = 'dungbeetle'::regnamespace`,
        [name],
      );
      const parts = rows[0]?.text.split(/\b100\b/) ?? [];
      assert.equal(parts.length, 2, `there is one number in ${name}`);
      await client.query(`SET search_path TO dungbeetle; ${parts.join('1')}`);
    }
  } finally {
    await client.end();
  }
  return opened;
}

for (const server of newest) {
  suite(`one front at a time: ${server.name}`, { skip: server.skip }, () => {
    model({ open: (t) => openSparing(t, server) });
  });

  test(`jobs of later do not hide those of a lower priority that are due: ${server.name}`, {
    skip: server.skip,
  }, async (t) => {
    const { store } = await open(t, await freshDatabase(t, server), 'dungbeetle');
    const eta = Date.now() + 600_000;
    await store.enqueue([
      ...['later-1', 'later-2', 'later-3'].map((job_id) => newJob(job_id, { priority: 1, eta })),
      newJob('first', { priority: 1 }),
      ...['low-1', 'low-2'].map((job_id) => newJob(job_id)),
      ...['other-1', 'other-2', 'other-3'].map((job_id) =>
        newJob(job_id, { queue: 'other', priority: 1, eta }),
      ),
    ]);
    const ask = async (limit: number) => {
      const queues = [QUEUE, 'other'].map((queue) => ({ queue, limit }));
      const { jobs, next_due_at } = await store.claim({ worker: 'w', queues, limit, lease_ms: 600_000 });
      return [ids(jobs), next_due_at];
    };
    assert.deepEqual(await ask(2), [['first', 'low-1'], eta]);
    assert.deepEqual(await ask(2), [['low-2'], eta]);
    assert.deepEqual(await ask(2), [[], eta]);
  });

  test(`thousands that wait when a limit is first set keep their order; others are posted in between: ${server.name}`, {
    skip: server.skip,
  }, async (t) => {
    const s = new Subject(await open(t, await freshDatabase(t, server), 'dungbeetle'));
    const of = (count: number, prefix: string) =>
      range(count, prefix).map((id) => newJob(id, { limit: 'l' }));
    await s.store.enqueue(of(2_500, 'early-'));
    const running = await s.claim(3);
    await s.store.enqueue([newJob('plain')]);
    const late = of(20, 'late-').map((job) => s.store.enqueue([job]));
    await Promise.all([s.store.limit('l', 5), ...late]);
    assert.deepEqual(await s.store.limits(['l']), [
      { limit: 'l', concurrency: 5, running: 3, waiting: 2_517 },
    ]);
    assert.deepEqual(await s.claimIds(), ['early-3', 'early-4', 'plain']);
    assert.deepEqual(await s.claimIds(), []);
    for (const job of running) await s.succeed(job);
    assert.deepEqual(await s.claimIds(), ['early-5', 'early-6', 'early-7']);
    await s.store.limit('l', null);
    // The last ones came together: in whatever order.
    const ran: string[] = [];
    for (let round = 0; round < 100 && ran.length < 2_512; round += 1) ran.push(...(await s.claimIds(300)));
    assert.deepEqual(ran.slice(0, 2_492), range(2_500, 'early-').slice(8));
    assert.deepEqual(ran.slice(2_492).toSorted(), range(20, 'late-').toSorted());
    // What is posted now ties nothing again.
    await s.post('open', { limit: 'l' });
    assert.deepEqual(await s.claimIds(), ['open']);
    assert.deepEqual((await s.store.limits(['l']))[0]?.running, 2_518);
  });

  test(`a limit is set while others post and post: ${server.name}`, { skip: server.skip }, async (t) => {
    const { store, connect } = await open(t, await freshDatabase(t, server), 'dungbeetle');
    const other = await connect();
    await other.enqueue(range(3_000, 'waits-').map((id) => newJob(id, { limit: 'l' })));
    let isSet = false;
    let posted = 3_000;
    const posting = [store, other].map(async (each, n) => {
      while (!isSet) {
        await each.enqueue(range(100, `${n}-${posted}-`).map((id) => newJob(id, { limit: 'l' })));
        posted += 100;
      }
    });
    await store.limit('l', 5);
    isSet = true;
    await Promise.all(posting);
    assert.deepEqual(await store.limits(['l']), [
      { limit: 'l', concurrency: 5, running: 0, waiting: posted },
    ]);
  });

  test(`posts of one moment keep their order, though one names a limit that was just set elsewhere: ${server.name}`, {
    skip: server.skip,
  }, async (t) => {
    const { store, connect } = await open(t, await freshDatabase(t, server), 'dungbeetle');
    await store.enqueue([newJob('first', { limit: 'l' })]);
    await (await connect()).limit('l', 1);
    const jobs = range(12).map((id, n) => newJob(id, { limit: n === 4 ? 'l' : null }));
    const posted = (await Promise.all(jobs.map((job) => store.enqueue([job])))).flat();
    const plain = posted.filter(({ limit }) => limit === null).map(({ seq }) => seq);
    assert.equal(plain.length, 11);
    assert.deepEqual(
      plain,
      plain.toSorted((one, another) => one - another),
    );
    assert.deepEqual((await store.limits(['l']))[0]?.waiting, 2);
  });

  test(`of hundreds that a limit held up the next in order is always the next to run: ${server.name}`, {
    skip: server.skip,
  }, async (t) => {
    const s = new Subject(await open(t, await freshDatabase(t, server), 'dungbeetle'));
    await s.store.limit('l', 1);
    const jobs = range(450).map((job_id, n) =>
      newJob(job_id, { limit: 'l', key: `key-${n}`, priority: n % 3 === 0 ? 1 : 0 }),
    );
    await s.store.enqueue(jobs);
    const expected = jobs.toSorted((one, other) => (other.priority ?? 0) - (one.priority ?? 0));
    const ran = await s.claimIds();
    assert.equal(ran.length, 1);
    await s.store.limit('l', 181);
    for (const count of [7, 150, 23]) ran.push(...(await s.claimIds(count)));
    assert.equal(ran.length, 181);
    await s.store.limit('l', null);
    await s.store.limit('l', 230);
    ran.push(...(await s.claimIds(100)));
    assert.equal(ran.length, 230);
    await s.store.limit('l', null);
    // Of those in play, and of those that are not.
    const cancelled = [235, 449].map((n) => expected[n]?.job_id ?? '');
    for (const job_id of cancelled) await s.store.cancel(job_id);
    for (let some = await s.claimIds(60); some.length > 0; some = await s.claimIds(60)) ran.push(...some);
    assert.deepEqual(
      ran,
      expected.map(({ job_id }) => job_id).filter((job_id) => !cancelled.includes(job_id)),
    );
  });
  test(`a group that is cancelled or purged while it is claimed has no job that runs on: ${server.name}`, {
    skip: server.skip,
  }, async (t) => {
    const { store, connect } = await open(t, await freshDatabase(t, server), 'dungbeetle');
    const s = new Subject({ store, connect, advance: () => {} });
    const other = await connect();
    const queues = [{ queue: QUEUE, limit: 40 }];
    const request = { worker: 'w', queues, limit: 40, lease_ms: 60_000 };
    for (let round = 0; round < 5; round += 1) {
      // Without a concurrency they are claimed without the lock that guards groups.
      await s.postAll(range(200), { group_id: 'g' });
      const claims = Promise.all([1, 2, 3, 4].map(() => other.claim(request)));
      const { jobs } = await store.cancelGroup('g');
      const claimed = (await claims).flatMap((claim) => claim.jobs);
      const running = jobs.filter(({ state }) => state === 'STARTED');
      assert.ok(running.every(({ cancel_requested }) => cancel_requested));
      assert.deepEqual(ids(running).sort(), ids(claimed).sort());
      assert.equal(jobs.filter(({ state }) => state === 'CANCELLED').length, 200 - running.length);
      const [again] = await Promise.all([other.claim(request), store.purgeGroup('g')]);
      assert.deepEqual(again.jobs, []);
      const { lost } = await other.renew(
        claimed.map(({ lease }) => ({ lease })),
        60_000,
      );
      assert.equal(lost.length, claimed.length);
      await s.postAll(range(200), { group_id: 'g' });
      const [some] = await Promise.all([other.claim(request), store.purgeGroup('g')]);
      const renewals = some.jobs.map(({ lease }) => ({ lease }));
      assert.equal((await other.renew(renewals, 60_000)).lost.length, some.jobs.length);
    }
    assert.deepEqual(await store.stats(), []);
  });
}
