/** Columns of a result, as the protocol describes them and as reports know them. */
import type { Column, ColumnType } from '../database.ts';
import { ProtocolError, readLength } from './source-wire.ts';

/** https://mariadb.com/docs/server/reference/clientserver-protocol/4-server-response-packets/result-set-packets#column-definition-packet */
export interface ColumnDefinition {
  readonly name: string;
  /** Where its values come from, as far as the server says: the database, the query's word for the table, the column. */
  readonly schema: string;
  readonly table: string;
  readonly origin: string;
  readonly type: number;
  readonly charset: number;
  /** In bytes, for numbers in characters. */
  readonly length: number;
  readonly flags: number;
  /** Digits after the point; 31, on MariaDB 39, for a number that is no DECIMAL: as many as the value has. */
  readonly decimals: number;
  /** MariaDB's name of a type that the protocol has none for (uuid, inet6), and of a text's format (json). */
  readonly extended: string;
}

export const TYPE = {
  decimal: 0x00,
  tiny: 0x01,
  short: 0x02,
  long: 0x03,
  float: 0x04,
  double: 0x05,
  null: 0x06,
  timestamp: 0x07,
  longlong: 0x08,
  int24: 0x09,
  date: 0x0a,
  time: 0x0b,
  datetime: 0x0c,
  year: 0x0d,
  newdate: 0x0e,
  varchar: 0x0f,
  bit: 0x10,
  vector: 0xf2,
  json: 0xf5,
  newdecimal: 0xf6,
  enum: 0xf7,
  set: 0xf8,
  tiny_blob: 0xf9,
  medium_blob: 0xfa,
  long_blob: 0xfb,
  blob: 0xfc,
  var_string: 0xfd,
  string: 0xfe,
  geometry: 0xff,
} as const;

export const FLAG = { unsigned: 0x20, zerofill: 0x40, binary: 0x80, enum: 0x100, set: 0x800 } as const;

/** The charset of what is no text. */
const BINARY = 63;
/** The most digits behind the point that a DECIMAL has, on MariaDB; on MySQL it is 30. */
const MOST_SCALE = 38;
const FIXED_BYTES = 13;

export function readColumn(from: Buffer, start: number, end: number): ColumnDefinition {
  let at = start;
  const text = () => {
    const { length, next } = readLength(from, at, end);
    at = next + Math.max(0, length);
    return from.toString('utf8', next, at);
  };
  text(); // catalog
  const schema = text();
  const table = text();
  text(); // its own name
  const name = text();
  const origin = text();
  const extended = end - at > FIXED_BYTES ? readExtended(text()) : '';
  if (end - at < FIXED_BYTES) throw new ProtocolError('a column without a type');
  return {
    name,
    schema,
    table,
    origin,
    charset: from.readUInt16LE(at + 1),
    length: from.readUInt32LE(at + 3),
    type: from[at + 7] ?? 0,
    flags: from.readUInt16LE(at + 8),
    decimals: from[at + 10] ?? 0,
    extended,
  };
}

/** Pairs of a kind (0: type, 1: format), a length and a name. */
function readExtended(pairs: string): string {
  const length = pairs.charCodeAt(1);
  return pairs.length >= 2 ? pairs.slice(2, 2 + length) : '';
}

/**
 * `utc`: whether the session's TIMESTAMPs are points in time whose distance from UTC is known; else they are what the
 * server's clock showed.
 */
export function columnOf(column: ColumnDefinition, utc: boolean): Column {
  const { name } = column;
  const type = typeOf(column, utc);
  const source_type = nameOf(column);
  const digits = type === 'DECIMAL' ? decimalDigits(column) : null;
  return { name, type, source_type, ...digits };
}

function typeOf(column: ColumnDefinition, utc: boolean): ColumnType {
  switch (column.type) {
    case TYPE.tiny:
    case TYPE.short:
    case TYPE.int24:
    case TYPE.long:
    case TYPE.year:
      return 'BIGINT';
    case TYPE.longlong:
      return isUnsigned(column) ? 'DECIMAL' : 'BIGINT';
    case TYPE.bit:
      return column.length < 64 ? 'BIGINT' : 'DECIMAL';
    case TYPE.decimal:
    case TYPE.newdecimal:
      return 'DECIMAL';
    case TYPE.float:
    case TYPE.double:
      return 'DOUBLE';
    case TYPE.date:
    case TYPE.newdate:
      return 'DATE';
    case TYPE.datetime:
      return 'TIMESTAMP';
    case TYPE.timestamp:
      return utc ? 'TIMESTAMPTZ' : 'TIMESTAMP';
    case TYPE.json:
      return 'JSON';
    case TYPE.geometry:
    case TYPE.vector:
      return 'BYTES';
    case TYPE.null:
    case TYPE.time:
      return 'TEXT';
    default:
      if (column.extended === 'json') return 'JSON';
      return isBytes(column) ? 'BYTES' : 'TEXT';
  }
}

/** MariaDB sends UUIDs and addresses as text that it calls binary. */
function isBytes({ charset, extended, flags }: ColumnDefinition): boolean {
  return (
    charset === BINARY && !/^(?:uuid|inet[46])$/.test(extended) && (flags & (FLAG.enum | FLAG.set)) === 0
  );
}

export function isUnsigned({ flags }: ColumnDefinition): boolean {
  return (flags & FLAG.unsigned) !== 0;
}

/** Bytes of so few bits are below any digit's. */
const TELLING_BITS = 5;

/**
 * Whether a BIT comes as its bytes for certain: it lies in a table, be it a temporary one. What comes from an expression
 * is sent as bytes by some, in decimal digits by others, and nothing says which.
 */
export function isBytesOfBits(
  { type, schema, table, origin, flags }: ColumnDefinition,
  mariadb: boolean,
): boolean {
  if (type !== TYPE.bit) return false;
  if (schema !== '') return true;
  // A table without a name is a temporary one; one with a name may be a derived table that was merged into the query.
  return mariadb ? (flags & FLAG.binary) === 0 : table === '' && origin !== '';
}

/** Why the values of a column cannot be told; null if they can. */
export function unreadable(column: ColumnDefinition, mariadb: boolean): string | null {
  const { type, length, name } = column;
  if (type !== TYPE.bit || length <= TELLING_BITS || isBytesOfBits(column, mariadb)) return null;
  return `column "${name}" is a BIT that comes from an expression, and the server does not say in which form it sends that: ask for a number, as in (…) + 0`;
}

/** How many digits of seconds' fractions a column shows. */
export function fractionDigits({ decimals }: ColumnDefinition): number {
  return Math.min(6, decimals);
}

function decimalDigits(column: ColumnDefinition): { precision: number; scale: number } | null {
  if (column.type === TYPE.longlong || column.type === TYPE.bit) return { precision: 20, scale: 0 };
  const { length, decimals } = column;
  if (decimals > MOST_SCALE) return null;
  // The length has room for a sign and a point.
  const precision = length - (isUnsigned(column) ? 0 : 1) - (decimals > 0 ? 1 : 0);
  return { precision: Math.min(65, Math.max(precision, decimals, 1)), scale: decimals };
}

/** The server's own word for a type, as far as it can be told from what is sent. */
function nameOf(column: ColumnDefinition): string {
  const { type, length, decimals, flags, extended } = column;
  if (extended !== '') return extended;
  const unsigned = isUnsigned(column) ? ' unsigned' : '';
  const fraction = decimals > 0 && decimals <= 6 ? `(${decimals})` : '';
  switch (type) {
    case TYPE.tiny:
      // A boolean of MySQL's is no more than that.
      return length === 1 ? 'tinyint(1)' : `tinyint${unsigned}`;
    case TYPE.short:
      return `smallint${unsigned}`;
    case TYPE.int24:
      return `mediumint${unsigned}`;
    case TYPE.long:
      return `int${unsigned}`;
    case TYPE.longlong:
      return `bigint${unsigned}`;
    case TYPE.decimal:
    case TYPE.newdecimal: {
      const digits = decimalDigits(column);
      return digits === null ? 'decimal' : `decimal(${digits.precision},${digits.scale})${unsigned}`;
    }
    case TYPE.float:
      return `float${unsigned}`;
    case TYPE.double:
      return `double${unsigned}`;
    case TYPE.date:
    case TYPE.newdate:
      return 'date';
    case TYPE.datetime:
      return `datetime${fraction}`;
    case TYPE.timestamp:
      return `timestamp${fraction}`;
    case TYPE.time:
      return `time${fraction}`;
    case TYPE.year:
      return 'year';
    case TYPE.bit:
      return `bit(${length})`;
    case TYPE.json:
      return 'json';
    case TYPE.geometry:
      return 'geometry';
    case TYPE.vector:
      return 'vector';
    case TYPE.null:
      return 'null';
  }
  if ((flags & FLAG.enum) !== 0 || type === TYPE.enum) return 'enum';
  if ((flags & FLAG.set) !== 0 || type === TYPE.set) return 'set';
  const bytes = column.charset === BINARY;
  // Sizes of text are told in bytes of utf8mb4.
  const size = bytes ? length : Math.floor(length / 4);
  if (type === TYPE.string) return bytes ? `binary(${size})` : `char(${size})`;
  if (type === TYPE.var_string || type === TYPE.varchar) {
    return bytes ? `varbinary(${size})` : `varchar(${size})`;
  }
  const family = bytes ? 'blob' : 'text';
  if (size <= 0xff) return `tiny${family}`;
  if (size <= 0xffff) return family;
  return size <= 0xff_ffff ? `medium${family}` : `long${family}`;
}
