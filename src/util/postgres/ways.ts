/** The servers of a DSN, each with and without TLS: tried in turn, as libpq's hosts and sslmode want them. */

import type { EventEmitter } from 'node:events';
import type { ConnectionOptions } from 'node:tls';
import { withDeadline } from '../abort.ts';
import { connectionText, readCertificates } from '../tls.ts';
import {
  describeServer,
  type PostgresConfig,
  type PostgresServer,
  type Target,
  type TlsOptions,
} from './dsn.ts';

export type Way = false | ConnectionOptions;

/** What is used of pg's client. */
interface Client {
  connect(): Promise<unknown>;
  query<Row extends object>(sql: string): Promise<{ readonly rows: readonly Row[] }>;
  readonly connection: EventEmitter & { readonly stream: { destroy(): unknown } };
}

/** One try. Whoever opens it checks `target` (`checkTarget`) before anything else is done. */
export interface Try {
  readonly server: PostgresServer;
  readonly way: Way;
  readonly target: Target;
  readonly signal: AbortSignal;
}

export interface ReachOptions {
  /** The longest that one server may take, ms. */
  readonly connect_timeout_ms: number;
  /** What it failed with if it took longer. */
  late(): Error;
  readonly signal?: AbortSignal | undefined;
}

/** How long a server that did not answer in time is tried after the others, ms. */
const LAST_FOR_MS = 30_000;
/** Until when (ms of `performance.now()`) a server is tried last, because it keeps who tries it waiting. */
const slow = new WeakMap<PostgresServer, number>();

/**
 * What `open` makes of the first server and way that lead in. Rejects with the failure that says most, of several
 * servers with what each said, or with the signal's reason.
 */
export async function reach<T>(
  config: PostgresConfig,
  { connect_timeout_ms, late, signal }: ReachOptions,
  open: (one: Try) => Promise<T>,
): Promise<T> {
  const failures: (readonly [PostgresServer, unknown])[] = [];
  for (const [server, target] of triesOf(config)) {
    signal?.throwIfAborted();
    const deadline = performance.now() + connect_timeout_ms;
    try {
      return await withDeadline(connect_timeout_ms, late, signal, (either) =>
        tryWays(server.host, config.tls, either, (way) => open({ server, way, target, signal: either })),
      );
    } catch (error) {
      signal?.throwIfAborted();
      if (performance.now() >= deadline) slow.set(server, performance.now() + LAST_FOR_MS);
      failures.push([server, error]);
      if (!mayBeElsewhere(error)) break;
    }
  }
  throw failures.length === 1 ? failures[0]?.[1] : new NoServer(failures);
}

/** None of several servers could be had. */
class NoServer extends Error {
  /** As Node has it for a name of several addresses that all refuse. */
  readonly code = 'ECONNREFUSED';
  readonly syscall = 'connect';

  constructor(failures: readonly (readonly [PostgresServer, unknown])[]) {
    const said = failures.map(([server, error]) => {
      const text = error instanceof WrongServer ? error.why : connectionText(error);
      return `${describeServer(server)}: ${text}`;
    });
    super([...new Set(said)].join('; '));
    this.name = 'NoServer';
  }
}

/** In the order in which they are tried, with what each must be. */
function triesOf({ servers, target, random_order }: PostgresConfig): (readonly [PostgresServer, Target])[] {
  const now = performance.now();
  const isSlow = (server: PostgresServer) => Number((slow.get(server) ?? 0) > now);
  const ranks = new Map(servers.map((server) => [server, random_order ? Math.random() : 0]));
  const order = servers.toSorted(
    (one, other) => isSlow(one) - isSlow(other) || (ranks.get(one) ?? 0) - (ranks.get(other) ?? 0),
  );
  const targets: readonly Target[] = target === 'prefer-standby' ? ['standby', 'any'] : [target];
  return targets.flatMap((wanted) => order.map((server) => [server, wanted] as const));
}

/** Whether another server may do better: as libpq has it, one that refuses the login is not passed over. */
function mayBeElsewhere(error: unknown): boolean {
  if (error instanceof Error && 'severity' in error && 'code' in error) {
    return error.code === '57P03' || error.code === '53300'; // starting up or shutting down; full
  }
  return true;
}

/** It answers, but is not what `target_session_attrs` asks for. */
export class WrongServer extends Error {
  readonly code = 'ECONNREFUSED';
  readonly syscall = 'connect';
  /** What it is. */
  readonly why: string;

  constructor(why: string, target: Target) {
    super(`${why}, and target_session_attrs is "${target}"`);
    this.name = 'WrongServer';
    this.why = why;
  }
}

const WHAT_IT_IS = `SELECT pg_catalog.pg_is_in_recovery() AS standby,
  pg_catalog.current_setting('transaction_read_only') = 'on' AS read_only`;

/** Throws `WrongServer` if the server is not what is wanted. */
export async function checkTarget(client: Client, target: Target): Promise<void> {
  if (target === 'any') return;
  const { rows } = await client.query<{ standby: boolean; read_only: boolean }>(WHAT_IT_IS);
  const { standby = false, read_only = false } = rows[0] ?? {};
  if (target === 'read-write' && read_only)
    throw new WrongServer(standby ? 'it is a standby' : 'it is read-only', target);
  if (target === 'read-only' && !read_only) throw new WrongServer('it takes writes', target);
  if (target === 'primary' && standby) throw new WrongServer('it is a standby', target);
  if (target === 'standby' && !standby) throw new WrongServer('it is not a standby', target);
}

/** What pg's client is made with for one try. */
export function clientOptions(config: PostgresConfig, { server, way }: Pick<Try, 'server' | 'way'>) {
  const { user, database, password, application_name, options, channel_binding } = config;
  return {
    ...server,
    user,
    database,
    password,
    ...(application_name === undefined ? {} : { application_name }),
    ...(options === undefined ? {} : { options }),
    ssl: way,
    enableChannelBinding: channel_binding !== 'disable',
  };
}

/**
 * Logs in. Where the DSN wants the login tied to the TLS connection, a server that does not offer that, or asks for no
 * proof at all, is refused: it may be somebody in between.
 */
export async function login(client: Client, { channel_binding }: PostgresConfig): Promise<void> {
  if (channel_binding !== 'require') {
    await client.connect();
    return;
  }
  let isOffered = false;
  let isRefused = false;
  const refuse = () => {
    isRefused = true;
    client.connection.stream.destroy();
  };
  // Before pg's own listeners, which would send the password.
  client.connection.prependListener('authenticationCleartextPassword', refuse);
  client.connection.prependListener('authenticationMD5Password', refuse);
  client.connection.prependListener('authenticationSASL', ({ mechanisms }: { mechanisms: string[] }) => {
    isOffered = mechanisms.includes('SCRAM-SHA-256-PLUS');
    if (!isOffered) refuse();
  });
  try {
    await client.connect();
  } catch (error) {
    throw isRefused ? new NotBound() : error;
  }
  if (!isOffered) throw new NotBound();
}

class NotBound extends Error {
  readonly code = 'ERR_TLS_CHANNEL_BINDING';

  constructor() {
    super('the server does not offer SCRAM-SHA-256-PLUS, and channel_binding is "require"');
    this.name = 'NotBound';
  }
}

/** What `open` makes of the first way that leads in. Rejects with the failure that says most, or the signal's reason. */
async function tryWays<T>(
  host: string,
  tls: TlsOptions,
  signal: AbortSignal,
  open: (way: Way) => Promise<T>,
): Promise<T> {
  let failure: unknown;
  for (const way of await waysOf(host, tls)) {
    try {
      return await open(way);
    } catch (error) {
      signal.throwIfAborted();
      // That a server has no TLS tells nothing about why it refused a plain connection.
      if (failure === undefined || !lacksTls(error)) failure = error;
      // One that is not there, or says no for another reason than encryption, says it once.
      if (!dependsOnTls(error)) break;
    }
  }
  throw failure;
}

/** In the order in which sslmode wants them tried. */
async function waysOf(host: string, tls: TlsOptions): Promise<readonly Way[]> {
  // As libpq: a socket in the file system is never encrypted.
  if (tls.mode === 'disable' || host.startsWith('/')) return [false];
  const encrypted = await tlsOf(tls);
  if (tls.mode === 'allow') return [false, encrypted];
  if (tls.mode === 'prefer') return [encrypted, false];
  return [encrypted];
}

async function tlsOf({ mode, rootcert, cert, key }: TlsOptions): Promise<ConnectionOptions> {
  const own = rootcert !== null && rootcert !== 'system';
  const verified =
    mode === 'verify-ca' || mode === 'verify-full' || (mode === 'require' && rootcert !== null);
  return {
    rejectUnauthorized: verified,
    ...(await readCertificates({ ca: own && verified ? rootcert : null, cert, key })),
    // Certificates of a public authority prove nothing without the name: libpq has the same rule.
    ...(verified && mode !== 'verify-full' && own ? { checkServerIdentity: () => undefined } : {}),
  };
}

function lacksTls(error: unknown): boolean {
  return error instanceof Error && error.message === 'The server does not support SSL connections';
}

/** Whether a refusal may be about TLS: none there, a handshake that failed, a pg_hba line that is for the other kind. */
function dependsOnTls(error: unknown): boolean {
  if (!(error instanceof Error)) return true;
  if (error instanceof WrongServer || error instanceof NotBound) return false;
  if ('severity' in error && 'code' in error) return error.code === '28000';
  return !('syscall' in error && error.syscall !== 'read');
}
