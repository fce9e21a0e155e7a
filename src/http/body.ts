/** Reads request bodies: JSON in UTF-8, whatever Content-Type says. */
import type { IncomingMessage } from 'node:http';
import type { FastifyRequest } from 'fastify';
import { ApiError } from './errors.ts';
import { JsonError, parseJson } from './json.ts';

/**
 * How much of a body past the limit is still read and thrown away. An answer sent while the client is still
 * sending can be lost to a TCP reset, so a client somewhat over the limit is heard out; one far over is not.
 */
const DRAIN_BYTES = 8 * 1024 * 1024;

/** A content type parser for Fastify. An empty body is an empty request. Throws `ApiError`. */
export function bodyParser(limit: number) {
  return async (request: FastifyRequest, payload: IncomingMessage): Promise<unknown> => {
    const bytes = await read(payload, limit);
    // A body means nothing on a DELETE (RFC 9110, 9.3.5); the original ignores it.
    if (request.method === 'DELETE') return undefined;
    const encoding = request.headers['content-encoding'] ?? 'identity';
    if (bytes.length > 0 && encoding.toLowerCase() !== 'identity') {
      throw new ApiError('invalid_request', 'the body is compressed (Content-Encoding); send it as it is');
    }
    const text = decode(bytes);
    if (/^[ \t\r\n]*$/.test(text)) return {};
    try {
      return parseJson(text);
    } catch (error) {
      if (!(error instanceof JsonError)) throw error;
      throw new ApiError('invalid_request', error.message, { cause: error });
    }
  };
}

function read(payload: IncomingMessage, limit: number): Promise<Buffer> {
  const tooLarge = () => new ApiError('too_large', `the body is larger than ${limit} bytes`);
  return new Promise((resolve, reject) => {
    if (Number(payload.headers['content-length'] ?? 0) > limit + DRAIN_BYTES) {
      reject(tooLarge());
      return;
    }
    let chunks: Buffer[] = [];
    let received = 0;
    payload.on('data', (chunk: Buffer) => {
      received += chunk.length;
      if (received <= limit) chunks.push(chunk);
      else chunks = [];
      if (received > limit + DRAIN_BYTES) reject(tooLarge());
    });
    payload.on('end', () => {
      if (received > limit) reject(tooLarge());
      else resolve(Buffer.concat(chunks, received));
    });
    payload.on('error', reject);
    payload.on('close', () => {
      if (!payload.readableEnded) reject(new ApiError('invalid_request', 'the body was cut short'));
    });
  });
}

function decode(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new ApiError('invalid_request', 'the body is not UTF-8', { cause: error });
  }
}
