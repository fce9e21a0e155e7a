import assert from 'node:assert/strict';
import { createConnection as connectTcp } from 'node:net';
import { suite, test } from 'node:test';
import { createConnection as connectMysql } from 'mysql2/promise';
import pg from 'pg';
import { alive, children } from '../../scripts/services/processes.ts';
import { mounted } from './mount.ts';
import { execute, noPrivate, privateNames, SERVERS, setReadOnly, startPrivate } from './services.ts';
import { until } from './until.ts';

const POSTGRES = ['postgres-15', 'postgres-18'] as const;

const TABLE = ['CREATE TABLE kept (a INTEGER)', 'INSERT INTO kept VALUES (7)', 'SELECT a FROM kept'] as const;

const KEPT = {
  postgres: TABLE,
  mysql: TABLE,
  clickhouse: [
    'CREATE TABLE kept (a Int8) ENGINE = Log',
    'INSERT INTO kept VALUES (7)',
    'SELECT a FROM kept',
  ],
  redis: ['SET kept 7', 'SAVE', 'GET kept'],
} as const;

for (const { name, engine } of SERVERS) {
  suite(`a ${name} of one's own`, { skip: noPrivate(name) }, () => {
    const [create, insert, select] = KEPT[engine];

    test('comes back with what it had after a SIGKILL and after a restart, on the same port', async (t) => {
      const server = await startPrivate(t, name);
      const { dsn, pid } = server;
      await execute(dsn, create);
      await execute(dsn, insert);
      await server.kill();
      await assert.rejects(execute(dsn, select), { code: 'ECONNREFUSED' });
      await server.start();
      assert.notEqual(server.pid, pid);
      assert.deepEqual(await execute(dsn, select), [['7']]);
      await server.restart();
      assert.deepEqual(await execute(dsn, select), [['7']]);
      assert.equal(server.dsn, dsn);
    });

    test('paused it takes connections and says nothing; it goes on where it was', async (t) => {
      const server = await startPrivate(t, name);
      await server.pause();
      const socket = connectTcp(server.port, '127.0.0.1'); // by its kernel
      t.after(() => socket.destroy());
      let answered = false;
      const asked = execute(server.dsn, engine === 'redis' ? 'PING' : 'SELECT 1').then((rows) => {
        answered = true;
        return rows;
      });
      await until('it is connected', () => !socket.pending);
      assert.equal(answered, false);
      server.resume();
      assert.deepEqual(await asked, [[engine === 'redis' ? 'PONG' : '1']]);
    });
  });
}

for (const name of POSTGRES) {
  suite(`a ${name} of one's own, as Postgres`, { skip: noPrivate(name) }, () => {
    test('a SIGKILL takes its children with it, those that are busy, too', async (t) => {
      const server = await startPrivate(t, name);
      const asked = assert.rejects(execute(server.dsn, 'SELECT pg_sleep(1000) /* busy */'));
      await until('it is asked', async () => {
        const rows = await execute(server.dsn, "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%busy */'");
        return rows.length === 1;
      });
      const all = [server.pid, ...children(server.pid)];
      assert.ok(all.length > 4, `${all}`);
      await server.kill();
      assert.deepEqual(all.filter(alive), []);
      await asked;
    });

    test('read-only it refuses to write with 25006, to those who are connected already, too', async (t) => {
      const server = await startPrivate(t, name);
      const client = new pg.Client({ connectionString: server.dsn });
      await client.connect();
      t.after(() => client.end());
      await setReadOnly(server, true);
      await assert.rejects(execute(server.dsn, 'CREATE TABLE a (b INTEGER)'), { code: '25006' });
      await until('it has heard', async () => {
        const { rows } = await client.query('SHOW transaction_read_only');
        return rows[0]?.transaction_read_only === 'on';
      });
      await assert.rejects(client.query('CREATE TABLE a (b INTEGER)'), { code: '25006' });
      await setReadOnly(server, false);
      await execute(server.dsn, 'CREATE TABLE a (b INTEGER)');
    });

    test('TLS by its own authority', async (t) => {
      const server = await startPrivate(t, name, { tls: true });
      const client = new pg.Client({ connectionString: server.dsn, ssl: { ca: server.ca } });
      await client.connect();
      t.after(() => client.end());
      const { rows } = await client.query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()');
      assert.deepEqual(rows, [{ ssl: true }]);
      const stranger = new pg.Client({ connectionString: server.dsn, ssl: { rejectUnauthorized: true } });
      await assert.rejects(stranger.connect(), { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' });
    });

    // Unlogged: where the write-ahead log finds no room either, Postgres ends.
    test('data on a small disk, and settings of its own', async (t) => {
      const disk = mounted(t, 'size=90m');
      if (disk === null) return;
      const server = await startPrivate(t, name, { dataFolder: disk, settings: { max_connections: '17' } });
      assert.deepEqual(await execute(server.dsn, 'SHOW max_connections'), [['17']]);
      const fill = `CREATE UNLOGGED TABLE a AS SELECT repeat(md5(n::text), 30) FROM generate_series(1, 90000) AS n`;
      await assert.rejects(execute(server.dsn, fill), { code: '53100' });
      await execute(server.dsn, 'SELECT 1');
    });
  });
}

for (const name of privateNames('mysql')) {
  suite(`a ${name} of one's own, as MySQL`, { skip: noPrivate(name) }, () => {
    test('TLS by its own authority', async (t) => {
      const server = await startPrivate(t, name, { tls: true });
      const client = await connectMysql({ uri: server.dsn, ssl: { ca: server.ca } });
      t.after(() => client.end());
      const [rows] = await client.query("SHOW STATUS LIKE 'Ssl_version'");
      assert.match(JSON.stringify(rows), /TLSv1\.[23]/);
      await assert.rejects(connectMysql({ uri: server.dsn, ssl: {} }), { code: 'HANDSHAKE_SSL_ERROR' });
    });

    test('data on a small disk, and settings of its own', async (t) => {
      const disk = mounted(t, 'size=130m');
      if (disk === null) return;
      const server = await startPrivate(t, name, {
        dataFolder: disk,
        settings: { 'max-connections': '17' },
      });
      assert.deepEqual(await execute(server.dsn, 'SELECT @@max_connections'), [['17']]);
      const fill = `CREATE TABLE a AS WITH RECURSIVE seq (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM seq WHERE n < 300)
      SELECT repeat(sha2(a.n, 256), 15) FROM seq AS a, seq AS b`;
      await assert.rejects(execute(server.dsn, fill), { errno: 1114 }); // the table is full
      await execute(server.dsn, 'SELECT 1');
    });
  });
}

test('a server that cannot start says why, and leaves nothing', {
  skip: noPrivate('postgres-18'),
}, async (t) => {
  const started = startPrivate(t, 'postgres-18', { settings: { max_connections: 'many' } });
  await assert.rejects(
    started,
    /ended with code 1:[\s\S]*invalid value for parameter "max_connections": "many"/,
  );
});
