/** Reads a query's rows in batches, and makes sure that every text arrives as it is. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { TextDecoder } from 'node:util';
import type { Column, Value } from '../database.ts';
import { DatabaseError } from '../errors.ts';
import type { TextEncoding } from './text-encoding.ts';

/** A batch ends with whichever is reached first. */
const BATCH_ROWS = 1_000;
const BATCH_BYTES = 128 * 1024;

/** SQLite's limit is 2,000 columns in a result set, so there is no room to check more than half as many. */
const MOST_CHECKED = 1_000;

/**
 * node:sqlite makes text into JavaScript strings: a byte that is not UTF-8 becomes U+FFFD, and before Node
 * 24 a NUL ends the text. So beside each column stands its text in bytes, if there is a U+FFFD or a NUL in
 * it: then the bytes are what counts, and a U+FFFD without them was made up. Of UTF-16, SQLite makes UTF-8 first,
 * and of half a surrogate pair with what follows it another character: there the bytes of every text are read.
 */
export function readerSql(query: string, width: number, encoding: TextEncoding): string {
  if (width > MOST_CHECKED) return `SELECT * FROM (${query}\n)`;
  const names = Array.from({ length: width }, (_, index) => `c${index}`);
  const doubtful = (name: string) =>
    encoding === 'utf-8' ? ` AND (instr(${name}, char(65533)) OR instr(${name}, char(0)))` : '';
  const checks = names.map(
    (name) => `CASE WHEN typeof(${name}) = 'text'${doubtful(name)} THEN CAST(${name} AS BLOB) END`,
  );
  return `WITH q(${names.join(', ')}) AS (${query}\n) SELECT ${[...names, ...checks].join(', ')} FROM q`;
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

export interface Batch {
  readonly rows: readonly (readonly Value[])[];
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

  #row = 0;

  constructor(rows: Iterator<unknown>, columns: readonly Pick<Column, 'name'>[], encoding: TextEncoding) {
    this.#rows = rows;
    this.#columns = columns;
    this.#encoding = encoding;
    this.#decoder = new TextDecoder(encoding, { fatal: true, ignoreBOM: true });
  }

  /** Throws `query_failed` for a text that no JavaScript string can hold. */
  batch(): Batch {
    const rows: Value[][] = [];
    let bytes = 0;
    while (rows.length < BATCH_ROWS && bytes < BATCH_BYTES) {
      const next = this.#rows.next();
      if (next.done === true) return { rows, bytes, done: true };
      this.#row += 1;
      const read = next.value as Value[];
      const row = read.slice(0, this.#columns.length);
      for (let index = 0; index < row.length; index++) {
        const value = row[index];
        if (typeof value === 'string') {
          const exact = read[this.#columns.length + index];
          if (exact instanceof Uint8Array) row[index] = this.#decode(exact, index);
          else if (value.includes('\ufffd')) throw this.#invalid(index);
          bytes += Buffer.byteLength(value);
        } else {
          bytes += value instanceof Uint8Array ? value.length : 8;
        }
      }
      rows.push(row);
    }
    return { rows, bytes, done: false };
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
