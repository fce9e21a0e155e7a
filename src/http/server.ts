/** The HTTP server. docs/api.md is the contract. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import type { Logger } from 'pino';
import type { Queue } from '../queue/queue.ts';
import type { ReportService } from '../reports/service.ts';
import { attachAccessLog, logRequest, requestId } from './access-log.ts';
import { LongAnswers } from './answers.ts';
import { bodyParser } from './body.ts';
import { Connections, MAX_HEADER_BYTES, TIMEOUTS, type Timeouts } from './connections.ts';
import { errorBody, RETRY_AFTER, toApiError } from './errors.ts';
import { notFound } from './not-found.ts';
import { checkOrigin } from './origin.ts';
import type { RouteContext } from './routes/context.ts';
import { CANCEL_WAIT_MS } from './routes/ending.ts';
import { groupRoutes } from './routes/groups.ts';
import { HEALTH_WAIT_MS, healthRoutes } from './routes/health.ts';
import { jobRoutes } from './routes/jobs.ts';
import { queueRoutes } from './routes/queues.ts';
import { taskRoutes } from './routes/tasks.ts';
import { validatorCompiler } from './validation.ts';
import { success } from './views.ts';

export interface ServerOptions {
  readonly version: string;
  readonly queue: Queue;
  readonly reports: ReportService;
  readonly logger: Logger;
  /** The largest request body, bytes. */
  readonly body_limit: number;
  /** Host names under which browsers may use a server on loopback, besides the machine's own. */
  readonly allowed_hosts?: readonly string[];
  readonly timeouts?: Partial<Timeouts>;
  /** How long the answer to a DELETE waits for a running job to end, ms. */
  readonly cancel_wait_ms?: number;
  /** The most bytes of long answers that clients have not read yet. */
  readonly most_unread_bytes?: number;
  /** What must be well for /health/ready to say so: parts by name, or "db" and "results" for all of a kind. Default: store. */
  readonly ready?: readonly string[];
  /** Whether the process lets its jobs end, to end itself: it is not ready then. Default: never. */
  readonly isDraining?: () => boolean;
  /** How long a part may take to answer before /health/ready counts it as down, ms. */
  readonly health_wait_ms?: number;
}

/**
 * The server, not yet listening: `await listen(server, { host, port })`. `await server.close()` takes no new
 * requests, answers those that wait, finishes the others and closes every connection, within
 * `timeouts.close`.
 */
export function buildServer(options: ServerOptions): FastifyInstance {
  const timeouts = { ...TIMEOUTS, ...options.timeouts };
  const connections = new Connections(timeouts);
  // The wider type: what is typed by pino's own cannot be passed on as a plain FastifyInstance.
  const logger: FastifyBaseLogger = options.logger;
  const app: FastifyInstance = Fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'request_id' }),
    genReqId: requestId,
    bodyLimit: options.body_limit,
    requestTimeout: timeouts.request,
    keepAliveTimeout: timeouts.keep_alive,
    connectionTimeout: timeouts.silence,
    // Answered below, in the envelope.
    return503OnClosing: false,
    http: {
      headersTimeout: timeouts.headers,
      requestTimeout: timeouts.request,
      connectionsCheckingInterval: timeouts.check,
      maxHeaderSize: MAX_HEADER_BYTES,
      // Node's own refusal has no body; nothing here needs a Host but the check of origins, which does not trust it.
      requireHostHeader: false,
    },
    // No parameter is matched by a regular expression, which is what the limit is for; the header's limit holds.
    routerOptions: { maxParamLength: MAX_HEADER_BYTES },
    clientErrorHandler: (error, socket) => {
      // Not the error itself: it carries the bytes that came.
      options.logger.debug({ code: error.code }, 'refused what is no request');
      connections.refuse(error, socket);
    },
    // A path that cannot be decoded has no route, and so no hooks.
    frameworkErrors: (error, request, reply) => {
      setHeaders(request, reply);
      sendError(error, request, reply);
      logRequest(request, reply);
    },
  });

  app.addHook('onRequest', async (request, reply) => setHeaders(request, reply));
  connections.attach(app);
  attachAccessLog(app);
  app.setValidatorCompiler(validatorCompiler);
  app.setErrorHandler(sendError);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', bodyParser(options.body_limit));

  const missing = notFound(app);
  app.setNotFoundHandler((request, reply) => {
    throw missing(request, reply);
  });

  app.addHook('onRequest', async (request, reply) => {
    // Before the body of a request that has no route is read.
    if (request.is404) throw missing(request, reply);
    checkOrigin(request, { allowed_hosts: options.allowed_hosts ?? [] });
    // As the original does: a body is JSON whatever it is called, and curl calls it a form.
    request.raw.headers['content-type'] = 'application/json';
  });

  const context: RouteContext = {
    queue: options.queue,
    reports: options.reports,
    connections,
    answers: new LongAnswers(options.most_unread_bytes),
    cancel_wait_ms: options.cancel_wait_ms ?? CANCEL_WAIT_MS,
    health_wait_ms: options.health_wait_ms ?? HEALTH_WAIT_MS,
    ready: options.ready ?? ['store'],
    isDraining: options.isDraining ?? (() => false),
  };
  app.get('/', async () => success(`dungbeetle ${options.version}`));
  const typed = app.withTypeProvider<TypeBoxTypeProvider>();
  taskRoutes(typed, context);
  jobRoutes(typed, context);
  groupRoutes(typed, context);
  queueRoutes(typed, context);
  healthRoutes(typed, context);
  return app;
}

/** Starts to listen; the URL. Port 0 is any free port. */
export function listen(server: FastifyInstance, address: { host: string; port: number }): Promise<string> {
  // For "localhost" Fastify opens a second listener, whose connections the limits and the end here do not reach.
  const host = address.host === 'localhost' ? '127.0.0.1' : address.host;
  return server.listen({ host, port: address.port });
}

function setHeaders(request: FastifyRequest, reply: FastifyReply): void {
  reply.header('x-request-id', request.id);
  // A poll must see the job as it is now; and no browser is to guess that JSON is a page.
  reply.header('cache-control', 'no-store');
  reply.header('x-content-type-options', 'nosniff');
}

function sendError(thrown: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const error = toApiError(thrown);
  request.failure = error;
  const retry_after = RETRY_AFTER[error.code];
  if (retry_after !== undefined) reply.header('retry-after', String(retry_after));
  reply.code(error.statusCode).send(errorBody(error));
}
