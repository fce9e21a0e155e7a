/** Ends what a session of the server does, from outside of it. */
import { createConnection } from 'node:net';
import { serialize } from 'pg-protocol';
import { asOurselves, type ConnectOptions, connect, destroy } from './connect.ts';
import { quoteLiteral } from './quote.ts';

export interface Backend {
  readonly pid: number;
  readonly secret: number;
  readonly host: string;
  readonly port: number;
}

/**
 * Asks the server to cancel what a backend is doing now: a connection of its own, without a login, and so without
 * regard to how many the server or the pool still allow. Resolves when the server has taken the request, or did
 * not within the time given: there is no answer to it.
 */
export async function requestCancel(backend: Backend, deadline_ms: number): Promise<void> {
  const { pid, secret, host, port } = backend;
  const { promise, resolve } = Promise.withResolvers<void>();
  const socket = host.startsWith('/')
    ? createConnection(`${host}/.s.PGSQL.${port}`)
    : createConnection({ host, port });
  const timer = setTimeout(resolve, deadline_ms);
  // A server that cannot be reached cannot be asked; whether it cancelled is seen by the query's end alone.
  socket.on('error', () => resolve());
  socket.on('close', () => resolve());
  socket.on('connect', () => socket.write(serialize.cancel(pid, secret)));
  socket.resume();
  await promise;
  clearTimeout(timer);
  socket.destroy();
}

/**
 * Terminates a backend if it is still the one with this application_name, on the one server that has it. `pid` null:
 * whichever has that name, where a pooler hides which one it is. Throws what `connect` throws.
 */
export async function terminate(
  options: ConnectOptions,
  { pid, host, port }: Pick<Backend, 'host' | 'port'> & { readonly pid: number | null },
  application_name: string,
): Promise<void> {
  const config = { ...options.config, servers: [{ host, port }], target: 'any' as const };
  const client = await connect({ ...options, config });
  try {
    await client.query(asOurselves(terminating(pid, application_name)));
  } finally {
    destroy(client);
  }
}

/** Terminates a backend if it is still the one with this application_name. */
export function terminating(pid: number | null, application_name: string): string {
  return `SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
    WHERE ${pid === null ? 'usename = session_user' : `pid = ${pid}`} AND application_name = ${quoteLiteral(application_name)}`;
}
