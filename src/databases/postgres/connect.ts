/** Connections to Postgres whose values are exact, whose sessions are mortal and whose loss never goes unheard. */
import type { Socket } from 'node:net';
import pg from 'pg';
import type { PostgresConfig } from '../../util/postgres/dsn.ts';
import { checkTarget, clientOptions, login, reach, type Try } from '../../util/postgres/ways.ts';
import { sqlState } from './failure.ts';
import { quoteLiteral, quoteName } from './quote.ts';

export interface ConnectOptions {
  readonly config: PostgresConfig;
  /** The longest that one server may take to let us in, ms; a `connect_timeout` in the DSN goes before it. */
  readonly connect_timeout_ms: number;
  /** Shown in pg_stat_activity; the DSN's own goes before it. */
  readonly application_name?: string;
  /** Run-time parameters set on the session, beside those of `EXACT` and the DSN's. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/**
 * Values as they are, whatever the server, the database or the role have set: floats in their shortest exact form,
 * ISO dates (the order in which the server reads ambiguous ones stays), plain intervals, \x bytes.
 */
const EXACT: Readonly<Record<string, string>> = {
  client_encoding: 'UTF8',
  extra_float_digits: '3',
  DateStyle: 'ISO',
  IntervalStyle: 'postgres',
  bytea_output: 'hex',
};

/**
 * For sessions that write: none outlives its client for long. One that waits for a lock gives up, one whose
 * client is silent inside a transaction is ended, one whose client's machine is gone hears of it in half a minute.
 */
export const MORTAL: Readonly<Record<string, string>> = {
  lock_timeout: '5s',
  idle_in_transaction_session_timeout: '60s',
  tcp_keepalives_idle: '15',
  tcp_keepalives_interval: '5',
  tcp_keepalives_count: '3',
  tcp_user_timeout: '30s',
};

/** The server looks this often whether the client of a running statement is still there (from 14 on). */
const CLIENT_CHECK = '5s';
/** How long a silent connection is trusted before the kernel asks, ms. */
const KEEPALIVE_MS = 10_000;

/**
 * A connection that is ready for queries. The caller owns it: `client.end()`, or `destroy(client)`. Its 'error'
 * event has a listener, so a connection that breaks while nobody uses it does no more than emit 'end'.
 *
 * Rejects with the signal's reason, or with what the server, the network or TLS said: `failureOf` makes
 * a DatabaseError of it.
 */
export async function connect(options: ConnectOptions): Promise<pg.Client> {
  const { config, signal } = options;
  signal?.throwIfAborted();
  const connect_timeout_ms = config.connect_timeout_ms ?? options.connect_timeout_ms;
  const late = () => new ConnectTimeout(connect_timeout_ms);
  return reach(config, { connect_timeout_ms, late, signal }, (one) => open(options, one));
}

/** The server did not let us in in time. */
export class ConnectTimeout extends Error {
  readonly code = 'ETIMEDOUT';

  constructor(milliseconds: number) {
    super(`no connection within ${milliseconds / 1000} s`);
    this.name = 'ConnectTimeout';
  }
}

/** Ends a connection at once, whatever it is doing. The server rolls back. */
export function destroy(client: pg.Client): void {
  socketOf(client).destroy();
}

/** A session of the server, told apart from a later one that happens to get its process id. */
export interface SessionId {
  readonly pid: number;
  /** As the server writes it. */
  readonly started: string;
  /** The server's major version. */
  readonly version: number;
}

const sessions = new WeakMap<pg.Client, SessionId>();

/** Which session a connection has; asked of the server itself, as a pooler in between makes up its own. */
export function sessionOf(client: pg.Client): SessionId {
  const session = sessions.get(client);
  if (session === undefined) throw new Error('the client was not made by connect()');
  return session;
}

const WHO_AM_I =
  'SELECT pid, backend_start::text AS started FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()';

/** As who has logged in: a role that is set for queries may not see or end the sessions that run them. */
export function asOurselves(sql: string): string {
  return `BEGIN; SET LOCAL ROLE NONE; ${sql}; COMMIT`;
}

/** The socket, encrypted or not. It changes while a connection is made, not afterwards. */
export function socketOf(client: pg.Client): Socket {
  // pg says Duplex, for runtimes other than Node.
  return client.connection.stream as Socket;
}

async function open(options: ConnectOptions, one: Try): Promise<pg.Client> {
  const { config } = options;
  const { target, signal } = one;
  const application_name = config.application_name ?? options.application_name;
  const client = new pg.Client({
    ...clientOptions(config, one),
    ...(application_name === undefined ? {} : { application_name }),
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEPALIVE_MS,
  });
  client.on('error', () => {
    // Without a listener it would end the process. Whoever waits for an answer gets the error as its answer, and
    // 'end' follows for the others.
  });
  let version = 0;
  client.connection.on('parameterStatus', (status: { parameterName: string; parameterValue: string }) => {
    if (status.parameterName === 'server_version') version = Number.parseInt(status.parameterValue, 10);
  });
  const abort = () => destroy(client);
  signal.addEventListener('abort', abort);
  try {
    if (signal.aborted) throw signal.reason;
    await login(client, config);
    await checkTarget(client, target);
    await client.query(setting({ ...EXACT, ...options.settings, ...config.settings }));
    // pg gives the results of several statements as a list.
    const answers = [await client.query<{ pid: number; started: string }>(asOurselves(WHO_AM_I))].flat();
    const { pid = 0, started = '' } = answers.flatMap(({ rows }) => rows)[0] ?? {};
    sessions.set(client, { pid, started, version });
    if (options.settings !== undefined && version >= 14) await checkClient(client);
    if (signal.aborted) throw signal.reason;
    return client;
  } catch (error) {
    destroy(client);
    if (signal.aborted) throw signal.reason;
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

function setting(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `SET ${name.split('.').map(quoteName).join('.')} = ${settingValue(name, value)}`)
    .join('; ');
}

/** A list stays a list: SET search_path = 'a, b' would be one schema of that name. */
function settingValue(name: string, value: string): string {
  if (name.toLowerCase() !== 'search_path') return quoteLiteral(value);
  return value
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map((part) => (/^".*"$/.test(part) ? part : quoteLiteral(part)))
    .join(', ');
}

async function checkClient(client: pg.Client): Promise<void> {
  try {
    await client.query(`SET client_connection_check_interval = '${CLIENT_CHECK}'`);
  } catch (error) {
    // A server whose operating system cannot tell refuses the value.
    if (sqlState(error) !== '22023') throw error;
  }
}
