/** Rows as lines of copy-text, written field by field as bytes: see copy-text.ts for the form. */
import { BlockWriter, type FieldWriter, type Moment } from './field-writer.ts';

const TAB = 0x09;
const NEWLINE = 0x0a;
const BACKSLASH = 0x5c;
const BLANK = 0x20;
const PLUS = 0x2b;
const MINUS = 0x2d;
const POINT = 0x2e;
const ZERO = 0x30;
const COLON = 0x3a;
const N = 0x4e;
const X = 0x78;
const HEX = Buffer.from('0123456789abcdef', 'latin1');

/** What follows the backslash for a byte that is escaped; 0 for the others. */
export const ESCAPES = new Uint8Array(256);
for (const [code, letter] of [
  [0x00, '0'],
  [0x08, 'b'],
  [0x09, 't'],
  [0x0a, 'n'],
  [0x0b, 'v'],
  [0x0c, 'f'],
  [0x0d, 'r'],
  [0x5c, '\\'],
] as const) {
  ESCAPES[code] = letter.charCodeAt(0);
}
/** Long texts are written in parts, each with room for all of its bytes escaped. */
const PART_BYTES = 16 * 1024;

export class CopyTextWriter extends BlockWriter implements FieldWriter {
  #first = true;
  /** Whether the field that comes in parts is BYTES. */
  #in_bytes = false;

  beginRow(): void {
    this.#first = true;
  }

  override endRow(): void {
    this.room(1);
    this.#byte(NEWLINE);
    super.endRow();
  }

  null(): void {
    this.#separator(2);
    this.#byte(BACKSLASH);
    this.#byte(N);
  }

  integer(value: number): void {
    if (value >= 0 && value < 10) {
      this.#separator(1);
      this.#byte(ZERO + value);
    } else {
      this.#ascii(String(value));
    }
  }

  int64(from: Uint8Array, at: number): void {
    const low =
      ((from[at] as number) |
        ((from[at + 1] as number) << 8) |
        ((from[at + 2] as number) << 16) |
        ((from[at + 3] as number) << 24)) >>>
      0;
    const high =
      (from[at + 4] as number) |
      ((from[at + 5] as number) << 8) |
      ((from[at + 6] as number) << 16) |
      ((from[at + 7] as number) << 24);
    if (high >= -0x20_0000 && high < 0x20_0000) this.integer(high * 2 ** 32 + low);
    else this.#ascii(String((BigInt(high) << 32n) | BigInt(low)));
  }

  decimal(from: Uint8Array, start: number, end: number): void {
    this.#separator(0);
    this.append(from, start, end);
  }

  double(value: number): void {
    // String() forgets the sign of a zero.
    this.#ascii(Object.is(value, -0) ? '-0' : String(value));
  }

  date(value: Moment): void {
    this.#separator(10);
    this.#date(value);
  }

  timestamp(value: Moment, digits: number): void {
    this.#separator(26);
    this.#time(value, digits);
  }

  timestamptz(value: Moment, digits: number): void {
    this.#separator(29);
    this.#time(value, digits);
    this.#byte(PLUS);
    this.#byte(ZERO);
    this.#byte(ZERO);
  }

  text(from: Uint8Array, start: number, end: number): void {
    this.beginText();
    this.#escape(from, start, end);
  }

  bytes(from: Uint8Array, start: number, end: number): void {
    this.beginBytes();
    this.#hex(from, start, end);
  }

  beginText(): void {
    this.#separator(0);
    this.#in_bytes = false;
  }

  beginBytes(): void {
    this.#separator(3);
    this.#byte(BACKSLASH);
    this.#byte(BACKSLASH);
    this.#byte(X);
    this.#in_bytes = true;
  }

  part(from: Uint8Array, start: number, end: number): void {
    if (this.#in_bytes) this.#hex(from, start, end);
    else this.#escape(from, start, end);
  }

  #escape(from: Uint8Array, start: number, end: number): void {
    for (let part = start; part < end; part += PART_BYTES) {
      const rest = Math.min(end, part + PART_BYTES);
      this.room((rest - part) * 2);
      const { block } = this;
      let { at } = this;
      for (let index = part; index < rest; index += 1) {
        const byte = from[index] as number;
        const letter = ESCAPES[byte] as number;
        if (letter === 0) {
          block[at] = byte;
          at += 1;
        } else {
          block[at] = BACKSLASH;
          block[at + 1] = letter;
          at += 2;
        }
      }
      this.at = at;
    }
  }

  #hex(from: Uint8Array, start: number, end: number): void {
    for (let part = start; part < end; part += PART_BYTES) {
      const rest = Math.min(end, part + PART_BYTES);
      this.room((rest - part) * 2);
      for (let index = part; index < rest; index += 1) {
        const byte = from[index] as number;
        this.#byte(HEX[byte >> 4] as number);
        this.#byte(HEX[byte & 15] as number);
      }
    }
  }

  /** Makes room for a field of so many bytes, and for the tab in front of it. */
  #separator(bytes: number): void {
    this.room(bytes + 1);
    if (this.#first) this.#first = false;
    else this.#byte(TAB);
  }

  #ascii(text: string): void {
    this.#separator(text.length);
    for (let index = 0; index < text.length; index += 1) this.#byte(text.charCodeAt(index));
  }

  #date({ year, month, day }: Moment): void {
    this.#two(Math.floor(year / 100));
    this.#two(year % 100);
    this.#byte(MINUS);
    this.#two(month);
    this.#byte(MINUS);
    this.#two(day);
  }

  #time(value: Moment, digits: number): void {
    this.#date(value);
    this.#byte(BLANK);
    this.#two(value.hour);
    this.#byte(COLON);
    this.#two(value.minute);
    this.#byte(COLON);
    this.#two(value.second);
    if (digits === 0) return;
    this.#byte(POINT);
    let unit = 100_000;
    for (let digit = 0; digit < digits; digit += 1) {
      this.#byte(ZERO + (Math.floor(value.microsecond / unit) % 10));
      unit /= 10;
    }
  }

  #two(value: number): void {
    this.#byte(ZERO + Math.floor(value / 10));
    this.#byte(ZERO + (value % 10));
  }

  #byte(byte: number): void {
    this.block[this.at] = byte;
    this.at += 1;
  }
}
