/** A server of one test's own, to be killed, stopped, filled: what the servers that tests share must not be. */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ServerName, skipVariable } from '../../scripts/services/engine.ts';
import { ENGINES } from '../../scripts/services/engines.ts';
import { createHome, type Home, openHome } from '../../scripts/services/home.ts';
import { removeAtEnd } from '../../scripts/services/processes.ts';
import { createServer, type Server, type ServerOptions } from '../../scripts/services/server.ts';
import { withoutServer } from '../../scripts/services/skipped.ts';
import { afterOthers, type Scope } from './scope.ts';
import { execute } from './sql.ts';
import { until } from './until.ts';

export type { Server as PrivateServer };

let home: Home | undefined;

/** The run's, with its templates of data folders; one of this process's own where nobody has started a run. */
function homeOfRun(): Home {
  const folder = process.env['TEST_SERVERS_FOLDER'];
  home ??= folder === undefined ? createHome() : openHome(folder);
  return home;
}

function engineOf(name: ServerName) {
  const engine = ENGINES.find((engine) => engine.name === name);
  if (engine === undefined) throw new Error(`no engine is called ${name}`);
  return engine;
}

/** For node:test's `skip`: why `startPrivate` cannot start such a server here, or false. */
export function noPrivate(name: ServerName): string | false {
  const engine = engineOf(name);
  if (engine.find() !== null) return false;
  const reason = process.env[skipVariable(engine.variable)] ?? 'its programs are not on this machine';
  return withoutServer(name, reason);
}

export type PrivateOptions = Pick<ServerOptions, 'dataFolder' | 'settings' | 'tls'>;

/**
 * Resolves when it answers: on a free port, which it keeps when it restarts, with the user and the empty database
 * of every test server. After the test it is killed and removed. `dataFolder` is an empty folder for its data, such
 * as a small disk (`mounted`): a fresh Postgres takes 40 MB, a MariaDB 60 MB. A Postgres whose write-ahead log finds
 * no room ends; to have a full disk refuse a table alone (53100), make it unlogged.
 */
export async function startPrivate(
  t: Scope,
  name: ServerName,
  options: PrivateOptions = {},
): Promise<Server> {
  const folder = mkdtempSync(join(tmpdir(), 'dungbeetle-private-'));
  removeAtEnd(folder);
  chmodSync(folder, 0o711);
  let server: Server | undefined;
  afterOthers(t, async () => {
    await server?.abandon();
    rmSync(folder, { recursive: true, force: true, maxRetries: 20 });
  });
  server = await createServer(homeOfRun(), engineOf(name), { ...options, folder: join(folder, 'server') });
  await server.start();
  return server;
}

/**
 * Has a Postgres server refuse what writes (SQLSTATE 25006), as a standby does, or take it again; sessions that
 * are connected already, too. Resolves when it is in force.
 */
export async function setReadOnly(server: Server, on: boolean): Promise<void> {
  const value = on ? 'on' : 'off';
  await execute(server.dsn, `ALTER SYSTEM SET default_transaction_read_only = ${value}`);
  await execute(server.dsn, 'SELECT pg_reload_conf()');
  await until(`default_transaction_read_only is ${value}`, async () => {
    const [[now] = []] = await execute(server.dsn, 'SHOW default_transaction_read_only');
    return now === value;
  });
}
