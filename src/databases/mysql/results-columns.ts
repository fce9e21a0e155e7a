/** What column a result column becomes on MySQL and MariaDB, and what a table of them can hold. */
import type { Column, ColumnType, ResultColumn } from '../database.ts';
import { columnNames } from './results-names.ts';

/** What the servers differ in, as far as a result table's columns go. */
export interface Flavor {
  readonly mariadb: boolean;
  /** A binary collation of utf8mb4 in which "a" and "a " differ, where the server has one. */
  readonly collation: string;
}

/** How a field of the copy-text encoding gets into its column. */
export type Conversion = 'as_is' | 'utc' | 'hex';

export interface PlannedColumn extends ResultColumn {
  readonly from: Column;
  readonly conversion: Conversion;
}

/** https://dev.mysql.com/doc/refman/8.4/en/innodb-limits.html */
const MOST_COLUMNS = 1_017;
/** Of all columns together, whatever the engine; long texts and blobs count with their pointers alone. */
const MOST_ROW_BYTES = 65_535;
/** Of what InnoDB keeps of a row in its page of 16 KiB, long values being moved elsewhere. */
const MOST_PAGE_BYTES = 8_125;
/** Header, row id, transaction id and roll pointer of a row. */
const PAGE_OVERHEAD = 24;
/** What InnoDB counts for a value that can be moved out of the page, with its length. */
const MARIADB_LONG_BYTES = 21;
const MYSQL_LONG_BYTES = 41;

export function planColumns(
  columns: readonly Column[],
  column_types: 'standard' | 'source',
  mariadb: boolean,
): readonly PlannedColumn[] {
  const names = columnNames(columns.map(({ name }) => name));
  return columns.map((column, index) => {
    const own = column_types === 'source' ? sourceType(column) : null;
    return {
      name: names[index] ?? column.name,
      type: own ?? standardType(column, mariadb),
      source_type: column.source_type,
      from: column,
      conversion: column.type === 'BYTES' ? 'hex' : column.type === 'TIMESTAMPTZ' ? 'utc' : 'as_is',
    };
  });
}

/** Why no table can have such columns, null if one can. */
export function unfitColumns(columns: readonly PlannedColumn[], mariadb: boolean): string | null {
  const long = mariadb ? MARIADB_LONG_BYTES : MYSQL_LONG_BYTES;
  const count = columns.length;
  if (count === 0) return 'the result has no columns, a MySQL table has at least one';
  if (count > MOST_COLUMNS) return `the result has ${count} columns, an InnoDB table at most ${MOST_COLUMNS}`;
  const nulls = Math.ceil(count / 8);
  let row = nulls;
  let page = PAGE_OVERHEAD + nulls;
  for (const { type } of columns) {
    const size = sizeOf(type, long);
    row += size.row;
    page += size.page;
  }
  if (row > MOST_ROW_BYTES) {
    return `the result's ${count} columns take ${row} bytes in a row, a MySQL table has at most ${MOST_ROW_BYTES}`;
  }
  if (page > MOST_PAGE_BYTES) {
    return `the result's ${count} columns take ${page} bytes in InnoDB's page, which has ${MOST_PAGE_BYTES} for a row (${long} for a text, 8 for a number)`;
  }
  return null;
}

/** A column as CREATE TABLE has it, but for its name. */
export function columnDefinition(type: string, { collation }: Flavor): string {
  // JSON of MariaDB brings a binary collation of its own.
  const text = /char|text/i.test(type) ? ` CHARACTER SET utf8mb4 COLLATE ${collation}` : '';
  // Without NULL the first TIMESTAMP column would be set to the time of each change.
  return `${type}${text} NULL`;
}

function standardType({ type, precision, scale }: Column, mariadb: boolean): string {
  switch (type) {
    case 'BIGINT':
    case 'DOUBLE':
    case 'DATE':
    case 'BOOLEAN':
      return type;
    case 'DECIMAL':
      return decimalType(precision, scale);
    case 'TIMESTAMP':
    case 'TIMESTAMPTZ':
      return 'DATETIME(6)';
    case 'JSON':
      // MariaDB's JSON is text that is checked; MySQL's rounds numbers and drops repeated keys.
      return mariadb ? 'JSON' : 'LONGTEXT';
    case 'BYTES':
      return 'LONGBLOB';
    case 'TEXT':
    case 'ANY':
      return 'LONGTEXT';
  }
}

/** Postgres has scales below zero (it rounds to tens) and above the precision (0.00012). */
function decimalType(precision: number | undefined, scale: number | undefined): string {
  if (precision === undefined || scale === undefined) {
    return (precision ?? 0) <= 35 && (scale ?? 0) <= 30 ? 'DECIMAL(65,30)' : 'LONGTEXT';
  }
  const digits = scale < 0 ? precision - scale : Math.max(precision, scale);
  const after = Math.max(0, scale);
  return digits > 65 || after > 30 ? 'LONGTEXT' : `DECIMAL(${digits},${after})`;
}

/**
 * Types that MySQL and MariaDB print as they take them, where they are not what the standard type is anyway.
 * A "text" without a size is Postgres' too, which holds more there than MySQL's 64 kB.
 */
const SOURCE_TYPES =
  /^(?:(?:tiny|small|medium|big)?int(?:\(\d+\))?(?: unsigned)?|(?:decimal\(\d+,\d+\)|float|double)(?: unsigned)?|(?:datetime|timestamp|time)(?:\([0-6]\))?|year(?:\(4\))?|(?:var)?char\(\d+\)|(?:var)?binary\(\d+\)|(?:tiny|medium|long)(?:text|blob))$/;
/** What is longer is a text like any other: a table of it would be full after a few columns. */
const MOST_VARCHAR = 1_000;

/** Which of them hold what comes as a value of a type. */
const FAMILIES: Readonly<Partial<Record<ColumnType, RegExp>>> = {
  BIGINT: /int|^year/,
  DECIMAL: /int|^decimal/,
  DOUBLE: /^float|^double/,
  TIMESTAMP: /^datetime|^timestamp/,
  TIMESTAMPTZ: /^datetime|^timestamp/,
  TEXT: /char|text|^time\b|^year/,
  BYTES: /binary|blob/,
};

function sourceType({ type, source_type: name }: Column): string | null {
  if (!SOURCE_TYPES.test(name) || FAMILIES[type]?.test(name) !== true) return null;
  const length = /^(?:var)?(?:char|binary)\((\d+)\)$/.exec(name)?.[1];
  return length !== undefined && Number(length) > MOST_VARCHAR ? null : name;
}

const SIZES: Readonly<Record<string, number>> = {
  bigint: 8,
  int: 4,
  mediumint: 3,
  smallint: 2,
  tinyint: 1,
  boolean: 1,
  double: 8,
  float: 4,
  date: 3,
  datetime: 8,
  timestamp: 7,
  time: 6,
  year: 1,
};

/** The most bytes a column takes in a row and of InnoDB's page. */
function sizeOf(type: string, long: number): { readonly row: number; readonly page: number } {
  const [, word = '', first = '0', second = '0'] =
    /^(\w+)(?:\((\d+)(?:,(\d+))?\))?/.exec(type.toLowerCase()) ?? [];
  const fixed =
    word === 'decimal'
      ? decimalBytes(Number(first) - Number(second)) + decimalBytes(Number(second))
      : SIZES[word];
  if (fixed !== undefined) return { row: fixed, page: fixed };
  if (/char|binary/.test(word)) {
    const most = Number(first) * (word.endsWith('char') ? 4 : 1);
    return {
      row: most + (most > 255 ? 2 : 1),
      page: most > 255 ? long : most + 1,
    };
  }
  return { row: 12, page: long };
}

/** Nine digits take four bytes: https://dev.mysql.com/doc/refman/8.4/en/precision-math-decimal-characteristics.html */
function decimalBytes(digits: number): number {
  return Math.floor(digits / 9) * 4 + Math.ceil((digits % 9) / 2);
}
