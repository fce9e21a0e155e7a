/** Reads a query's rows in batches, and makes sure that every text arrives as it is. */
import { isUtf8 } from 'node:buffer';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { TextDecoder } from 'node:util';
import type { Column, ColumnType, WholeValue } from '../database.ts';
import { DatabaseError } from '../errors.ts';
import type { ValueBound } from '../value-bound.ts';
import type { LargeValues } from './large-values.ts';
import type { TextEncoding } from './text-encoding.ts';

/** A batch ends with whichever is reached first. */
const BATCH_ROWS = 1_000;
const BATCH_BYTES = 128 * 1024;

/** What is handed over of a large value at once. */
const PIECE_BYTES = 256 * 1024;

/** SQLite's limit is 2,000 columns in a result set, so there is no room to check more than half as many. */
const MOST_CHECKED = 1_000;

/**
 * node:sqlite makes text into JavaScript strings: a byte that is not UTF-8 becomes U+FFFD, and before Node
 * 24 a NUL ends the text. So beside each column stands its text in bytes, if there is a U+FFFD or a NUL in
 * it: then the bytes are what counts, and a U+FFFD without them was made up. Of UTF-16, SQLite makes UTF-8 first,
 * and of half a surrogate pair with what follows it another character: there the bytes of every text are read.
 */
export function readerSql(
  query: string,
  columns: readonly Pick<Column, 'type'>[],
  encoding: TextEncoding,
  large: LargeValues,
): string {
  const names = columns.map((_, index) => `c${index}`);
  // In a column of numbers nobody has large values, and what they would be refused for is told by others.
  const values = names.map((name, index) =>
    LARGE_TYPES.has(columns[index]?.type)
      ? `CASE WHEN ${large.condition(index, name)} THEN CAST(${name} AS BLOB) ELSE ${name} END`
      : name,
  );
  const q = `WITH q(${names.join(', ')}) AS (${query}\n)`;
  if (columns.length > MOST_CHECKED) return `${q} SELECT ${values.join(', ')} FROM q`;
  const doubtful = (name: string) =>
    encoding === 'utf-8' ? ` AND (instr(${name}, char(65533)) OR instr(${name}, char(0)))` : '';
  const checks = names.map(
    (name) =>
      `CASE WHEN typeof(${name}) = 'text' AND octet_length(${name}) <= ${large.bytes}${doubtful(name)} THEN CAST(${name} AS BLOB) END`,
  );
  return `${q} SELECT ${[...values, ...checks].join(', ')} FROM q`;
}

/** Throws for a result in which a text could be cut or changed without anyone noticing. */
export function checkReadable(db: DatabaseSync, width: number, encoding: TextEncoding): void {
  if (width <= MOST_CHECKED) return;
  if (encoding !== 'utf-8') {
    throw new DatabaseError(
      'query_failed',
      `the result has ${width} columns: of a database in UTF-16 at most ${MOST_CHECKED} can be read`,
    );
  }
  const text = db.prepare("SELECT 'a' || char(0) || 'b' AS text").get()?.['text'];
  if (text === 'a\0b') return;
  throw new DatabaseError(
    'query_failed',
    `the result has ${width} columns: more than ${MOST_CHECKED} need Node 24, or a results backend that takes SQLite files`,
  );
}

/** Of columns whose values may be large. */
const LARGE_TYPES: ReadonlySet<ColumnType | undefined> = new Set(['TEXT', 'JSON', 'BYTES', 'ANY']);

export interface Batch {
  /** Where the last one has a large value stands what it is. */
  readonly rows: readonly (readonly WholeValue[])[];
  /** The columns of those. */
  readonly long: readonly number[];
  /** Without them. */
  readonly bytes: number;
  readonly done: boolean;
}

const NOT_UTF8 =
  'the text is not UTF-8, which can be copied between SQLite files only (or select it as a blob, or as hex)';
const NOT_UTF16 = 'the text is not UTF-16; select it as a blob, or as hex';

export class RowReader {
  readonly #rows: Iterator<unknown>;
  readonly #columns: readonly Pick<Column, 'name'>[];
  readonly #encoding: TextEncoding;
  readonly #decoder: TextDecoder;
  readonly #large: LargeValues;
  readonly #bound: ValueBound;
  /** Large values of the last row, as far as they have not been fetched. */
  readonly #long = new Map<number, Uint8Array>();

  #row = 0;

  constructor(
    rows: Iterator<unknown>,
    columns: readonly Pick<Column, 'name'>[],
    encoding: TextEncoding,
    large: LargeValues,
    bound: ValueBound,
  ) {
    this.#rows = rows;
    this.#large = large;
    this.#bound = bound;
    this.#columns = columns;
    this.#encoding = encoding;
    this.#decoder = new TextDecoder(encoding, { fatal: true, ignoreBOM: true });
  }

  /** Throws `query_failed` for a text that no JavaScript string can hold. */
  batch(): Batch {
    const rows: WholeValue[][] = [];
    let bytes = 0;
    if (this.#long.size > 0) globalThis.gc?.(); // what the last row took
    this.#long.clear();
    while (rows.length < BATCH_ROWS && bytes < BATCH_BYTES && this.#long.size === 0) {
      this.#large.rows = this.#row;
      this.#large.nextRow();
      const next = this.#rows.next();
      if (next.done === true) return { rows, long: [], bytes, done: true };
      this.#row += 1;
      const read = next.value as WholeValue[];
      const row = read.slice(0, this.#columns.length);
      const before = bytes;
      for (let index = 0; index < row.length; index++) {
        const value = row[index];
        const is_text = this.#large.found.get(index);
        if (is_text !== undefined && value instanceof Uint8Array) {
          this.#long.set(index, is_text ? this.#utf8(value, index) : value);
          row[index] = is_text ? 'text' : 'bytes';
        } else if (typeof value === 'string') {
          const exact = read[this.#columns.length + index];
          if (exact instanceof Uint8Array) row[index] = this.#decode(exact, index);
          else if (value.includes('\ufffd')) throw this.#invalid(index);
          bytes += Buffer.byteLength(value);
        } else {
          bytes += value instanceof Uint8Array ? value.length : 8;
        }
      }
      if (bytes - before > this.#bound.row) throw this.#bound.rowError(this.#row);
      rows.push(row);
    }
    return { rows, long: [...this.#long.keys()], bytes, done: false };
  }

  /** The next bytes of a large value; null: there are no more. */
  piece(column: number): Uint8Array | null {
    const rest = this.#long.get(column);
    if (rest === undefined) throw new Error('there is no such large value');
    if (rest.length === 0) return null;
    this.#long.set(column, rest.subarray(PIECE_BYTES));
    return rest.subarray(0, PIECE_BYTES);
  }

  #utf8(bytes: Uint8Array, index: number): Uint8Array {
    if (this.#encoding !== 'utf-8') return Buffer.from(this.#decode(bytes, index));
    if (isUtf8(bytes)) return bytes;
    throw this.#invalid(index);
  }

  #decode(bytes: Uint8Array, index: number): string {
    try {
      return this.#decoder.decode(bytes);
    } catch (error) {
      throw this.#invalid(index, error);
    }
  }

  #invalid(index: number, cause?: unknown): DatabaseError {
    return new DatabaseError(
      'query_failed',
      `row ${this.#row}, column "${this.#columns[index]?.name ?? ''}": ${this.#encoding === 'utf-8' ? NOT_UTF8 : NOT_UTF16}`,
      { cause },
    );
  }
}

/** Sets a statement up for a `RowReader`. */
export function readRows(
  statement: StatementSync,
  bindings: Record<string, null | string | number | bigint>,
) {
  statement.setReadBigInts(true);
  statement.setReturnArrays(true);
  return statement.iterate(bindings) as Iterator<unknown>;
}
