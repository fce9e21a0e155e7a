/** People who read result tables while they are replaced, dropped and swept. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { freshDatabase, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import {
  catalogued,
  count,
  MANY,
  numbers,
  openResults,
  options,
  quiet,
  reader,
  rejection,
  tables,
} from './results-support.ts';

for (const server of servers('postgres')) {
  suite(`readers of results on ${server.name}`, { skip: server.skip }, () => {
    test('see the old rows or the new ones, all of them, at any time', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const sizes = [3, MANY, 5, 7, MANY + 1, MANY + 2, 9];
      await results.write(numbers(3), options('a'));
      const stop = new AbortController();
      const seen = new Set<number>();
      const clients = await Promise.all([reader(t, dsn), reader(t, dsn), reader(t, dsn)]);
      const polling = clients.map(async (client, index) => {
        while (!stop.signal.aborted) {
          if (index === 2) {
            // Its snapshot is older than the table that it finds.
            await client.query(
              'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM dungbeetle_results',
            );
            seen.add(await count(client, 'results_a'));
            await client.query('COMMIT');
          } else if (index === 1) {
            const { rows } = await client.query({
              name: 'poll',
              text: 'SELECT count(*)::int AS count FROM results_a',
            });
            seen.add(rows[0].count);
          } else seen.add(await count(client, 'results_a'));
        }
      });
      const writing = (async () => {
        try {
          for (const size of sizes) await results.write(numbers(size), options('a'));
        } finally {
          stop.abort();
        }
      })();
      await Promise.all([writing, ...polling]);
      assert.ok(seen.size > 1, 'nothing changed');
      assert.deepEqual(
        [...seen].filter((size) => !sizes.includes(size)),
        [],
      );
    });

    for (const many of [2, MANY]) {
      test(`a long reader delays the next run (${many} rows), and nobody else`, async (t) => {
        const dsn = await freshDatabase(t, server);
        const results = await openResults(t, dsn);
        const client = await reader(t, dsn);
        const other = await reader(t, dsn);
        await results.write(numbers(5), options('a'));
        await client.query('BEGIN; SELECT * FROM results_a');
        const written = results.write(numbers(many), options('a'));
        await until('the write waits for the reader', async () => {
          const { rows } = await other.query(
            `SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database
             WHERE NOT granted AND mode = 'AccessExclusiveLock' AND datname = current_database()`,
          );
          return rows.length > 0;
        });
        // In line behind the write, which gives way soon.
        assert.equal(await count(other, 'results_a'), 5);
        assert.equal(await count(client, 'results_a'), 5);
        await client.query('COMMIT');
        assert.equal((await written).rows, many);
        assert.equal(await count(other, 'results_a'), many);
      });

      test(`giving up while a long reader is waited for (${many} rows)`, async (t) => {
        const dsn = await freshDatabase(t, server);
        const results = await openResults(t, dsn);
        const client = await reader(t, dsn);
        const other = await reader(t, dsn);
        await results.write(numbers(5), options('a'));
        await client.query('BEGIN; SELECT * FROM results_a');
        const stop = new AbortController();
        const written = results.write(numbers(many), options('a', { signal: stop.signal }));
        await until('the write waits for the reader', async () => {
          const { rows } = await other.query(
            `SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database
             WHERE NOT granted AND mode = 'AccessExclusiveLock' AND datname = current_database()`,
          );
          return rows.length > 0;
        });
        stop.abort(new Error('enough'));
        await assert.rejects(written, /enough/);
        await client.query('COMMIT');
        await quiet(other);
        assert.equal(await count(other, 'results_a'), 5);
        assert.deepEqual(await tables(other), ['results_a']);
      });
    }

    test('a table that is being read is swept the next time', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const client = await reader(t, dsn);
      await results.write(numbers(5), options('read', { ttl_ms: 0 }));
      await results.write(numbers(5), options('unread', { ttl_ms: 0 }));
      await client.query('BEGIN; SELECT * FROM results_read');
      const sweep = {
        store_id: 'store',
        liveFences: async () => new Set<number>(),
        judge: async () => 'keep' as const,
      };
      assert.deepEqual(await results.sweep(sweep), { expired: 1, orphans: 0 });
      assert.equal(await count(client, 'results_read'), 5);
      await client.query('COMMIT');
      assert.deepEqual(await results.sweep(sweep), { expired: 1, orphans: 0 });
      assert.deepEqual(await catalogued(client), []);
    });

    test('a view on a result table: the next run fails and says why, the table stays', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const client = await reader(t, dsn);
      await results.write(numbers(5), options('a'));
      await client.query('CREATE VIEW looks AS SELECT * FROM results_a');
      for (const many of [2, MANY]) {
        const error = await rejection(results.write(numbers(many), options('a')));
        assert.ok(error instanceof DatabaseError);
        assert.deepEqual([error.code, error.transient], ['table_conflict', false]);
        assert.match(error.message, /view or another object depends/);
      }
      await assert.rejects(results.drop('a'), { code: 'table_conflict' });
      assert.equal(await count(client, 'looks'), 5);
      assert.deepEqual(await catalogued(client), ['results_a']);
      await client.query('DROP VIEW looks');
      assert.equal((await results.write(numbers(2), options('a'))).rows, 2);
    });
  });
}
