/** A query ends in the server when nobody wants it any more, and nothing else does. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { marker } from '../../../src/databases/postgres/marker.ts';
import { openPostgresSource } from '../../../src/databases/postgres/source.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { closing, never, owner, queryOptions } from '../support.ts';
import { openSource, rowsOf, streamOf } from './source-support.ts';

/** Never yields a row, yields them for ever, and waits for a lock that nobody gives back. */
const ENDLESS: Readonly<Record<string, string>> = {
  'one that sleeps': 'SELECT pg_sleep(1000)',
  'one that computes': 'SELECT count(*) FROM generate_series(1, 1000000000000) a',
  'one that yields rows for ever': "SELECT repeat('x', 100), generate_series(1, 1000000000000)",
  'one that swallows its cancel': 'SELECT stubborn()',
};

const STUBBORN = `CREATE FUNCTION stubborn() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
  LOOP BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$`;

for (const server of servers('postgres')) {
  suite(server.name, { skip: server.skip, concurrency: 4 }, () => {
    /** Whether the server works on queries of the attempt. */
    const running = async (dsn: string, mark: string) =>
      (await execute(dsn, `SELECT 1 FROM pg_stat_activity WHERE application_name = '${mark}'`)).length > 0;

    for (const [what, sql] of Object.entries(ENDLESS)) {
      for (const read of [true, false]) {
        test(`${what} is cancelled, ${read ? 'read' : 'not read'}, with the pool full`, async (t) => {
          const dsn = await freshDatabase(t, server);
          await execute(dsn, STUBBORN);
          const source = await openSource(t, dsn, 1);
          const asker = owner('endless');
          const cancel = new AbortController();
          const reason = new Error('not wanted any more');
          await using result = await source.query(
            sql,
            [],
            queryOptions([{ encoding: 'pg-binary', types: 'standard' }], {
              owner: asker,
              signal: cancel.signal,
            }),
          );
          const reading = read
            ? assert.rejects(
                async () => {
                  for await (const _ of streamOf(result.body));
                },
                (error) => error === reason,
              )
            : Promise.resolve();
          await until('it runs', () => running(dsn, marker(asker)));
          const asked = performance.now();
          cancel.abort(reason);
          await reading;
          await result[Symbol.asyncDispose]();
          assert.ok(performance.now() - asked < 5_000);
          await until('it has ended', async () => !(await running(dsn, marker(asker))), 5_000);
          // The connection is not the same one, and what comes next is not hit.
          assert.deepEqual(await rowsOf(source, 'SELECT 1 FROM pg_sleep(0.1)'), [[1n]]);
        });
      }
    }

    test('who lets go of a result ends its query', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn, 1);
      const asker = owner('dropped');
      const options = queryOptions([{ encoding: 'copy-text' }], { owner: asker });
      for (const read of [0, 1]) {
        const result = await source.query(ENDLESS['one that yields rows for ever'] ?? '', [], options);
        let chunks = 0;
        if (read > 0) {
          for await (const _ of streamOf(result.body)) {
            chunks += 1;
            if (chunks === read) break;
          }
        }
        await result[Symbol.asyncDispose]();
        await until('it has ended', async () => !(await running(dsn, marker(asker))));
        assert.equal(chunks, read);
      }
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    });

    test('one that waits for its turn, or is being described, is given up at once', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(dsn, 'CREATE TABLE locked (a int)');
      const source = await openSource(t, dsn, 1);
      await using held = await source.query(
        'SELECT pg_sleep(1000)',
        [],
        queryOptions([{ encoding: 'copy-text' }]),
      );
      const cancel = new AbortController();
      const waiting = rowsOf(source, 'SELECT 1', [], { signal: cancel.signal });
      const reason = new Error('enough');
      cancel.abort(reason);
      await assert.rejects(waiting, (error) => error === reason);
      await held[Symbol.asyncDispose]();
      await assert.rejects(
        rowsOf(source, 'SELECT 1', [], { signal: AbortSignal.abort(reason) }),
        (error) => error === reason,
      );
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    });

    test('a cancel between two queries hits neither', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server), 1);
      for (let round = 0; round < 30; round += 1) {
        const cancel = new AbortController();
        const first = rowsOf(source, 'SELECT generate_series(1, 100)', [], { signal: cancel.signal });
        const second = rowsOf(source, 'SELECT 2 FROM pg_sleep(0.002)');
        // At a moment of its own in each round: before, within and after the first.
        for (let turn = 0; turn < round * 2; turn += 1) await new Promise(setImmediate);
        cancel.abort(new Error('late'));
        await first.then(
          (rows) => assert.equal(rows.length, 100),
          (error) => assert.equal(error.message, 'late'),
        );
        assert.deepEqual(await second, [[2n]]);
      }
    });

    test('the server ends by itself what passes its time', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn);
      await assert.rejects(rowsOf(source, 'SELECT pg_sleep(1000)', [], { timeout_ms: 1 }), (error) => {
        assert.ok(error instanceof DatabaseError);
        assert.match(error.message, /statement timeout: a time limit of the database \(statement_timeout\)/);
        assert.ok(error.transient);
        return true;
      });
    });

    test('an attempt ends what the one before it left running, and nothing else', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn);
      const [old, other, foreign] = [owner('again'), owner('another'), owner('again', { store_id: 'other' })];
      for (const asker of [old, other, foreign]) {
        const result = await source.query(
          'SELECT pg_sleep(1000)',
          [],
          queryOptions([{ encoding: 'copy-text' }], { owner: asker }),
        );
        closing(t, async () => result[Symbol.asyncDispose]());
        await until('it runs', () => running(dsn, marker(asker)));
      }
      const next = owner('again', { attempt: 2 });
      const successor = await openPostgresSource({
        name: 'app',
        dsn,
        max_active: 1,
        max_idle: 1,
        connect_timeout_ms: 5_000,
      });
      closing(t, () => successor.close());
      await using result = await successor.query(
        'SELECT 1',
        [],
        queryOptions([{ encoding: 'copy-text' }], { owner: next }),
      );
      await until('it is gone', async () => !(await running(dsn, marker(old))));
      assert.ok(await running(dsn, marker(other)));
      assert.ok(await running(dsn, marker(foreign)));
      for await (const { rows } of streamOf(result.body)) assert.equal(rows, 1);
    });

    test('an attempt that queries as another role ends its predecessor too', async (t) => {
      const admin = await freshDatabase(t, server);
      const [login, reader] = ['login', 'reader'].map(
        (name) => `${name}_${process.pid}_${server.name.slice(-2)}`,
      );
      await execute(
        admin,
        `CREATE ROLE ${reader}; CREATE ROLE ${login} LOGIN PASSWORD 'x' IN ROLE ${reader}`,
      );
      closing(t, async () => {
        await execute(admin, `DROP ROLE ${login}; DROP ROLE ${reader}`);
      });
      const url = new URL(admin);
      url.username = login ?? '';
      url.password = 'x';
      url.searchParams.set('role', reader ?? '');
      const source = await openSource(t, url.href);
      assert.deepEqual(await rowsOf(source, 'SELECT current_user'), [[reader]]);
      const old = owner('again');
      const left = await source.query(
        'SELECT pg_sleep(1000)',
        [],
        queryOptions([{ encoding: 'copy-text' }], { owner: old }),
      );
      closing(t, async () => left[Symbol.asyncDispose]());
      await until('it runs', () => running(admin, marker(old)));
      const next = owner('again', { attempt: 2 });
      assert.deepEqual(await rowsOf(source, 'SELECT current_user', [], { owner: next }), [[reader]]);
      await until('it is gone', async () => !(await running(admin, marker(old))));
    });

    test('a job with a long id is marked too, and told from its like', () => {
      const long = 'x'.repeat(128);
      const marks = [long, `${long.slice(1)}y`, 'short'].map((job_id) =>
        marker(owner(job_id, { fence: 123_456 })),
      );
      assert.equal(new Set(marks).size, 3);
      for (const mark of marks) assert.ok(Buffer.byteLength(mark) <= 63 && mark.includes(':123456:'));
    });

    test('a server that does not answer is told by its name within the time', async (t) => {
      const source = await openPostgresSource({
        name: 'away',
        dsn: 'postgres://u:s3cret@127.0.0.1:1/db',
        max_active: 1,
        max_idle: 1,
        connect_timeout_ms: 2_000,
      });
      closing(t, () => source.close());
      await assert.rejects(source.ping(never()), (error) => {
        assert.ok(error instanceof DatabaseError);
        assert.equal(error.code, 'unavailable');
        assert.match(error.message, /^db "away": .*ECONNREFUSED/);
        assert.doesNotMatch(error.message, /s3cret/);
        return true;
      });
    });
  });
}
