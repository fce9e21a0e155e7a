/** What column a result column becomes on MySQL and MariaDB, and what a table of them can hold. */
import type { Column, ColumnType, ResultColumn } from '../database.ts';
import { quoteName } from './quote.ts';
import { columnNames } from './results-names.ts';

/** What the servers differ in, as far as a result table's columns go. */
export interface Flavor {
  readonly mariadb: boolean;
  /** A binary collation of utf8mb4 in which "a" and "a " differ, where the server has one. */
  readonly collation: string;
  /** Whether the server refuses a table without a primary key, or gives it one under a name that a query may use. */
  readonly keyed: boolean;
}

/** How a field of the copy-text encoding gets into its column. */
export type Conversion = 'as_is' | 'utc' | 'hex' | 'year' | 'float';

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
/** A primary key of our own takes the place of the row id, which has six bytes. */
const KEY_BYTES = 8;
const ROW_ID_BYTES = 6;
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
    const own = column_types === 'source' ? sourceType(column, mariadb) : null;
    return {
      name: names[index] ?? column.name,
      type: own ?? standardType(column, mariadb),
      source_type: column.source_type,
      from: column,
      conversion: conversionOf(column, own),
    };
  });
}

function conversionOf({ type }: Column, own: string | null): Conversion {
  if (type === 'BYTES') return 'hex';
  if (type === 'TIMESTAMPTZ') return 'utc';
  if (own?.startsWith('year') === true) return 'year';
  return own?.startsWith('float') === true ? 'float' : 'as_is';
}

/** Why no table can have such columns, null if one can. */
export function unfitColumns(columns: readonly PlannedColumn[], { mariadb, keyed }: Flavor): string | null {
  const count = columns.length;
  const most = keyed ? MOST_COLUMNS - 1 : MOST_COLUMNS;
  if (count === 0) return 'the result has no columns, a MySQL table has at least one';
  if (count > most) return `the result has ${count} columns, an InnoDB table at most ${most}`;
  const nulls = Math.ceil(count / 8);
  let row = nulls + (keyed ? KEY_BYTES : 0);
  let page = PAGE_OVERHEAD + nulls + (keyed ? KEY_BYTES - ROW_ID_BYTES : 0);
  for (const { type } of columns) {
    const size = sizeOf(type, mariadb);
    row += size.row;
    page += size.page;
  }
  if (row > MOST_ROW_BYTES) {
    return `the result's ${count} columns take ${row} bytes in a row, a MySQL table has at most ${MOST_ROW_BYTES}`;
  }
  if (page > MOST_PAGE_BYTES) {
    return `the result's ${count} columns take ${page} bytes in InnoDB's page, which has ${MOST_PAGE_BYTES} for a row (${mariadb ? MARIADB_LONG_BYTES : MYSQL_LONG_BYTES} for a text, 8 for a number)`;
  }
  return null;
}

/** What a primary key of ours is called, unless the query has a column of that name. */
const KEY = 'dungbeetle_row';

/**
 * A primary key that `SELECT *` does not show and that keeps the order in which rows are written, as CREATE TABLE has it;
 * its name is none of the columns'.
 */
export function keyDefinition(columns: readonly PlannedColumn[]): string {
  const name = columnNames([...columns.map((column) => column.name), KEY]).at(-1) ?? KEY;
  return `${quoteName(name)} BIGINT UNSIGNED NOT NULL AUTO_INCREMENT INVISIBLE PRIMARY KEY`;
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
  return digits > MOST_DIGITS || after > MYSQL_SCALE ? 'LONGTEXT' : `DECIMAL(${digits},${after})`;
}

/**
 * Types that MySQL and MariaDB print as they take them, where they are not what the standard type is anyway. Not
 * texts of a size: they hold so many bytes, which are more characters in another charset than in UTF-8. Nor what a
 * server changes as it takes it: a DECIMAL in MySQL's JSON becomes a double.
 */
const SOURCE_TYPES =
  /^(?:(?:tiny|small|medium|big)?int(?:\(\d+\))?(?: unsigned)?|(?:decimal\(\d+,\d+\)|float|double)(?: unsigned)?|(?:datetime|timestamp|time)(?:\([0-6]\))?|year(?:\(4\))?|(?:var)?char\(\d+\)|(?:var)?binary\(\d+\)|longtext|(?:tiny|medium|long)blob)$/;
/** Of a DECIMAL: digits in all, and behind the point. */
const MOST_DIGITS = 65;
const MYSQL_SCALE = 30;
const MARIADB_SCALE = 38;
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

function sourceType({ type, source_type: name }: Column, mariadb: boolean): string | null {
  if (!SOURCE_TYPES.test(name) || FAMILIES[type]?.test(name) !== true) return null;
  const [, precision, scale] = /^decimal\((\d+),(\d+)\)/.exec(name) ?? [];
  if (Number(precision) > MOST_DIGITS || Number(scale) > (mariadb ? MARIADB_SCALE : MYSQL_SCALE)) return null;
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
function sizeOf(type: string, mariadb: boolean): { readonly row: number; readonly page: number } {
  const [, word = '', first = '0', second = '0'] =
    /^(\w+)(?:\((\d+)(?:,(\d+))?\))?/.exec(type.toLowerCase()) ?? [];
  const fixed =
    word === 'decimal'
      ? decimalBytes(Number(first) - Number(second)) + decimalBytes(Number(second))
      : SIZES[word];
  if (fixed !== undefined) return { row: fixed, page: fixed };
  if (/char|binary/.test(word)) {
    const most = Number(first) * (word.endsWith('char') ? 4 : 1);
    // Of one length, which is not noted.
    if (word === 'binary') return { row: most, page: most };
    const row = most + (most > 255 ? 2 : 1);
    // MySQL moves any value out of the page that is longer than what stays there, MariaDB those of long columns alone.
    if (mariadb) return { row, page: most > 255 ? MARIADB_LONG_BYTES : most + 1 };
    return { row, page: Math.min(most + 1, MYSQL_LONG_BYTES) };
  }
  return { row: 12, page: mariadb ? MARIADB_LONG_BYTES : MYSQL_LONG_BYTES };
}

/** Nine digits take four bytes: https://dev.mysql.com/doc/refman/8.4/en/precision-math-decimal-characteristics.html */
function decimalBytes(digits: number): number {
  return Math.floor(digits / 9) * 4 + Math.ceil((digits % 9) / 2);
}
