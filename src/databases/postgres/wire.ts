/**
 * The wire protocol of Postgres as the relay needs it, on a connection that `pg` has set up (TLS, login): rows
 * are handed on as the bytes in which they came, and no faster than they are taken.
 * https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
import type { Socket } from 'node:net';
import type { Client } from 'pg';
import type { Chunk } from '../database.ts';
import { DatabaseError } from '../errors.ts';
import type { ValueBound } from '../value-bound.ts';
import { socketOf } from './connect.ts';
import { type FieldSink, RowPieces } from './row-pieces.ts';

/** A message of the server other than DataRow: its type's character, and its body. */
export interface Message {
  readonly type: number;
  readonly body: Buffer;
}

/** What has come, in order: rows, or a message. */
export type Arrival = Chunk | Message;

export function isMessage(arrival: Arrival): arrival is Message {
  return 'type' in arrival;
}

export const MESSAGE = {
  parse_complete: 0x31,
  bind_complete: 0x32,
  notification: 0x41,
  command_complete: 0x43,
  data_row: 0x44,
  error: 0x45,
  empty_query: 0x49,
  notice: 0x4e,
  parameter_status: 0x53,
  row_description: 0x54,
  ready: 0x5a,
  no_data: 0x6e,
  portal_suspended: 0x73,
  parameters: 0x74,
} as const;

/** Turns DataRow bodies into the form that is wanted, large ones field by field; what it gives stays valid. */
export interface RowForm extends FieldSink {
  /** A complete one. `body`: int16 count of fields, then for each int32 length (-1: NULL) and as many bytes. */
  take(body: Buffer): void;
  /** What was made since the last call, or null. */
  flush(): Chunk | null;
}

const HEADER_BYTES = 5;
/** A row of more bytes is not put together before it is turned into another form. */
const LARGE_ROW_BYTES = 64 * 1024;
/** Past so much that nobody has taken the socket is paused. */
const MOST_WAITING_BYTES = 512 * 1024;
/** After so much in one turn of the event loop the socket is paused until the next: others have their turns, too. */
const BYTES_A_TURN = 128 * 1024;

export class Wire {
  readonly #socket: Socket;
  readonly #arrivals: (Arrival | DatabaseError)[] = [];
  #waiting_bytes = 0;
  /** What came in this turn of the event loop. */
  #turn_bytes = 0;
  #waiter: PromiseWithResolvers<void> | null = null;
  #end: Error | null = null;
  /** Rows that are not turned into another form: sent on as the bytes they are. */
  #form: RowForm | null = null;
  /** The beginning of a message whose end has not come, and how long it will be (0: not known yet). */
  #held: Buffer[] = [];
  #held_bytes = 0;
  #needed_bytes = 0;
  /** What is missing of the row that is being relayed, or taken in pieces. */
  #rest_of_row = 0;
  /** Null: rows of our own questions, which are small. */
  #bound: ValueBound | null = null;
  /** Rows of more bytes are taken in pieces. */
  #large_bytes = Number.POSITIVE_INFINITY;
  /** Rows of the result that have begun. */
  #rows = 0;
  /** The row under way, if it is a large one. */
  #pieces: RowPieces | null = null;
  /** Nobody wants the rows that still come. */
  #refused = false;

  /** Takes over a connection that is ready for a query. */
  constructor(client: Client) {
    this.#socket = socketOf(client);
    this.#socket.removeAllListeners('data');
    this.#socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    // A killed backend says nothing: the socket's close is all there is to hear.
    this.#socket.once('close', () => this.#fail(new Error('Connection terminated unexpectedly')));
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.resume();
  }

  /** Why the connection is of no use any more; null while it is. */
  get end(): Error | null {
    return this.#end;
  }

  /** In what form the rows of the next result are wanted (null: DataRow bodies as they are), and their bound. */
  expect(form: RowForm | null, bound: ValueBound | null): void {
    this.#form = form;
    this.#bound = bound;
    // Bytes that are sent on as they are need not be looked at unless a value among them may be too large.
    this.#large_bytes = Math.min(
      bound?.value ?? Number.POSITIVE_INFINITY,
      form === null ? Number.POSITIVE_INFINITY : LARGE_ROW_BYTES,
    );
    this.#rows = 0;
  }

  send(...messages: readonly Buffer[]): void {
    this.#socket.write(
      messages.length === 1 && messages[0] !== undefined ? messages[0] : Buffer.concat(messages),
    );
  }

  /**
   * What came next. Throws once the connection has ended and all that came before is taken; and, once, in place of a
   * row that is too large, behind which there are no more rows.
   */
  async next(): Promise<Arrival> {
    for (;;) {
      const arrival = this.#arrivals.shift();
      if (arrival instanceof DatabaseError) throw arrival;
      if (arrival !== undefined) {
        this.#waiting_bytes -= sizeOf(arrival);
        this.#flow();
        return arrival;
      }
      if (this.#end !== null) throw this.#end;
      this.#waiter ??= Promise.withResolvers();
      await this.#waiter.promise;
    }
  }

  destroy(): void {
    this.#socket.destroy();
    this.#fail(new Error('Connection terminated'));
  }

  #receive = (received: Buffer): void => {
    if (this.#turn_bytes === 0) {
      setImmediate(() => {
        this.#turn_bytes = 0;
        this.#flow();
      });
    }
    this.#turn_bytes += received.length;
    let chunk = received;
    if (this.#held.length > 0) {
      this.#held.push(chunk);
      this.#held_bytes += chunk.length;
      // Large messages come in many pieces: they are put together once, at their end.
      if (this.#held_bytes < this.#needed_bytes) return;
      chunk = Buffer.concat(this.#held);
      this.#held = [];
    }
    try {
      this.#split(chunk);
    } catch (error) {
      // What cannot be read is not what a Postgres sends.
      this.#socket.destroy();
      this.#fail(new Error('the server does not keep to the protocol', { cause: error }));
    }
    this.#flow();
    this.#wake();
  };

  /** Reads on, or does not for now. */
  #flow(): void {
    const goesOn = this.#waiting_bytes < MOST_WAITING_BYTES && this.#turn_bytes < BYTES_A_TURN;
    if (goesOn === this.#socket.isPaused()) this.#socket[goesOn ? 'resume' : 'pause']();
  }

  #split(chunk: Buffer): void {
    const { length } = chunk;
    // Rows that are relayed are moved together where they lie: from `begin` to `end` there are only bodies.
    let at = 0;
    let begin = 0;
    let end = 0;
    let rows = 0;
    const relayed = () => {
      if (end > begin) this.#push({ data: chunk.subarray(begin, end), rows });
      begin = at;
      end = at;
      rows = 0;
    };
    while (at < length) {
      if (this.#rest_of_row > 0) {
        const size = Math.min(this.#rest_of_row, length - at);
        this.#rest_of_row -= size;
        if (this.#pieces !== null) this.#takePiece(this.#pieces, chunk.subarray(at, at + size));
        if (this.#form === null && !this.#refused) {
          if (end !== at) chunk.copyWithin(end, at, at + size);
          end += size;
          if (this.#rest_of_row === 0) rows += 1;
        }
        at += size;
        continue;
      }
      if (length - at < HEADER_BYTES) {
        this.#hold(chunk.subarray(at), HEADER_BYTES);
        break;
      }
      const type = chunk[at] ?? 0;
      const size = chunk.readInt32BE(at + 1) - 4;
      if (type === MESSAGE.data_row && (this.#form === null || size > this.#large_bytes)) {
        at += HEADER_BYTES;
        this.#rest_of_row = size;
        this.#rows += 1;
        if (size > this.#large_bytes) this.#beginLarge();
        continue;
      }
      if (length - at - HEADER_BYTES < size) {
        this.#hold(chunk.subarray(at), HEADER_BYTES + size);
        break;
      }
      const body = chunk.subarray(at + HEADER_BYTES, at + HEADER_BYTES + size);
      at += HEADER_BYTES + size;
      if (type === MESSAGE.data_row) {
        this.#rows += 1;
        this.#form?.take(body);
      } else {
        relayed();
        this.#flush();
        this.#push({ type, body });
        // A form is meant for one result: what comes behind it in the same chunk is another one's.
        if (type === MESSAGE.command_complete || type === MESSAGE.error) this.#form = null;
      }
    }
    relayed();
    this.#flush();
  }

  #beginLarge(): void {
    const bound = this.#bound;
    if (bound === null || this.#refused) return;
    this.#refusing(() => {
      this.#pieces = new RowPieces(this.#rows, bound, this.#form);
    });
  }

  #takePiece(row: RowPieces, piece: Buffer): void {
    this.#refusing(() => {
      row.push(piece);
      if (this.#rest_of_row > 0) return;
      row.end();
      this.#pieces = null;
    });
  }

  /** A row that is too large ends the result, not the connection: the server has yet to be told. */
  #refusing(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof DatabaseError)) throw error;
      this.#refused = true;
      this.#form = null;
      this.#pieces = null;
      this.#arrivals.push(error);
    }
  }

  #hold(rest: Buffer, needed: number): void {
    this.#held = [rest];
    this.#held_bytes = rest.length;
    this.#needed_bytes = needed;
  }

  #flush(): void {
    const made = this.#form?.flush() ?? null;
    if (made !== null) this.#push(made);
  }

  #push(arrival: Arrival): void {
    this.#arrivals.push(arrival);
    this.#waiting_bytes += sizeOf(arrival);
  }

  #fail(error: Error): void {
    this.#end ??= error;
    this.#wake();
  }

  #wake(): void {
    this.#waiter?.resolve();
    this.#waiter = null;
  }
}

function sizeOf(arrival: Arrival): number {
  return isMessage(arrival) ? arrival.body.length : arrival.data.length;
}
