/** A query ends in the server when nobody wants it any more, and nothing else does. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Owner, ResultSet } from '../../../src/databases/database.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { isPredecessor, marker } from '../../../src/databases/mysql/source-marker.ts';
import { execute, freshDatabase, runningQueries, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { closing, owner, queryOptions } from '../support.ts';
import { isRunning, openSource, rowsOf, streamOf } from './source-support.ts';

/** Never yield a row. */
const BARREN: Readonly<Record<string, string>> = {
  'one that sleeps': 'SELECT SLEEP(1000)',
  'one that computes': "SELECT BENCHMARK(1000000000000, SHA2('x', 512))",
  'one that joins': `SELECT COUNT(*) FROM information_schema.COLLATIONS a, information_schema.COLLATIONS b,
    information_schema.COLLATIONS c, information_schema.COLLATIONS d WHERE CONCAT(a.ID, b.ID, c.ID) = d.ID + 0.5`,
  'one that runs in a function': 'SELECT dawdle()',
  'one that waits for a lock': "SELECT GET_LOCK(CONCAT('held ', DATABASE()), 1000)",
};
const DAWDLE = `CREATE FUNCTION dawdle() RETURNS INT DETERMINISTIC BEGIN
  DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
  WHILE TRUE DO SET @a = SLEEP(1000); END WHILE; RETURN 1; END`;
/** Yields rows for ever, as far as anybody can wait. */
const FLOOD = `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
  SELECT a.i, REPEAT('x', 200) FROM n a, n b, n c`;

for (const server of [...servers('mysql')]) {
  suite(server.name, { skip: server.skip, concurrency: 4 }, () => {
    for (const [what, sql] of Object.entries(BARREN)) {
      test(`${what} is cancelled, with the pool full`, async (t) => {
        const dsn = await freshDatabase(t, server);
        await execute(dsn, DAWDLE);
        const holder = await openSource(t, dsn);
        await using held = await holder.query(
          `SELECT GET_LOCK(CONCAT('held ', DATABASE()), 0), REPEAT('x', 100) FROM (${FLOOD}) f`,
          [],
          queryOptions([{ encoding: 'copy-text' }]),
        );
        const source = await openSource(t, dsn, 1);
        const asker = owner('barren');
        const cancel = new AbortController();
        const reason = new Error('not wanted any more');
        const query = rowsOf(source, sql, [], { owner: asker, signal: cancel.signal });
        // A function's statements take the place of the query's text in the processlist.
        const running = async () => (await runningQueries(dsn)).length - 1;
        await until('it runs', async () => (await running()) === 1);
        const next = rowsOf(source, 'SELECT 1');
        const asked = performance.now();
        cancel.abort(reason);
        await assert.rejects(query, (error) => error === reason);
        // The call rejects when the server has ended it.
        assert.equal(await isRunning(dsn, marker(asker)), false);
        assert.ok(performance.now() - asked < 5_000);
        assert.deepEqual(await next, [[1n]]);
        await until('nothing is left', async () => (await running()) === 0);
        assert.equal(held.columns.length, 2);
      });
    }

    for (const read of [true, false]) {
      test(`one that yields rows is cancelled, ${read ? 'read' : 'not read'}`, async (t) => {
        const dsn = await freshDatabase(t, server);
        const source = await openSource(t, dsn, 1);
        const asker = owner('flood');
        const cancel = new AbortController();
        const reason = new Error('not wanted any more');
        const result = await flood(source, asker, cancel.signal);
        const reading = read
          ? assert.rejects(
              async () => {
                for await (const _ of streamOf(result));
              },
              (error) => error === reason,
            )
          : until('the server waits for us to read', async () => {
              const rows = await execute(
                dsn,
                `SELECT 1 FROM information_schema.PROCESSLIST
                 WHERE INFO LIKE '${marker(asker)}%' AND STATE RLIKE 'riting to net|ending to client'`,
              );
              return rows.length > 0;
            });
        if (!read) await reading;
        cancel.abort(reason);
        await reading;
        await result[Symbol.asyncDispose]();
        assert.equal(await isRunning(dsn, marker(asker)), false);
        assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
      });
    }

    for (const chunks of [0, 1]) {
      test(`who lets go of a result after ${chunks} chunks ends its query`, async (t) => {
        const dsn = await freshDatabase(t, server);
        const source = await openSource(t, dsn, 1);
        const asker = owner('dropped');
        const result = await flood(source, asker);
        let read = 0;
        if (chunks > 0) {
          for await (const _ of streamOf(result)) {
            read += 1;
            if (read === chunks) break;
          }
        }
        await result[Symbol.asyncDispose]();
        assert.equal(await isRunning(dsn, marker(asker)), false);
        assert.equal(read, chunks);
        assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
      });
    }

    test('one that waits for its turn is given up at once', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn, 1);
      await using held = await flood(source, owner('held'));
      const cancel = new AbortController();
      const reason = new Error('enough');
      const waiting = rowsOf(source, 'SELECT 1', [], { signal: cancel.signal });
      cancel.abort(reason);
      await assert.rejects(waiting, (error) => error === reason);
      await held[Symbol.asyncDispose]();
      await assert.rejects(
        rowsOf(source, 'SELECT 1', [], { signal: AbortSignal.abort(reason) }),
        (error) => error === reason,
      );
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    });

    test('one that waits for a table while it is prepared is given up', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(dsn, 'CREATE TABLE locked (a INT)');
      const source = await openSource(t, dsn, 2);
      // A reader keeps the ALTER waiting, which keeps everybody else waiting.
      await using reader = await source.query(
        `SELECT f.* FROM (${FLOOD}) f LEFT JOIN locked ON a = 1`,
        [],
        queryOptions([{ encoding: 'copy-text' }]),
      );
      const altered = execute(dsn, 'ALTER TABLE locked ADD b INT');
      await until('the table is asked for', async () => {
        const waiting = `SELECT 1 FROM information_schema.PROCESSLIST
          WHERE INFO LIKE 'ALTER TABLE%' AND DB = DATABASE() AND STATE LIKE 'Waiting for table metadata lock%'`;
        return (await execute(dsn, waiting)).length > 0;
      });
      const asker = owner('blocked');
      const cancel = new AbortController();
      const reason = new Error('enough');
      const query = rowsOf(source, 'SELECT * FROM locked', [], { owner: asker, signal: cancel.signal });
      await until('it waits', () => isRunning(dsn, marker(asker)));
      cancel.abort(reason);
      await assert.rejects(query, (error) => error === reason);
      assert.equal(await isRunning(dsn, marker(asker)), false);
      await reader[Symbol.asyncDispose]();
      await altered;
      assert.deepEqual(await rowsOf(source, 'SELECT * FROM locked'), []);
    });

    test('a cancel between two queries hits neither', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server), 1);
      const outcomes = new Set<string>();
      for (let round = 0; round < 40; round += 1) {
        const cancel = new AbortController();
        const first = rowsOf(source, `${FLOOD} LIMIT 100`, [], { signal: cancel.signal });
        const second = rowsOf(source, 'SELECT 2 FROM (SELECT SLEEP(0.002)) s');
        // At a moment of its own in each round: before, within and after the first.
        for (let turn = 0; turn < round * 4; turn += 1) await new Promise(setImmediate);
        cancel.abort(new Error('late'));
        await first.then(
          (rows) => {
            outcomes.add('complete');
            assert.equal(rows.length, 100);
          },
          (error) => {
            outcomes.add('cancelled');
            assert.equal(error.message, 'late');
          },
        );
        assert.deepEqual(await second, [[2n]]);
      }
      assert.ok(outcomes.has('cancelled'));
    });

    test('the server ends by itself what passes its time', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      const sql = `SELECT COUNT(*) FROM (${FLOOD}) f`;
      await assert.rejects(rowsOf(source, sql, [], { timeout_ms: 1 }), (error) => {
        assert.ok(error instanceof DatabaseError);
        assert.match(error.message, /^db "app": .*interrupted/);
        assert.ok(error.transient);
        return true;
      });
      // The next query on that connection has no limit.
      const slow = await rowsOf(source, 'SELECT 1, SLEEP(1.2)');
      assert.deepEqual(slow, [[1n, 0n]]);
    });

    test('the stricter limit holds: that of a DSN, an account or ours', async (t) => {
      const dsn = new URL(await freshDatabase(t, server));
      const mariadb = server.name.startsWith('mariadb');
      const sql = `SELECT COUNT(*) FROM (${FLOOD}) f`;
      const ended = async (source: Awaited<ReturnType<typeof openSource>>, timeout_ms: number) => {
        await assert.rejects(
          rowsOf(source, sql, [], { timeout_ms }),
          /interrupted.*: a time limit of the database \(max_(statement|execution)_time\)/s,
        );
        // The same on the connection that the pool keeps, or on one that it has made anew.
        await rowsOf(source, 'SELECT 1');
        await assert.rejects(rowsOf(source, sql, [], { timeout_ms }), /interrupted/);
      };
      const limited = (seconds: number) => {
        const own = new URL(dsn);
        if (mariadb) own.searchParams.set('max_statement_time', String(seconds));
        else own.searchParams.set('max_execution_time', String(seconds * 1_000));
        return openSource(t, own.href, 1);
      };
      await ended(await limited(0.1), 600_000);
      await ended(await limited(600), 1);
      if (!mariadb) return; // MySQL's accounts have no such limit
      const name = `test_${dsn.pathname.slice(-6)}`;
      await execute(dsn.href, `CREATE USER ${name} IDENTIFIED BY 'a' WITH MAX_STATEMENT_TIME 0.1`);
      t.after(() => execute(dsn.href, `DROP USER ${name}`));
      await execute(dsn.href, `GRANT SELECT ON ${dsn.pathname.slice(1)}.* TO ${name}`);
      const account = new URL(dsn);
      account.username = name;
      account.password = 'a';
      await ended(await openSource(t, account.href, 1), 600_000);
    });

    test('what a killed process left running is ended by the next attempt', async (t) => {
      const dsn = await freshDatabase(t, server);
      const old = owner('orphan');
      const client = fileURLToPath(import.meta.resolve('./source-client.ts'));
      const child = spawn(process.execPath, [client, dsn, JSON.stringify(old)], { stdio: 'ignore' });
      t.after(() => child.kill('SIGKILL'));
      await until('it runs', () => isRunning(dsn, marker(old)));
      child.kill('SIGKILL');
      await once(child, 'exit');
      // The server does not notice.
      assert.ok(await isRunning(dsn, marker(old)));
      const source = await openSource(t, dsn, 1);
      const next = owner('orphan', { attempt: 2 });
      assert.deepEqual(await rowsOf(source, 'SELECT 1', [], { owner: next }), [[1n]]);
      assert.equal(await isRunning(dsn, marker(old)), false);
    });

    test('an attempt ends what the one before it left running, and nothing else', async (t) => {
      const dsn = await freshDatabase(t, server);
      const dead = await openSource(t, dsn);
      const old = owner('again');
      const [other, foreign] = [owner('another'), owner('again', { store_id: 'other' })];
      const results = await Promise.all([old, other, foreign].map((asker) => flood(dead, asker)));
      for (const result of results) closing(t, async () => result[Symbol.asyncDispose]());
      for (const asker of [old, other, foreign]) await until('it runs', () => isRunning(dsn, marker(asker)));
      const successor = await openSource(t, dsn, 1);
      const next = owner('again', { attempt: 2 });
      assert.deepEqual(await rowsOf(successor, 'SELECT 1', [], { owner: next }), [[1n]]);
      assert.equal(await isRunning(dsn, marker(old)), false);
      assert.ok(await isRunning(dsn, marker(other)));
      assert.ok(await isRunning(dsn, marker(foreign)));
      const [ended] = results;
      await assert.rejects(
        async () => {
          if (ended !== undefined) for await (const _ of streamOf(ended));
        },
        (error) => error instanceof DatabaseError && error.transient,
      );
    });
  });
}

function flood(
  source: Awaited<ReturnType<typeof openSource>>,
  asker: Owner,
  signal?: AbortSignal,
): Promise<ResultSet> {
  const fields = { owner: asker, ...(signal === undefined ? {} : { signal }) };
  return source.query(FLOOD, [], queryOptions([{ encoding: 'copy-text' }], fields));
}

test('an id that could end the comment is not written into it', () => {
  const evil = owner('*/ DROP TABLE t; /*');
  assert.match(marker(evil), /^\/\* dungbeetle job=~[0-9a-f]{32} store=[0-9a-f]{8} fence=\d+ \*\/ $/);
  assert.equal(isPredecessor(`${marker({ ...evil, fence: 1 })}SELECT 1`, { ...evil, fence: 2 }), true);
  assert.equal(isPredecessor(`${marker({ ...evil, fence: 3 })}SELECT 1`, { ...evil, fence: 2 }), false);
  assert.equal(isPredecessor(`${marker(owner('b', { fence: 1 }))}SELECT 1`, { ...evil, fence: 2 }), false);
});
