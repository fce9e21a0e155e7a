/**
 * How large one value, and one row, of a result may be. Whoever would have to hold it in memory is to ask before it
 * does: a source knows the size of a value before it has come.
 */
import type { Column, Limits } from './database.ts';
import { DatabaseError } from './errors.ts';
import { tooManyBytes } from './meter.ts';

/** A row may have so many times the bytes of its largest value. */
const VALUES_A_ROW = 2;

export class ValueBound {
  /** The most bytes of a value, and of the values of a row. */
  readonly value: number;
  readonly row: number;
  readonly #limits: Limits;
  readonly #database: string;
  readonly #columns: readonly Pick<Column, 'name'>[];

  constructor(limits: Limits, database: string, columns: readonly Pick<Column, 'name'>[]) {
    const { max_value_bytes, max_bytes } = limits;
    this.value = Math.min(max_value_bytes, max_bytes ?? Number.POSITIVE_INFINITY);
    this.row = Math.min(max_value_bytes * VALUES_A_ROW, max_bytes ?? Number.POSITIVE_INFINITY);
    this.#limits = limits;
    this.#database = database;
    this.#columns = columns;
  }

  /** The error of a value that is too large. Columns count from 0, rows from 1; null: not known. */
  valueError(column: number, row: number | null): DatabaseError {
    const { max_value_bytes } = this.#limits;
    if (this.value < max_value_bytes) return tooManyBytes(this.#limits);
    return new DatabaseError(
      'limit_reached',
      `${this.#database}: column "${this.#columns[column]?.name ?? ''}"${row === null ? '' : `, row ${row}`}: a value has more bytes than max_value_bytes (${max_value_bytes}); ${HELP}`,
    );
  }

  /** The error of a row that is too large although none of its values is. */
  rowError(row: number | null): DatabaseError {
    const { max_value_bytes } = this.#limits;
    if (this.row < max_value_bytes * VALUES_A_ROW) return tooManyBytes(this.#limits);
    return new DatabaseError(
      'limit_reached',
      `${this.#database}: ${row === null ? 'a row' : `row ${row}`}: its values have more bytes than a row may have, ${VALUES_A_ROW} times max_value_bytes (${max_value_bytes}); ${HELP}`,
    );
  }
}

/** Ends messages about values that are too large. */
const HELP = 'let the query give less of it, or raise app.max_value_bytes or the max_value_bytes of the task';
