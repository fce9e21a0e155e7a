/** Cancels, cuts, silence, readers that do not go, servers that die, fill up or take no writes. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { Chunk, ResultSet } from '../../../src/databases/database.ts';
import { proxy } from '../../support/proxy.ts';
import { execute, freshDatabase, leftQueries, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { never, owner, writeOptions } from '../support.ts';
import {
  catalogued,
  column,
  NUMBERS,
  numbers,
  onlyTables,
  openReader,
  openResults,
  resultSet,
  text,
} from './results-support.ts';

/** Rows as long as they are asked for; `reached` resolves when some megabytes have been taken. */
function endless(): { readonly source: ResultSet; readonly reached: Promise<void> } {
  const reached = Promise.withResolvers<void>();
  const data = Buffer.from('1\ta note that is the same in every row\n'.repeat(2_000));
  async function* chunks(): AsyncGenerator<Chunk> {
    for (let at = 0; ; at += 1) {
      if (at === 100) reached.resolve();
      yield { data, rows: 2_000 };
    }
  }
  return {
    source: resultSet(NUMBERS, { encoding: 'copy-text', chunks: chunks() }),
    reached: reached.promise,
  };
}

/** A source that gives nothing, ever. */
function silent(): { readonly source: ResultSet; readonly reached: Promise<void> } {
  const reached = Promise.withResolvers<void>();
  async function* chunks(): AsyncGenerator<Chunk> {
    reached.resolve();
    await new Promise(() => {});
    yield { data: Buffer.alloc(0), rows: 0 };
  }
  return {
    source: resultSet(NUMBERS, { encoding: 'copy-text', chunks: chunks() }),
    reached: reached.promise,
  };
}

async function noQueries(dsn: string): Promise<void> {
  await until('no query runs', async () => (await leftQueries(dsn, 'dungbeetle_')).length === 0);
}

for (const server of servers('mysql')) {
  suite(`faults of results on ${server.name}`, { skip: server.skip, concurrency: true }, () => {
    test('a cancel while loading ends the load in the server', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      await results.write(numbers(3), writeOptions('a'));
      for (const { source, reached } of [endless(), silent()]) {
        const reason = new Error('cancelled');
        const cancel = new AbortController();
        const writing = results.write(source, writeOptions('a', { signal: cancel.signal }));
        await Promise.race([reached, writing]);
        const begun = performance.now();
        cancel.abort(reason);
        await assert.rejects(writing, (error) => error === reason);
        assert.ok(performance.now() - begun < 9_000);
        await noQueries(dsn);
        await onlyTables(dsn, ['results_a']);
      }
      await results.write(numbers(5), writeOptions('a'));
      assert.equal((await catalogued(dsn, 'a'))?.['rows'], '5');
    });

    test('a cancel before the first statement, while confirming, and while another has the turn', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn, { max_active: 1 });
      const reason = new Error('cancelled');
      await assert.rejects(
        results.write(numbers(1), writeOptions('a', { signal: AbortSignal.abort(reason) })),
        (error) => error === reason,
      );
      const cancel = new AbortController();
      const confirm = () => {
        cancel.abort(reason);
        return new Promise<void>(() => {});
      };
      await assert.rejects(
        results.write(numbers(1), writeOptions('a', { signal: cancel.signal, confirm })),
        (error) => error === reason,
      );
      await onlyTables(dsn, []);

      const first = silent();
      const ends = new AbortController();
      const busy = results.write(first.source, writeOptions('a', { signal: ends.signal }));
      await first.reached;
      const waits = new AbortController();
      const waiting = results.write(numbers(1), writeOptions('b', { signal: waits.signal }));
      const next = results.write(numbers(1), writeOptions('c'));
      // Short work does not wait for its turn.
      await results.ping(never());
      assert.equal(await results.drop('nothing'), false);
      waits.abort(reason);
      await assert.rejects(waiting, (error) => error === reason);
      ends.abort(reason);
      await assert.rejects(busy, (error) => error === reason);
      assert.equal((await next).rows, 1);
      await onlyTables(dsn, ['results_c']);
    });

    test('a reader of the old table keeps it, and the new one waits without holding up others', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      await results.write(numbers(3), writeOptions('a'));
      const read = await openReader(t, dsn);
      await read('START TRANSACTION');
      await read('SELECT COUNT(*) FROM results_a');

      const reason = new Error('cancelled');
      const cancel = new AbortController();
      const waits = () =>
        until('the swap waits', async () => {
          const [[n] = []] = await execute(
            dsn,
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND INFO LIKE 'RENAME TABLE%'",
          );
          return n === '1';
        });
      const cancelled = results.write(numbers(4), writeOptions('a', { signal: cancel.signal }));
      await waits();
      cancel.abort(reason);
      await assert.rejects(cancelled, (error) => error === reason);
      await onlyTables(dsn, ['results_a']);

      const writing = results.write(numbers(5), writeOptions('a'));
      await waits();
      // Others get at the old one in between.
      const begun = performance.now();
      assert.deepEqual(await execute(dsn, 'SELECT COUNT(*) FROM results_a'), [['3']]);
      assert.ok(performance.now() - begun < 9_000);
      assert.deepEqual(await read('SELECT COUNT(*) FROM results_a'), [['3']]);
      await read('COMMIT');
      await writing;
      assert.deepEqual(await read('SELECT COUNT(*) FROM results_a'), [['5']]);
      await onlyTables(dsn, ['results_a']);
    });

    test('an expired table that is being read goes at a later sweep', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      await results.write(numbers(3), writeOptions('a', { ttl_ms: 0 }));
      await results.write(numbers(3), writeOptions('b', { ttl_ms: 0 }));
      const read = await openReader(t, dsn);
      await read('START TRANSACTION');
      await read('SELECT COUNT(*) FROM results_a');
      const sweep = () =>
        results.sweep({ store_id: 'store', liveFences: async () => new Set(), judge: async () => 'keep' });
      assert.equal((await sweep()).expired, 2);
      assert.equal(await catalogued(dsn, 'a'), undefined);
      await read('COMMIT');
      await sweep();
      await onlyTables(dsn, []);
    });

    test('readers see a table at any time while it is replaced again and again', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      await results.write(numbers(1), writeOptions('a'));
      const read = await openReader(t, dsn);
      let done = false;
      const seen = new Set<string>();
      const reading = (async () => {
        while (!done) for (const [rows] of await read('SELECT COUNT(*) FROM results_a')) seen.add(rows ?? '');
      })();
      for (let run = 1; run <= 15; run += 1) await results.write(numbers(run), writeOptions('a'));
      done = true;
      await reading;
      assert.ok(seen.size > 1);
      assert.ok([...seen].every((rows) => Number(rows) >= 1 && Number(rows) <= 15));
      await onlyTables(dsn, ['results_a']);
    });

    const own = ['dungbeetle_fences', 'dungbeetle_staging', 'dungbeetle_results'];
    for (const [index, table] of own.entries()) {
      test(`${table}, which another process takes seconds to make, is waited for`, async (t) => {
        const dsn = await freshDatabase(t, server);
        const like = await freshDatabase(t, server);
        await (await openResults(t, like)).ping(never());
        const definition = async (of: string) =>
          (await execute(like, `SHOW CREATE TABLE ${of}`))[0]?.[1] ?? assert.fail(`no ${of}`);
        for (const made of own.slice(0, index)) await execute(dsn, await definition(made));
        const rows = `SELECT it.* FROM (SELECT SLEEP(3) AS slept) AS nap
          LEFT JOIN ${new URL(like).pathname.slice(1)}.${table} AS it ON slept WHERE slept`;
        // No row comes of it, and no reader or maker gets at the table for three seconds.
        const making = execute(dsn, `${await definition(table)} AS ${rows}`);
        await until('it is being made', async () => (await leftQueries(dsn, 'SLEEP(3)')).length > 0);
        const results = await openResults(t, dsn);
        const writes = ['a', 'b', 'c'].map((job_id) => results.write(numbers(3), writeOptions(job_id)));
        assert.deepEqual(
          (await Promise.all(writes)).map((written) => written.rows),
          [3, 3, 3],
        );
        await making;
        await onlyTables(dsn, ['results_a', 'results_b', 'results_c']);
      });
    }

    test('many reports at once, of one job and of several', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await Promise.all([
        openResults(t, dsn, { max_active: 4 }),
        openResults(t, dsn, { max_active: 4 }),
      ]);
      const outcomes = await Promise.allSettled(
        Array.from({ length: 24 }, (_, index) =>
          results[index % 2]?.write(numbers(10 + index), writeOptions(index < 12 ? 'one' : `job${index}`)),
        ),
      );
      for (const outcome of outcomes) {
        if (outcome.status === 'fulfilled') continue;
        // Overtaken: told so, or found its table locked by who takes it away.
        const { code } = outcome.reason;
        assert.ok(code === 'fenced' || code === 'unavailable', String(outcome.reason));
      }
      assert.equal((await catalogued(dsn, 'one'))?.['rows'], '21', 'the highest fence is the last');
      assert.equal(
        outcomes.slice(12).every(({ status }) => status === 'fulfilled'),
        true,
      );
      await onlyTables(dsn, [
        'results_one',
        ...Array.from({ length: 12 }, (_, index) => `results_job${index + 12}`),
      ]);
    });

    test('a connection cut while loading: nothing is left, and the next report gets a new one', async (t) => {
      const dsn = await freshDatabase(t, server);
      const port = Number(new URL(dsn).port);
      const between = await proxy(t, { port });
      const results = await openResults(t, at(dsn, between.port));
      const { source, reached } = endless();
      const writing = results.write(source, writeOptions('a'));
      await Promise.race([reached, writing]);
      between.cut();
      await assert.rejects(writing, { code: 'unavailable', transient: true });
      await onlyTables(dsn, []);
      assert.equal((await results.write(numbers(1), writeOptions('a'))).rows, 1);
      between.cut();
      assert.equal((await results.write(numbers(2), writeOptions('a'))).rows, 2);
    });

    test('a silent connection is found out; what it leaves behind is ended by others', async (t) => {
      const dsn = await freshDatabase(t, server);
      const between = await proxy(t, { port: Number(new URL(dsn).port) });
      const results = await openResults(t, at(dsn, between.port), { connect_timeout_ms: 3_000 });
      const steady = await openResults(t, dsn);
      const { source, reached } = endless();
      const writing = results.write(source, writeOptions('a', { owner: owner('a', { fence: 1_000_001 }) }));
      await Promise.race([reached, writing]);
      between.freeze();
      const cancelled = new AbortController();
      const reason = new Error('cancelled');
      const begun = performance.now();
      const quick = results.write(numbers(1), writeOptions('b', { signal: cancelled.signal }));
      cancelled.abort(reason);
      await assert.rejects(quick, (error) => error === reason);
      assert.ok(performance.now() - begun < 9_000);
      // The load still stands in the server, with its lock on the staging table.
      assert.equal((await leftQueries(dsn, 'LOAD DATA')).length, 1);
      await steady.write(numbers(3), writeOptions('a', { owner: owner('a', { fence: 1_000_002 }) }));
      await noQueries(dsn);
      await onlyTables(dsn, ['results_a']);
      await assert.rejects(writing, { code: 'unavailable', transient: true });
      assert.equal((await catalogued(dsn, 'a'))?.['rows'], '3');
    });

    test('a process asleep inside of a transaction is thrown out by the server', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      await results.write(numbers(3), writeOptions('a'));
      const { commandProxy } = await import('./results-proxy.ts');
      const calm = await commandProxy(t, dsn, null);
      const first = await openResults(t, calm.dsn);
      await first.write(numbers(4), writeOptions('a'));
      const command = calm.commands.findIndex((text) => text.includes('autocommit = 0')) + 3;
      const sleepy = await commandProxy(t, dsn, { command, when: 'before', how: 'sleep' });
      const second = await openResults(t, sleepy.dsn);
      const sleeping = second.write(numbers(5), writeOptions('a'));
      const told = sleeping.catch((error: unknown) => error);
      await sleepy.stopped;
      await results.write(numbers(6), writeOptions('a'));
      sleepy.wake();
      assert.match(String(await told), /DatabaseError|unavailable|fenced|lost/i);
      assert.equal((await catalogued(dsn, 'a'))?.['rows'], '6');
      await onlyTables(dsn, ['results_a']);
    });

    test('rights that are missing and a database that is not there', async (t) => {
      const dsn = await freshDatabase(t, server);
      const wrong = new URL(dsn);
      wrong.pathname = '/there_is_none';
      const nowhere = await openResults(t, wrong.href);
      await assert.rejects(nowhere.write(numbers(1), writeOptions('a')), { code: 'unavailable' });
      const secret = new URL(dsn);
      secret.password = 'a-secret-password';
      const stranger = await openResults(t, secret.href);
      await assert.rejects(stranger.ping(never()), (error: unknown) => {
        assert.ok(error instanceof Error);
        assert.match(error.message, /^results "reports": /);
        assert.ok(!error.message.includes('a-secret-password'));
        return true;
      });
      const none = await openResults(t, 'mysql://someone@127.0.0.1:1/x', { connect_timeout_ms: 500 });
      await assert.rejects(none.write(numbers(1), writeOptions('a')), {
        code: 'unavailable',
        transient: true,
      });
      // Nothing but `text` is needed where a table has one column.
      const results = await openResults(t, dsn);
      await results.write(text([column('t', 'TEXT')], '\n\\N\nx\n'), writeOptions('a'));
      assert.deepEqual(await execute(dsn, 'SELECT t FROM results_a'), [[''], [null], ['x']]);
    });
  });
}

function at(dsn: string, port: number): string {
  const url = new URL(dsn);
  url.hostname = '127.0.0.1';
  url.port = String(port);
  return url.href;
}
