/** What happens when the server, or the network to it, fails: an error that says it, and no query left behind. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { suite, type TestContext, test } from 'node:test';
import type { ServerName } from '../../../scripts/services/engine.ts';
import type { ResultSet } from '../../../src/databases/database.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { openMysqlSource } from '../../../src/databases/mysql/source.ts';
import { marker } from '../../../src/databases/mysql/source-marker.ts';
import { tempFolder } from '../../support/folder.ts';
import { proxy } from '../../support/proxy.ts';
import {
  execute,
  freshDatabase,
  noPrivate,
  privateNames,
  servers,
  startPrivate,
} from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { closing, never, owner, queryOptions } from '../support.ts';
import { isRunning, openSource, rowsOf, streamOf } from './source-support.ts';

const MANY = `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
  SELECT a.i, REPEAT('x', 200) FROM n a, n b, n c`;

const POOL = { name: 'app', max_active: 1, max_idle: 1, connect_timeout_ms: 5_000 };

function unavailable(error: unknown): true {
  assert.ok(error instanceof DatabaseError, String(error));
  assert.equal(error.code, 'unavailable', error.message);
  assert.ok(error.transient);
  assert.match(error.message, /^db "app": /);
  return true;
}

async function readAll(result: ResultSet): Promise<void> {
  for await (const _ of streamOf(result));
}

/** Reads until `after` bytes have come, lets something happen, and reads on. */
async function readOn(result: ResultSet, after: number, happen: () => unknown): Promise<void> {
  let bytes = 0;
  let happened = false;
  for await (const { data } of streamOf(result)) {
    bytes += data.length;
    if (bytes < after || happened) continue;
    happened = true;
    await happen();
  }
}

for (const server of servers('mysql')) {
  suite(`${server.name}, by a network that fails`, { skip: server.skip, concurrency: 4 }, () => {
    const setUp = async (t: TestContext) => {
      const dsn = await freshDatabase(t, server);
      const network = await proxy(t, { port: Number(new URL(dsn).port) });
      const source = await openSource(t, network.through(dsn), 1);
      return { dsn, network, source };
    };

    test('a connection cut in mid-stream is an error, and the query ends', async (t) => {
      const { dsn, network, source } = await setUp(t);
      const asker = owner('cut');
      const result = await source.query(
        MANY,
        [],
        queryOptions([{ encoding: 'copy-text' }], { owner: asker }),
      );
      await assert.rejects(
        readOn(result, 1_000_000, () => network.cut()),
        unavailable,
      );
      await result[Symbol.asyncDispose]();
      assert.equal(await isRunning(dsn, marker(asker)), false);
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    });

    test('one cut at any byte, from the login on, never passes for complete', async (t) => {
      const { dsn, network } = await setUp(t);
      const rows = [
        [1n, 'some text'],
        [2n, null],
      ];
      const ask = async () => {
        const source = await openMysqlSource({ ...POOL, dsn: network.through(dsn) });
        try {
          return await rowsOf(source, "SELECT 1 AS a, 'some text' AS b UNION ALL SELECT 2, NULL");
        } finally {
          await source.close();
        }
      };
      const before = network.bytes.toClient;
      assert.deepEqual(await ask(), rows);
      const all = network.bytes.toClient - before;
      let failed = 0;
      for (let bytes = 0; bytes < all; bytes += 5) {
        network.cutAfter('toClient', bytes);
        await ask().then(
          (given) => assert.deepEqual(given, rows),
          (error) => {
            unavailable(error);
            failed += 1;
          },
        );
        network.cutAfter('toClient', Number.POSITIVE_INFINITY);
      }
      // What comes behind the rows is not part of them: the answers to what cleans the session.
      assert.ok(failed > all / 5 / 2, `${failed} of ${all / 5}`);
    });

    test('a connection that was cut while it was idle is replaced without a word', async (t) => {
      const { network, source } = await setUp(t);
      for (let round = 0; round < 3; round += 1) {
        assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
        assert.equal((await source.prepare('SELECT ?, 1', never())).parameters, 1);
        network.cut();
      }
    });

    for (const kill of ['KILL QUERY', 'KILL']) {
      test(`a query that somebody ends by ${kill} is not run again`, async (t) => {
        const { dsn, source } = await setUp(t);
        // On a connection that was used before, as one that has died unnoticed was, too.
        assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
        const asker = owner('killed');
        const query = rowsOf(source, `SELECT COUNT(*) FROM (${MANY}) m`, [], { owner: asker });
        const ended = assert.rejects(query, (error) => {
          assert.ok(error instanceof DatabaseError && error.transient, String(error));
          return true;
        });
        const find = `SELECT ID FROM information_schema.PROCESSLIST WHERE LEFT(INFO, ${marker(asker).length}) = '${marker(asker)}' AND COMMAND = 'Execute'`;
        let found: (string | null)[][] = [];
        await until('it runs', async () => {
          found = await execute(dsn, find);
          return found.length > 0;
        });
        await execute(dsn, `${kill} ${found[0]?.[0]}`);
        await ended;
        assert.equal(await isRunning(dsn, marker(asker)), false);
        assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
      });
    }

    test('a cancel over a network that is silent rejects in time', async (t) => {
      const { dsn, network, source } = await setUp(t);
      const asker = owner('silent');
      const cancel = new AbortController();
      const reason = new Error('enough');
      const result = await source.query(
        MANY,
        [],
        queryOptions([{ encoding: 'copy-text' }], { owner: asker, signal: cancel.signal }),
      );
      network.freeze();
      const reading = assert.rejects(readAll(result), (error) => error === reason);
      const asked = performance.now();
      cancel.abort(reason);
      await reading;
      await result[Symbol.asyncDispose]();
      assert.ok(performance.now() - asked < 15_000);
      network.thaw();
      // The server is told of the connection's end now, and ends the query.
      await until('it has ended', async () => !(await isRunning(dsn, marker(asker))));
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    });

    test('one that fell silent while it was idle is given up in time', async (t) => {
      const { dsn, network } = await setUp(t);
      const source = await openMysqlSource({ ...POOL, dsn: network.through(dsn), connect_timeout_ms: 3_000 });
      closing(t, () => source.close());
      await rowsOf(source, 'SELECT 1');
      await source.ping(never());
      network.freeze();
      await assert.rejects(rowsOf(source, 'SELECT 1'), unavailable);
      await assert.rejects(source.ping(never()), unavailable);
      network.thaw();
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    });

    test('a server that takes connections and says nothing is given up in time', async (t) => {
      const dsn = await freshDatabase(t, server);
      const network = await proxy(t, { port: Number(new URL(dsn).port) });
      network.freeze();
      const source = await openMysqlSource({
        ...POOL,
        dsn: network.through(dsn),
        connect_timeout_ms: 300,
      });
      closing(t, () => source.close());
      await assert.rejects(source.ping(never()), (error) => {
        assert.match(String(error), /no connection within 0.3 s/);
        return unavailable(error);
      });
      const cancel = new AbortController();
      const pinged = source.ping(cancel.signal);
      cancel.abort(new Error('enough'));
      await assert.rejects(pinged, { message: 'enough' });
    });
  });
}

const ofItsOwn = (kind: ServerName) => () => {
  test('a server that is killed, restarted, full or shut down', async (t) => {
    const server = await startPrivate(t, kind, { settings: { 'max-connections': '10' } });
    const source = await openSource(t, server.dsn, 4);
    const asked = () => source.query(MANY, [], queryOptions([{ encoding: 'copy-text' }]));

    await t.test('killed in mid-stream', async () => {
      const result = await asked();
      await assert.rejects(
        readOn(result, 1_000_000, () => server.kill()),
        unavailable,
      );
      await result[Symbol.asyncDispose]();
      await assert.rejects(source.ping(never()), unavailable);
      await assert.rejects(rowsOf(source, 'SELECT 1'), unavailable);
    });

    await t.test('back again, and restarted between two queries', async () => {
      await server.start();
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
      await server.restart();
      assert.deepEqual(await rowsOf(source, 'SELECT 2'), [[2n]]);
      await source.ping(never());
    });

    await t.test('shut down in mid-stream', async () => {
      const result = await asked();
      await assert.rejects(
        readOn(result, 1_000_000, () => server.kill('SIGTERM')),
        unavailable,
      );
      await result[Symbol.asyncDispose]();
      await server.exited();
      await server.start();
      assert.deepEqual(await rowsOf(source, 'SELECT 3'), [[3n]]);
    });

    await t.test('with no connection left: an error for a query, but a cancel gets through', async (s) => {
      const cancel = new AbortController();
      const reason = new Error('enough');
      await source.ping(never());
      const asker = owner('stuck');
      const stuck = rowsOf(source, 'SELECT SLEEP(1000)', [], { owner: asker, signal: cancel.signal });
      await until('it runs', () => isRunning(server.dsn, marker(asker)));
      const others = await openSource(s, server.dsn, 20);
      const results: ResultSet[] = [];
      closing(s, async () => {
        for (const result of results) await result[Symbol.asyncDispose]();
      });
      await assert.rejects(
        async () => {
          for (;;) results.push(await others.query(MANY, [], queryOptions([{ encoding: 'copy-text' }])));
        },
        (error) => {
          assert.match(String(error), /Too many connections/);
          return unavailable(error);
        },
      );
      await assert.rejects(rowsOf(source, 'SELECT 1'), unavailable);
      const asked = performance.now();
      cancel.abort(reason);
      await assert.rejects(stuck, (error) => error === reason);
      assert.ok(performance.now() - asked < 5_000);
      assert.equal(await isRunning(server.dsn, marker(asker)), false);
      // A session leaves the list a little before its place is free.
      const rows = await until('there is room', () => rowsOf(source, 'SELECT 4').catch(() => undefined));
      assert.deepEqual(rows, [[4n]]);
      await source.ping(never());
    });
  });

  test('a new server that gave the same number to another session', async (t) => {
    const server = await startPrivate(t, kind);
    const network = await proxy(t, { port: server.port });
    const source = await openSource(t, network.through(server.dsn), 1);
    const result = await source.query(MANY, [], queryOptions([{ encoding: 'copy-text' }]));
    const [[id = ''] = []] = await execute(
      server.dsn,
      "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE '/* dungbeetle%'",
    );
    await server.restart();
    const innocent = await openSource(t, server.dsn, 64);
    const others = await Promise.all(
      Array.from({ length: 20 }, () => innocent.query(MANY, [], queryOptions([{ encoding: 'copy-text' }]))),
    );
    const ids = (await execute(server.dsn, 'SELECT ID FROM information_schema.PROCESSLIST')).flat();
    assert.ok(ids.includes(id), `${id} is not among ${ids}`);
    await result[Symbol.asyncDispose]();
    const after = (await execute(server.dsn, 'SELECT ID FROM information_schema.PROCESSLIST')).flat();
    assert.ok(after.includes(id));
    for (const other of others) await other[Symbol.asyncDispose]();
  });

  test('a limit on all results that the server has set cuts none', async (t) => {
    const server = await startPrivate(t, kind);
    await execute(server.dsn, 'SET GLOBAL sql_select_limit = 1');
    const source = await openSource(t, server.dsn, 1);
    // Twice: the session is reset in between.
    for (let time = 0; time < 2; time += 1) {
      assert.deepEqual(await rowsOf(source, 'SELECT 1 UNION ALL SELECT 2'), [[1n], [2n]]);
    }
  });

  test('what it has no room or no login for is told in words', async (t) => {
    const server = await startPrivate(t, kind);
    await execute(server.dsn, 'SET GLOBAL max_prepared_stmt_count = 0');
    const source = await openSource(t, server.dsn, 1);
    await assert.rejects(rowsOf(source, 'SELECT 1'), {
      code: 'unavailable',
      transient: true,
      message: /max_prepared_stmt_count statements .*\(error 1461\)$/,
    });
    await execute(server.dsn, 'SET GLOBAL max_prepared_stmt_count = 100');
    assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    await execute(server.dsn, 'SET GLOBAL max_allowed_packet = 1048576');
    const small = await openSource(t, server.dsn, 1);
    await assert.rejects(rowsOf(small, 'SELECT LENGTH(?) AS n', ['x'.repeat(3_000_000)]), {
      code: 'query_failed',
      transient: false,
      message: /^db "app": Got a packet bigger than 'max_allowed_packet' bytes \(error 1153\)$/,
    });
    if (kind !== 'mariadb') return; // the others do not come with that login
    await execute(server.dsn, "INSTALL SONAME 'auth_ed25519'");
    await execute(server.dsn, "CREATE USER modern IDENTIFIED VIA ed25519 USING PASSWORD('secret')");
    const url = new URL(server.dsn);
    url.username = 'modern';
    url.password = 'secret';
    const modern = await openSource(t, url.href, 1);
    await assert.rejects(modern.ping(never()), {
      code: 'unavailable',
      message:
        /^db "app": the account logs in by "client_ed25519", .* use an account with caching_sha2_password/,
    });
  });

  test('by a socket in the file system', async (t) => {
    const server = await startPrivate(t, kind);
    const [[path = ''] = []] = await execute(server.dsn, 'SELECT @@socket');
    const { username, password, pathname } = new URL(server.dsn);
    const source = await openSource(t, `${username}:${password}@unix(${path})${pathname}`, 1);
    const cancel = new AbortController();
    const sleeping = rowsOf(source, 'SELECT SLEEP(1000)', [], { signal: cancel.signal });
    await until('it runs', () => isRunning(server.dsn, '/* dungbeetle'));
    cancel.abort(new Error('enough'));
    await assert.rejects(sleeping, { message: 'enough' });
    assert.equal(await isRunning(server.dsn, '/* dungbeetle'), false);
    assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
  });

  test('TLS: whether a certificate is asked for, and whose', async (t) => {
    const server = await startPrivate(t, kind, { tls: true });
    const ca = join(tempFolder(t), 'ca.pem');
    writeFileSync(ca, server.ca);
    const elsewhere = await relay(t, '127.0.0.2', server.port);
    const cipher = async (parameters: string, address = `127.0.0.1:${server.port}`) => {
      const url = new URL(server.dsn);
      url.host = address;
      const source = await openMysqlSource({ ...POOL, dsn: `${url.href}?${parameters}` });
      try {
        const schema = kind === 'mysql' ? 'performance_schema' : 'information_schema';
        const sql = `SELECT VARIABLE_VALUE FROM ${schema}.session_status WHERE VARIABLE_NAME = 'Ssl_cipher'`;
        const [[value] = []] = await rowsOf(source, sql);
        return value;
      } finally {
        await source.close();
      }
    };
    const trusted = `ssl-ca=${encodeURIComponent(ca)}`;
    assert.equal(await cipher(''), '');
    assert.equal(await cipher('tls=false'), '');
    for (const parameters of [
      'tls=skip-verify',
      'tls=preferred',
      'ssl-mode=REQUIRED',
      trusted,
      `tls=true&${trusted}`,
      `ssl-mode=VERIFY_CA&${trusted}`,
    ]) {
      assert.match(String(await cipher(parameters)), /^TLS_|^ECDHE/, parameters);
      assert.match(String(await cipher(parameters, `localhost:${server.port}`)), /^TLS_|^ECDHE/, parameters);
    }
    // Nobody known has signed it; or it is not for that address.
    await assert.rejects(cipher('tls=true'), unavailable);
    await assert.rejects(cipher(`tls=true&${trusted}`, elsewhere), unavailable);
    await assert.rejects(cipher(`tls=true&${trusted}`, elsewhere.replace('127.0.0.2', '127.2')), unavailable);
    assert.match(String(await cipher(`ssl-mode=VERIFY_CA&${trusted}`, elsewhere)), /^TLS_|^ECDHE/);
    await assert.rejects(cipher(`tls=true&ssl-ca=${encodeURIComponent('/nowhere/ca.pem')}`), unavailable);
  });
};

for (const kind of privateNames('mysql')) {
  suite(`${kind} of its own`, { skip: noPrivate(kind) }, ofItsOwn(kind));
}

/** Another address of a server. */
async function relay(t: TestContext, host: string, port: number): Promise<string> {
  const listener = createServer((client) => {
    const target = createConnection({ host: '127.0.0.1', port });
    pipeline(client, target, client).catch(() => {}); // one side has gone, so does the other
  });
  listener.listen(0, host);
  await once(listener, 'listening');
  t.after(() => listener.close());
  const address = listener.address();
  if (address === null || typeof address === 'string') throw new Error('the relay has no port');
  return `${host}:${address.port}`;
}
