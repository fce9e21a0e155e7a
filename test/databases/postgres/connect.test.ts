/** Connections and pools against real servers. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import type pg from 'pg';
import { makeCertificates } from '../../../scripts/services/certificates.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { connect, MORTAL } from '../../../src/databases/postgres/connect.ts';
import { failureOf, isConnectionError } from '../../../src/databases/postgres/failure.ts';
import { Pool } from '../../../src/databases/postgres/pool.ts';
import { clientConfig } from '../../../src/util/postgres/dsn.ts';
import { tempFolder } from '../../support/folder.ts';
import { noPrivate, startPrivate } from '../../support/private-server.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { closing, never } from '../support.ts';

async function open(
  t: TestContext,
  dsn: string,
  settings?: Readonly<Record<string, string>>,
): Promise<pg.Client> {
  const client = await connect({
    config: clientConfig(dsn),
    connect_timeout_ms: 10_000,
    ...(settings === undefined ? {} : { settings }),
  });
  closing(t, () => client.end());
  return client;
}

async function shown(client: pg.Client, name: string): Promise<string> {
  const { rows } = await client.query<Record<string, string>>(`SHOW ${name}`);
  return Object.values(rows[0] ?? {})[0] ?? '';
}

function openPool(
  t: TestContext,
  dsn: string,
  max_active: number,
  max_idle: number,
  max_uses = Number.POSITIVE_INFINITY,
): Pool {
  const config = clientConfig(dsn);
  const pool = new Pool({ config, connect_timeout_ms: 5_000, max_active, max_idle, max_uses });
  closing(t, () => pool.close());
  return pool;
}

for (const server of servers('postgres')) {
  suite(`connections to ${server.name}`, { skip: server.skip }, () => {
    test('a session gives exact values, whatever the database has set', async (t) => {
      const dsn = await freshDatabase(t, server);
      const { pathname } = new URL(dsn);
      const name = pathname.slice(1);
      await execute(
        dsn,
        `ALTER DATABASE "${name}" SET DateStyle = 'SQL, DMY'; ALTER DATABASE "${name}" SET extra_float_digits = -5;
         ALTER DATABASE "${name}" SET IntervalStyle = 'iso_8601'; ALTER DATABASE "${name}" SET bytea_output = 'escape'`,
      );
      const client = await open(t, `${dsn}?search_path=pg_catalog, "Odd name"`, MORTAL);
      const { rows } = await client.query({
        text: "SELECT '01/02/2024'::date::text, 0.1::float8::text, interval '1 day'::text, '\\x00'::bytea::text",
        rowMode: 'array',
      });
      // 1 February: the order in which the server reads dates is its own.
      assert.deepEqual(rows, [['2024-02-01', '0.1', '1 day', '\\x00']]);
      assert.equal(await shown(client, 'search_path'), 'pg_catalog, "Odd name"');
      assert.equal(await shown(client, 'lock_timeout'), '5s');
      assert.equal(await shown(client, 'client_connection_check_interval'), '5s');
    });

    test('a connection that breaks while it is idle', async (t) => {
      const dsn = await freshDatabase(t, server);
      const pool = openPool(t, dsn, 2, 2);
      const client = await pool.acquire(never());
      pool.release(client);
      assert.deepEqual(pool.size, { active: 0, idle: 1, waiting: 0 });
      await execute(
        dsn,
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
      );
      await until('it is dropped', () => pool.size.idle === 0);
      const fresh = await pool.acquire(never());
      assert.notEqual(fresh, client);
      assert.equal(pool.wasIdle(fresh), false);
      pool.release(fresh);
    });

    test('a pool: first come, first served, no more than it may, none kept beyond what it should', async (t) => {
      const dsn = await freshDatabase(t, server);
      const pool = openPool(t, dsn, 2, 1);
      const one = await pool.acquire(never());
      const two = await pool.acquire(never());
      const order: string[] = [];
      const stop = new AbortController();
      const third = pool.acquire(never()).then((client) => {
        order.push('third');
        return client;
      });
      const impatient = assert.rejects(pool.acquire(stop.signal), /no longer/);
      const fourth = pool.acquire(never()).then((client) => {
        order.push('fourth');
        return client;
      });
      assert.deepEqual(pool.size, { active: 2, idle: 0, waiting: 3 });
      stop.abort(new Error('no longer'));
      await impatient;
      pool.release(one);
      assert.equal(await third, one);
      assert.equal(pool.wasIdle(one), true);
      pool.release(two, { destroy: true });
      assert.notEqual(await fourth, two);
      assert.deepEqual(order, ['third', 'fourth']);
      pool.release(one);
      pool.release(one);
      pool.release(await fourth);
      assert.deepEqual(pool.size, { active: 0, idle: 1, waiting: 0 });
      const waiting = await pool.acquire(never());
      const closed = pool.close();
      await closed;
      pool.release(waiting);
      const error = await pool.acquire(never()).catch((caught: unknown) => caught);
      assert.equal(failureOf(error, 'db "x"', 'query_failed').transient, true);
    });

    test('a pool renews what has been used often, while the old one serves', async (t) => {
      const pool = openPool(t, await freshDatabase(t, server), 3, 2, 10);
      const first = await pool.acquire(never());
      pool.release(first, { uses: 9 });
      assert.equal(await pool.acquire(never()), first);
      pool.release(first);
      // It is worn, and there is no other yet.
      assert.equal(await pool.acquire(never()), first);
      pool.release(first);
      await until('it is replaced', async () => {
        const client = await pool.acquire(never());
        pool.release(client, { uses: 0 });
        return client !== first;
      });
      assert.deepEqual(pool.size, { active: 0, idle: 1, waiting: 0 });
      await until('it is ended', () => first.connection.stream.destroyed);
      const second = await pool.acquire(never());
      const third = await pool.acquire(never());
      pool.release(third);
      pool.release(second, { uses: 10 });
      assert.deepEqual(pool.size, { active: 0, idle: 1, waiting: 0 });
      assert.equal(await pool.acquire(never()), third);
      pool.release(third, { uses: 10 });
      await pool.close();
      assert.deepEqual(pool.size, { active: 0, idle: 0, waiting: 0 });
    });

    test('what the server says, by kind, without values', async (t) => {
      const client = await open(t, await freshDatabase(t, server));
      const failing: readonly [string, string, boolean, RegExp][] = [
        [
          "SELECT 's3cret'::int",
          'query_failed',
          false,
          /: invalid input syntax for type integer at line 1 \(SQLSTATE 22P02\)$/,
        ],
        ["SELECT '99999999999'::int", 'query_failed', false, /value "…" is out of range/],
        [
          'SELEC 1',
          'invalid_statement',
          false,
          /syntax error at or near "SELEC" at line 1 \(SQLSTATE 42601\)/,
        ],
        ['SELECT\n\n nothing', 'invalid_statement', false, /column "nothing" does not exist at line 3/],
        ['SELECT 1/0', 'query_failed', false, /division by zero/],
        ['SET statement_timeout = 10; SELECT pg_sleep(5)', 'query_failed', true, /statement timeout/],
        [
          'SET TRANSACTION READ ONLY; CREATE TABLE x (y int)',
          'invalid_statement',
          false,
          /read-only transaction/,
        ],
      ];
      for (const [sql, code, transient, message] of failing) {
        const error = await client.query(sql).catch((caught: unknown) => caught);
        const failure = failureOf(error, 'db "x"', 'query_failed', { sql });
        assert.deepEqual([failure.code, failure.transient], [code, transient], failure.message);
        assert.match(failure.message, message);
        assert.match(failure.message, /^db "x": /);
        assert.doesNotMatch(failure.message, /s3cret|99999/);
      }
      const error = await client
        .query('SELECT pg_terminate_backend(pg_backend_pid())')
        .catch((caught: unknown) => caught);
      assert.equal(isConnectionError(error), true);
      const failure = failureOf(error, 'db "x"', 'query_failed');
      assert.deepEqual([failure.code, failure.transient], ['unavailable', true]);
    });
  });
}

test('a server that takes connections and says nothing', async (t) => {
  const silent = createServer(() => {}).listen(0, '127.0.0.1');
  t.after(() => silent.close());
  await until('it listens', () => silent.listening);
  const address = silent.address();
  assert.ok(address !== null && typeof address !== 'string');
  const config = clientConfig(`postgres://u:s3cret@127.0.0.1:${address.port}/d`);
  await assert.rejects(connect({ config, connect_timeout_ms: 100 }), /no connection within 0.1 s/);
  const stop = new AbortController();
  const aborted = connect({ config, connect_timeout_ms: 60_000, signal: stop.signal });
  stop.abort(new Error('enough'));
  await assert.rejects(aborted, /enough/);
});

for (const name of ['postgres-15', 'postgres-18'] as const) {
  test(`TLS as sslmode says, ${name}`, { skip: noPrivate(name) }, async (t) => {
    const server = await startPrivate(t, name, { tls: true });
    const ca = join(tempFolder(t), 'ca.pem');
    writeFileSync(ca, server.ca);
    const encrypted = async (parameters: string) => {
      const url = new URL(server.dsn);
      url.search = parameters;
      const client = await open(t, url.href);
      const { rows } = await client.query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()');
      return rows[0].ssl as boolean;
    };
    assert.equal(await encrypted('sslmode=disable'), false);
    assert.equal(await encrypted('sslmode=allow'), false);
    for (const mode of ['prefer', 'require']) assert.equal(await encrypted(`sslmode=${mode}`), true);
    assert.equal(await encrypted(`sslmode=verify-ca&sslrootcert=${ca}`), true);
    assert.equal(await encrypted(`sslmode=require&sslrootcert=${ca}`), true);
    assert.equal(await encrypted(`sslmode=verify-full&sslrootcert=${ca}`), true);
    // No authority that Node trusts has signed it.
    for (const mode of ['verify-ca', 'verify-full']) {
      const error = await encrypted(`sslmode=${mode}`).catch((caught: unknown) => caught);
      const failure = failureOf(error, 'db "x"', 'query_failed');
      assert.equal(failure.code, 'unavailable', failure.message);
    }
    await assert.rejects(encrypted(`sslmode=verify-ca&sslrootcert=${ca}.missing`), /missing is not there/);
    const words = async (parameters: string) => {
      const error = await encrypted(parameters).catch((caught: unknown) => caught);
      return failureOf(error, 'db "x"', 'query_failed').message;
    };
    assert.match(
      await words('sslmode=verify-full'),
      /TLS: .*not signed by an authority that is trusted here/,
    );
    const pem = (name: string, text: string) => {
      const path = join(tempFolder(t), name);
      writeFileSync(path, text);
      return path;
    };
    const prose = pem('prose.pem', 'not a certificate');
    assert.match(
      await words(`sslmode=verify-ca&sslrootcert=${prose}`),
      /prose\.pem has no certificate \(a line "-----BEGIN CERTIFICATE-----"/,
    );
    const [one, other] = await Promise.all(
      [tempFolder(t), tempFolder(t)].map((at) => makeCertificates(at, null)),
    );
    assert.ok(one !== undefined && other !== undefined);
    const own = (cert: string, key: string) => words(`sslmode=require&sslcert=${cert}&sslkey=${key}`);
    assert.match(
      await own(one.certificate, other.key),
      /the key in .* does not belong to the certificate in/,
    );
    assert.match(await own(one.certificate, prose), /prose\.pem has no private key that can be read/);
    assert.match(await own(prose, one.key), /prose\.pem has no certificate that can be read/);
    // It asks for none, so one that it does not know does no harm.
    assert.equal(await encrypted(`sslmode=require&sslcert=${one.certificate}&sslkey=${one.key}`), true);
    // A login tied to the TLS connection.
    assert.equal(await encrypted('sslmode=require&channel_binding=require'), true);
    assert.equal(await encrypted('sslmode=require&channel_binding=prefer'), true);
    // One that asks for the password itself gets none.
    writeFileSync(join(server.data, 'pg_hba.conf'), 'host all all 127.0.0.1/32 password\n');
    await execute(server.dsn, 'SELECT pg_reload_conf()');
    assert.equal(await encrypted('sslmode=require'), true);
    assert.match(
      await words('sslmode=require&channel_binding=require'),
      /the server does not offer SCRAM-SHA-256-PLUS/,
    );
  });
}

for (const server of servers('postgres')) {
  test(`several hosts: ${server.name}`, { skip: server.skip }, async (t) => {
    let asked = 0;
    const silent = createServer((socket) => {
      asked += 1;
      socket.on('error', () => {});
    }).listen(0, '127.0.0.1');
    t.after(() => silent.close());
    await until('it listens', () => silent.listening);
    const address = silent.address();
    assert.ok(address !== null && typeof address !== 'string');
    const refusing = createServer().listen(0, '127.0.0.1');
    await until('it listens', () => refusing.listening);
    const closed = refusing.address();
    assert.ok(closed !== null && typeof closed !== 'string');
    await new Promise((resolve) => refusing.close(resolve));

    const dsn = await freshDatabase(t, server);
    const { host, username, password, pathname } = new URL(dsn);
    const at = (hosts: readonly string[], parameters: string) =>
      clientConfig(`postgres://${username}:${password}@${hosts.join(',')}${pathname}?${parameters}`);
    const away = `127.0.0.1:${closed.port}`;
    const config = at([`127.0.0.1:${address.port}`, away, host], 'sslmode=disable');
    for (const _ of [1, 2]) {
      const client = await connect({ config, connect_timeout_ms: 1_000 });
      closing(t, () => client.end());
      assert.equal((await client.query('SELECT 1')).rowCount, 1);
    }
    assert.equal(asked, 1, 'what does not answer is tried last for a while');

    const refused = async (hosts: readonly string[], parameters: string) => {
      const error = await connect({ config: at(hosts, parameters), connect_timeout_ms: 5_000 }).catch(
        (caught: unknown) => caught,
      );
      const failure = failureOf(error, 'db "x"', 'query_failed');
      assert.deepEqual([failure.code, failure.transient], ['unavailable', true], failure.message);
      return failure.message;
    };
    assert.match(
      await refused([host], 'target_session_attrs=standby'),
      /it is not a standby, and target_session_attrs is "standby"/,
    );
    const several = await refused([away, host], 'target_session_attrs=read-only');
    assert.match(several, new RegExp(`${away}: connect ECONNREFUSED .*; ${host}: it takes writes`));
    const preferring = await connect({
      config: at([away, host], 'target_session_attrs=prefer-standby&load_balance_hosts=random'),
      connect_timeout_ms: 5_000,
    });
    await preferring.end();
    await execute(dsn, `ALTER DATABASE "${pathname.slice(1)}" SET default_transaction_read_only = on`);
    assert.match(await refused([host], 'target_session_attrs=read-write'), /it is read-only/);
    const url = new URL(server.dsn ?? '');
    const open_dsn = `postgres://${url.username}@${url.host}/postgres`;
    const without = await connect({ config: clientConfig(open_dsn), connect_timeout_ms: 5_000 }).catch(
      (caught: unknown) => failureOf(caught, 'db "x"', 'query_failed'),
    );
    assert.ok(without instanceof DatabaseError);
    assert.deepEqual(
      [without.message, without.refused],
      ['db "x": the server asks for a password, and the DSN has none', true],
    );
    // A refused login is not passed over, as it may tell of an attack.
    const [wrong] = [at([host, host], 'sslmode=disable')].map((one) => ({ ...one, password: () => 'x' }));
    assert.ok(wrong !== undefined);
    await assert.rejects(connect({ config: wrong, connect_timeout_ms: 5_000 }), { code: '28P01' });
  });

  test(`a server without TLS: ${server.name}`, { skip: server.skip }, async (t) => {
    const dsn = await freshDatabase(t, server);
    const client = await open(t, `${dsn}?sslmode=prefer`);
    assert.equal((await client.query('SELECT 1')).rowCount, 1);
    await assert.rejects(open(t, `${dsn}?sslmode=require`), /does not support SSL/);
  });
}
