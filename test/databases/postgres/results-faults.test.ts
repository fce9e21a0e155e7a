/** Whatever fails, when and where: the table is complete or it is not there, and the next run works. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { suite, type TestContext, test } from 'node:test';
import type { Chunk } from '../../../src/databases/database.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { never } from '../support.ts';
import {
  catalogued,
  count,
  Gate,
  heldCommits,
  MANY,
  NUMBERS,
  numbers,
  openResults,
  options,
  proxied,
  quiet,
  reader,
  rejection,
  resultSet,
  tables,
} from './results-support.ts';

/** Nothing is left of a run that failed, and the next one works. */
async function checkNothing(t: TestContext, dsn: string, results: Awaited<ReturnType<typeof openResults>>) {
  const client = await reader(t, dsn);
  await quiet(client);
  assert.deepEqual(await tables(client), []);
  assert.deepEqual(await catalogued(client), []);
  assert.equal((await results.write(numbers(3), options('a'))).rows, 3);
  assert.equal((await results.write(numbers(MANY), options('a'))).rows, MANY);
  assert.deepEqual(await tables(client), ['results_a']);
}

/** Waits until a session that is silent has been looked at, and again some time later. */
async function lookedAt(client: Awaited<ReturnType<typeof reader>>): Promise<void> {
  const looks = async () => {
    const { rows } = await client.query(
      "SELECT state_change FROM pg_stat_activity WHERE query LIKE '%wait_event_type%' AND application_name = 'dungbeetle results' AND datname = current_database()",
    );
    return rows[0]?.state_change as Date | undefined;
  };
  const first = await until('somebody has looked', looks);
  await until('somebody has looked again', async () => Number(await looks()) > Number(first) + 100);
}

function transient(error: unknown): DatabaseError {
  assert.ok(error instanceof DatabaseError, String(error));
  assert.equal(error.transient, true, error.message);
  assert.match(error.message, /^results "reports"/);
  return error;
}

for (const server of servers('postgres')) {
  suite(`faults of results on ${server.name}`, { skip: server.skip }, () => {
    // A small result of a first attempt is published with others, of a later one by itself; a large one is staged.
    for (const [many, attempt] of [
      [10, 1],
      [10, 2],
      [MANY, 1],
    ] as const) {
      const which = `of ${many} rows, attempt ${attempt}`;
      test(`the source fails midway, ${which}`, async (t) => {
        const dsn = await freshDatabase(t, server);
        const results = await openResults(t, dsn);
        const failing = new DatabaseError('unavailable', 'db "x": gone');
        const set = numbers(many, {
          before: (sent) => {
            if (sent === many) throw failing;
          },
        });
        assert.equal(await rejection(results.write(set, options('a', {}, { attempt }))), failing);
        await checkNothing(t, dsn, results);
      });

      test(`confirm rejects, ${which}`, async (t) => {
        const dsn = await freshDatabase(t, server);
        const results = await openResults(t, dsn);
        const lost = new Error('the lease is lost');
        const confirm = async () => {
          throw lost;
        };
        assert.equal(
          await rejection(results.write(numbers(many), options('a', { confirm }, { attempt }))),
          lost,
        );
        await checkNothing(t, dsn, results);
      });

      test(`given up while it is loaded and while it is confirmed, ${which}`, async (t) => {
        const dsn = await freshDatabase(t, server);
        const results = await openResults(t, dsn);
        for (const phase of ['begin', 'end', 'confirm']) {
          const gate = new Gate();
          const stop = new AbortController();
          const at = phase === 'begin' ? 0 : many;
          const written = results.write(
            numbers(many, {
              before: (sent) => (sent === at && phase !== 'confirm' ? gate.pass() : undefined),
            }),
            options(
              'a',
              {
                signal: stop.signal,
                confirm: () => (phase === 'confirm' ? gate.pass() : Promise.resolve()),
              },
              { attempt },
            ),
          );
          await gate.reached.promise;
          stop.abort(new Error(`enough of ${phase}`));
          assert.match(String(await rejection(written)), new RegExp(`enough of ${phase}`));
          gate.open();
        }
        await checkNothing(t, dsn, results);
      });

      test(`the answer to the commit is lost, ${which}`, async (t) => {
        const { dsn, wire, results } = await proxied(t, server);
        await results.write(numbers(1), options('first'));
        const client = await reader(t, dsn);
        const commits = await heldCommits(client);
        const written = results.write(numbers(many), options('a', {}, { attempt }));
        await commits.reached();
        wire.freeze();
        await commits.go();
        await until('the server has committed', async () => (await catalogued(client)).includes('results_a'));
        wire.cut();
        wire.thaw();
        assert.equal((await written).rows, many);
        assert.equal(await count(client, 'results_a'), many);
      });

      test(`given up when it is being committed, it is published, ${which}`, async (t) => {
        const dsn = await freshDatabase(t, server);
        const results = await openResults(t, dsn);
        await results.write(numbers(1), options('first'));
        const client = await reader(t, dsn);
        const commits = await heldCommits(client);
        const stop = new AbortController();
        const written = results.write(numbers(many), options('a', { signal: stop.signal }, { attempt }));
        await commits.reached();
        stop.abort(new Error('too late'));
        await commits.go();
        assert.equal((await written).rows, many);
        assert.equal(await count(client, 'results_a'), many);
      });
    }

    // What holds a connection before it is published. (Together: see results-together.test.ts.)
    for (const [many, attempt] of [
      [10, 2],
      [MANY, 1],
    ] as const) {
      const which = `of ${many} rows, attempt ${attempt}`;
      test(`the session is terminated while it loads, ${which}`, async (t) => {
        const dsn = await freshDatabase(t, server);
        const results = await openResults(t, dsn);
        const gate = new Gate();
        const written = results.write(
          numbers(many, { before: (sent) => (sent === many ? gate.pass() : undefined) }),
          options('a', {}, { attempt }),
        );
        const failed = rejection(written);
        await gate.reached.promise;
        await execute(
          dsn,
          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dungbeetle results' AND datname = current_database()",
        );
        // Of a small result nothing is in the server yet, and its connection's end is seen when it is used.
        if (many === 10) gate.open();
        transient(await failed);
        gate.open();
        await checkNothing(t, dsn, results);
      });

      test(`the network is cut while it loads, ${which}`, async (t) => {
        const { dsn, wire, results } = await proxied(t, server);
        const gate = new Gate();
        const written = results.write(
          numbers(many, { before: (sent) => (sent === many ? gate.pass() : undefined) }),
          options('a', {}, { attempt }),
        );
        await gate.reached.promise;
        wire.cut();
        gate.open();
        transient(await rejection(written));
        await checkNothing(t, dsn, results);
      });

      test(`the network goes silent while it loads, ${which}`, async (t) => {
        const { dsn, wire, results } = await proxied(t, server);
        const gate = new Gate();
        const written = results.write(
          numbers(many, { before: (sent) => (sent === many ? gate.pass() : undefined) }),
          options('a', {}, { attempt }),
        );
        await gate.reached.promise;
        wire.freeze();
        gate.open();
        transient(await rejection(written));
        wire.cut();
        wire.thaw();
        await checkNothing(t, dsn, results);
      });

      test(`the network is cut before the commit, ${which}`, async (t) => {
        const { dsn, wire, results } = await proxied(t, server);
        await results.write(numbers(1), options('first'));
        const client = await reader(t, dsn);
        const commits = await heldCommits(client);
        const written = results.write(numbers(many), options('a', {}, { attempt }));
        await commits.reached();
        wire.cut();
        transient(await rejection(written));
        await commits.go();
        await quiet(client);
        assert.deepEqual(await catalogued(client), ['results_first']);
        assert.deepEqual(await tables(client), ['dungbeetle_version_held', 'results_first']);
        assert.equal((await results.write(numbers(many), options('a', {}, { attempt }))).rows, many);
      });

      test(`the session is terminated in its commit, ${which}`, async (t) => {
        const dsn = await freshDatabase(t, server);
        const results = await openResults(t, dsn);
        await results.write(numbers(1), options('first'));
        const client = await reader(t, dsn);
        const commits = await heldCommits(client);
        const failed = rejection(results.write(numbers(many), options('a', {}, { attempt })));
        await client.query('SELECT pg_terminate_backend($1)', [await commits.reached()]);
        transient(await failed);
        await commits.go();
        assert.deepEqual(await catalogued(client), ['results_first']);
        assert.equal((await results.write(numbers(many), options('a', {}, { attempt }))).rows, many);
      });
    }

    test('a slow server is not taken for a dead one', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn, { patience_ms: 20 });
      await results.write(numbers(1), options('first'));
      const client = await reader(t, dsn);
      const commits = await heldCommits(client);
      const written = results.write(numbers(3), options('a'));
      await commits.reached();
      await lookedAt(client);
      await commits.go();
      assert.equal((await written).rows, 3);
    });

    test('a row that the server refuses ends the report while the source has more to give', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const gate = new Gate();
      async function* chunks(): AsyncGenerator<Chunk, void, void> {
        const { body } = numbers(MANY);
        assert.ok(body.encoding === 'pg-binary');
        yield* body.chunks;
        yield { data: Buffer.from([0, 7]), rows: 0 };
        yield { data: Buffer.alloc(65_536), rows: 1 };
        await gate.pass();
      }
      const set = resultSet(NUMBERS, { encoding: 'pg-binary', chunks: chunks() });
      const error = await rejection(results.write(set, options('a')));
      assert.ok(error instanceof DatabaseError);
      assert.match(error.message, /row 40001: row field count is 7, expected 2/);
      gate.open();
      await checkNothing(t, dsn, results);
    });

    test('a role that is set for the session: a slow commit, and one that is lost', async (t) => {
      const dsn = await freshDatabase(t, server);
      const admin = await reader(t, dsn);
      const [login, owner] = ['login', 'owner'].map((part) => `${part}_${randomBytes(6).toString('hex')}`);
      await admin.query(
        `CREATE ROLE ${owner}; GRANT CREATE ON SCHEMA public TO ${owner};
         CREATE ROLE ${login} LOGIN NOINHERIT PASSWORD 'x' IN ROLE ${owner}`,
      );
      t.after(async () => {
        await execute(dsn, `DROP OWNED BY ${owner}; DROP ROLE ${login}; DROP ROLE ${owner}`);
      });
      const url = new URL(dsn);
      url.username = login ?? '';
      url.password = 'x';
      url.searchParams.set('role', owner ?? '');
      const results = await openResults(t, url.href, { patience_ms: 20 });
      await results.write(numbers(1), options('first'));
      for (const end of ['slow', 'lost']) {
        const commits = await heldCommits(admin);
        await admin.query(`GRANT SELECT ON dungbeetle_version_held TO ${owner}`);
        const writing = results.write(numbers(3), options(end));
        const pid = await commits.reached();
        const isLeft = async () =>
          (await admin.query('SELECT FROM pg_stat_activity WHERE pid = $1', [pid])).rows.length === 1;
        if (end === 'slow') {
          await lookedAt(admin);
          assert.ok(await isLeft());
        } else {
          await admin.query('SELECT pg_terminate_backend($1)', [pid]);
          await until('the session is over', async () => !(await isLeft()));
        }
        await commits.go();
        assert.equal((await writing).rows, 3);
        await commits.undo();
        assert.equal(await count(admin, `results_${end}`), 3);
      }
    });

    test('a database whose transactions are serializable: no write is refused for another one', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(
        dsn,
        `ALTER DATABASE "${new URL(dsn).pathname.slice(1)}" SET default_transaction_isolation = 'serializable'`,
      );
      const backends = [await openResults(t, dsn), await openResults(t, dsn)];
      await backends[0]?.write(numbers(1), options('first'));
      const jobs = Array.from({ length: 100 }, (_, n) => `job${n}`);
      await Promise.all(
        jobs.map((job, n) => backends[n % 2]?.write(numbers(2), options(job, {}, { attempt: 1 + (n % 3) }))),
      );
      assert.equal((await catalogued(await reader(t, dsn))).length, 101);
    });

    test('attempts of one job race', async (t) => {
      const dsn = await freshDatabase(t, server);
      const one = await openResults(t, dsn);
      const two = await openResults(t, dsn);
      const client = await reader(t, dsn);
      for (let round = 0; round < 3; round += 1) {
        const runs = Array.from({ length: 8 }, (_, n) => {
          const fence = 1_000 * (round + 1) + n;
          const many = n % 3 === 0 ? MANY + n : 10 + n;
          return {
            many,
            fence,
            run: (n % 2 === 0 ? one : two).write(numbers(many), options('a', {}, { fence })),
          };
        });
        const settled = await Promise.allSettled(runs.map(({ run }) => run));
        for (const outcome of settled) {
          if (outcome.status === 'rejected')
            assert.equal(outcome.reason.code, 'fenced', String(outcome.reason));
        }
        assert.equal(settled.at(-1)?.status, 'fulfilled');
        assert.equal(await count(client, 'results_a'), runs.at(-1)?.many);
        const { rows } = await client.query('SELECT rows::int, fence::int FROM dungbeetle_results');
        assert.deepEqual(rows, [{ rows: runs.at(-1)?.many, fence: runs.at(-1)?.fence }]);
      }
      assert.deepEqual(await tables(client), ['results_a']);
    });

    test('a server that takes no writes for now', async (t) => {
      const dsn = await freshDatabase(t, server);
      const readonly = await openResults(t, `${dsn}?default_transaction_read_only=on`);
      assert.match(transient(await rejection(readonly.ping(never()))).message, /takes no writes/);
      const writable = await openResults(t, dsn);
      await writable.write(numbers(1), options('first'));
      const error = transient(await rejection(readonly.write(numbers(1), options('a'))));
      assert.equal(error.code, 'unavailable');
      assert.match(error.message, /25006/);
    });

    test('max_active holds, and what is not a report does not wait', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn, { max_active: 2, max_idle: 1 });
      const client = await reader(t, dsn);
      const sessions = async () => {
        const { rows } = await client.query(
          "SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'dungbeetle results' AND datname = current_database()",
        );
        return rows[0].count as number;
      };
      const gates = Array.from({ length: 5 }, () => new Gate());
      const stop = new AbortController();
      const runs = gates.map((gate, n) =>
        results.write(
          numbers(MANY, { before: (sent) => (sent === MANY ? gate.pass() : undefined) }),
          options(`job${n}`, n === 4 ? { signal: stop.signal } : {}),
        ),
      );
      await Promise.all(gates.slice(0, 2).map((gate) => gate.reached.promise));
      await results.ping(never());
      assert.equal(await results.drop('nothing'), false);
      assert.ok((await sessions()) <= 4, `${await sessions()} sessions`);
      stop.abort(new Error('no longer'));
      await assert.rejects(runs.at(-1) ?? Promise.resolve(), /no longer/);
      for (const gate of gates) gate.open();
      await Promise.all(runs.slice(0, 4));
      assert.equal((await catalogued(client)).length, 4);
      await until('no more than max_idle are kept', async () => (await sessions()) <= 2);
    });

    test('closing ends what is under way, and leaves nothing', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const gate = new Gate();
      const written = results.write(
        numbers(MANY, { before: (sent) => (sent === MANY ? gate.pass() : undefined) }),
        options('a'),
      );
      const rejected = rejection(written);
      await gate.reached.promise;
      await results.close();
      transient(await rejected);
      gate.open();
      transient(await rejection(results.write(numbers(1), options('a'))));
      await checkNothing(t, dsn, await openResults(t, dsn));
    });

    test('a server that is not there', async (t) => {
      const results = await openResults(t, 'postgres://reports:s3cret-word@127.0.0.1:1/reports');
      for (const attempt of [results.ping(never()), results.write(numbers(1), options('a'))]) {
        const error = transient(await rejection(attempt));
        assert.equal(error.code, 'unavailable');
        assert.doesNotMatch(error.message, /s3cret-word/);
      }
    });

    test('connections that died unnoticed', async (t) => {
      const { dsn, wire, results } = await proxied(t, server);
      await Promise.all([1, 2, 3].map((n) => results.write(numbers(n), options(`job${n}`))));
      wire.cut();
      const { rows } = await results.write(numbers(5), options('a'));
      assert.equal(rows, 5);
      await execute(dsn, 'SELECT 1');
    });
  });
}
