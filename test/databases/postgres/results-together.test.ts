/** Small results of first attempts, which share transactions: each is published or not, whatever becomes of the others. */
import assert from 'node:assert/strict';
import { suite, type TestContext, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { Catalog } from '../../../src/databases/postgres/catalog.ts';
import { Guard } from '../../../src/databases/postgres/guard.ts';
import { Pool } from '../../../src/databases/postgres/pool.ts';
import { smallResult } from '../../../src/databases/postgres/results-small.ts';
import { Together } from '../../../src/databases/postgres/results-together.ts';
import { clientConfig } from '../../../src/util/postgres/dsn.ts';
import { freshDatabase, type Service, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { closing, never } from '../support.ts';
import {
  catalogued,
  column,
  count,
  Gate,
  heldCommits,
  MANY,
  numbers,
  openResults,
  options,
  proxied,
  reader,
  rejection,
  tables,
  text,
} from './results-support.ts';

const MINE = "application_name = 'dungbeetle results' AND datname = current_database()";

async function setup(t: TestContext, server: Service, max_active = 10) {
  const dsn = await freshDatabase(t, server);
  const results = await openResults(t, dsn, { max_active });
  await results.write(numbers(1), options('first'));
  return { dsn, results, client: await reader(t, dsn) };
}

for (const server of servers('postgres')) {
  suite(`small results together on ${server.name}`, { skip: server.skip }, () => {
    test('what comes at the same time shares transactions, and keeps its rows', async (t) => {
      const { results, client } = await setup(t, server);
      const jobs = Array.from({ length: 40 }, (_, n) => `job${n}`);
      const written = await Promise.all(
        jobs.map((job, n) =>
          results.write(numbers(n), options(job, { ttl_ms: n === 0 ? null : n * 60_000 })),
        ),
      );
      for (const [n, table] of written.entries()) {
        assert.deepEqual([table.table, table.rows], [`results_job${n}`, n]);
        assert.equal(await count(client, table.table), n);
        const { rows } = await client.query(
          'SELECT rows::int, expires_at::float8, created_at::float8, settled FROM dungbeetle_results WHERE job_id = $1',
          [`job${n}`],
        );
        assert.equal(rows[0].rows, n);
        assert.equal(rows[0].expires_at, table.expires_at);
        assert.equal(rows[0].expires_at, n === 0 ? null : rows[0].created_at + n * 60_000);
      }
      const { rows } = await client.query(
        'SELECT count(DISTINCT xmin::text)::int AS n FROM dungbeetle_results',
      );
      assert.ok(rows[0].n < 20, `${rows[0].n} transactions for 41 tables`);
    });

    test('one whose name is taken, one that the server refuses: the others do not suffer', async (t) => {
      const { results, client } = await setup(t, server);
      await client.query('CREATE VIEW results_viewed AS SELECT 1');
      await client.query('CREATE TABLE results_there (x int)');
      const dates = [column('at', 'DATE')];
      const outcomes = await Promise.allSettled([
        results.write(numbers(2), options('a')),
        results.write(numbers(2), options('viewed')),
        results.write(text(dates, 'no date\n'), options('refused')),
        results.write(numbers(2), options('there')),
        results.write(numbers(2), options('first')),
        results.write(numbers(2), options('b')),
      ]);
      const told = outcomes.map((outcome) =>
        outcome.status === 'fulfilled' ? outcome.value.warnings : outcome.reason.message,
      );
      assert.deepEqual(told[0], []);
      assert.match(String(told[1]), /there is already a view "results_viewed"/);
      assert.match(String(told[2]), /row 1, column "at"/);
      assert.deepEqual(told[3], ['1 table of that name, not in the catalog, was replaced']);
      assert.deepEqual(told.slice(4), [[], []]);
      const names = ['results_a', 'results_b', 'results_first', 'results_there'];
      assert.deepEqual(await catalogued(client), names);
      assert.deepEqual(await tables(client), names);
      assert.equal(await count(client, 'results_first'), 2);
    });

    test('a table that an earlier run had under another name is replaced there', async (t) => {
      const { results, client } = await setup(t, server);
      const long = `${'x'.repeat(70)}`;
      const { table } = await results.write(numbers(1), options(long));
      await client.query(`ALTER TABLE "${table}" RENAME TO results_elsewhere`);
      await client.query("UPDATE dungbeetle_results SET table_name = 'results_elsewhere' WHERE job_id = $1", [
        long,
      ]);
      assert.equal((await results.write(numbers(2), options(long))).table, 'results_elsewhere');
      assert.deepEqual(await tables(client), ['results_elsewhere', 'results_first']);
      assert.equal(await count(client, 'results_elsewhere'), 2);
    });

    test('the connection breaks in the commit: published over another one, once', async (t) => {
      const { dsn, wire, results } = await proxied(t, server, { doubt_ms: 15_000 });
      await results.write(numbers(1), options('first'));
      const client = await reader(t, dsn);
      for (const [round, end] of (['cut', 'terminate'] as const).entries()) {
        const commits = await heldCommits(client);
        const jobs = Array.from({ length: 5 }, (_, n) => `job${round}${n}`);
        const writes = Promise.all(jobs.map((job) => results.write(numbers(3), options(job))));
        const pid = await commits.reached();
        if (end === 'cut') wire.cut();
        else await client.query('SELECT pg_terminate_backend($1)', [pid]);
        await until('the first session is over', async () => {
          const { rows } = await client.query('SELECT FROM pg_stat_activity WHERE pid = $1', [pid]);
          return rows.length === 0;
        });
        await commits.go();
        for (const { rows } of await writes) assert.equal(rows, 3);
        await commits.undo();
        for (const job of jobs) assert.equal(await count(client, `results_${job}`), 3);
      }
      assert.equal((await catalogued(client)).length, 11);
      assert.equal((await tables(client)).length, 11);
    });

    test('given up while it waits for a connection, and nobody else with it', async (t) => {
      const { results, client } = await setup(t, server, 1);
      const gate = new Gate();
      const large = results.write(
        numbers(MANY, { before: (sent) => (sent === MANY ? gate.pass() : undefined) }),
        options('large'),
      );
      await gate.reached.promise;
      const stop = new AbortController();
      const confirmed = new Gate();
      const given = rejection(
        results.write(
          numbers(2),
          options('given', { signal: stop.signal, confirm: async () => confirmed.reached.resolve() }),
        ),
      );
      const kept = results.write(numbers(2), options('kept'));
      await confirmed.reached.promise;
      stop.abort(new Error('no longer'));
      assert.match(String(await given), /no longer/);
      gate.open();
      assert.equal((await large).rows, MANY);
      assert.equal((await kept).rows, 2);
      assert.deepEqual(await catalogued(client), ['results_first', 'results_kept', 'results_large']);
    });

    test('a connection that was being made for another breaks: one is made for those that came later', async (t) => {
      const { dsn, wire } = await proxied(t, server);
      // No connection is kept, and one that breaks is not tried once more without TLS.
      const results = await openResults(t, `${wire.through(dsn)}?sslmode=disable`, { max_idle: 0 });
      await results.write(numbers(1), options('before'));
      await until('only the connection for upkeep is left', () => wire.connections === 1);
      wire.freeze();
      const stop = new AbortController();
      const first = rejection(results.write(numbers(1), options('first', { signal: stop.signal })));
      await until('a connection is being made', () => wire.connections > 1);
      stop.abort(new Error('no longer'));
      assert.match(String(await first), /no longer/);
      const confirmed = new Gate();
      const second = results.write(
        numbers(2),
        options('second', { confirm: async () => confirmed.reached.resolve() }),
      );
      await confirmed.reached.promise;
      await setImmediate(); // now it waits for the connection that is being made
      wire.cut();
      wire.thaw();
      assert.equal((await second).rows, 2);
      assert.equal(await count(await reader(t, dsn), 'results_second'), 2);
    });

    test('while there is no connection to be had, no more wait for one than results', async (t) => {
      const config = clientConfig(await freshDatabase(t, server));
      const pool = new Pool({ config, connect_timeout_ms: 5_000, max_active: 1, max_idle: 0, max_uses: 1 });
      closing(t, () => pool.close());
      const client = await pool.acquire(never());
      const together = new Together({
        pool,
        closing: never(),
        openCatalog: () => Catalog.open(client, 'results_%s', 'results'),
        guard: (client) =>
          new Guard(client, {
            signal: never(),
            look: async () => 'working',
            endWait: async () => {},
            patience_ms: 5_000,
          }),
        settle: async () => [],
      });
      const draft = { owner: options('a').owner, columns: [], rows: 0, bytes: 0, ttl_ms: null, warnings: [] };
      const small = smallResult(draft, 'text', []);
      // Longer than a group counts, three times.
      const longAfter = (begun: number) => until('time has passed', () => performance.now() > begun + 350);
      const first = together.publish(small, never());
      await longAfter(performance.now());
      assert.equal(pool.size.waiting, 1);
      const stop = new AbortController();
      const given = rejection(together.publish(small, stop.signal));
      await longAfter(performance.now());
      assert.equal(pool.size.waiting, 2);
      stop.abort(new Error('no longer'));
      assert.match(String(await given), /no longer/);
      pool.release(client);
      assert.equal((await first)?.table, 'results_a');
      await until('nobody waits', () => pool.size.waiting === 0 && pool.size.active === 0);
    });

    test('a newer attempt that has begun keeps an older first one from publishing, and not its neighbours', async (t) => {
      const { results, client } = await setup(t, server);
      const gate = new Gate();
      const newer = results.write(
        numbers(2, { before: () => gate.pass() }),
        options('a', {}, { attempt: 2, fence: 3_000 }),
      );
      await until('it has begun', async () => {
        const { rows } = await client.query("SELECT FROM dungbeetle_fences WHERE job_id = 'a'");
        return rows.length === 1;
      });
      const older = rejection(results.write(numbers(9), options('a', {}, { fence: 2_999 })));
      const neighbour = results.write(numbers(1), options('b'));
      const error = await older;
      assert.ok(error instanceof DatabaseError);
      assert.equal(error.code, 'fenced');
      assert.equal((await neighbour).rows, 1);
      gate.open();
      assert.equal((await newer).rows, 2);
      assert.equal(await count(client, 'results_a'), 2);
    });

    test('a first attempt whose rows take their time notes that it has begun', async (t) => {
      const { results, client } = await setup(t, server);
      const gate = new Gate();
      const slow = results.write(
        numbers(2, { before: (sent) => (sent === 2 ? gate.pass() : undefined) }),
        options('a', {}, { fence: 3_000 }),
      );
      await until('it has begun', async () => {
        const { rows } = await client.query("SELECT FROM dungbeetle_fences WHERE job_id = 'a'");
        return rows.length === 1;
      });
      const error = await rejection(results.write(numbers(9), options('a', {}, { fence: 2_999 })));
      assert.ok(error instanceof DatabaseError);
      assert.equal(error.code, 'fenced');
      gate.open();
      assert.equal((await slow).rows, 2);
    });

    test('a slow commit does not keep others waiting for long', async (t) => {
      const { results, client } = await setup(t, server);
      const commits = await heldCommits(client);
      const writes: Promise<{ readonly rows: number }>[] = [];
      // The first two take the places there are; when they do not end, a third is made for what comes then.
      for (const n of [1, 2, 3]) {
        writes.push(results.write(numbers(n), options(`job${n}`)));
        await until(`${n} commits are under way`, async () => {
          const { rows } = await client.query(
            `SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND ${MINE}`,
          );
          return rows.length === n;
        });
      }
      await commits.go();
      const done = await Promise.all(writes);
      assert.deepEqual(
        done.map(({ rows }) => rows),
        [1, 2, 3],
      );
    });
  });
}
