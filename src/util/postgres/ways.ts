/** With and without TLS: the ways in which a server is tried, as libpq's sslmode wants them. */
import { readFile } from 'node:fs/promises';
import type { ConnectionOptions } from 'node:tls';
import type { PostgresConfig, TlsOptions } from './dsn.ts';

export type Way = false | ConnectionOptions;

/** What `open` makes of the first way that leads in. Rejects with the failure that says most, or the signal's reason. */
export async function tryWays<T>(
  config: PostgresConfig,
  signal: AbortSignal,
  open: (way: Way) => Promise<T>,
): Promise<T> {
  let failure: unknown;
  for (const way of await waysOf(config)) {
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
async function waysOf({ host, tls }: PostgresConfig): Promise<readonly Way[]> {
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
    ...(own && verified ? { ca: await readFile(rootcert) } : {}),
    ...(cert === null || key === null ? {} : { cert: await readFile(cert), key: await readFile(key) }),
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
  if ('severity' in error && 'code' in error) return error.code === '28000';
  return !('syscall' in error && error.syscall !== 'read');
}
