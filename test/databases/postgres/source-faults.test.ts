/** What a source does when its server, or the way to it, is gone. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { marker } from '../../../src/databases/postgres/marker.ts';
import { openPostgresSource } from '../../../src/databases/postgres/source.ts';
import { tempFolder } from '../../support/folder.ts';
import { noPrivate, startPrivate } from '../../support/private-server.ts';
import { proxy } from '../../support/proxy.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { closing, never, owner, queryOptions } from '../support.ts';
import { openSource, rowsOf, streamOf } from './source-support.ts';

const ENDLESS = "SELECT repeat('x', 100), generate_series(1, 1000000000000)";
const SLEEPING = 'SELECT pg_sleep(1000)';
const ENCODINGS = [
  { encoding: 'pg-binary', types: 'standard' },
  { encoding: 'copy-text' },
  { encoding: 'rows' },
] as const;

function isAway(error: unknown): boolean {
  assert.ok(error instanceof DatabaseError, String(error));
  assert.equal(error.code, 'unavailable', error.message);
  assert.ok(error.transient);
  assert.match(error.message, /^db "app": /);
  return true;
}

async function drained(result: Awaited<ReturnType<Awaited<ReturnType<typeof openSource>>['query']>>) {
  if ('batches' in result.body) for await (const _ of result.body.batches);
  else for await (const _ of streamOf(result.body));
}

for (const server of servers('postgres')) {
  const name = server.name === 'postgres-18' ? 'postgres-18' : 'postgres-15';
  suite(name, { skip: server.skip, concurrency: 4 }, () => {
    test('a connection cut in mid-stream is an error, whatever the encoding', async (t) => {
      const dsn = await freshDatabase(t, server);
      const { hostname, port } = new URL(dsn);
      const way = await proxy(t, { host: hostname, port: Number(port) });
      const source = await openSource(t, way.through(dsn));
      for (const accept of ENCODINGS) {
        await using result = await source.query(ENDLESS, [], queryOptions([accept]));
        const reading = assert.rejects(drained(result), isAway);
        const before = way.bytes.toClient;
        await until('rows flow', () => way.bytes.toClient > before + 100_000);
        way.cut();
        await reading;
      }
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    });

    test('cut at any byte, a result is complete or an error', async (t) => {
      const dsn = await freshDatabase(t, server);
      const { hostname, port } = new URL(dsn);
      const way = await proxy(t, { host: hostname, port: Number(port) });
      const source = await openSource(t, way.through(dsn), 1);
      const query = () => rowsOf(source, 'SELECT n, n::text FROM generate_series(1, 3) n');
      const whole = await query();
      const begun = way.bytes.toClient;
      assert.deepEqual(await query(), whole);
      const size = way.bytes.toClient - begun;
      let cuts = 0;
      for (let bytes = 1; bytes < size; bytes += 4) {
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
      assert.ok(cuts > 3, 'a cut behind the first answer is seen, not mended');
    });

    test('a server that falls silent does not keep anybody who gives up', async (t) => {
      const dsn = await freshDatabase(t, server);
      const { hostname, port } = new URL(dsn);
      const way = await proxy(t, { host: hostname, port: Number(port) });
      const source = await openSource(t, way.through(dsn), 1);
      for (const sql of [ENDLESS, SLEEPING]) {
        const asker = owner('silent');
        const cancel = new AbortController();
        const result = await source.query(
          sql,
          [],
          queryOptions([{ encoding: 'copy-text' }], { owner: asker, signal: cancel.signal }),
        );
        const reason = new Error('enough');
        const reading = assert.rejects(drained(result), (error) => error === reason);
        await until(
          'it runs',
          async () =>
            (await execute(dsn, `SELECT 1 FROM pg_stat_activity WHERE application_name = '${marker(asker)}'`))
              .length === 1,
        );
        way.freeze();
        const asked = performance.now();
        cancel.abort(reason);
        await reading;
        await result[Symbol.asyncDispose]();
        assert.ok(performance.now() - asked < 10_000);
        way.thaw();
        assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
        await until(
          'the server has noticed',
          async () =>
            (await execute(dsn, `SELECT 1 FROM pg_stat_activity WHERE application_name = '${marker(asker)}'`))
              .length === 0,
        );
      }
    });

    for (const kill of ['pg_cancel_backend', 'pg_terminate_backend']) {
      test(`a query that somebody ends by ${kill} is not run again`, async (t) => {
        const dsn = await freshDatabase(t, server);
        const source = await openSource(t, dsn);
        const asker = owner('killed');
        const sql = 'SELECT count(*) FROM generate_series(1, $1::bigint)';
        // On a connection that was used before, with a statement that has run before, and with one that has not.
        assert.deepEqual(await rowsOf(source, sql, [3]), [[3n]]);
        for (const text of [sql, `${sql} g`]) {
          const query = rowsOf(source, text, [1e15], { owner: asker });
          const ended = assert.rejects(query, (error) => {
            assert.ok(error instanceof DatabaseError && error.transient, String(error));
            return true;
          });
          // A cancel between two messages of the protocol is forgotten.
          const running = `FROM pg_stat_activity WHERE application_name = '${marker(asker)}' AND state = 'active'
            AND query LIKE 'SELECT count%' AND clock_timestamp() - query_start > interval '0.1 s'`;
          await until('it runs', async () => (await execute(dsn, `SELECT ${running}`)).length > 0);
          await execute(dsn, `SELECT ${kill}(pid) ${running}`);
          await ended;
          assert.deepEqual(await execute(dsn, `SELECT ${running}`), []);
          assert.deepEqual(await rowsOf(source, sql, [3]), [[3n]]);
        }
      });
    }

    test('an idle connection whose other end fell silent is found out within the time to connect', async (t) => {
      const dsn = await freshDatabase(t, server);
      const { hostname, port } = new URL(dsn);
      const way = await proxy(t, { host: hostname, port: Number(port) });
      const source = await openPostgresSource({
        name: 'app',
        dsn: way.through(dsn),
        max_active: 1,
        max_idle: 1,
        connect_timeout_ms: 4_000,
      });
      closing(t, () => source.close());
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
      way.freeze();
      await assert.rejects(rowsOf(source, 'SELECT 1'), isAway);
      await assert.rejects(source.ping(never()), isAway);
      way.thaw();
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    });

    test('a server killed in mid-stream, away, and back', { skip: noPrivate(name) }, async (t) => {
      const own = await startPrivate(t, name);
      const source = await openSource(t, own.dsn);
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
      await using result = await source.query(
        ENDLESS,
        [],
        queryOptions([{ encoding: 'pg-binary', types: 'standard' }]),
      );
      const chunks = streamOf(result.body)[Symbol.asyncIterator]();
      await chunks.next();
      await own.kill('SIGKILL');
      await assert.rejects(async () => {
        for (let next = await chunks.next(); next.done !== true; next = await chunks.next());
      }, isAway);
      await assert.rejects(rowsOf(source, 'SELECT 1'), isAway);
      await assert.rejects(source.ping(never()), isAway);
      await own.start();
      await source.ping(never());
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    });

    test('idle connections that a restart has ended are not noticed by anybody', {
      skip: noPrivate(name),
    }, async (t) => {
      const own = await startPrivate(t, name);
      const source = await openSource(t, own.dsn);
      for (let round = 0; round < 3; round += 1) {
        await Promise.all([1, 2, 3].map(() => rowsOf(source, 'SELECT pg_sleep(0.01)')));
        await own.restart();
        assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
      }
    });

    test('a backend that an administrator ends says so', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, dsn);
      const asker = owner('ended');
      await using result = await source.query(
        SLEEPING,
        [],
        queryOptions([{ encoding: 'copy-text' }], { owner: asker }),
      );
      const reading = assert.rejects(drained(result), isAway);
      await until('it is ended', async () => {
        const found = await execute(
          dsn,
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '${marker(asker)}'`,
        );
        return found.length > 0;
      });
      await reading;
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    });

    test('with TLS, checked and not', { skip: noPrivate(name) }, async (t) => {
      const own = await startPrivate(t, name, { tls: true });
      const ca = join(tempFolder(t), 'ca.pem');
      writeFileSync(ca, own.ca ?? '');
      const dsn = (mode: string) =>
        `${own.dsn}?sslmode=${mode}${mode.startsWith('verify') ? `&sslrootcert=${ca}` : ''}`;
      for (const mode of ['require', 'verify-ca', 'verify-full', 'prefer']) {
        const source = await openSource(t, dsn(mode));
        assert.deepEqual(
          await rowsOf(source, 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'),
          [[true]],
          mode,
        );
        const cancel = new AbortController();
        const asker = owner('tls');
        const waiting = rowsOf(source, SLEEPING, [], { owner: asker, signal: cancel.signal });
        await until(
          'it runs',
          async () =>
            (
              await execute(
                own.dsn,
                `SELECT 1 FROM pg_stat_activity WHERE application_name = '${marker(asker)}'`,
              )
            ).length === 1,
        );
        cancel.abort(new Error('enough'));
        await assert.rejects(waiting, /enough/);
        await until(
          'it is gone',
          async () =>
            (
              await execute(
                own.dsn,
                `SELECT 1 FROM pg_stat_activity WHERE application_name = '${marker(asker)}'`,
              )
            ).length === 0,
        );
      }
      const plain = await openSource(t, dsn('disable'));
      assert.deepEqual(await rowsOf(plain, 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'), [
        [false],
      ]);
      const stranger = await openSource(t, `${own.dsn}?sslmode=verify-full`);
      await assert.rejects(stranger.ping(never()), /certificate/);
    });
  });
}
