/**
 * Rows of the binary protocol into fields of an encoding, one pass over the bytes and no value in between.
 * https://mariadb.com/docs/server/reference/clientserver-protocol/4-server-response-packets/resultset-row#binary-resultset-row
 */
import type { Column } from '../database.ts';
import { type FieldWriter, isDay, type Moment, shift } from '../encodings/field-writer.ts';
import type { ValueBound } from '../value-bound.ts';
import { type ColumnDefinition, fractionDigits, isBytesOfBits, isUnsigned, TYPE } from './source-columns.ts';
import { type FieldLength, LargeRow } from './source-large-row.ts';
import type { RowForm } from './source-readers.ts';
import { ProtocolError, readLength } from './source-wire.ts';

/** How a field lies in its row, and what is made of it. */
const FORM = {
  int8: 0,
  uint8: 1,
  int16: 2,
  uint16: 3,
  int32: 4,
  uint32: 5,
  int64: 6,
  uint64: 7,
  float: 8,
  double: 9,
  decimal: 10,
  date: 11,
  timestamp: 12,
  timestamptz: 13,
  time: 14,
  bit: 15,
  text: 16,
  bytes: 17,
  bit64: 18,
  few_bits: 19,
} as const;

/** Of the forms whose size is always the same. */
const FIXED_BYTES: readonly (number | undefined)[] = Object.assign([], {
  [FORM.int8]: 1,
  [FORM.uint8]: 1,
  [FORM.int16]: 2,
  [FORM.uint16]: 2,
  [FORM.int32]: 4,
  [FORM.uint32]: 4,
  [FORM.int64]: 8,
  [FORM.uint64]: 8,
  [FORM.float]: 4,
  [FORM.double]: 8,
});

function formOf(definition: ColumnDefinition, { type }: Column, mariadb: boolean): number {
  const unsigned = isUnsigned(definition);
  switch (definition.type) {
    case TYPE.tiny:
      return unsigned ? FORM.uint8 : FORM.int8;
    case TYPE.short:
      return unsigned ? FORM.uint16 : FORM.int16;
    case TYPE.year:
      return FORM.uint16;
    case TYPE.int24:
    case TYPE.long:
      return unsigned ? FORM.uint32 : FORM.int32;
    case TYPE.longlong:
      return unsigned ? FORM.uint64 : FORM.int64;
    case TYPE.float:
      return FORM.float;
    case TYPE.double:
      return FORM.double;
    case TYPE.decimal:
    case TYPE.newdecimal:
      return FORM.decimal;
    case TYPE.date:
    case TYPE.newdate:
      return FORM.date;
    case TYPE.datetime:
    case TYPE.timestamp:
      return type === 'TIMESTAMPTZ' ? FORM.timestamptz : FORM.timestamp;
    case TYPE.time:
      return FORM.time;
    case TYPE.bit:
      // What could be either and has more bits is refused before.
      if (!isBytesOfBits(definition, mariadb)) return FORM.few_bits;
      return type === 'DECIMAL' ? FORM.bit64 : FORM.bit;
    default:
      return type === 'BYTES' ? FORM.bytes : FORM.text;
  }
}

export class BinaryRows implements RowForm {
  readonly writer: FieldWriter;
  readonly columns: readonly Column[];
  readonly #forms: Uint8Array;
  /** Digits of the fractions of seconds. */
  readonly #digits: Uint8Array;
  readonly #to_utc: number;
  readonly #moment: Moment = { year: 0, month: 0, day: 0, hour: 0, minute: 0, second: 0, microsecond: 0 };
  readonly #scratch = Buffer.alloc(32);
  /** By column: how many dates were none and became NULL. */
  readonly no_dates: number[];
  #rows = 0;
  readonly #bound: ValueBound;
  /** The row that comes in pieces. */
  #large: LargeRow | null = null;

  /** `offset`: how many minutes the session's clock is ahead of UTC, for columns that are TIMESTAMPTZ. */
  constructor(
    definitions: readonly ColumnDefinition[],
    columns: readonly Column[],
    writer: FieldWriter,
    { offset, mariadb }: { readonly offset: number | null; readonly mariadb: boolean },
    bound: ValueBound,
  ) {
    this.#bound = bound;
    this.writer = writer;
    this.columns = columns;
    this.#forms = Uint8Array.from(definitions, (definition, index) =>
      formOf(definition, columns[index] as Column, mariadb),
    );
    this.#digits = Uint8Array.from(definitions, fractionDigits);
    this.no_dates = definitions.map(() => 0);
    this.#to_utc = -(offset ?? 0);
  }

  take(from: Buffer, start: number, end: number): void {
    const count = this.#forms.length;
    this.#rows += 1;
    this.writer.beginRow();
    const begin = start + 1 + ((count + 9) >> 3);
    const at = this.#fields(from, start, from, begin, end, 0, count);
    this.writer.endRow();
    if (at !== end) throw new ProtocolError('a row of another length than its fields');
    if (end - start > this.#bound.row) throw this.#bound.rowError(this.#rows);
  }

  takePiece(from: Buffer, start: number, end: number): void {
    if (this.#large === null) {
      this.#rows += 1;
      this.writer.beginRow();
      this.#large = new LargeRow({
        count: this.#forms.length,
        lengthOf: (index, data, at, end) => this.#lengthOf(index, data, at, end),
        take: (head, index, data, at, end) => {
          this.#fields(head, 0, data, at, end, index, index + 1);
        },
        begin: (index, size, bytes) => {
          if (size > this.#bound.value) throw this.#bound.valueError(index, this.#rows);
          if (bytes > this.#bound.row) throw this.#bound.rowError(this.#rows);
          if (this.#forms[index] === FORM.bytes) this.writer.beginBytes(size);
          else this.writer.beginText(size);
        },
        part: (data, begin, end) => this.writer.part(data, begin, end),
      });
    }
    this.#large.push(from, start, end);
  }

  endPieces(): void {
    this.#large?.end();
    this.#large = null;
    this.writer.endRow();
  }

  /** How a field begins at `at`: of what size it is, and whether it may come in parts. Null: that is not there yet. */
  #lengthOf(index: number, data: Buffer, at: number, end: number): FieldLength | null {
    const form = this.#forms[index] as number;
    const fixed = FIXED_BYTES[form];
    if (fixed !== undefined) return { size: fixed, prefix: 0, in_parts: false };
    if (at === end) return null;
    const first = data[at] as number;
    if (form === FORM.date || form === FORM.timestamp || form === FORM.timestamptz || form === FORM.time) {
      return { size: first, prefix: 1, in_parts: false };
    }
    const prefix = first < 0xfb ? 1 : first === 0xfc ? 3 : first === 0xfd ? 4 : 9;
    if (at + prefix > end) return null;
    const { length } = readLength(data, at, end);
    return { size: length, prefix, in_parts: form === FORM.text || form === FORM.bytes };
  }

  /** Some fields of a row, that begin at `begin`; where they end. `head`: where the row begins at `start`. */
  #fields(
    head: Buffer,
    start: number,
    from: Buffer,
    begin: number,
    end: number,
    first: number,
    last: number,
  ): number {
    const { writer } = this;
    const forms = this.#forms;
    const nulls = start + 1;
    let at = begin;
    for (let index = first; index < last; index += 1) {
      const bit = index + 2;
      if ((((head[nulls + (bit >> 3)] as number) >> (bit & 7)) & 1) !== 0) {
        writer.null();
        continue;
      }
      switch (forms[index]) {
        case FORM.int8:
          writer.integer(((from[at] as number) << 24) >> 24);
          at += 1;
          break;
        case FORM.uint8:
          writer.integer(from[at] as number);
          at += 1;
          break;
        case FORM.int16:
          writer.integer((((from[at] as number) | ((from[at + 1] as number) << 8)) << 16) >> 16);
          at += 2;
          break;
        case FORM.uint16:
          writer.integer((from[at] as number) | ((from[at + 1] as number) << 8));
          at += 2;
          break;
        case FORM.int32:
          writer.integer(int32(from, at));
          at += 4;
          break;
        case FORM.uint32:
          writer.integer(int32(from, at) >>> 0);
          at += 4;
          break;
        case FORM.int64:
          writer.int64(from, at);
          at += 8;
          break;
        case FORM.uint64:
          this.#digitsOf(from.readBigUInt64LE(at));
          at += 8;
          break;
        case FORM.float:
          writer.double(shortest(from.readFloatLE(at)));
          at += 4;
          break;
        case FORM.double:
          writer.double(from.readDoubleLE(at));
          at += 8;
          break;
        case FORM.date:
        case FORM.timestamp:
        case FORM.timestamptz:
          at = this.#date(from, at, index);
          break;
        case FORM.time:
          at = this.#time(from, at, this.#digits[index] as number);
          break;
        default:
          at = this.#string(from, at, end, index);
      }
    }
    return at;
  }

  #string(from: Buffer, at: number, end: number, index: number): number {
    const { writer } = this;
    const form = this.#forms[index] as number;
    let begin = at + 1;
    let length = from[at] as number;
    if (length >= 0xfb) ({ length, next: begin } = readLength(from, at, end));
    const next = begin + length;
    if (length < 0 || next > end) throw new ProtocolError('a field that is longer than its row');
    if (length > this.#bound.value) throw this.#bound.valueError(index, this.#rows);
    if (form === FORM.text) writer.text(from, begin, next);
    else if (form === FORM.decimal) writer.decimal(from, begin, next);
    else if (form === FORM.bytes) writer.bytes(from, begin, next);
    else if (form === FORM.few_bits) this.#fewBits(from, begin, next);
    else this.#bits(from, begin, next, form);
    return next;
  }

  /** BIT: bytes of a number, highest first. */
  #bits(from: Buffer, start: number, end: number, form: number): void {
    let value = 0n;
    for (let at = start; at < end; at += 1) value = (value << 8n) | BigInt(from[at] ?? 0);
    if (form === FORM.bit64) {
      this.#digitsOf(value);
    } else {
      this.#scratch.writeBigUInt64LE(value);
      this.writer.int64(this.#scratch, 0);
    }
  }

  /** One byte, or decimal digits. */
  #fewBits(from: Buffer, start: number, end: number): void {
    const first = from[start] ?? 0;
    this.writer.integer(first < ZERO ? first : Number(from.toString('latin1', start, end)));
  }

  #digitsOf(value: bigint): void {
    const digits = String(value);
    this.#scratch.write(digits, 'latin1');
    this.writer.decimal(this.#scratch, 0, digits.length);
  }

  /** Length (0, 4, 7 or 11), year, month, day, hour, minute, second, microsecond; what is missing is zero. */
  #date(from: Buffer, at: number, index: number): number {
    const { writer } = this;
    const moment = this.#moment;
    const length = from[at] as number;
    const next = at + 1 + length;
    moment.year = length >= 4 ? (from[at + 1] as number) | ((from[at + 2] as number) << 8) : 0;
    moment.month = length >= 4 ? (from[at + 3] as number) : 0;
    moment.day = length >= 4 ? (from[at + 4] as number) : 0;
    moment.hour = length >= 7 ? (from[at + 5] as number) : 0;
    moment.minute = length >= 7 ? (from[at + 6] as number) : 0;
    moment.second = length >= 7 ? (from[at + 7] as number) : 0;
    moment.microsecond = length >= 11 ? int32(from, at + 8) : 0;
    const { year, month, day } = moment;
    if (year === 0 || month === 0 || day === 0) {
      this.no_dates[index] = (this.no_dates[index] ?? 0) + 1;
      writer.null();
      return next;
    }
    if (day > 28 && !isDay(year, month, day)) throw this.#noSuchDay(index);
    const form = this.#forms[index];
    const digits = this.#digits[index] as number;
    if (form === FORM.date) {
      writer.date(moment);
    } else if (form === FORM.timestamp) {
      writer.timestamp(moment, digits);
    } else {
      if (this.#to_utc !== 0) shift(moment, this.#to_utc);
      writer.timestamptz(moment, digits);
    }
    return next;
  }

  /** Length (0, 8 or 12), sign, days, hours, minutes, seconds, microseconds; as the server prints it. */
  #time(from: Buffer, at: number, digits: number): number {
    const length = from[at] as number;
    const set = length >= 8;
    const hours = set ? int32(from, at + 2) * 24 + (from[at + 6] as number) : 0;
    const sign = set && from[at + 1] !== 0 ? '-' : '';
    const minutes = set ? from[at + 7] : 0;
    const seconds = set ? from[at + 8] : 0;
    const micros = length >= 12 ? int32(from, at + 9) : 0;
    const fraction = digits === 0 ? '' : `.${String(micros).padStart(6, '0').slice(0, digits)}`;
    const text = `${sign}${two(hours)}:${two(minutes)}:${two(seconds)}${fraction}`;
    this.#scratch.write(text, 'latin1');
    this.writer.text(this.#scratch, 0, text.length);
    return at + 1 + length;
  }

  #noSuchDay(index: number): Error {
    return new Error(
      `column "${this.columns[index]?.name}", row ${this.#rows}: a date that no calendar has, such as 30 February; cast the column to CHAR in the query`,
    );
  }
}

/** "0" */
const ZERO = 0x30;

function two(value: number | undefined): string {
  return String(value).padStart(2, '0');
}

function int32(from: Buffer, at: number): number {
  return (
    (from[at] as number) |
    ((from[at + 1] as number) << 8) |
    ((from[at + 2] as number) << 16) |
    ((from[at + 3] as number) << 24)
  );
}

/** The smallest float that has all of its 24 bits. */
const NORMAL = 2 ** -126;

/** The number of fewest decimal digits that a 32-bit float tells from its neighbours. */
export function shortest(float: number): number {
  // Written in digits a zero has no sign.
  if (float === 0) return float;
  // Six digits tell apart what differs in them, but among floats that have lost bits; nine always do.
  const fewest = Math.abs(float) < NORMAL ? 1 : 6;
  for (let digits = fewest; digits < 9; digits += 1) {
    const value = Number(float.toPrecision(digits));
    if (Math.fround(value) === float) return value;
  }
  return Number(float.toPrecision(9));
}
