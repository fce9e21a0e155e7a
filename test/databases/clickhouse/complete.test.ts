/** A result is complete or an error, whatever ends it, at whatever byte. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { queryId } from '../../../src/databases/clickhouse/marker.ts';
import type { QueryOptions } from '../../../src/databases/database.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { noPrivate, startPrivate } from '../../support/private-server.ts';
import { proxy } from '../../support/proxy.ts';
import { execute, freshDatabase, leftQueries, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { owner } from '../support.ts';
import { COPY_TEXT, chunksOf, drained, openSource, queryOptions, rowsOf, textOf } from './source-support.ts';

const ENDLESS = 'SELECT number, toString(number) FROM numbers(1000000000000)';
const ENCODINGS = [{ encoding: 'copy-text' }, { encoding: 'rows' }] as const;

function isAway(error: unknown): boolean {
  assert.ok(error instanceof DatabaseError, String(error));
  assert.equal(error.code, 'unavailable', error.message);
  assert.ok(error.transient);
  assert.match(error.message, /^db "app": /);
  return true;
}

for (const server of servers('clickhouse')) {
  suite(`a result of ${server.name}`, { skip: server.skip, concurrency: 4 }, () => {
    test('that fails at its 900,000th row is an error', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      const failures = [
        'SELECT number, throwIf(number = 900000) FROM numbers(1000000)',
        'SELECT intDiv(number, toInt64(number) - 900000) FROM numbers(1000000)',
        "SELECT if(number < 5, 'Code: 395, e.displayText() = DB::Exception: a value', toString(number)), throwIf(number = 900000) FROM numbers(1000000)",
      ];
      for (const sql of failures) {
        for (const accept of sql === failures[0] ? ENCODINGS : COPY_TEXT) {
          await using result = await source.query(sql, [], queryOptions([accept]));
          const reading = async () => {
            if ('batches' in result.body) for await (const _ of result.body.batches);
            else await drained(result);
          };
          await assert.rejects(reading(), {
            code: 'query_failed',
            transient: false,
            message: /^db "app": (Value passed to 'throwIf'|Division by zero).*\(code (395|153)\)$/,
          });
        }
      }
    });

    test('may hold the text of an error as a value, first, last and alone', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      const value = 'Code: 395, e.displayText() = DB::Exception: a value, e.what() = DB::Exception';
      assert.deepEqual(await rowsOf(source, `SELECT '${value}' AS a FROM numbers(3)`), [
        [value],
        [value],
        [value],
      ]);
      assert.deepEqual(await rowsOf(source, `SELECT '${value}\\n' AS a, 1 AS b`), [[`${value}\n`, 1n]]);
    });

    test('of a killed query is an error, or was complete', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn);
      // Those that an old server cuts short without a word, among others.
      const queries = [
        'SELECT DISTINCT number FROM numbers(600000)',
        'SELECT number, count() FROM numbers(300000) GROUP BY number',
        'SELECT cityHash64(number) AS x FROM numbers(400000) ORDER BY x',
        'SELECT number FROM numbers(800000) WHERE cityHash64(number) % 2 = 0 UNION ALL SELECT number FROM numbers(400000)',
      ];
      const outcomes = { complete: 0, cut: 0 };
      for (const sql of queries) {
        const whole = (await textOf(source, sql)).rows;
        const begun = performance.now();
        await textOf(source, sql);
        const usual = performance.now() - begun;
        for (let turn = 0; turn < 6; turn += 1) {
          const me = owner('to-be-killed');
          // The second request is the query itself; the first asked for its columns.
          const running = queryId(me, 2);
          let ended = false;
          const read = async () => {
            try {
              assert.equal((await textOf(source, sql, [], { owner: me })).rows, whole, sql);
              return 'complete';
            } catch (error) {
              assert.ok(error instanceof DatabaseError, String(error));
              assert.equal(error.code, 'query_failed', error.message);
              assert.ok(error.transient, error.message);
              return 'cut';
            } finally {
              ended = true;
            }
          };
          const reading = read();
          const at = performance.now() + (usual * turn) / 6;
          await until('the moment to kill', () => ended || performance.now() >= at);
          while (!ended) {
            const killed = await execute(dsn, `KILL QUERY WHERE query_id = '${running}' ASYNC`);
            if (killed.length > 0) break;
          }
          outcomes[await reading] += 1;
        }
      }
      assert.ok(outcomes.cut >= queries.length, `${outcomes.cut} were cut`);
    });

    test('is complete or an error at whatever byte the connection is cut', async (t) => {
      const dsn = await freshDatabase(t, server);
      const { hostname, port } = new URL(dsn);
      const way = await proxy(t, { host: hostname, port: Number(port) });
      const source = await openSource(t, way.through(dsn), 1);
      const query = () => rowsOf(source, "SELECT number, toString(number), 'x' FROM numbers(5)");
      const whole = await query();
      const begun = way.bytes.toClient;
      assert.deepEqual(await query(), whole);
      const size = way.bytes.toClient - begun;
      let cuts = 0;
      for (let bytes = 1; bytes < size; bytes += 7) {
        assert.deepEqual(await query(), whole, 'before the cut');
        way.cutAfter('toClient', bytes);
        const outcome = await query().catch((error: unknown) => error);
        if (Array.isArray(outcome)) {
          assert.deepEqual(outcome, whole);
        } else {
          isAway(outcome);
          cuts += 1;
        }
      }
      assert.ok(cuts > 15, `${cuts} cuts were seen`);
    });

    test('is an error when the connection is cut in mid-stream, and the query ends', async (t) => {
      const dsn = await freshDatabase(t, server);
      const { hostname, port } = new URL(dsn);
      const way = await proxy(t, { host: hostname, port: Number(port) });
      const source = await openSource(t, way.through(dsn));
      const me = owner('cut-in-mid-stream');
      await using result = await source.query(ENDLESS, [], queryOptions(COPY_TEXT, { owner: me }));
      const reading = assert.rejects(drained(result), isAway);
      const before = way.bytes.toClient;
      await until('rows flow', () => way.bytes.toClient > before + 100_000);
      way.cut();
      await reading;
      assert.deepEqual(await leftQueries(dsn, me.job_id), []);
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    });

    test('of a server that is killed or restarted is an error, and the next one works', {
      skip: noPrivate('clickhouse'),
    }, async (t) => {
      const own = await startPrivate(t, 'clickhouse');
      const source = await openSource(t, own.dsn);
      for (const end of ['kill', 'restart'] as const) {
        const fields: Partial<QueryOptions> = { owner: owner(end) };
        await using result = await source.query(ENDLESS, [], queryOptions(COPY_TEXT, fields));
        const chunks = chunksOf(result)[Symbol.asyncIterator]();
        await chunks.next();
        const reading = assert.rejects(
          async () => {
            for (;;) if ((await chunks.next()).done === true) return;
          },
          (error) => {
            assert.ok(error instanceof DatabaseError, String(error));
            assert.ok(error.transient, error.message);
            return true;
          },
        );
        if (end === 'kill') {
          await own.kill('SIGKILL');
          await reading;
          await assert.rejects(rowsOf(source, 'SELECT 1'), isAway);
          await own.start();
        } else {
          await own.restart();
          await reading;
        }
        assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
      }
    });

    test('is waited for no longer than it takes to connect', async (t) => {
      const dsn = await freshDatabase(t, server);
      const { hostname, port } = new URL(dsn);
      const way = await proxy(t, { host: hostname, port: Number(port) });
      way.refuse();
      const source = await openSource(t, way.through(dsn));
      await assert.rejects(rowsOf(source, 'SELECT 1'), isAway);
      await way.listen();
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    });
  });
}
