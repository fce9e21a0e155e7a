/** Connections to MySQL and MariaDB: made within a time that holds, and never lost without a word. */
import { connect as connectSocket, isIP, type Socket } from 'node:net';
import { type Connection, createConnection, type SslOptions } from 'mysql2';
import { withDeadline } from '../../util/abort.ts';
import { readCertificates } from '../../util/tls.ts';
import type { MysqlConfig, TlsOptions } from './dsn.ts';

export interface ConnectOptions {
  readonly config: MysqlConfig;
  /** The longest that making a connection may take in all, ms; a `timeout` in the DSN goes before it. */
  readonly connect_timeout_ms: number;
  /** Whether the server may ask for a local file (LOAD DATA LOCAL). Default: no. */
  readonly local_files?: boolean;
  readonly signal?: AbortSignal;
}

/** How long a silent connection is trusted before the kernel asks, ms. */
const KEEPALIVE_MS = 10_000;

/**
 * Capabilities that are not asked for: IGNORE_SPACE would make every function's name a reserved word, query
 * attributes change the form of commands.
 */
const WITHOUT = ['-IGNORE_SPACE', '-CLIENT_QUERY_ATTRIBUTES', '-MULTI_STATEMENTS'];

/**
 * A connection that is ready for queries, in UTF-8. No session variable is set. The caller owns it: `connection.end()`,
 * or `destroy(connection)`. Its 'error' event has a listener, so one that breaks while nobody uses it ends no process.
 *
 * Rejects with the signal's reason, or with what the server, the network or TLS said: `failureOf` makes a
 * DatabaseError of it.
 */
export async function connect(options: ConnectOptions): Promise<Connection> {
  const { config, signal } = options;
  signal?.throwIfAborted();
  const milliseconds = config.connect_timeout_ms ?? options.connect_timeout_ms;
  const late = () => new ConnectTimeout(milliseconds);
  return withDeadline(milliseconds, late, signal, async (either) => {
    const tls = await tlsOf(config.tls);
    try {
      return await open(options, tls, either);
    } catch (error) {
      if (config.tls.mode !== 'preferred' || !lacksTls(error)) throw error;
      return await open(options, null, either);
    }
  });
}

/** The server did not let us in in time. */
export class ConnectTimeout extends Error {
  readonly code = 'ETIMEDOUT';

  constructor(milliseconds: number) {
    super(`no connection within ${milliseconds / 1000} s`);
    this.name = 'ConnectTimeout';
  }
}

/** Ends a connection at once, whatever it is doing. The server rolls back as soon as it notices. */
export function destroy(connection: Connection): void {
  // Not Connection.destroy(), which waits for what is still to be sent and forgets who waits for an answer.
  socketOf(connection).destroy();
}

/** The socket, encrypted or not. It changes while a connection is made, not afterwards. */
export function socketOf(connection: Connection): Socket {
  // The driver's types keep quiet about it.
  return (connection as unknown as { readonly stream: Socket }).stream;
}

async function tlsOf({ mode, ca, cert, key }: TlsOptions): Promise<SslOptions | null> {
  if (mode === 'disabled') return null;
  const verified = mode === 'verify-ca' || mode === 'verify-identity';
  return {
    rejectUnauthorized: verified,
    verifyIdentity: mode === 'verify-identity',
    ...(await readCertificates({ ca: verified ? ca : null, cert, key })),
  };
}

function lacksTls(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'HANDSHAKE_NO_SSL_SUPPORT';
}

async function open(
  { config, local_files = false }: ConnectOptions,
  ssl: SslOptions | null,
  signal: AbortSignal,
): Promise<Connection> {
  const { tls: _, connect_timeout_ms: __, collation: ___, settings: ____, ...place } = config;
  signal.throwIfAborted();
  const socket = socketTo(config);
  const connection = createConnection({
    ...place,
    stream: socket,
    connectTimeout: 0, // ours takes in all of it
    // Known to every server; the collation of a session is set afterwards.
    charset: 'utf8mb4_general_ci',
    flags: local_files ? WITHOUT : [...WITHOUT, '-LOCAL_FILES'],
    connectAttributes: { program_name: 'dungbeetle' },
    ...(ssl === null ? {} : { ssl }),
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  // Stays for good: without a listener an error of a connection at rest would end the process. Whoever waits for
  // an answer gets it as its answer.
  connection.on('error', reject);
  connection.once('connect', () => resolve());
  const abort = () => {
    socket.destroy();
    reject(signal.reason);
  };
  signal.addEventListener('abort', abort, { once: true });
  try {
    await promise;
    return connection;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

function socketTo({ host = '127.0.0.1', port = 3306, socketPath }: MysqlConfig): Socket {
  if (socketPath !== undefined) return connectSocket(socketPath);
  const socket = connectSocket({
    host,
    port,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: KEEPALIVE_MS,
  });
  // Node compares a certificate with the name that a socket was connected to, but for an address it does not
  // keep that, and would compare with "localhost".
  return isIP(host) === 0 ? socket : Object.assign(socket, { _host: host });
}
