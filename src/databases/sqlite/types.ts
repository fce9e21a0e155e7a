/**
 * Column types. SQLite converts a value when it is stored, by the affinity that the column's declared type
 * has (https://sqlite.org/datatype3.html, 3.1): '007' becomes 7 in a BIGINT column, 1.0 becomes 1 in a
 * DECIMAL one. So a result column is declared only by a type whose affinity changes none of its values.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { ColumnType } from '../database.ts';

export type Affinity = 'INTEGER' | 'TEXT' | 'BLOB' | 'REAL' | 'NUMERIC';

/** The rules of datatype3.html, 3.1, in their order. */
export function affinityOf(declared: string): Affinity {
  const type = declared.toUpperCase();
  if (type.includes('INT')) return 'INTEGER';
  if (/CHAR|CLOB|TEXT/.test(type)) return 'TEXT';
  if (type === '' || type.includes('BLOB')) return 'BLOB';
  if (/REAL|FLOA|DOUB/.test(type)) return 'REAL';
  return 'NUMERIC';
}

/** The type that a result column is declared with; "" is a column without a type, which holds anything. */
export const DECLARED: Readonly<Record<ColumnType, string>> = {
  BIGINT: 'BIGINT',
  DECIMAL: 'DECIMAL',
  DOUBLE: 'DOUBLE',
  TIMESTAMP: 'TIMESTAMP',
  TIMESTAMPTZ: 'TIMESTAMPTZ',
  DATE: 'DATE',
  BOOLEAN: 'BOOLEAN',
  TEXT: 'TEXT',
  JSON: 'JSON',
  BYTES: 'BLOB',
  ANY: '',
};

/**
 * What a source column's declared type says about values that went through it, or null where it says
 * nothing. `DECLARED` of the answer has the affinity of the type given, so those values stay as they are.
 */
export function typeOfDeclared(declared: string): ColumnType | null {
  const type = declared.toUpperCase().trim();
  switch (affinityOf(type)) {
    case 'INTEGER':
      return 'BIGINT';
    case 'TEXT':
      return 'TEXT';
    case 'REAL':
      return 'DOUBLE';
    case 'BLOB':
      return type === '' ? null : 'BYTES';
    case 'NUMERIC':
      if (/^BOOL/.test(type)) return 'BOOLEAN';
      if (type === 'DATE') return 'DATE';
      if (/^(TIMESTAMPTZ|TIMESTAMP.* WITH TIME ZONE)/.test(type)) return 'TIMESTAMPTZ';
      if (/^(DATETIME|TIMESTAMP)/.test(type)) return 'TIMESTAMP';
      if (/^(DEC|NUM)/.test(type)) return 'DECIMAL';
      if (/^JSONB?$/.test(type)) return 'JSON';
      return null;
  }
}

/**
 * Storage classes seen in a column, as a set of bits. NULL does not count: every column holds it. -0.0 is
 * told apart because a REAL column stores it as 0.0 (as it does every whole number, as an integer).
 */
export const SEEN = { integer: 1, real: 2, text: 4, blob: 8, negative_zero: 16 } as const;

/** The type of a column about which only its values are known. */
export function typeOfSeen(seen: number): ColumnType {
  switch (seen) {
    case SEEN.integer:
      return 'BIGINT';
    case SEEN.real:
      return 'DOUBLE';
    case SEEN.blob:
      return 'BYTES';
    case SEEN.text:
    case 0:
      return 'TEXT';
    default:
      return 'ANY';
  }
}

/** What could be a number to SQLite: only such a text is ever converted. */
const NUMERIC_TEXT = /^\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?\s*$/i;

/** Finds out whether a column would change a value, by asking SQLite where the rules leave a doubt. */
export class AffinityProbe {
  readonly #db: DatabaseSync;
  readonly #probes = new Map<string, { readonly put: StatementSync; readonly get: StatementSync }>();
  readonly #affinities = new Map<string, Affinity>();

  constructor(db: DatabaseSync) {
    this.#db = db;
  }

  changes(declared: string, value: bigint | number | string | Uint8Array): boolean {
    let affinity = this.#affinities.get(declared);
    if (affinity === undefined) {
      affinity = affinityOf(declared);
      this.#affinities.set(declared, affinity);
    }
    if (affinity === 'BLOB' || value instanceof Uint8Array) return false;
    switch (typeof value) {
      case 'bigint':
        return affinity === 'TEXT' || affinity === 'REAL';
      case 'string':
        return affinity !== 'TEXT' && NUMERIC_TEXT.test(value) && this.#ask(affinity, value, 'text');
      case 'number':
        if (affinity === 'REAL') return Object.is(value, -0);
        // Of floats, SQLite makes integers of whole ones only, and not of all.
        return affinity === 'TEXT' || (Number.isInteger(value) && this.#ask(affinity, value, 'real'));
    }
  }

  /** A conversion always changes the storage class, so that alone tells. */
  #ask(affinity: Affinity, value: number | string, kind: string): boolean {
    let probe = this.#probes.get(affinity);
    if (probe === undefined) {
      const table = `temp.probe_${affinity.toLowerCase()}`;
      this.#db.exec(`CREATE TABLE ${table} (value ${affinity}); INSERT INTO ${table} VALUES (NULL)`);
      probe = {
        put: this.#db.prepare(`UPDATE ${table} SET value = ?`),
        get: this.#db.prepare(`SELECT typeof(value) AS kind FROM ${table}`),
      };
      this.#probes.set(affinity, probe);
    }
    probe.put.run(value);
    return probe.get.get()?.['kind'] !== kind;
  }
}
