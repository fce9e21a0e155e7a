/** Columns of result tables on Postgres: their names, their types, and what a table can hold of them. */
import type { Column, ColumnType, ResultColumn } from '../database.ts';
import { DatabaseError } from '../errors.ts';
import { columnNames } from '../names.ts';
import { quoteName } from './quote.ts';

/** Postgres cuts longer names by itself, without a word (NAMEDATALEN - 1). */
export const MOST_NAME_BYTES = 63;
/** https://www.postgresql.org/docs/current/limits.html; fewer where wide columns fill the 8 kB of a row. */
const MOST_COLUMNS = 1_600;

/** Columns that every table has; none of ours can be called so, but in capitals. "oid" was one until 11. */
const SYSTEM_COLUMNS: ReadonlySet<string> = new Set([
  'oid',
  'tableoid',
  'ctid',
  'xmin',
  'cmin',
  'xmax',
  'cmax',
]);

/** NUMERIC without precision holds every digit as it comes, trailing zeros included. */
const STANDARD: Readonly<Record<ColumnType, string>> = {
  BIGINT: 'BIGINT',
  DECIMAL: 'NUMERIC',
  DOUBLE: 'DOUBLE PRECISION',
  TIMESTAMP: 'TIMESTAMP',
  TIMESTAMPTZ: 'TIMESTAMPTZ',
  DATE: 'DATE',
  BOOLEAN: 'BOOLEAN',
  TEXT: 'TEXT',
  JSON: 'JSON',
  BYTES: 'BYTEA',
  ANY: 'TEXT',
};

/** `standard`: the plain type of each kind of value. `source`: the source's own Postgres type where it has one. */
export type ColumnTypes = 'standard' | 'source';

/** What a type's name is made of: words, perhaps quoted, perhaps with numbers in parentheses and brackets. */
const TYPE_NAME = /^[a-z_"][a-z0-9_ "]*(\([\d, -]+\))?[a-z0-9_ ]*(\[\])*$/i;

/** Throws a permanent `DatabaseError` if no table can have so many columns. */
export function checkColumnCount(columns: readonly Column[], database: string): void {
  if (columns.length <= MOST_COLUMNS) return;
  throw new DatabaseError(
    'query_failed',
    `${database}: the result has ${columns.length} columns, a Postgres table at most ${MOST_COLUMNS}` +
      ' (and fewer if a row of them takes more than 8 kB)',
  );
}

export function resultColumns(columns: readonly Column[], types: ColumnTypes): readonly ResultColumn[] {
  const names = columnNames(
    columns.map(({ name }) => (SYSTEM_COLUMNS.has(name) ? `${name}_` : name)),
    MOST_NAME_BYTES,
  );
  return columns.map((column, index) => ({
    name: names[index] ?? '',
    type: typeOf(column, types),
    source_type: column.source_type,
  }));
}

function typeOf({ type, pg_type }: Column, types: ColumnTypes): string {
  if (types === 'standard' || pg_type === undefined) return STANDARD[type];
  if (!TYPE_NAME.test(pg_type)) throw new TypeError(`"${pg_type}" is not the name of a Postgres type`);
  return pg_type;
}

/** CREATE TABLE for a quoted name. */
export function createTable(table: string, columns: readonly ResultColumn[], unlogged: boolean): string {
  const defined = columns.map(({ name, type }) => `${quoteName(name)} ${type}`);
  return `CREATE ${unlogged ? 'UNLOGGED ' : ''}TABLE ${table} (${defined.join(', ')})`;
}

/**
 * CREATE TABLE for rows that fit into a page as they are, each of less than `INLINE_BYTES`: without a TOAST table, which
 * with its index is two thirds of what a table costs. `version` is the server's major version.
 */
export function createInlineTable(
  table: string,
  columns: readonly ResultColumn[],
  version: number,
): readonly string[] {
  const names = columns.map(({ name, type }) => [quoteName(name), type] as const);
  if (version >= 16) {
    return [
      `CREATE TABLE ${table} (${names.map(([name, type]) => `${name} ${type} STORAGE PLAIN`).join(', ')})`,
    ];
  }
  // Before 16 only ALTER TABLE knows the storage of a column; the need for a TOAST table is judged at its end.
  const changes = names.flatMap(([name, type]) => [
    `ADD COLUMN ${name} ${type}`,
    `ALTER COLUMN ${name} SET STORAGE PLAIN`,
  ]);
  return [
    `CREATE TABLE ${table} ()`,
    ...(changes.length === 0 ? [] : [`ALTER TABLE ${table} ${changes.join(', ')}`]),
  ];
}

/** Below this size Postgres leaves a row as it is (TOAST_TUPLE_THRESHOLD); here of the row as it is sent. */
export const INLINE_BYTES = 1_000;
