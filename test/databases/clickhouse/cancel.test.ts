/** A query that is no longer wanted ends inside the server. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { markerPrefix } from '../../../src/databases/clickhouse/marker.ts';
import { proxy } from '../../support/proxy.ts';
import { freshDatabase, leftQueries, runningQueries, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { owner } from '../support.ts';
import { COPY_TEXT, chunksOf, drained, openSource, queryOptions, rowsOf } from './source-support.ts';

/** The longest that the end of a query may take, ms: a second, on a machine with much else to do. */
const SOON_MS = 10_000;
const ENDLESS: Readonly<Record<string, string>> = {
  'without a row': 'SELECT number FROM numbers(1000000000000) WHERE number < 0',
  'that counts': 'SELECT count() FROM numbers(1000000000000)',
  'that sleeps': 'SELECT sleepEachRow(0.1), number FROM numbers(1000000000000) SETTINGS max_block_size = 1',
  'that sorts': 'SELECT number FROM numbers(1000000000000) ORDER BY cityHash64(number) LIMIT 5',
};
const ROWS = 'SELECT number, toString(number) FROM numbers(1000000000000)';

for (const server of servers('clickhouse')) {
  suite(`a query of ${server.name} that is given up`, { skip: server.skip, concurrency: 2 }, () => {
    for (const [kind, sql] of Object.entries(ENDLESS)) {
      test(`ends, one ${kind}`, async (t) => {
        const dsn = await freshDatabase(t, server);
        const source = await openSource(t, dsn, 1);
        const me = owner(`endless ${kind} 'quoted' \\ é`);
        const abort = new AbortController();
        const asked = source.query(sql, [], queryOptions(COPY_TEXT, { owner: me, signal: abort.signal }));
        const reason = new Error('given up');
        const rejected = assert.rejects(
          asked.then((result) => drained(result)),
          reason,
        );
        await until('it runs', async () => {
          const left = await leftQueries(dsn, me.job_id);
          return left.some(({ query }) => query.startsWith('SELECT'));
        });
        const begun = performance.now();
        abort.abort(reason);
        await rejected;
        assert.ok(performance.now() - begun < SOON_MS, `${performance.now() - begun} ms`);
        assert.deepEqual(await leftQueries(dsn, me.job_id), []);
        // Its place is free again.
        assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
      });
    }

    test('ends when nobody reads it', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn, 1);
      const abort = new AbortController();
      const me = owner('unread');
      await using result = await source.query(
        ROWS,
        [],
        queryOptions(COPY_TEXT, { owner: me, signal: abort.signal }),
      );
      const chunks = chunksOf(result)[Symbol.asyncIterator]();
      await chunks.next();
      const reason = new Error('given up');
      abort.abort(reason);
      await until('it has ended', async () => (await leftQueries(dsn, me.job_id)).length === 0, SOON_MS);
      await assert.rejects(async () => {
        for (;;) if ((await chunks.next()).done === true) return;
      }, reason);
    });

    test('ends when its result is disposed of, or reading stops', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn, 1);
      const me = owner('disposed of');
      {
        await using result = await source.query(ROWS, [], queryOptions(COPY_TEXT, { owner: me }));
        assert.equal(result.body.encoding, 'copy-text');
      }
      assert.deepEqual(await leftQueries(dsn, me.job_id), []);
      const result = await source.query(ROWS, [], queryOptions(COPY_TEXT, { owner: me }));
      for await (const _ of chunksOf(result)) break;
      assert.deepEqual(await leftQueries(dsn, me.job_id), []);
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    });

    test('through a connection that has gone silent, is left to itself before long', async (t) => {
      const dsn = await freshDatabase(t, server);
      const { hostname, port } = new URL(dsn);
      const way = await proxy(t, { host: hostname, port: Number(port) });
      const source = await openSource(t, way.through(dsn));
      const me = owner('silent');
      const abort = new AbortController();
      const sql = 'SELECT count() FROM numbers(1000000000000)';
      const asked = source.query(sql, [], queryOptions(COPY_TEXT, { owner: me, signal: abort.signal }));
      await until('it runs', async () =>
        (await leftQueries(dsn, me.job_id)).some(({ query }) => query.startsWith('SELECT')),
      );
      way.freeze();
      const reason = new Error('given up');
      abort.abort(reason);
      await assert.rejects(asked, reason);
      way.thaw();
      // The next attempt is what ends it then.
      const next = { ...me, attempt: 2, fence: me.fence + 1 };
      assert.deepEqual(await rowsOf(source, 'SELECT 1', [], { owner: next }), [[1n]]);
      assert.deepEqual(await leftQueries(dsn, me.job_id), []);
    });

    test('too late, leaves the next one alone', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server), 1);
      const abort = new AbortController();
      await rowsOf(source, 'SELECT 1', [], { signal: abort.signal });
      const next = rowsOf(source, 'SELECT count() FROM numbers(30000000)');
      abort.abort(new Error('too late'));
      assert.deepEqual(await next, [['30000000']]);
    });

    test('before it begins, runs nothing', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      const reason = new Error('given up');
      await assert.rejects(rowsOf(source, ROWS, [], { signal: AbortSignal.abort(reason) }), reason);
    });

    test('by the end of its source, ends', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn);
      const me = owner('closed');
      const asked = source.query(
        'SELECT count() FROM numbers(1000000000000)',
        [],
        queryOptions(COPY_TEXT, { owner: me }),
      );
      const rejected = assert.rejects(asked, { code: 'unavailable', message: /db "app" is being closed/ });
      await until('it runs', async () => (await leftQueries(dsn, me.job_id)).length > 0);
      await source.close();
      await rejected;
      assert.deepEqual(await leftQueries(dsn, me.job_id), []);
    });

    test('by a worker that died, is ended by the next attempt of the same job, no other', async (t) => {
      const dsn = await freshDatabase(t, server);
      const dead = await openSource(t, dsn);
      const store_id = `store of ${dsn}`;
      const first = owner('job', { store_id });
      const others = [owner('job:2', { store_id }), owner('job', { store_id: 'another store' })];
      const abort = new AbortController();
      const sql = 'SELECT count() FROM numbers(1000000000000)';
      const asked = [first, ...others].map((me) =>
        dead.query(sql, [], queryOptions(COPY_TEXT, { owner: me, signal: abort.signal })),
      );
      const outcomes = Promise.allSettled(asked);
      const mine = async () =>
        (await runningQueries(dsn)).filter(({ id }) =>
          [first, ...others].some((me) => id.startsWith(markerPrefix(me)) && id.endsWith(`:${me.job_id}`)),
        );
      await until(
        'all run',
        async () => (await mine()).filter(({ query }) => query.startsWith('SELECT')).length === 3,
      );

      const source = await openSource(t, dsn);
      const next = owner('job', { store_id, attempt: 2 });
      assert.deepEqual(await rowsOf(source, 'SELECT 1', [], { owner: next }), [[1n]]);
      await until('the predecessor has ended', async () => (await mine()).length === 2);
      assert.ok((await mine()).every(({ id }) => !id.includes(`:${first.fence}.`)));
      abort.abort(new Error('given up'));
      await outcomes;
    });
  });
}
