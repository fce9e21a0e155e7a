/**
 * The client/server protocol of MySQL as a source needs it, on a connection that the driver has set up (TLS, login):
 * answers are read where they lie in the socket's own buffers, and no faster than they are taken.
 * https://mariadb.com/docs/server/reference/clientserver-protocol
 */
import type { Socket } from 'node:net';
import type { Connection } from 'mysql2';
import { socketOf } from './connect.ts';
import { ServerError } from './failure.ts';

/** Reads the answer to one command. */
export interface Reader {
  /**
   * A packet's payload, from `start` to before `end`; the bytes are there only now. True: it was the answer's last.
   * What it throws ends the connection, and is what `fail` gets.
   */
  take(from: Buffer, start: number, end: number): boolean;
  /**
   * Whether a large packet is to be given in pieces, by its first byte: `takePiece` for each, and `endPieces`. It is
   * none that an answer ends with.
   */
  takesPieces?(first: number): boolean;
  takePiece?(from: Buffer, start: number, end: number): void;
  endPieces?(): void;
  /** No more of the answer will come. */
  fail(error: Error): void;
  /** All that has come for now was given to `take`. True: wait for `resume` before reading more. */
  pause?(): boolean;
}

const HEADER_BYTES = 4;
/** A payload of this size goes on in the next packet. */
const FULL_PACKET = 0xff_ffff;
/** Packets of more bytes may be given in pieces. */
const LARGE_PACKET = 64 * 1024;
/** After so much the event loop gets its turn: rows of one report must not keep the others waiting. */
const TURN_BYTES = 128 * 1024;

/** How long a goodbye may take, ms. */
const GOODBYE_MS = 1_000;

/** A command, and who reads its answer. */
export type Exchange = readonly [payload: Buffer, reader: Reader];

export const COMMAND = {
  quit: 0x01,
  query: 0x03,
  ping: 0x0e,
  prepare: 0x16,
  execute: 0x17,
  reset_connection: 0x1f,
} as const;

export class Wire {
  readonly #socket: Socket;
  readonly #readers: Reader[] = [];
  #end: Error | null = null;
  /** Called once when the connection ends. */
  onEnd: (() => void) | null = null;
  /** The beginning of a packet whose end has not come, and how long it will be with its header (0: not known yet). */
  #held: Buffer[] = [];
  #held_bytes = 0;
  #needed_bytes = 0;
  /** Payloads of packets that go on in the next. */
  #parts: Buffer[] = [];
  /** Of the packet that is given in pieces: what is missing, and whether it goes on in the next. Null: there is none. */
  #large: { rest: number; goes_on: boolean } | null = null;
  #turn_bytes = 0;
  /** Its reader has had enough for now. */
  #paused = false;

  /** Takes over a connection that is ready for a command. */
  constructor(connection: Connection) {
    this.#socket = socketOf(connection);
    this.#socket.removeAllListeners('data');
    this.#socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    this.#socket.on('error', (error) => this.#fail(error));
    // A server that was killed says nothing: the socket's close is all there is to hear.
    this.#socket.once('close', () => this.#fail(new ConnectionLost()));
    if (this.#socket.destroyed) this.#fail(new ConnectionLost());
    this.#socket.resume();
  }

  /** Why the connection is of no use any more; null while it is. */
  get end(): Error | null {
    return this.#end;
  }

  /** Whether answers are still to come. */
  get busy(): boolean {
    return this.#readers.length > 0;
  }

  /** Sends commands at once; their answers come in the same order. */
  send(...commands: readonly Exchange[]): void {
    for (const [, reader] of commands) {
      if (this.#end === null) this.#readers.push(reader);
      else reader.fail(this.#end);
    }
    if (this.#end !== null) return;
    this.#socket.write(Buffer.concat(commands.flatMap(([payload]) => packets(payload))));
  }

  /** Goes on after a reader's `pause`. */
  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#socket.resume();
  }

  destroy(): void {
    this.#socket.destroy();
    this.#fail(new ConnectionLost());
  }

  /** Says goodbye, so that the server's log does not tell of a lost client. For a connection at rest. */
  quit(): void {
    if (this.#end !== null) return;
    this.#socket.end(Buffer.concat(packets(Buffer.from([COMMAND.quit]))));
    this.#fail(new ConnectionLost());
    this.#socket.setTimeout(GOODBYE_MS, () => this.#socket.destroy());
    this.#socket.unref();
  }

  #receive(received: Buffer): void {
    let chunk = received;
    if (this.#held.length > 0) {
      this.#held.push(chunk);
      this.#held_bytes += chunk.length;
      // Large packets come in many pieces: they are put together once, at their end.
      if (this.#held_bytes < this.#needed_bytes) {
        this.#pace(received.length);
        return;
      }
      chunk = Buffer.concat(this.#held);
      this.#held = [];
    }
    try {
      this.#split(chunk);
      this.#paused = this.#readers[0]?.pause?.() ?? false;
    } catch (error) {
      this.#socket.destroy();
      this.#fail(
        error instanceof Error
          ? error
          : new Error('the server does not keep to the protocol', { cause: error }),
      );
    }
    this.#pace(received.length);
  }

  #pace(bytes: number): void {
    this.#turn_bytes += bytes;
    if (this.#paused) {
      this.#socket.pause();
    } else if (this.#turn_bytes >= TURN_BYTES) {
      this.#turn_bytes = 0;
      this.#socket.pause();
      setImmediate(() => {
        if (!this.#paused) this.#socket.resume();
      });
    }
  }

  #split(chunk: Buffer): void {
    const { length } = chunk;
    let at = 0;
    while (at < length) {
      if (this.#large !== null && this.#large.rest > 0) {
        const next = Math.min(length, at + this.#large.rest);
        this.#large.rest -= next - at;
        this.#readers[0]?.takePiece?.(chunk, at, next);
        at = next;
        this.#endLarge();
        continue;
      }
      if (length - at < HEADER_BYTES) {
        this.#hold(chunk.subarray(at), HEADER_BYTES);
        break;
      }
      const size =
        (chunk[at] as number) | ((chunk[at + 1] as number) << 8) | ((chunk[at + 2] as number) << 16);
      const start = at + HEADER_BYTES;
      const end = start + size;
      if (this.#large !== null) {
        this.#large = { rest: size, goes_on: size === FULL_PACKET };
        at = start;
        this.#endLarge();
        continue;
      }
      if (size > LARGE_PACKET && start < length && this.#parts.length === 0) {
        if (this.#readers[0]?.takesPieces?.(chunk[start] as number) === true) {
          this.#large = { rest: size, goes_on: size === FULL_PACKET };
          at = start;
          continue;
        }
      }
      if (end > length) {
        // With its first byte it may turn out to be one that is given in pieces.
        this.#hold(chunk.subarray(at), HEADER_BYTES + (start < length ? size : 1));
        break;
      }
      at = end;
      if (size === FULL_PACKET) {
        this.#parts.push(chunk.subarray(start, end));
      } else if (this.#parts.length > 0) {
        const whole = Buffer.concat([...this.#parts, chunk.subarray(start, end)]);
        this.#parts = [];
        this.#give(whole, 0, whole.length);
      } else {
        this.#give(chunk, start, end);
      }
    }
  }

  #endLarge(): void {
    if (this.#large === null || this.#large.rest > 0 || this.#large.goes_on) return;
    this.#large = null;
    this.#readers[0]?.endPieces?.();
  }

  #give(from: Buffer, start: number, end: number): void {
    const reader = this.#readers[0];
    // Unasked the server sends nothing but its reason for closing the connection.
    if (reader === undefined) throw readError(from, start, end);
    if (reader.take(from, start, end)) this.#readers.shift();
  }

  #hold(rest: Buffer, needed: number): void {
    this.#held = [rest];
    this.#held_bytes = rest.length;
    this.#needed_bytes = needed;
  }

  #fail(error: Error): void {
    if (this.#end !== null) return;
    this.#end = error;
    for (const reader of this.#readers.splice(0)) reader.fail(error);
    this.onEnd?.();
  }
}

/** The connection has ended without a word of the server. */
export class ConnectionLost extends Error {
  readonly code = 'PROTOCOL_CONNECTION_LOST';

  constructor() {
    super('the connection was lost');
    this.name = 'ConnectionLost';
  }
}

/** The server sent what the protocol does not have. */
export class ProtocolError extends Error {
  readonly code = 'PROTOCOL_ERROR';

  constructor(what: string) {
    super(`the server does not keep to the protocol: ${what}`);
    this.name = 'ProtocolError';
  }
}

export const ERROR = 0xff;
export const OK = 0x00;
export const EOF = 0xfe;

/** An error packet: 0xff, number, "#" and SQLSTATE (not before a login), message. */
export function readError(from: Buffer, start: number, end: number): Error {
  if (end - start < 3 || from[start] !== ERROR) return new ProtocolError('an answer to no question');
  const number = from.readUInt16LE(start + 1);
  const marked = from[start + 3] === 0x23 && end - start >= 9;
  const state = marked ? from.toString('latin1', start + 4, start + 9) : 'HY000';
  return new ServerError(number, state, from.toString('utf8', start + (marked ? 9 : 3), end));
}

/** A length as the protocol encodes them, and where what it is of begins. -1: NULL. */
export function readLength(from: Buffer, at: number, end: number): { length: number; next: number } {
  const first = at < end ? (from[at] as number) : 0xff;
  if (first < 0xfb) return { length: first, next: at + 1 };
  if (first === 0xfb) return { length: -1, next: at + 1 };
  const bytes = first === 0xfc ? 2 : first === 0xfd ? 3 : first === 0xfe ? 8 : 0;
  if (bytes === 0 || at + 1 + bytes > end) throw new ProtocolError('a length that is none');
  const length = bytes === 8 ? Number(from.readBigUInt64LE(at + 1)) : from.readUIntLE(at + 1, bytes);
  return { length, next: at + 1 + bytes };
}

/** A command whose argument is text. */
export function textCommand(command: number, text: string): Buffer {
  const payload = Buffer.allocUnsafe(1 + Buffer.byteLength(text));
  payload[0] = command;
  payload.write(text, 1);
  return payload;
}

function packets(payload: Buffer): Buffer[] {
  const parts: Buffer[] = [];
  let at = 0;
  let sequence = 0;
  let size: number;
  do {
    size = Math.min(FULL_PACKET, payload.length - at);
    parts.push(
      Buffer.from([size & 0xff, (size >> 8) & 0xff, size >> 16, sequence & 0xff]),
      payload.subarray(at, at + size),
    );
    at += size;
    sequence += 1;
  } while (size === FULL_PACKET);
  return parts;
}
