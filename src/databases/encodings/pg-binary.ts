/**
 * Rows as tuples of Postgres' COPY BINARY, without its header and trailer: for each row the number of its fields
 * (int16), for each field its length (int32, -1 for NULL) and its bytes, all big-endian.
 * https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
 */
import { BlockWriter, daysOf, type FieldWriter, type Moment } from './field-writer.ts';

/** 2000-01-01, where Postgres begins to count, in days from 1970-01-01. */
const POSTGRES_EPOCH_DAYS = 10_957;
/** The microseconds of a day, in units of 2^32 and the rest: their sum passes 2^53. */
const DAY_HIGH = 20;
const DAY_LOW = 500_654_080;
const TWO_32 = 2 ** 32;

const POINT = 0x2e;
const MINUS = 0x2d;
const PLUS = 0x2b;
const ZERO = 0x30;

/** Fields have the binary form of int8, numeric, float8, date, timestamp, timestamptz, text and bytea. */
export class PgBinaryWriter extends BlockWriter implements FieldWriter {
  readonly #fields: number;
  readonly #double = new DataView(new ArrayBuffer(8));
  /** Digits of a number to the base of 10,000, highest first. */
  #groups = new Uint16Array(64);

  constructor(fields: number) {
    super();
    // Of a result of more columns nothing could be written; an int16 holds no more.
    if (fields > 32_767) throw new RangeError('COPY takes at most 32,767 columns');
    this.#fields = fields;
  }

  beginRow(): void {
    this.room(2);
    this.#int16(this.#fields);
  }

  null(): void {
    this.room(4);
    this.#int32(-1);
  }

  integer(value: number): void {
    this.room(12);
    this.#int32(8);
    const high = Math.floor(value / TWO_32);
    this.#int32(high);
    this.#int32(value - high * TWO_32);
  }

  int64(from: Uint8Array, at: number): void {
    this.room(12);
    this.#int32(8);
    const { block } = this;
    for (let index = 7; index >= 0; index -= 1) {
      block[this.at] = from[at + index] as number;
      this.at += 1;
    }
  }

  double(value: number): void {
    this.room(12);
    this.#int32(8);
    this.#double.setFloat64(0, value);
    this.#int32(this.#double.getInt32(0));
    this.#int32(this.#double.getInt32(4));
  }

  date({ year, month, day }: Moment): void {
    this.room(8);
    this.#int32(4);
    this.#int32(daysOf(year, month, day) - POSTGRES_EPOCH_DAYS);
  }

  timestamp(value: Moment): void {
    const { year, month, day, hour, minute, second, microsecond } = value;
    const days = daysOf(year, month, day) - POSTGRES_EPOCH_DAYS;
    const low = days * DAY_LOW + ((hour * 60 + minute) * 60 + second) * 1_000_000 + microsecond;
    const carry = Math.floor(low / TWO_32);
    this.room(12);
    this.#int32(8);
    this.#int32(days * DAY_HIGH + carry);
    this.#int32(low - carry * TWO_32);
  }

  timestamptz(value: Moment): void {
    this.timestamp(value);
  }

  text(from: Uint8Array, start: number, end: number): void {
    this.beginText(end - start);
    this.append(from, start, end);
  }

  beginText(size: number): void {
    this.room(4);
    this.#int32(size);
  }

  beginBytes(size: number): void {
    this.beginText(size);
  }

  part(from: Uint8Array, start: number, end: number): void {
    this.append(from, start, end);
  }

  bytes(from: Uint8Array, start: number, end: number): void {
    this.text(from, start, end);
  }

  decimal(from: Uint8Array, start: number, end: number): void {
    const negative = from[start] === MINUS;
    let first = negative || from[start] === PLUS ? start + 1 : start;
    let point = first;
    while (point < end && from[point] !== POINT) point += 1;
    while (first < point && from[first] === ZERO) first += 1;
    const scale = Math.max(0, end - point - 1);
    const whole = Math.ceil((point - first) / 4);
    const count = whole + Math.ceil(scale / 4);
    if (count > this.#groups.length) this.#groups = new Uint16Array(count * 2);
    const groups = this.#groups;
    // Before the point groups of four end at it, behind it they begin at it.
    let group = 0;
    for (let at = first; at < point; at += 1) {
      const digit = (from[at] as number) - ZERO;
      if ((point - at) % 4 === 0 || at === first) groups[group] = digit;
      else groups[group] = (groups[group] as number) * 10 + digit;
      if ((point - at) % 4 === 1) group += 1;
    }
    for (let at = 0; at < scale; at += 4) {
      let value = 0;
      for (let index = at; index < at + 4; index += 1) {
        value = value * 10 + (index < scale ? (from[point + 1 + index] as number) - ZERO : 0);
      }
      groups[group] = value;
      group += 1;
    }
    let begin = 0;
    let last = count;
    while (begin < last && groups[begin] === 0) begin += 1;
    while (last > begin && groups[last - 1] === 0) last -= 1;
    const size = last - begin;
    this.room(12 + size * 2);
    this.#int32(8 + size * 2);
    this.#int16(size);
    this.#int16(size === 0 ? 0 : whole - 1 - begin);
    this.#int16(negative && size > 0 ? 0x4000 : 0);
    this.#int16(scale);
    for (let index = begin; index < last; index += 1) this.#int16(groups[index] as number);
  }

  #int16(value: number): void {
    const { block, at } = this;
    block[at] = value >>> 8;
    block[at + 1] = value;
    this.at = at + 2;
  }

  #int32(value: number): void {
    const { block, at } = this;
    block[at] = value >>> 24;
    block[at + 1] = value >>> 16;
    block[at + 2] = value >>> 8;
    block[at + 3] = value;
    this.at = at + 4;
  }
}
