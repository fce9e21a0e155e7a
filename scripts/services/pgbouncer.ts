/** PgBouncer, a connection pooler that stands before a Postgres: a program that tests start by themselves. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { account, writeFor } from './accounts.ts';
import type { Program } from './engine.ts';
import { freePort } from './ports.ts';
import { abandon, type Launched, launch } from './processes.ts';

export const PGBOUNCER: Program = {
  name: 'pgbouncer',
  variable: 'TEST_PGBOUNCER_SKIP',
  package: 'pgbouncer',
  find: () => (existsSync('/usr/sbin/pgbouncer') ? '/usr/sbin' : null),
};

export interface Pooler {
  /** The server's DSN by way of the pooler. */
  readonly dsn: string;
  readonly log: string;
  stop(): Promise<void>;
}

/**
 * Starts one, by default in transaction mode: a session of the server is handed to each transaction, `sessions` of them
 * in all. `folder` is an empty one of its own. It takes a moment to listen.
 */
export async function startPgbouncer(
  folder: string,
  server: string,
  sessions: number,
  mode: 'transaction' | 'session' | 'statement' = 'transaction',
): Promise<Pooler> {
  // It refuses to be root.
  const as = account(['postgres']);
  const url = new URL(server);
  const port = await freePort();
  mkdirSync(folder, { recursive: true });
  const users = join(folder, 'users');
  const config = join(folder, 'pgbouncer.ini');
  const log = join(folder, 'log');
  writeFor(as, users, `"${url.username}" "${url.password}"\n`);
  writeFor(
    as,
    config,
    `[databases]
* = host=${url.hostname} port=${url.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = ${users}
pool_mode = ${mode}
default_pool_size = ${sessions}
max_client_conn = 200
`,
  );
  const process: Launched = await launch(join(PGBOUNCER.find() ?? '', 'pgbouncer'), [config], {
    as,
    folder,
    log,
    abandon: 'SIGKILL',
  });
  url.port = String(port);
  return {
    dsn: url.href,
    log,
    async stop() {
      if (!process.running()) return;
      await abandon(process.pid, 'SIGKILL');
      await process.exited;
    },
  };
}
