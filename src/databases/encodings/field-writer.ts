/** How a source that decodes its rows writes them in an encoding, field by field, without a JS value for each. */
import type { Chunk } from '../database.ts';

/** A point in time as calendars have it: the proleptic Gregorian one, years from 1. */
export interface Moment {
  year: number;
  month: number;
  day: number;
  hour: number;
  minute: number;
  second: number;
  microsecond: number;
}

/**
 * Writes rows: `beginRow`, a call for each field in the order of the columns, `endRow`. Ranges of bytes
 * are from `start` to before `end`, and copied at once.
 */
export interface FieldWriter {
  beginRow(): void;
  endRow(): void;
  null(): void;
  /** A BIGINT within 53 bits. */
  integer(value: number): void;
  /** A BIGINT: eight bytes, little-endian, signed. */
  int64(from: Uint8Array, at: number): void;
  /** A DECIMAL: ASCII digits with a point and a sign where there are any. */
  decimal(from: Uint8Array, start: number, end: number): void;
  double(value: number): void;
  date(value: Moment): void;
  /** A TIMESTAMP, or a TIMESTAMPTZ in UTC. `digits`: how many of the fraction are shown where that is text. */
  timestamp(value: Moment, digits: number): void;
  timestamptz(value: Moment, digits: number): void;
  /** TEXT, JSON or ANY: bytes of UTF-8. */
  text(from: Uint8Array, start: number, end: number): void;
  bytes(from: Uint8Array, start: number, end: number): void;
  /** The beginning of a TEXT, JSON or ANY, or of a BYTES, of so many bytes, that come by calls of `part`. */
  beginText(size: number): void;
  beginBytes(size: number): void;
  part(from: Uint8Array, start: number, end: number): void;
  /** What was written since the last call. Chunks stay as they are when more is written. */
  take(): Chunk[];
}

/** Blocks of memory of this size are filled one after the other. */
const BLOCK_BYTES = 256 * 1024;

/** Appends bytes to blocks; those that are full, or wanted, are handed out as chunks. */
export class BlockWriter {
  protected block: Buffer = Buffer.allocUnsafeSlow(BLOCK_BYTES);
  protected at = 0;
  #begin = 0;
  #rows = 0;
  #chunks: Chunk[] = [];

  endRow(): void {
    this.#rows += 1;
  }

  take(): Chunk[] {
    this.#cut();
    const chunks = this.#chunks;
    this.#chunks = [];
    return chunks;
  }

  /** Makes room for so many bytes in one piece. */
  protected room(bytes: number): void {
    if (this.at + bytes > this.block.length) this.#next(bytes);
  }

  /** Appends a range of bytes of any length. */
  protected append(from: Uint8Array, start: number, end: number): void {
    const length = end - start;
    this.room(length);
    const { block } = this;
    let { at } = this;
    if (length > 48) {
      block.set(from.subarray(start, end), at);
    } else {
      // A call costs more than a few bytes do.
      for (let index = start; index < end; index += 1) {
        block[at] = from[index] as number;
        at += 1;
      }
    }
    this.at += length;
  }

  #next(bytes: number): void {
    this.#cut();
    this.block = Buffer.allocUnsafeSlow(Math.max(BLOCK_BYTES, bytes));
    this.at = 0;
    this.#begin = 0;
  }

  #cut(): void {
    if (this.at === this.#begin) return;
    this.#chunks.push({ data: this.block.subarray(this.#begin, this.at), rows: this.#rows });
    this.#begin = this.at;
    this.#rows = 0;
  }
}

/** Days from 1970-01-01 to a date. http://howardhinnant.github.io/date_algorithms.html#days_from_civil */
export function daysOf(year: number, month: number, day: number): number {
  const y = month <= 2 ? year - 1 : year;
  const era = Math.floor(y / 400);
  const yearOfEra = y - era * 400;
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  return (
    era * 146_097 +
    yearOfEra * 365 +
    Math.floor(yearOfEra / 4) -
    Math.floor(yearOfEra / 100) +
    dayOfYear -
    719_468
  );
}

const DAYS = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/** Whether a calendar has such a day; the month is from 1 to 12. */
export function isDay(year: number, month: number, day: number): boolean {
  if (day < 1 || day > (DAYS[month - 1] ?? 0)) return false;
  if (month !== 2 || day < 29) return true;
  return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
}

/** Moves a moment by so many minutes. */
export function shift(moment: Moment, minutes: number): void {
  const total =
    (daysOf(moment.year, moment.month, moment.day) * 24 + moment.hour) * 60 + moment.minute + minutes;
  const days = Math.floor(total / 1440);
  const ofDay = total - days * 1440;
  moment.hour = Math.floor(ofDay / 60);
  moment.minute = ofDay % 60;
  // http://howardhinnant.github.io/date_algorithms.html#civil_from_days
  const z = days + 719_468;
  const era = Math.floor(z / 146_097);
  const dayOfEra = z - era * 146_097;
  const yearOfEra = Math.floor(
    (dayOfEra -
      Math.floor(dayOfEra / 1460) +
      Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) /
      365,
  );
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const m = Math.floor((5 * dayOfYear + 2) / 153);
  moment.day = dayOfYear - Math.floor((153 * m + 2) / 5) + 1;
  moment.month = m < 10 ? m + 3 : m - 9;
  moment.year = yearOfEra + era * 400 + (moment.month <= 2 ? 1 : 0);
}
