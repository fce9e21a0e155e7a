/** What holds for connections rather than routes: time limits, requests that are no HTTP, and the end. */
import type { ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { ApiError, errorBody } from './errors.ts';

/** Durations in ms. */
export interface Timeouts {
  /** From the first byte of a request to the end of its header: what slowloris clients draw out. */
  readonly headers: number;
  /** From the first byte of a request to the end of its body. */
  readonly request: number;
  /**
   * How long a connection may lie idle between requests. Above the 90 s of Go's default client and the 60 s
   * of nginx and of common load balancers, so that it is they who close first: a request sent into a connection
   * that the server is closing is lost.
   */
  readonly keep_alive: number;
  /** Silence in which a connection is given up at all: above the longest wait and above `keep_alive`. */
  readonly silence: number;
  /** How often the first two are looked at. */
  readonly check: number;
  /** How long `close` lets requests go on. What waits for a job is answered at once, so this is ample. */
  readonly close: number;
}

export const TIMEOUTS: Timeouts = {
  headers: 10_000,
  request: 30_000,
  keep_alive: 95_000,
  silence: 120_000,
  check: 2_000,
  close: 5_000,
};

/** Bytes of request line and header fields together. */
export const MAX_HEADER_BYTES = 16 * 1024;

/** Whether nobody is there any more to read the answer. */
export function isGone({ raw }: FastifyReply): boolean {
  return raw.destroyed;
}

/** The requests in work, and the signal by which they learn that the server closes. */
export class Connections {
  readonly #timeouts: Timeouts;
  readonly #open = new Set<ServerResponse>();
  readonly #waits = new Set<AbortController>();
  #closing = false;
  #drained: () => void = () => {};

  constructor(timeouts: Timeouts) {
    this.#timeouts = timeouts;
  }

  attach(app: FastifyInstance): void {
    // Not in a hook: of two requests that come together, the second is read before the hooks of the first run.
    app.server.on('request', (_request, response) => {
      this.#open.add(response);
      response.once('close', () => {
        this.#open.delete(response);
        if (this.#open.size === 0) this.#drained();
      });
    });
    app.addHook('onRequest', async () => {
      if (this.#closing) throw new ApiError('unavailable', 'the server is shutting down');
    });
    app.addHook('onSend', async (_request, reply) => {
      if (this.#closing) reply.header('connection', 'close');
    });
    app.addHook('preClose', () => this.#close(app));
    // An Expect that is not 100-continue may be passed over (RFC 9110, 10.1.1); Node's own answer has no body.
    app.server.on('checkExpectation', (request, response) => app.server.emit('request', request, response));
  }

  /** Work that may wait: its signal aborts when the client of this response goes away or the server closes. */
  async waiting<T>(response: ServerResponse, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    const abort = () => controller.abort();
    this.#waits.add(controller);
    response.once('close', abort);
    if (this.#closing || response.destroyed) abort();
    try {
      return await work(controller.signal);
    } finally {
      this.#waits.delete(controller);
      response.off('close', abort);
    }
  }

  /** For Fastify's `clientErrorHandler`: what came was no HTTP request, or not one in time. */
  refuse(error: NodeJS.ErrnoException, socket: Duplex): void {
    // An answer of this connection that is still to come is for an earlier request: a client would take
    // this one for it.
    const owed = [...this.#open].some((response) => response.socket === socket && response.req.complete);
    if (error.code === 'ECONNRESET' || !socket.writable || owed) {
      socket.destroy();
      return;
    }
    const refusal = refusalOf(error);
    const body = JSON.stringify(errorBody(refusal));
    const reason = refusal.statusCode === 413 ? 'Content Too Large' : 'Bad Request';
    socket.end(
      [
        `HTTP/1.1 ${refusal.statusCode} ${reason}`,
        'Connection: close',
        'Content-Type: application/json; charset=utf-8',
        `Content-Length: ${Buffer.byteLength(body)}`,
        '',
        body,
      ].join('\r\n'),
      () => socket.destroy(),
    );
  }

  /** No new connections; requests in work are finished; then every connection is closed. */
  async #close(app: FastifyInstance): Promise<void> {
    this.#closing = true;
    for (const wait of this.#waits) wait.abort();
    // Also closes the idle connections.
    app.server.close();
    if (this.#open.size > 0) {
      const drained = new Promise<void>((resolve) => {
        this.#drained = resolve;
      });
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, this.#timeouts.close);
      });
      await Promise.race([drained, late]);
      clearTimeout(timer);
    }
    // Connections on which nothing or half a header has come: Node would wait for them for ever.
    app.server.closeAllConnections();
  }
}

function refusalOf(error: NodeJS.ErrnoException): ApiError {
  switch (error.code) {
    case 'HPE_HEADER_OVERFLOW':
      return new ApiError('too_large', `the header of the request is larger than ${MAX_HEADER_BYTES} bytes`);
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new ApiError('invalid_request', 'the request did not arrive in time');
    default:
      return new ApiError('invalid_request', 'this is not a valid HTTP/1.1 request');
  }
}
