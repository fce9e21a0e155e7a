/** Collects rows from JavaScript in a staging file, as a SQLite source would have made it. */
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import type { Column, ColumnType, WholeValue } from '../database.ts';
import { LineDecoder } from '../encodings/copy-text.ts';
import { DatabaseError } from '../errors.ts';
import { makeStagingFolder, type StagedRows } from './staging-file.ts';
import { AffinityProbe, DECLARED, SEEN, typeOfSeen } from './types.ts';

/** Rows of one INSERT: enough that the cost of a call does not count; SQLite's limit is 32,766 values. */
const ROWS_AT_ONCE = 20;
const VALUES_AT_ONCE = 2_000;

type SqlValue = null | bigint | number | string | Uint8Array;

/** Some rows: values, or lines of `copy-text`. */
export type Piece = { readonly rows: readonly (readonly WholeValue[])[] } | { readonly lines: Uint8Array };

export interface Sealed extends StagedRows {
  /** Types that change none of the values: the source's own, or what the values allow. */
  readonly types: readonly ColumnType[];
  /** What could not be kept exactly. */
  readonly warnings: readonly string[];
}

export class Spool {
  readonly #file: string;
  readonly #columns: readonly Column[];
  readonly #db: DatabaseSync;
  readonly #one: StatementSync;
  readonly #many: StatementSync;
  readonly #at_once: number;
  readonly #size: StatementSync;
  readonly #probe: AffinityProbe;
  readonly #lines: LineDecoder;
  /** By column: the storage classes seen, whether the source's type would change a value, NaNs. */
  readonly #seen: number[];
  readonly #unfit: boolean[];
  readonly #nans: number[];
  #rows = 0;

  constructor(file: string, columns: readonly Column[]) {
    makeStagingFolder(file);
    this.#file = file;
    this.#columns = columns;
    this.#lines = new LineDecoder(columns);
    this.#seen = columns.map(() => 0);
    this.#unfit = columns.map(() => false);
    this.#nans = columns.map(() => 0);
    this.#db = new DatabaseSync(file);
    // The file is worth nothing until it is complete, and then it is read once and removed.
    this.#db.exec(
      'PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY',
    );
    this.#db.exec(`CREATE TABLE rows (${columns.map((_, index) => `c${index}`).join(', ')})`);
    const row = `(${columns.map(() => '?').join(', ')})`;
    this.#at_once = Math.max(1, Math.min(ROWS_AT_ONCE, Math.floor(VALUES_AT_ONCE / columns.length)));
    this.#one = this.#db.prepare(`INSERT INTO rows VALUES ${row}`);
    this.#many = this.#db.prepare(`INSERT INTO rows VALUES ${Array(this.#at_once).fill(row).join(', ')}`);
    this.#size = this.#db.prepare(
      'SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size',
    );
    this.#probe = new AffinityProbe(this.#db);
    this.#db.exec('BEGIN');
  }

  append(piece: Piece): { readonly rows: number; readonly bytes: number } {
    const rows = 'rows' in piece ? piece.rows : this.#lines.push(piece.lines);
    let at = 0;
    for (; at + this.#at_once <= rows.length; at += this.#at_once) {
      const values: SqlValue[] = [];
      for (let index = at; index < at + this.#at_once; index++) this.#take(rows[index] ?? [], values);
      this.#many.run(...values);
    }
    for (; at < rows.length; at++) {
      const values: SqlValue[] = [];
      this.#take(rows[at] ?? [], values);
      this.#one.run(...values);
    }
    this.#rows += rows.length;
    return { rows: this.#rows, bytes: this.#bytes() };
  }

  seal(): Sealed {
    this.#lines.end();
    this.#db.exec('COMMIT');
    const bytes = this.#bytes();
    this.#db.close();
    const types = this.#columns.map((column, index) =>
      column.type === 'ANY' || this.#unfit[index] === true ? typeOfSeen(this.#seen[index] ?? 0) : column.type,
    );
    const warnings = this.#nans.flatMap((count, index) =>
      count === 0 ? [] : [`column ${index + 1}: ${count} NaN stored as NULL, since SQLite has no NaN`],
    );
    return { file: this.#file, rows: this.#rows, bytes, types, warnings };
  }

  close(): void {
    this.#db.close();
  }

  #bytes(): number {
    return Number(this.#size.get()?.['bytes'] ?? 0);
  }

  /** Adds a row's values as SQLite takes them, and notes their kinds. */
  #take(row: readonly WholeValue[], values: SqlValue[]): void {
    if (row.length !== this.#columns.length) {
      throw new DatabaseError(
        'query_failed',
        `a row has ${row.length} values where the result has ${this.#columns.length} columns`,
      );
    }
    for (let index = 0; index < row.length; index++) {
      const value = this.#storable(row[index] ?? null, index);
      values.push(value);
      if (value === null) continue;
      this.#seen[index] = (this.#seen[index] ?? 0) | classOf(value);
      const type = this.#columns[index]?.type ?? 'ANY';
      if (type !== 'ANY' && this.#unfit[index] === false) {
        this.#unfit[index] = this.#probe.changes(DECLARED[type], value);
      }
    }
  }

  #storable(value: WholeValue, index: number): SqlValue {
    switch (typeof value) {
      case 'boolean':
        return value ? 1n : 0n;
      case 'bigint':
        // Past 64 bits a text keeps every digit.
        return BigInt.asIntN(64, value) === value ? value : value.toString();
      case 'number':
        if (!Number.isNaN(value)) return value;
        this.#nans[index] = (this.#nans[index] ?? 0) + 1;
        return null;
      case 'string':
        if (value.isWellFormed()) return value;
        throw new DatabaseError(
          'query_failed',
          `column ${index + 1} holds text that is not well-formed Unicode, which SQLite cannot store`,
        );
      default:
        return value;
    }
  }
}

function classOf(value: Exclude<SqlValue, null>): number {
  switch (typeof value) {
    case 'bigint':
      return SEEN.integer;
    case 'number':
      return Object.is(value, -0) ? SEEN.real | SEEN.negative_zero : SEEN.real;
    case 'string':
      return SEEN.text;
    default:
      return SEEN.blob;
  }
}
