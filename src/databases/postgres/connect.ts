/** Connections to Postgres whose values are exact, whose sessions are mortal and whose loss never goes unheard. */
import type { Socket } from 'node:net';
import pg from 'pg';
import type { PostgresConfig } from '../../util/postgres/dsn.ts';
import { checkTarget, clientOptions, login, reach, type Try } from '../../util/postgres/ways.ts';
import { sqlState } from './failure.ts';
import { sharesSessions } from './pooler.ts';
import { type Settings, settingSession } from './settings.ts';

export interface ConnectOptions {
  readonly config: PostgresConfig;
  /** The longest that one server may take to let us in, ms; a `connect_timeout` in the DSN goes before it. */
  readonly connect_timeout_ms: number;
  /** Shown in pg_stat_activity; the DSN's own goes before it. */
  readonly application_name?: string;
  /**
   * Set on the session, beside what makes values exact and what the DSN asks for: for who relies on the session, which
   * no pooler may share. Absent: nothing is relied upon but what a transaction sets for itself.
   */
  readonly settings?: Settings;
  readonly signal?: AbortSignal;
}

/**
 * For sessions that write: none outlives its client for long. One that waits for a lock gives up, one whose
 * client is silent inside a transaction is ended, one whose client's machine is gone hears of it in half a minute.
 */
export const MORTAL: Settings = {
  lock_timeout: '5s',
  idle_in_transaction_session_timeout: '60s',
  tcp_user_timeout: '30s',
};

/** A connection whose other end is gone, machine and all, is noticed in half a minute. */
const WATCHED: Settings = {
  tcp_keepalives_idle: '15',
  tcp_keepalives_interval: '5',
  tcp_keepalives_count: '3',
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
  /** A pooler is in between: it may lend the session to others, too. */
  readonly isPooled: boolean;
  /** The `statement_timeout` that it began with, ms; 0: none. */
  readonly timeout_ms: number;
}

const sessions = new WeakMap<pg.Client, SessionId>();

/** Which session a connection has; asked of the server itself, as a pooler in between makes up its own. */
export function sessionOf(client: pg.Client): SessionId {
  const session = sessions.get(client);
  if (session === undefined) throw new Error('the client was not made by connect()');
  return session;
}

const WHO_AM_I = `SELECT pid, backend_start::text AS started,
    extract(epoch FROM pg_catalog.current_setting('statement_timeout')::pg_catalog.interval)::float8 * 1000 AS timeout_ms
  FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()`;

type WhoIAm = Pick<SessionId, 'pid' | 'started' | 'timeout_ms'>;

/** As who has logged in: a role that is set for queries may not see or end the sessions that run them. */
export function asOurselves(sql: string): string {
  return `BEGIN; SET LOCAL ROLE NONE; ${sql}; COMMIT`;
}

/** The socket, encrypted or not. It changes while a connection is made, not afterwards. */
export function socketOf(client: pg.Client): Socket {
  // pg says Duplex, for runtimes other than Node.
  return client.connection.stream as Socket;
}

/** The process of the server and its secret, for a CancelRequest; a pooler makes up its own. */
export function backendKey(client: pg.Client): { readonly pid: number; readonly secret: number } {
  // pg keeps both on the client, undeclared.
  const { processID, secretKey } = client as pg.Client & { processID: number; secretKey: number };
  return { pid: processID, secret: secretKey };
}

/** Poolers that were found to give each of their clients a session of its own. */
const trusted = new WeakSet<PostgresConfig>();

async function open(options: ConnectOptions, one: Try): Promise<pg.Client> {
  const { config, settings } = options;
  const { signal } = one;
  const client = await enter(options, one);
  const abort = () => destroy(client);
  signal.addEventListener('abort', abort);
  try {
    if (signal.aborted) throw signal.reason;
    // pg gives the results of several statements as a list.
    const answers = [await client.query<WhoIAm>(asOurselves(WHO_AM_I))].flat();
    const { pid = 0, started = '', timeout_ms = 0 } = answers.flatMap(({ rows }) => rows)[0] ?? {};
    const isPooled = pid !== backendKey(client).pid;
    const version = versions.get(client) ?? 0;
    sessions.set(client, { pid, started, version, isPooled, timeout_ms });
    if (isPooled) await checkTransactions(client);
    if (isPooled && settings !== undefined && !trusted.has(config)) {
      const second = await enter(options, one);
      try {
        if (await sharesSessions(client, second)) throw new Error(SHARED);
      } finally {
        destroy(second);
      }
      trusted.add(config);
    }
    if (settings !== undefined) await client.query(settingSession(config.settings, settings));
    if (!isPooled) await watch(client, version);
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

const SHARED =
  'it is behind a connection pooler that gives each transaction another session, and tables are written over sessions of their own: let the DSN name the server itself, or a pool in session mode';

/** A pooler in statement mode has no transactions. */
async function checkTransactions(client: pg.Client): Promise<void> {
  try {
    await client.query('BEGIN');
    await client.query('ROLLBACK');
  } catch (error) {
    if (!(error instanceof Error) || !/statement pooling/.test(error.message)) throw error;
    throw new Error(`${error.message}: set the pooler's pool_mode to "transaction" or "session"`);
  }
}

const versions = new WeakMap<pg.Client, number>();

async function enter(options: ConnectOptions, one: Try): Promise<pg.Client> {
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
  client.connection.on('parameterStatus', (status: { parameterName: string; parameterValue: string }) => {
    if (status.parameterName === 'server_version') {
      versions.set(client, Number.parseInt(status.parameterValue, 10));
    }
  });
  const abort = () => destroy(client);
  signal.addEventListener('abort', abort);
  try {
    if (signal.aborted) throw signal.reason;
    await login(client, config);
    await checkTarget(client, target);
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

/** Has the server notice when we are gone. Of a pooler it would be the pooler that it watches, and for others too. */
async function watch(client: pg.Client, version: number): Promise<void> {
  const watched = Object.entries(WATCHED).map(([name, value]) => `SET ${name} = ${value}`);
  await client.query(watched.join('; '));
  if (version < 14) return;
  try {
    await client.query(`SET client_connection_check_interval = '${CLIENT_CHECK}'`);
  } catch (error) {
    // A server whose operating system cannot tell refuses the value.
    if (sqlState(error) !== '22023') throw error;
  }
}
