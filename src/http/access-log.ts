/** One log line a request: never a body, an argument or a query string. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ApiError } from './errors.ts';

/** What a request is about, for its log line. */
export interface Subject {
  readonly job_id?: string;
  readonly group_id?: string;
  readonly task?: string;
}

declare module 'fastify' {
  interface FastifyRequest {
    subject: Subject | null;
    failure: ApiError | null;
  }
}

/** The caller's X-Request-Id if it is one that can be printed and looked for, else a new one. */
export function requestId(request: IncomingMessage): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && /^[A-Za-z0-9._:/+=-]{1,128}$/.test(given) ? given : randomUUID();
}

export function attachAccessLog(app: FastifyInstance): void {
  app.decorateRequest('subject', null);
  app.decorateRequest('failure', null);
  app.addHook('onResponse', async (request, reply) => logRequest(request, reply));
  app.addHook('onRequestAbort', async (request) => {
    request.log.debug({ ...lineOf(request) }, 'the client went away');
  });
}

/** Ends a request whose client has gone away: there is nobody to send an answer to, but what it did is told. */
export function endUnread(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  logRequest(request, reply);
  return reply.hijack();
}

/** What changes something is told at info; polls, which come by the thousand, at debug. */
export function logRequest(request: FastifyRequest, reply: FastifyReply): void {
  const line = {
    ...lineOf(request),
    http_status: reply.statusCode,
    ms: Math.round(reply.elapsedTime * 10) / 10,
    ...(request.failure === null ? {} : { code: request.failure.code }),
  };
  if (reply.statusCode >= 500) {
    const err = request.failure?.cause ?? request.failure;
    if (request.failure?.code === 'unavailable') request.log.warn({ ...line, err }, 'request');
    else request.log.error({ ...line, err }, 'request');
  } else if (request.method === 'GET' || request.method === 'HEAD') request.log.debug(line, 'request');
  else request.log.info(line, 'request');
}

function lineOf(request: FastifyRequest) {
  return { method: request.method, path: pathOf(request.url), ...request.subject };
}

function pathOf(url: string): string {
  const [path = ''] = url.split('?', 1);
  return path.length <= 300 ? path : `${path.slice(0, 300)}…`;
}
