/** DataRow messages that are large: taken apart while they come in, so that nobody has to hold one as a whole. */
import type { ValueBound } from '../value-bound.ts';

/** Who hears what a row is made of, in order. */
export interface FieldSink {
  /** The next field begins, of so many bytes. -1: it is NULL. */
  field(index: number, size: number): void;
  /** Bytes of the field under way; they stay valid. */
  bytes(piece: Buffer): void;
  endRow(): void;
}

export class RowPieces {
  readonly #bound: ValueBound;
  /** Which row it is, from 1. */
  readonly #row: number;
  readonly #sink: FieldSink | null;
  /** Of the number that comes next: its bytes so far, and how many it has. */
  #number = 0;
  #digits = 0;
  #digits_due = 2;
  #fields = -1;
  #index = -1;
  /** What is missing of the field under way. */
  #rest = 0;

  /** Of all fields that have begun. */
  #bytes = 0;

  constructor(row: number, bound: ValueBound, sink: FieldSink | null) {
    this.#row = row;
    this.#bound = bound;
    this.#sink = sink;
  }

  /** Throws before the bytes of a value that is too large, or with which the row is. */
  push(piece: Buffer): void {
    let at = 0;
    while (at < piece.length) {
      if (this.#rest > 0) {
        const size = Math.min(this.#rest, piece.length - at);
        this.#sink?.bytes(piece.subarray(at, at + size));
        at += size;
        this.#rest -= size;
        continue;
      }
      this.#number = (this.#number << 8) | (piece[at] ?? 0);
      this.#digits += 1;
      at += 1;
      if (this.#digits === this.#digits_due) this.#begin(this.#number);
    }
  }

  end(): void {
    if (this.#rest > 0 || this.#index + 1 !== this.#fields)
      throw new Error('a row of another length than its fields');
    this.#sink?.endRow();
  }

  #begin(number: number): void {
    this.#number = 0;
    this.#digits = 0;
    this.#digits_due = 4;
    if (this.#fields < 0) {
      this.#fields = number;
      return;
    }
    this.#index += 1;
    this.#bytes += Math.max(0, number);
    if (number > this.#bound.value) throw this.#bound.valueError(this.#index, this.#row);
    if (this.#bytes > this.#bound.row) throw this.#bound.rowError(this.#row);
    this.#rest = Math.max(0, number);
    this.#sink?.field(this.#index, number);
  }
}
