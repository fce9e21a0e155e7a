/**
 * One request to ClickHouse's HTTP interface.
 *
 * On Node's own client rather than on @clickhouse/client, which is made of the same: an answer here is read as bytes
 * with a proof of its end, an error's text must not reach a log (that client logs failed queries with their
 * arguments), and the time limit is one for connecting, not for silence: a query may say nothing for an hour.
 */
import http from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import type { ClickhouseConfig } from './dsn.ts';
import { ConnectionFailure, ServerFailure } from './failure.ts';

export interface RequestOptions {
  /** Settings and parameters of the request, as they go into its URL. */
  readonly parameters?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/** How long a connection may say nothing before TCP asks whether the other end is still there, ms. */
const KEEP_ALIVE_MS = 15_000;
/** The longest error text that is read, bytes. */
const MOST_ERROR_BYTES = 64 * 1024;

export interface HttpOptions {
  readonly config: ClickhouseConfig;
  readonly connect_timeout_ms: number;
  /** The most connections kept open between requests. */
  readonly max_idle: number;
}

export class Http {
  readonly #options: HttpOptions;
  readonly #agent: http.Agent;
  readonly #authorization: string;

  constructor(options: HttpOptions) {
    this.#options = options;
    const { user, password, tls, skip_verify } = options.config;
    this.#authorization = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
    const common = { keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS, maxFreeSockets: options.max_idle };
    this.#agent = tls
      ? new https.Agent({ ...common, rejectUnauthorized: !skip_verify })
      : new http.Agent(common);
  }

  /**
   * Sends a statement and resolves with the answer once its header has come and is a good one; its body is still to
   * be read. Rejects with the signal's reason, a `ServerFailure` or a `ConnectionFailure`. Aborting ends the body too.
   */
  async send(sql: string, options: RequestOptions): Promise<http.IncomingMessage> {
    return this.#send(sql, options, false);
  }

  async #send(sql: string, options: RequestOptions, repeatable: boolean): Promise<http.IncomingMessage> {
    options.signal.throwIfAborted();
    const response = await this.#open(sql, options, repeatable);
    if (response.statusCode === 200) return response;
    const text = await readAll(response, MOST_ERROR_BYTES, options.signal);
    throw ServerFailure.ofAnswer(text.toString(), response.statusCode ?? 0);
  }

  /** Sends a statement whose answer is short and complete before it is sent; as text, escapes and all. */
  async ask(sql: string, options: RequestOptions): Promise<string> {
    return (await this.askBytes(sql, options)).toString();
  }

  async askBytes(sql: string, { parameters = {}, signal }: RequestOptions): Promise<Buffer> {
    const options = { parameters: { ...parameters, wait_end_of_query: '1' }, signal };
    const response = await this.#send(sql, options, true);
    const answer = await readAll(response, Number.POSITIVE_INFINITY, signal);
    // An answer of 200 may hold nothing but an error, when a query is killed before it has begun to answer.
    const failure = ServerFailure.ofLastLine(answer.toString());
    if (failure !== null) throw failure;
    return answer;
  }

  close(): void {
    this.#agent.destroy();
  }

  #open(sql: string, options: RequestOptions, repeatable: boolean): Promise<http.IncomingMessage> {
    const { config, connect_timeout_ms } = this.#options;
    const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>();
    const body = Buffer.from(sql);
    const parameters = new URLSearchParams(options.parameters);
    if (config.database !== '') parameters.set('database', config.database);
    const request = (config.tls ? https : http).request({
      agent: this.#agent,
      host: config.host,
      port: config.port,
      method: 'POST',
      path: `/?${parameters}`,
      headers: { authorization: this.#authorization, 'content-length': body.length },
      signal: options.signal,
    });
    request.on('socket', (socket) => {
      limitConnecting(socket, connect_timeout_ms, config.tls, () =>
        request.destroy(new ConnectionFailure(`no connection within ${connect_timeout_ms} ms`)),
      );
    });
    request.on('response', resolve);
    request.on('error', (error) => {
      // A server closes a connection that was idle for long; the request may cross that on its way.
      const stale = repeatable && request.reusedSocket && !options.signal.aborted && isReset(error);
      // Again until the pool has no old connection left; a new one is not `reusedSocket`.
      if (stale) this.#open(sql, options, repeatable).then(resolve, reject);
      else reject(options.signal.aborted ? options.signal.reason : ConnectionFailure.of(error));
    });
    request.end(body);
    return promise;
  }
}

async function readAll(response: http.IncomingMessage, most: number, signal: AbortSignal): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      length += chunk.length;
      if (length > most) break;
    }
  } catch (error) {
    throw signal.aborted ? signal.reason : ConnectionFailure.of(error);
  }
  signal.throwIfAborted();
  return Buffer.concat(chunks);
}

function limitConnecting(socket: Socket, limit_ms: number, tls: boolean, expire: () => void): void {
  socket.setKeepAlive(true, KEEP_ALIVE_MS);
  socket.setNoDelay(true);
  if (!socket.connecting) return;
  const timer = setTimeout(expire, limit_ms);
  const done = () => clearTimeout(timer);
  socket.once(tls ? 'secureConnect' : 'connect', done);
  socket.once('close', done);
}

function isReset(error: Error): boolean {
  return 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
}
