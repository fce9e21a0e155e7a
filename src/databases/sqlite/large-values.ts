/**
 * Large values of a query, found by a function in its SQL before SQLite has read them: they are held to their bound,
 * and wait for their turn. In a child process.
 */
import { readSync, writeSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { LARGE_BYTES } from '../large-turn.ts';
import type { ValueBound } from '../value-bound.ts';
import { ASKING } from './process.ts';

const NAME = 'dungbeetle_large';

export class LargeValues {
  readonly #bound: ValueBound;
  /** Larger ones are found: of others any number of jobs may read theirs at once. */
  readonly bytes: number;
  /** Of the row under way. */
  #last_index = -1;
  #row_bytes = 0;
  /** How many rows were read before it, where that is known. */
  rows: number | null = null;
  /** Those of the row under way, by their columns: whether it is text. */
  readonly found = new Map<number, boolean>();

  constructor(db: DatabaseSync, bound: ValueBound) {
    this.#bound = bound;
    // Those that are not found count for nothing in the bound of a row.
    this.bytes = Math.min(Math.floor(bound.value / 2), LARGE_BYTES);
    db.function(NAME, { directOnly: true, useBigIntArguments: false }, (index, size, is_text) => {
      this.#take(Number(index), Number(size), is_text === 1);
      return 1;
    });
  }

  /** A condition that is true for a large value, once it may be read. `sql`: evaluated several times. */
  condition(index: number, sql: string): string {
    return `typeof(${sql}) IN ('text', 'blob') AND octet_length(${sql}) > ${this.bytes} AND ${NAME}(${index}, octet_length(${sql}), typeof(${sql}) = 'text')`;
  }

  /** The next row begins. */
  nextRow(): void {
    this.#last_index = -1;
    this.#row_bytes = 0;
    this.found.clear();
  }

  #take(index: number, size: number, is_text: boolean): void {
    // Columns are read in their order.
    if (index <= this.#last_index) this.nextRow();
    const is_first = this.#last_index < 0;
    this.#last_index = index;
    this.#row_bytes += size;
    const row = this.rows === null ? null : this.rows + 1;
    if (size > this.#bound.value) throw this.#bound.valueError(index, row);
    if (this.#row_bytes > this.#bound.row) throw this.#bound.rowError(row);
    this.found.set(index, is_text);
    if (size <= LARGE_BYTES) return;
    writeSync(ASKING, is_first ? 'r' : 'v');
    // Nothing read: the server is gone, and this process with it.
    readSync(ASKING, Buffer.alloc(1));
  }
}
