/**
 * `npm run go-client -- --checkout FOLDER`: runs the Go server's own client suite (`client/client_test.go`), unmodified,
 * against this server, on the Go server's own `config.test_pg.toml` and `config.test_mysql.toml` with their tasks. FOLDER
 * is a checkout of zerodha/dungbeetle; Go is needed to build the suite.
 *
 * Those files name a Postgres on 5432, a MySQL on 3306 and a Redis on 6379: each is one of ours on a free port, and what
 * connects to the port that is named is passed on to it. The ports must be free, 6060 too.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Server as Listener } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createConnection as connectMysql } from 'mysql2/promise';
import pg from 'pg';
import { flagsOf } from './arguments.ts';
import type { ServerName } from './services/engine.ts';
import { ENGINES } from './services/engines.ts';
import { createHome, removeHome } from './services/home.ts';
import { install } from './services/install.ts';
import { redis } from './services/redis-client.ts';
import { createServer as layOut, type Server } from './services/server.ts';
import { whenEnded } from './services/signals.ts';

const BIN = fileURLToPath(new URL('../bin/dungbeetle.js', import.meta.url));

/** The suite's own continuous integration makes these. */
const POSTGRES = [
  'CREATE ROLE "testUser" SUPERUSER LOGIN PASSWORD \'testPass\'',
  'CREATE DATABASE "testDB" OWNER "testUser"',
];
const ENTRIES_POSTGRES =
  'CREATE TABLE entries (id BIGSERIAL PRIMARY KEY, amount REAL, user_id VARCHAR(6), entry_date DATE, timestamp TIMESTAMP)';
const MYSQL = [
  'CREATE DATABASE mydb',
  "CREATE USER root@'%' IDENTIFIED BY 'rootpassword'",
  "GRANT ALL PRIVILEGES ON *.* TO root@'%' WITH GRANT OPTION",
  'CREATE TABLE mydb.entries (id BIGINT PRIMARY KEY, amount REAL, user_id VARCHAR(6), entry_date DATE, timestamp TIMESTAMP)',
];

async function preparePostgres({ dsn }: Server): Promise<void> {
  const client = new pg.Client({ connectionString: dsn });
  await client.connect();
  for (const sql of POSTGRES) await client.query(sql);
  await client.end();
  const url = new URL(dsn);
  url.pathname = '/testDB';
  const own = new pg.Client({ connectionString: url.href });
  await own.connect();
  await own.query('SET ROLE "testUser"');
  await own.query(ENTRIES_POSTGRES);
  await own.end();
}

async function prepareMysql({ dsn }: Server): Promise<void> {
  const connection = await connectMysql(dsn);
  for (const sql of MYSQL) await connection.query(sql);
  await connection.end();
}

/** Passes on what connects to a port. */
async function forward(port: number, to: number): Promise<Listener> {
  const listener = createServer((socket) => {
    const onward = createConnection(to, '127.0.0.1');
    socket.pipe(onward).pipe(socket);
    // One that breaks breaks the other.
    socket.on('error', () => onward.destroy());
    onward.on('error', () => socket.destroy());
  });
  listener.listen(port, '127.0.0.1');
  await once(listener, 'listening');
  return listener;
}

/** The suite's exit code. */
async function runSuite(checkout: string, suite: string, config: string, sql: string): Promise<number> {
  console.log(`\n=== ${config}`);
  const server = spawn(process.execPath, [BIN, '--config', config, '--sql-directory', sql], {
    cwd: checkout,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(server, 'close');
  let log = '';
  const started = new Promise<boolean>((done) => {
    server.stdout.setEncoding('utf8').on('data', (text: string) => {
      log += text;
      if (log.includes('"msg":"started"')) done(true);
    });
    void ended.then(() => done(false));
  });
  try {
    if (!(await started)) return 1;
    const tests = spawn(suite, ['-test.v', '-test.count=1'], { stdio: 'inherit' });
    const [code] = await once(tests, 'close');
    if (code !== 0) console.error(log);
    return typeof code === 'number' ? code : 1;
  } finally {
    server.kill('SIGTERM');
    await ended;
  }
}

async function main(checkout: string, mysql: ServerName, signal: AbortSignal): Promise<number> {
  const home = createHome();
  const folder = mkdtempSync(join(tmpdir(), 'dungbeetle-go-client-'));
  const servers: Server[] = [];
  const listeners: Listener[] = [];
  const start = async (name: ServerName, port: number) => {
    const engine = ENGINES.find((candidate) => candidate.name === name);
    if (engine === undefined) throw new Error(`there is no server ${name}`);
    const [missing] = (await install([engine], (line) => console.log(line), signal)).values();
    if (missing !== undefined) throw new Error(`${name} is missing: ${missing}`);
    const server = await layOut(home, engine, { folder: join(home.folder, name) });
    servers.push(server);
    await server.start();
    console.log(`${name} ${server.version} stands on port ${port}`);
    listeners.push(await forward(port, server.port));
    return server;
  };
  try {
    const suite = join(folder, 'client.test');
    execFileSync('go', ['test', '-c', '-o', suite, './client'], { cwd: checkout, stdio: 'inherit' });
    const queue = await start('redis', 6379);
    await redis(queue.dsn, ['CONFIG', 'SET', 'requirepass', '']);
    await preparePostgres(await start('postgres-18', 5432));
    await prepareMysql(await start(mysql, 3306));
    const postgresCode = await runSuite(checkout, suite, 'config.test_pg.toml', 'sql/pg');
    const mysqlCode = await runSuite(checkout, suite, 'config.test_mysql.toml', 'sql/mysql');
    return postgresCode || mysqlCode;
  } finally {
    for (const listener of listeners) listener.close();
    await Promise.all(servers.map((server) => server.abandon()));
    removeHome(home);
    rmSync(folder, { recursive: true });
  }
}

const { checkout, mysql } = flagsOf('go-client', { checkout: '', mysql: 'mysql' });
const ended = whenEnded();
try {
  if (checkout === '') throw new Error('--checkout names a checkout of the Go server');
  process.exitCode = (await main(resolve(checkout), mysql as ServerName, ended.signal)) || ended.code();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = ended.code() || 1;
}
