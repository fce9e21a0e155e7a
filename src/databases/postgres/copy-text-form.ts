/** Rows as the server writes them, fields as text or in their binary form, turned into lines of `copy-text` byte by byte. */
import type { Chunk, Column } from '../database.ts';
import type { RowForm } from './wire.ts';

const TAB = 0x09;
const NEWLINE = 0x0a;
const BACKSLASH = 0x5c;
/** The digits of hexadecimal numbers. */
const HEX = Buffer.from('0123456789abcdef');
const CHUNK_BYTES = 64 * 1024;

/** The letter behind the backslash for bytes that need one, else 0. */
const ESCAPES = new Uint8Array(256);
for (const [character, letter] of ['\bb', '\ff', '\nn', '\rr', '\tt', '\vv', '\\\\']) {
  ESCAPES[character?.charCodeAt(0) ?? 0] = letter?.charCodeAt(0) ?? 0;
}

export class CopyTextForm implements RowForm {
  readonly #types: readonly Column['type'][];
  #made = Buffer.allocUnsafe(2 * CHUNK_BYTES);
  #length = 0;
  #rows = 0;
  /** Of the field under way, where a row comes in pieces: its type and size, and what has come of one that is short. */
  #type: Column['type'] = 'ANY';
  #size = 0;
  #short = Buffer.alloc(0);

  constructor(columns: readonly Column[]) {
    this.#types = columns.map(({ type }) => type);
  }

  field(index: number, size: number): void {
    this.#makeRoom(4);
    if (index > 0) this.#byte(TAB);
    this.#type = this.#types[index] ?? 'ANY';
    this.#size = size;
    this.#short = Buffer.alloc(0);
    if (size === -1) {
      this.#byte(BACKSLASH);
      this.#byte(0x4e);
    } else if (this.#type === 'BYTES') {
      this.#length = writeHexMark(this.#made, this.#length);
    }
  }

  bytes(piece: Buffer): void {
    if (this.#type === 'BYTES') {
      this.#makeRoom(2 * piece.length);
      this.#length = hexInto(this.#made, this.#length, piece, 0, piece.length);
    } else if (SHORT.has(this.#type)) {
      this.#short = Buffer.concat([this.#short, piece]);
      if (this.#short.length < this.#size) return;
      this.#makeRoom(64);
      const text = shortText(this.#type, this.#short, 0, this.#size);
      this.#length = textInto(this.#made, this.#length, text);
    } else {
      this.#makeRoom(2 * piece.length);
      this.#length = escapeInto(this.#made, this.#length, piece, 0, piece.length);
    }
  }

  endRow(): void {
    this.#makeRoom(1);
    this.#byte(NEWLINE);
    this.#rows += 1;
  }

  take(body: Buffer): void {
    // Every byte may become two; a field without bytes is \N, and has a separator.
    this.#makeRoom(2 * body.length + 64 * this.#types.length + 1);
    const made = this.#made;
    let to = this.#length;
    let at = 2;
    for (let index = 0; index < this.#types.length; index += 1) {
      if (index > 0) made[to++] = TAB;
      const size = body.readInt32BE(at);
      at += 4;
      if (size === -1) {
        made[to++] = BACKSLASH;
        made[to++] = 0x4e;
        continue;
      }
      const type = this.#types[index] ?? 'ANY';
      if (SHORT.has(type)) {
        to = textInto(made, to, shortText(type, body, at, size));
      } else if (type === 'BYTES') {
        to = hexInto(made, writeHexMark(made, to), body, at, at + size);
      } else {
        to = escapeInto(made, to, body, at, at + size);
      }
      at += size;
    }
    made[to++] = NEWLINE;
    this.#length = to;
    this.#rows += 1;
  }

  flush(): Chunk | null {
    if (this.#length === 0) return null;
    const chunk = { data: this.#made.subarray(0, this.#length), rows: this.#rows };
    // What was handed out is not written to again: the rest of the buffer is.
    this.#made = this.#made.subarray(this.#length);
    this.#length = 0;
    this.#rows = 0;
    return chunk;
  }

  #byte(byte: number): void {
    this.#made[this.#length] = byte;
    this.#length += 1;
  }

  #makeRoom(bytes: number): void {
    if (this.#made.length - this.#length >= bytes) return;
    const larger = Buffer.allocUnsafe(Math.max(2 * CHUNK_BYTES, this.#length + bytes));
    this.#made.copy(larger, 0, 0, this.#length);
    this.#made = larger;
  }
}

/** Kinds that come in a few bytes, and are made text as a whole. */
const SHORT: ReadonlySet<Column['type']> = new Set(['BOOLEAN', 'DATE', 'TIMESTAMP', 'TIMESTAMPTZ', 'DOUBLE']);

function shortText(type: Column['type'], body: Buffer, at: number, size: number): string {
  switch (type) {
    case 'BOOLEAN':
      return body[at] === 0x74 /* t */ ? '1' : '0';
    case 'DATE':
      return dayText(body.readInt32BE(at));
    case 'DOUBLE':
      return size === 4 ? singleText(body.readFloatBE(at)) : doubleText(body.readDoubleBE(at));
    default:
      return instantText(
        body.readInt32BE(at),
        body.readUInt32BE(at + 4),
        type === 'TIMESTAMPTZ' ? '+00' : '',
      );
  }
}

/** Writes a short text of plain characters, sooner than `Buffer.write` would; where its end is then. */
function textInto(made: Buffer, begin: number, text: string): number {
  for (let at = 0; at < text.length; at += 1) made[begin + at] = text.charCodeAt(at);
  return begin + text.length;
}

/** Writes "\x", whose backslash is escaped; where its end is then. */
function writeHexMark(made: Buffer, begin: number): number {
  return begin + made.write('\\\\x', begin, 'latin1');
}

/** Writes a range of bytes as hexadecimal digits; where their end is then. */
function hexInto(made: Buffer, begin: number, from: Buffer, start: number, end: number): number {
  let to = begin;
  for (let at = start; at < end; at += 1) {
    const byte = from[at] ?? 0;
    made[to++] = HEX[byte >> 4] ?? 0;
    made[to++] = HEX[byte & 15] ?? 0;
  }
  return to;
}

/** Writes a range of bytes as text of a field; where its end is then. */
function escapeInto(made: Buffer, begin: number, from: Buffer, start: number, end: number): number {
  let to = begin;
  for (let at = start; at < end; at += 1) {
    const byte = from[at] ?? 0;
    const letter = ESCAPES[byte] ?? 0;
    if (letter === 0) {
      made[to++] = byte;
    } else {
      made[to++] = BACKSLASH;
      made[to++] = letter;
    }
  }
  return to;
}

const MICROSECONDS_A_DAY = 86_400_000_000n;
/** Days from 0000-03-01 to 2000-01-01, which Postgres counts from. */
const DAYS_BEFORE_2000 = 730_425;
const INFINITY = { high: 0x7fffffff, low: 0xffffffff };
const MINUS_INFINITY = { high: -0x80000000, low: 0 };

/** The shortest digits that read as the same double. */
function doubleText(number: number): string {
  return Object.is(number, -0) ? '-0' : String(number);
}

const LEAST_NORMAL_SINGLE = 2 ** -126;
/** Every decimal of so many digits is another normal 32-bit float, and so many tell any two of those apart. */
const SINGLE_DIGITS = 6;
const MOST_SINGLE_DIGITS = 9;

/** The shortest digits that read as the same 32-bit float. */
export function singleText(number: number): string {
  if (!Number.isFinite(number) || number === 0) return doubleText(number);
  for (
    let digits = Math.abs(number) < LEAST_NORMAL_SINGLE ? 1 : SINGLE_DIGITS;
    digits < MOST_SINGLE_DIGITS;
    digits += 1
  ) {
    const rounded = roundedSingle(number, digits);
    if (rounded !== null) return String(rounded);
  }
  return String(Number(number.toPrecision(MOST_SINGLE_DIGITS)));
}

/** The decimal of so many digits that the server writes for a 32-bit float; null: none reads as it. */
function roundedSingle(number: number, digits: number): number | null {
  const [mantissa = '', exponent] = number.toExponential(digits - 1).split('e');
  const whole = Number(mantissa.replace('.', ''));
  const decimal = (step: number) => Number(`${whole + step}e${Number(exponent) - (digits - 1)}`);
  const further = number.toExponential(digits);
  // Of two that are as near, the server takes the even one, and toExponential the larger.
  const isTie = /5e/.test(further) && Number(further) === number;
  const nearest = decimal(isTie && whole % 2 !== 0 ? -Math.sign(number) : 0);
  if (Math.fround(nearest) === number) return nearest;
  if (!Number.isInteger(Math.log2(Math.abs(number)))) return null;
  // Below a power of two floats lie closer together than above it, where a decimal that is not the nearest may do.
  const above = decimal(Math.sign(number));
  return Math.fround(above) === number ? above : null;
}

/** A date, days since 2000, as Postgres prints it. */
export function dayText(days: number): string {
  if (days === INFINITY.high) return 'infinity';
  if (days === MINUS_INFINITY.high) return '-infinity';
  const { date, era } = dateText(days);
  return date + era;
}

/** A timestamp, microseconds since 2000 as two halves, as Postgres prints it; `zone` stands behind the time. */
export function instantText(high: number, low: number, zone: string): string {
  if (high === INFINITY.high && low === INFINITY.low) return 'infinity';
  if (high === MINUS_INFINITY.high && low === MINUS_INFINITY.low) return '-infinity';
  let days: number;
  let microseconds: number;
  if (high >= -0x100000 && high < 0x100000) {
    // Below 2^52 a double is exact: the years 1857 to 2142.
    const whole = high * 0x1_0000_0000 + low;
    days = Math.floor(whole / Number(MICROSECONDS_A_DAY));
    microseconds = whole - days * Number(MICROSECONDS_A_DAY);
  } else {
    const whole = (BigInt(high) << 32n) | BigInt(low);
    const rest = ((whole % MICROSECONDS_A_DAY) + MICROSECONDS_A_DAY) % MICROSECONDS_A_DAY;
    days = Number((whole - rest) / MICROSECONDS_A_DAY);
    microseconds = Number(rest);
  }
  const { date, era } = dateText(days);
  const seconds = Math.floor(microseconds / 1_000_000);
  const minutes = Math.floor(seconds / 60);
  const time = `${two(Math.floor(minutes / 60))}:${two(minutes % 60)}:${two(seconds % 60)}`;
  const fraction = microseconds % 1_000_000;
  const point = fraction === 0 ? '' : `.${pad(fraction, 6).replace(/0+$/, '')}`;
  return `${date} ${time}${point}${zone}${era}`;
}

const TWO_DIGITS = Array.from({ length: 100 }, (_, number) => pad(number, 2));

function two(number: number): string {
  return TWO_DIGITS[number] ?? '';
}

interface DateText {
  readonly date: string;
  readonly era: string;
}

/** Dates repeat: each is made text once, and so many are kept. */
const dates = new Map<number, DateText>();
const MOST_DATES = 4_096;

function dateText(days: number): DateText {
  const known = dates.get(days);
  if (known !== undefined) return known;
  const made = makeDate(days);
  if (dates.size >= MOST_DATES) dates.clear();
  dates.set(days, made);
  return made;
}

/** The Gregorian date so many days after 2000-01-01, by the way of years that begin in March. */
function makeDate(days: number): DateText {
  const day = days + DAYS_BEFORE_2000;
  const era = Math.floor(day / 146_097);
  const of_era = day - era * 146_097;
  const year_of_era = Math.floor(
    (of_era - Math.floor(of_era / 1_460) + Math.floor(of_era / 36_524) - Math.floor(of_era / 146_096)) / 365,
  );
  const of_year = of_era - (365 * year_of_era + Math.floor(year_of_era / 4) - Math.floor(year_of_era / 100));
  const march_month = Math.floor((5 * of_year + 2) / 153);
  const day_of_month = of_year - Math.floor((153 * march_month + 2) / 5) + 1;
  const month = march_month < 10 ? march_month + 3 : march_month - 9;
  const year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);
  const shown = year > 0 ? year : 1 - year;
  return { date: `${pad(shown, 4)}-${pad(month, 2)}-${pad(day_of_month, 2)}`, era: year > 0 ? '' : ' BC' };
}

function pad(number: number, digits: number): string {
  return String(number).padStart(digits, '0');
}
