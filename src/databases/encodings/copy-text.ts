/**
 * Rows as lines of tab-separated text: what Postgres' COPY reads in its text format, MySQL's LOAD DATA with
 * its default terminators, and what ClickHouse writes as TabSeparated.
 *
 * A line ends with "\n", fields are separated by "\t". NULL is \N; in a field \b, \f, \n, \r, \t, \v and the
 * backslash itself stand for themselves behind a backslash, \0 (NUL) too, though no Postgres takes it. A
 * field is UTF-8 and reads, by its column's type:
 *
 * - BIGINT: digits. DECIMAL: digits and a point, or NaN, Infinity, -Infinity. DOUBLE: the shortest digits that
 *   read as the same value, perhaps with an exponent, or NaN, Infinity, -Infinity.
 * - DATE: 2024-02-29. TIMESTAMP: 2024-02-29 23:59:59.123456, the fraction of any length up to six digits or
 *   missing. TIMESTAMPTZ: the same in UTC with "+00" behind it. Years have at least four digits; one before the
 *   first is written "0044-03-15 BC" as Postgres does (behind the zone, if there is one); "infinity" and "-infinity" are Postgres' own.
 * - BOOLEAN: 1 or 0. BYTES: "\x" and hexadecimal digits (the backslash of which is escaped: "\\x00ff").
 * - TEXT, JSON and ANY: the text itself.
 */
import { isUtf8 } from 'node:buffer';
import type { Chunk, Column, ColumnType, Value, WholeValue } from '../database.ts';
import { DatabaseError } from '../errors.ts';
import { encodeLong, isLong } from './long-value.ts';

const ESCAPED = /[\0\b\f\n\r\t\v\\]/;
const EVERY_ESCAPED = /[\0\b\f\n\r\t\v\\]/g;
const ESCAPES: Readonly<Record<string, string>> = {
  '\0': '\\0',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
  '\\': '\\\\',
};
/** Chunks of about this many characters: large enough for the socket, small enough for the event loop. */
const CHUNK_CHARACTERS = 64 * 1024;

export function escapeText(text: string): string {
  return ESCAPED.test(text) ? text.replace(EVERY_ESCAPED, (found) => ESCAPES[found] ?? found) : text;
}

/** A value as a field of its line, escaped. */
export function encodeField(value: WholeValue): string {
  switch (typeof value) {
    case 'string':
      return escapeText(value);
    case 'bigint':
      return value.toString();
    case 'number':
      // String() forgets the sign of a zero.
      return Object.is(value, -0) ? '-0' : String(value);
    case 'boolean':
      return value ? '1' : '0';
    case 'object':
      return value === null
        ? '\\N'
        : `\\\\x${Buffer.from(value.buffer, value.byteOffset, value.length).toString('hex')}`;
  }
}

/** Rows of JS values as chunks of lines. */
export async function* encodeRows(
  batches: AsyncIterable<readonly (readonly Value[])[]>,
): AsyncGenerator<Chunk, void, void> {
  let lines = '';
  let rows = 0;
  for await (const batch of batches) {
    for (const row of batch) {
      for (let index = 0; index < row.length; index += 1) {
        const value = row[index] ?? null;
        if (index > 0) lines += '\t';
        if (!isLong(value)) {
          lines += encodeField(value);
          continue;
        }
        yield { data: Buffer.from(lines), rows };
        lines = '';
        rows = 0;
        for await (const data of encodeLong(value)) yield { data, rows };
      }
      lines += '\n';
      rows += 1;
      if (lines.length < CHUNK_CHARACTERS) continue;
      yield { data: Buffer.from(lines), rows };
      lines = '';
      rows = 0;
    }
  }
  if (rows > 0) yield { data: Buffer.from(lines), rows };
}

const TAB = 0x09;
const NEWLINE = 0x0a;
const BACKSLASH = 0x5c;

/** Chunks of lines as rows of JS values, a batch per chunk. Text that is not UTF-8 is an error. */
export async function* decodeRows(
  chunks: AsyncIterable<Chunk>,
  columns: readonly Pick<Column, 'name' | 'type'>[],
): AsyncGenerator<readonly (readonly WholeValue[])[], void, void> {
  const decoder = new LineDecoder(columns);
  for await (const { data } of chunks) yield decoder.push(data);
  decoder.end();
}

/** Takes lines apart that come in pieces. */
export class LineDecoder {
  readonly #columns: readonly Pick<Column, 'name' | 'type'>[];
  /** The beginning of a line whose end has not come. */
  #held: Buffer[] = [];
  #held_bytes = 0;
  /** The same of a long one, whose beginning is taken apart already. */
  #long: LongLine | null = null;

  constructor(columns: readonly Pick<Column, 'name' | 'type'>[]) {
    this.#columns = columns;
  }

  /** The rows that end in this piece. Throws where text is not UTF-8. */
  push(piece: Uint8Array): readonly (readonly WholeValue[])[] {
    let data = Buffer.from(piece.buffer, piece.byteOffset, piece.length);
    const rows: WholeValue[][] = [];
    if (this.#long !== null) {
      const next = this.#long.push(data);
      if (next < 0) return [];
      rows.push(this.#long.row);
      this.#long = null;
      data = data.subarray(next);
    }
    const end = data.lastIndexOf(NEWLINE) + 1;
    if (end > 0) {
      const head = data.subarray(0, end);
      const lines = this.#held.length === 0 ? head : Buffer.concat([...this.#held, head]);
      for (const row of decodeLines(lines, this.#columns)) rows.push(row);
      this.#held = [];
      this.#held_bytes = 0;
    }
    this.#hold(data.subarray(end));
    return rows;
  }

  /** Throws if the last line has no end. */
  end(): void {
    if (this.#held.length > 0 || this.#long !== null) throw new Error('the last line of a result has no end');
  }

  #hold(rest: Buffer): void {
    if (rest.length === 0) return;
    this.#held.push(rest);
    this.#held_bytes += rest.length;
    if (this.#held_bytes < LONG_LINE_BYTES) return;
    this.#long = new LongLine(this.#columns);
    for (const held of this.#held) this.#long.push(held);
    this.#held = [];
    this.#held_bytes = 0;
  }
}

/** The most bytes that a JavaScript string can be made of. */
const LONGEST_FIELD = 500_000_000;

/** Lines of more bytes are taken apart while they come in: at their end there is little left to do. */
const LONG_LINE_BYTES = 256 * 1024;

class LongLine {
  readonly row: WholeValue[] = [];
  readonly #columns: readonly Pick<Column, 'name' | 'type'>[];
  /** Of the field under way, without its escapes. */
  #parts: Buffer[] = [];
  #is_null = false;
  /** The last piece ended between a backslash and what it escapes. */
  #open = false;

  constructor(columns: readonly Pick<Column, 'name' | 'type'>[]) {
    this.#columns = columns;
  }

  /** Where the line ends in a piece, behind its newline; -1: it goes on. */
  push(piece: Buffer): number {
    const plain = Buffer.allocUnsafe(piece.length);
    let length = 0;
    let begin = 0;
    for (let at = 0; at < piece.length; at += 1) {
      let byte = piece[at] as number;
      if (this.#open) {
        this.#open = false;
        if (byte === 0x4e /* N */) this.#is_null = true;
        byte = UNESCAPED[byte] ?? byte;
      } else if (byte === BACKSLASH) {
        this.#open = true;
        continue;
      } else if (byte === TAB || byte === NEWLINE) {
        this.#parts.push(plain.subarray(begin, length));
        begin = length;
        this.#endField();
        if (byte === TAB) continue;
        if (this.row.length !== this.#columns.length)
          throw new Error('a line of a result has too few fields');
        return at + 1;
      }
      plain[length] = byte;
      length += 1;
    }
    this.#parts.push(plain.subarray(begin, length));
    return -1;
  }

  #endField(): void {
    const column = this.#columns[this.row.length];
    if (column === undefined) throw new Error('a line of a result has too many fields');
    const field = Buffer.concat(this.#parts);
    this.#parts = [];
    // No other field is an escaped N.
    const is_null = this.#is_null && field.length === 1;
    this.#is_null = false;
    this.row.push(is_null ? null : decodeValue(field, 0, field.length, column));
  }
}

function decodeLines(lines: Buffer, columns: readonly Pick<Column, 'name' | 'type'>[]): WholeValue[][] {
  const rows: WholeValue[][] = [];
  let row: WholeValue[] = [];
  let start = 0;
  let escaped = false;
  for (let at = 0; at < lines.length; at += 1) {
    const byte = lines[at];
    if (byte === BACKSLASH) {
      escaped = true;
      at += 1; // what follows is neither a separator nor the beginning of another escape
    } else if (byte === TAB || byte === NEWLINE) {
      const column = columns[row.length];
      // A row without columns is an empty line.
      if (column !== undefined) row.push(decodeField(lines, start, at, escaped, column));
      else if (at > start || byte === TAB) throw new Error('a line of a result has too many fields');
      start = at + 1;
      escaped = false;
      if (byte === NEWLINE) {
        if (row.length !== columns.length) throw new Error('a line of a result has too few fields');
        rows.push(row);
        row = [];
      }
    }
  }
  return rows;
}

function decodeField(
  lines: Buffer,
  start: number,
  end: number,
  escaped: boolean,
  column: Pick<Column, 'name' | 'type'>,
): WholeValue {
  if (!escaped) return decodeValue(lines, start, end, column);
  if (end - start === 2 && lines[start + 1] === 0x4e /* N */) return null;
  const field = unescaped(lines.subarray(start, end));
  return decodeValue(field, 0, field.length, column);
}

function decodeValue(
  buffer: Buffer,
  start: number,
  end: number,
  { name, type }: Pick<Column, 'name' | 'type'>,
): WholeValue {
  if (end - start > LONGEST_FIELD) {
    throw new DatabaseError(
      'query_failed',
      `column "${name}": a value takes ${end - start} bytes on its way, of which this results backend takes ${LONGEST_FIELD}; let the query give less of it`,
    );
  }
  if (type === 'BYTES') return Buffer.from(buffer.toString('latin1', start + 2, end), 'hex');
  return decodeText(readText(buffer, start, end, name), type);
}

function readText(buffer: Buffer, start: number, end: number, column: string): string {
  const text = buffer.toString('utf8', start, end);
  // U+FFFD stands for a byte that is not UTF-8, unless it was sent as such.
  if (text.includes('\ufffd') && !isUtf8(buffer.subarray(start, end))) {
    throw new DatabaseError(
      'query_failed',
      `column "${column}": a value is not UTF-8 text; ask for its bytes instead`,
    );
  }
  return text;
}

const UNESCAPED: Readonly<Record<number, number>> = {
  48: 0x00,
  98: 0x08,
  102: 0x0c,
  110: 0x0a,
  114: 0x0d,
  116: 0x09,
  118: 0x0b,
};

function unescaped(field: Buffer): Buffer {
  const plain = Buffer.allocUnsafe(field.length);
  let length = 0;
  for (let at = 0; at < field.length; at += 1) {
    let byte = field[at] ?? 0;
    if (byte === BACKSLASH) {
      at += 1;
      const next = field[at] ?? BACKSLASH;
      byte = UNESCAPED[next] ?? next;
    }
    plain[length] = byte;
    length += 1;
  }
  return plain.subarray(0, length);
}

function decodeText(text: string, type: Exclude<ColumnType, 'BYTES'>): WholeValue {
  switch (type) {
    case 'BIGINT':
      return BigInt(text);
    case 'DOUBLE':
      return Number(text);
    case 'BOOLEAN':
      return text === '1';
    case 'DECIMAL':
    case 'DATE':
    case 'TIMESTAMP':
    case 'TIMESTAMPTZ':
    case 'TEXT':
    case 'JSON':
    case 'ANY':
      return text;
  }
}
