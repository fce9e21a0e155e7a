/**
 * Keeps web pages of other sites away. A browser sends a page's requests to 127.0.0.1 as well as anywhere, and
 * this server, like the original, reads a body of any content type, so that no preflight stands in between.
 * Programs are not concerned: they send none of the headers that are looked at here.
 */
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import type { FastifyRequest } from 'fastify';
import { ApiError } from './errors.ts';

export interface OriginRules {
  /** Host names, without port, that browsers may use for this server besides those of this machine. */
  readonly allowed_hosts: readonly string[];
}

/** Throws `ApiError` forbidden. */
export function checkOrigin(request: FastifyRequest, rules: OriginRules): void {
  const { headers } = request;
  const { origin } = headers;
  const isAllowed = (name: string) => rules.allowed_hosts.some((allowed) => allowed.toLowerCase() === name);
  const site = headers['sec-fetch-site'];
  if (site !== undefined) {
    // A link or the address bar may lead here: it only reads, and no page of another site sees the answer.
    const navigation = headers['sec-fetch-mode'] === 'navigate' && request.method === 'GET';
    if (site !== 'same-origin' && site !== 'none' && !navigation) throw new ApiError('forbidden');
  } else if (origin !== undefined) {
    // Where there is no TLS, browsers leave the other header out. A proxy may have set a Host of its own.
    const host = hostOf(origin);
    if (host === null || (host !== headers.host?.toLowerCase() && !isAllowed(nameOf(host)))) {
      throw new ApiError('forbidden');
    }
  }
  if (!fromBrowser(request) || !isLoopback(request.socket.localAddress ?? '')) return;
  // DNS rebinding: a page's own public name, made to point at 127.0.0.1, makes this server its own site.
  const name = nameOf(headers.host ?? '');
  if (isLocalName(name) || isAllowed(name)) return;
  throw new ApiError(
    'forbidden',
    `browsers may not use this server as "${name}": that is neither an address nor a name of this machine, nor one of its allowed hosts`,
  );
}

/** Whether the request has headers that every browser sends and hardly any program. */
function fromBrowser({ headers }: FastifyRequest): boolean {
  return (
    headers.origin !== undefined ||
    headers['sec-fetch-site'] !== undefined ||
    headers['accept-language'] !== undefined
  );
}

/** `host:port` as in a Host header, without the scheme's own port; null for `null` and what is no origin. */
function hostOf(origin: string): string | null {
  return URL.canParse(origin) ? new URL(origin).host : null;
}

/** The name or address in a Host header. */
function nameOf(host: string): string {
  return host
    .toLowerCase()
    .replace(/:\d*$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '');
}

function isLocalName(name: string): boolean {
  // A name without a dot is no public name; the three domains are set aside for local use (RFC 6761, RFC 6762).
  return (
    isIP(name) !== 0 ||
    !name.includes('.') ||
    name === hostname().toLowerCase() ||
    ['.localhost', '.local', '.internal'].some((domain) => name.endsWith(domain))
  );
}

function isLoopback(address: string): boolean {
  return address === '::1' || /^(::ffff:)?127\./.test(address);
}
