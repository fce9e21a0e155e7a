/** Readers of the answers that a source asks for. */
import type { Chunk } from '../database.ts';
import type { FieldWriter } from '../encodings/field-writer.ts';
import { type ColumnDefinition, readColumn } from './source-columns.ts';
import { EOF, ERROR, OK, ProtocolError, type Reader, readError, readLength } from './source-wire.ts';

/** An answer that is one packet: done, or an error. */
export class DoneReader implements Reader {
  readonly #answer = Promise.withResolvers<void>();
  readonly answer = this.#answer.promise;

  constructor() {
    // Of several commands sent at once only the first failure is waited for.
    this.answer.catch(() => {});
  }

  take(from: Buffer, start: number, end: number): boolean {
    if (from[start] === OK) this.#answer.resolve();
    else if (from[start] === ERROR) this.#answer.reject(readError(from, start, end));
    else throw new ProtocolError('rows where none were asked for');
    return true;
  }

  fail(error: Error): void {
    this.#answer.reject(error);
  }
}

/** What the server says of a statement that it has prepared. */
export interface Statement {
  readonly id: number;
  readonly parameters: number;
  /** Empty: it gives no rows, not even none. */
  readonly columns: readonly ColumnDefinition[];
}

export class PrepareReader implements Reader {
  readonly #answer = Promise.withResolvers<Statement>();
  readonly answer = this.#answer.promise;
  #id = 0;
  #parameters = 0;
  #count = 0;
  readonly #columns: ColumnDefinition[] = [];
  /** Packets that come before those of the columns: a definition for each parameter and an end. */
  #skip = 0;
  #begun = false;

  constructor() {
    this.answer.catch(() => {});
  }

  take(from: Buffer, start: number, end: number): boolean {
    if (!this.#begun) {
      if (from[start] === ERROR) {
        this.#answer.reject(readError(from, start, end));
        return true;
      }
      if (from[start] !== OK || end - start < 12) throw new ProtocolError('no answer to a prepare');
      this.#begun = true;
      this.#id = from.readUInt32LE(start + 1);
      this.#count = from.readUInt16LE(start + 5);
      this.#parameters = from.readUInt16LE(start + 7);
      this.#skip = this.#parameters === 0 ? 0 : this.#parameters + 1;
    } else if (this.#skip > 0) {
      this.#skip -= 1;
    } else if (this.#columns.length < this.#count) {
      this.#columns.push(readColumn(from, start, end));
      return false; // an end follows
    } else {
      return this.#done();
    }
    return this.#skip === 0 && this.#count === 0 && this.#done();
  }

  fail(error: Error): void {
    this.#answer.reject(error);
  }

  #done(): boolean {
    this.#answer.resolve({ id: this.#id, parameters: this.#parameters, columns: this.#columns });
    return true;
  }
}

/** Rows of a query of our own, as text. */
export class TextReader implements Reader {
  readonly #answer = Promise.withResolvers<(string | null)[][]>();
  readonly answer = this.#answer.promise;
  readonly #head = new ResultHead();
  readonly #rows: (string | null)[][] = [];

  constructor() {
    this.answer.catch(() => {});
  }

  take(from: Buffer, start: number, end: number): boolean {
    if (from[start] === ERROR) {
      this.#answer.reject(readError(from, start, end));
      return true;
    }
    if (this.#head.columns === null) {
      if (!this.#head.take(from, start, end)) return false;
      if (this.#head.count > 0) return false;
    } else if (from[start] !== EOF || end - start >= 9) {
      this.#rows.push(readTexts(from, start, end));
      return false;
    }
    this.#answer.resolve(this.#rows);
    return true;
  }

  fail(error: Error): void {
    this.#answer.reject(error);
  }
}

/** The beginning of a result: the number of its columns, their definitions, an end. */
class ResultHead {
  /** Null until all of it was read. */
  columns: readonly ColumnDefinition[] | null = null;
  count = -1;
  readonly #found: ColumnDefinition[] = [];

  /** True: it was the last of it. */
  take(from: Buffer, start: number, end: number): boolean {
    if (this.count < 0) {
      this.count = readLength(from, start, end).length;
      if (this.count > 0) return false;
    } else if (this.#found.length < this.count) {
      this.#found.push(readColumn(from, start, end));
      return false;
    }
    this.columns = this.#found;
    return true;
  }
}

/** Turns the packets of rows into an encoding. */
export interface RowForm {
  /** One row of the binary protocol. Throws what ends the query. */
  take(from: Buffer, start: number, end: number): void;
  /** The same of a large one, whose bytes come in pieces. */
  takePiece(from: Buffer, start: number, end: number): void;
  endPieces(): void;
  readonly writer: Pick<FieldWriter, 'take'>;
}

/** So much is kept that nobody has taken; past it the socket is paused. */
const MOST_WAITING_BYTES = 512 * 1024;
/** The status of a result behind which another one follows. */
const MORE_RESULTS = 0x0008;

/** The rows of an executed statement, as chunks of an encoding. */
export class RowsReader<Form extends RowForm> implements Reader {
  readonly #begin: (columns: readonly ColumnDefinition[]) => Form;
  readonly #resume: () => void;
  readonly #head = new ResultHead();
  readonly #begun = Promise.withResolvers<Form>();
  /** Resolves when the columns are known, rejects if the server does not get so far. */
  readonly begun = this.#begun.promise;
  #form: Form | null = null;
  #waiting: Chunk[] = [];
  #waiting_bytes = 0;
  #waiter: PromiseWithResolvers<void> | null = null;
  #failure: unknown = null;
  #complete = false;
  /** How often the server warned, once the rows are complete. */
  warnings = 0;
  /** Nobody wants the rows any more: what comes is passed over. */
  #discarding = false;

  /** `begin` is called before the first row; what it throws, at no columns at least, is what `begun` rejects with. */
  constructor(begin: (columns: readonly ColumnDefinition[]) => Form, resume: () => void) {
    this.#begin = begin;
    this.#resume = resume;
    this.begun.catch(() => {});
  }

  take(from: Buffer, start: number, end: number): boolean {
    const first = from[start];
    if (first === ERROR) {
      this.fail(readError(from, start, end));
      return true;
    }
    if (this.#head.columns === null) return this.#takeHead(from, start, end);
    if (first === OK) {
      this.#takeRow((form) => form.take(from, start, end));
      return false;
    }
    if (first !== EOF || end - start >= 9) throw new ProtocolError('neither a row nor the end of rows');
    this.warnings = from.readUInt16LE(start + 1);
    return this.#takeEnd(from.readUInt16LE(start + 3));
  }

  takesPieces(first: number): boolean {
    return this.#head.columns !== null && first === OK;
  }

  takePiece(from: Buffer, start: number, end: number): void {
    this.#takeRow((form) => form.takePiece(from, start, end));
  }

  endPieces(): void {
    this.#takeRow((form) => form.endPieces());
  }

  fail(error: Error): void {
    this.#fail(error);
  }

  pause(): boolean {
    if (this.#form !== null) {
      for (const chunk of this.#form.writer.take()) {
        this.#waiting.push(chunk);
        this.#waiting_bytes += chunk.data.length;
      }
    }
    this.#wake();
    return !this.#discarding && this.#waiting_bytes >= MOST_WAITING_BYTES;
  }

  /** The next chunks, null when the rows are complete. Throws why they will never be. */
  async next(): Promise<readonly Chunk[] | null> {
    for (;;) {
      // What the server said last may still lie in the form.
      if (this.#waiting.length > 0) {
        const chunks = this.#waiting;
        this.#waiting = [];
        this.#waiting_bytes = 0;
        this.#resume();
        return chunks;
      }
      if (this.#failure !== null) throw this.#failure;
      if (this.#complete) return null;
      this.#waiter ??= Promise.withResolvers();
      await this.#waiter.promise;
    }
  }

  /** Has what still comes passed over: a server that is blocked in sending does not hear that it was killed. */
  discard(): void {
    this.#discarding = true;
    this.#form = null;
    this.#waiting = [];
    this.#waiting_bytes = 0;
    this.#resume();
  }

  #takeHead(from: Buffer, start: number, end: number): boolean {
    if (!this.#head.take(from, start, end)) return false;
    try {
      this.#form = this.#begin(this.#head.columns ?? []);
      this.#begun.resolve(this.#form);
    } catch (error) {
      this.#fail(error);
      this.discard();
    }
    // Without columns nothing follows.
    return this.#head.count === 0;
  }

  #takeRow(take: (form: Form) => void): void {
    if (this.#form === null || this.#discarding) return;
    try {
      take(this.#form);
    } catch (error) {
      this.#fail(error);
      this.discard();
    }
  }

  #takeEnd(status: number): boolean {
    if ((status & MORE_RESULTS) !== 0) throw new ProtocolError('a second result');
    for (const chunk of this.#form?.writer.take() ?? []) this.#waiting.push(chunk);
    this.#complete = this.#failure === null;
    this.#wake();
    return true;
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#begun.reject(this.#failure);
    this.#wake();
  }

  #wake(): void {
    this.#waiter?.resolve();
    this.#waiter = null;
  }
}

function readTexts(from: Buffer, start: number, end: number): (string | null)[] {
  const texts: (string | null)[] = [];
  let at = start;
  while (at < end) {
    const { length, next } = readLength(from, at, end);
    texts.push(length < 0 ? null : from.toString('utf8', next, next + length));
    at = next + Math.max(0, length);
  }
  return texts;
}
