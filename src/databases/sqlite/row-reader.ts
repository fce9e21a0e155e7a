/** Reads a query's rows in batches, and makes sure that every text arrives as it is. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { Value } from '../database.ts';
import { DatabaseError } from '../errors.ts';

/** A batch ends with whichever is reached first. */
const BATCH_ROWS = 1_000;
const BATCH_BYTES = 128 * 1024;

/** SQLite's limit is 2,000 columns in a result set, so there is no room to check more than half as many. */
const MOST_CHECKED = 1_000;

/**
 * node:sqlite makes text into JavaScript strings: a byte that is not UTF-8 becomes U+FFFD, and before Node
 * 24 a NUL ends the text. So beside each column stands its text in bytes, if there is a U+FFFD or a NUL in
 * it: then the bytes are what counts, and a U+FFFD without them was made up.
 */
export function readerSql(query: string, width: number): string {
  if (width > MOST_CHECKED) return `SELECT * FROM (${query}\n)`;
  const names = Array.from({ length: width }, (_, index) => `c${index}`);
  const checks = names.map(
    (name) =>
      `CASE WHEN typeof(${name}) = 'text' AND (instr(${name}, char(65533)) OR instr(${name}, char(0))) THEN CAST(${name} AS BLOB) END`,
  );
  return `WITH q(${names.join(', ')}) AS (${query}\n) SELECT ${[...names, ...checks].join(', ')} FROM q`;
}

/** Throws for a result in which a text could be cut at a NUL without anyone noticing. */
export function checkReadable(db: DatabaseSync, width: number): void {
  if (width <= MOST_CHECKED) return;
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

export class RowReader {
  readonly #rows: Iterator<unknown>;
  readonly #width: number;
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

  constructor(rows: Iterator<unknown>, width: number) {
    this.#rows = rows;
    this.#width = width;
  }

  /** Throws `query_failed` for a text that no JavaScript string can hold. */
  batch(): Batch {
    const rows: Value[][] = [];
    let bytes = 0;
    while (rows.length < BATCH_ROWS && bytes < BATCH_BYTES) {
      const next = this.#rows.next();
      if (next.done === true) return { rows, bytes, done: true };
      const read = next.value as Value[];
      const row = read.slice(0, this.#width);
      for (let index = 0; index < row.length; index++) {
        const value = row[index];
        if (typeof value === 'string') {
          const exact = read[this.#width + index];
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
      `column ${index + 1} holds text that is not UTF-8, which can be copied between SQLite files only (or select it as a blob, or as hex)`,
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
