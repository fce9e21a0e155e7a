/** A large row of the binary protocol, taken apart while it comes in, so that nobody has to hold it as a whole. */
import { ProtocolError } from './source-wire.ts';

export interface FieldLength {
  /** Bytes of the field behind those that tell its length. */
  readonly size: number;
  readonly prefix: number;
  /** Its bytes are handed on as they come. */
  readonly in_parts: boolean;
}

/** What is done with the fields, in their order; positions are those of `data`. */
export interface LargeRowFields {
  readonly count: number;
  /** Null: not enough of it has come. */
  lengthOf(index: number, data: Buffer, at: number, end: number): FieldLength | null;
  /** A field that is there as a whole, or NULL by the row's head. */
  take(head: Buffer, index: number, data: Buffer, at: number, end: number): void;
  /** A field of so many bytes whose parts come next. `bytes`: of all fields up to it. */
  begin(index: number, size: number, bytes: number): void;
  part(data: Buffer, start: number, end: number): void;
}

export class LargeRow {
  readonly #fields: LargeRowFields;
  readonly #head_bytes: number;
  /** The first byte and the bits that say which fields are NULL, once they have come. */
  #head: Buffer | null = null;
  #index = 0;
  /** What is missing of the field under way. */
  #rest = 0;
  #bytes = 0;
  /** The beginning of something that is small and not complete. */
  #held: Buffer = NOTHING;

  constructor(fields: LargeRowFields) {
    this.#fields = fields;
    this.#head_bytes = 1 + ((fields.count + 9) >> 3);
  }

  push(from: Buffer, start: number, end: number): void {
    const next = this.#part(from, start, end);
    if (this.#held.length === 0) {
      this.#take(from, next, end);
      return;
    }
    const data = Buffer.concat([this.#held, from.subarray(next, end)]);
    this.#held = NOTHING;
    this.#take(data, 0, data.length);
  }

  end(): void {
    this.push(NOTHING, 0, 0);
    if (this.#index === this.#fields.count && this.#rest === 0 && this.#held.length === 0) return;
    throw new ProtocolError('a row of another length than its fields');
  }

  #take(data: Buffer, start: number, end: number): void {
    let at = start;
    if (this.#head === null) {
      if (end - at < this.#head_bytes) {
        this.#hold(data, at, end);
        return;
      }
      this.#head = Buffer.from(data.subarray(at, at + this.#head_bytes));
      at += this.#head_bytes;
    }
    while (this.#rest === 0 && this.#index < this.#fields.count) {
      if (isNull(this.#head, this.#index)) {
        this.#fields.take(this.#head, this.#index, data, at, end);
        this.#index += 1;
        continue;
      }
      const length = this.#fields.lengthOf(this.#index, data, at, end);
      if (length === null || (!length.in_parts && end - at < length.prefix + length.size)) {
        this.#hold(data, at, end);
        return;
      }
      this.#bytes += length.size;
      if (length.in_parts) {
        this.#fields.begin(this.#index, length.size, this.#bytes);
        this.#rest = length.size;
        at = this.#part(data, at + length.prefix, end);
      } else {
        this.#fields.take(this.#head, this.#index, data, at, end);
        at += length.prefix + length.size;
      }
      this.#index += 1;
    }
    if (at < end) throw new ProtocolError('a row of another length than its fields');
  }

  #part(data: Buffer, start: number, end: number): number {
    const next = Math.min(end, start + this.#rest);
    if (next > start) this.#fields.part(data, start, next);
    this.#rest -= next - start;
    return next;
  }

  #hold(data: Buffer, at: number, end: number): void {
    this.#held = Buffer.from(data.subarray(at, end));
  }
}

const NOTHING = Buffer.alloc(0);

function isNull(head: Buffer, index: number): boolean {
  const bit = index + 2;
  return (((head[1 + (bit >> 3)] as number) >> (bit & 7)) & 1) !== 0;
}
