/** What a query's columns are, from the server's description of them, and how they are best asked for. */
import type { Column, ColumnType } from '../database.ts';
import { EXACT } from './settings.ts';

/** A column as RowDescription has it. */
export interface Described {
  readonly name: string;
  readonly oid: number;
  readonly modifier: number;
}

/** Formats of a column on the wire. */
export const TEXT = 0;
export const BINARY = 1;

/** Type oids that never change, https://github.com/postgres/postgres/blob/master/src/include/catalog/pg_type.dat */
export const OID = {
  bool: 16,
  bytea: 17,
  int8: 20,
  int2: 21,
  int4: 23,
  oid: 26,
  json: 114,
  float4: 700,
  float8: 701,
  bpchar: 1042,
  varchar: 1043,
  date: 1082,
  timestamp: 1114,
  timestamptz: 1184,
  numeric: 1700,
  jsonb: 3802,
} as const;

const TYPES: ReadonlyMap<number, ColumnType> = new Map([
  [OID.bool, 'BOOLEAN'],
  [OID.bytea, 'BYTES'],
  [OID.int2, 'BIGINT'],
  [OID.int4, 'BIGINT'],
  [OID.int8, 'BIGINT'],
  [OID.oid, 'BIGINT'],
  [OID.float4, 'DOUBLE'],
  [OID.float8, 'DOUBLE'],
  [OID.numeric, 'DECIMAL'],
  [OID.date, 'DATE'],
  [OID.timestamp, 'TIMESTAMP'],
  [OID.timestamptz, 'TIMESTAMPTZ'],
  [OID.json, 'JSON'],
  [OID.jsonb, 'JSON'],
]);

/** Types whose binary form is that of the standard type they become: of the others the text is asked for. */
const STANDARD_BINARY: ReadonlySet<number> = new Set([
  OID.bool,
  OID.bytea,
  OID.int8,
  OID.float8,
  OID.numeric,
  OID.date,
  OID.timestamp,
  OID.timestamptz,
]);

/** Types whose text depends on settings, which a query may change while it runs: their binary form does not. */
const FICKLE_TEXT: ReadonlySet<number> = new Set([
  OID.bytea,
  OID.float4,
  OID.float8,
  OID.date,
  OID.timestamp,
  OID.timestamptz,
]);

/**
 * What a column must be made, so that its binary form is that of its standard type. A 32-bit float goes by its
 * text: the digits that it shows are the ones to keep, not those of its nearest double. How many it shows is a setting
 * of the session; where the query has changed that, the cast of the words fails.
 */
const CASTS: ReadonlyMap<number, (column: string) => string> = new Map([
  [OID.int2, toBigint],
  [OID.int4, toBigint],
  [OID.oid, toBigint],
  [
    OID.float4,
    (column) => `(CASE WHEN pg_catalog.current_setting('extra_float_digits') = '${EXACT.extra_float_digits}'
      THEN ${column}::pg_catalog.text ELSE 'extra_float_digits was changed by the query' END)::pg_catalog.float8`,
  ],
]);

function toBigint(column: string): string {
  return `${column}::pg_catalog.int8`;
}

/**
 * Types that a results table can have as they are, in any version and any database: no domains, no enums, no
 * types of extensions, none whose meaning depends on the server (money, regclass).
 */
const PORTABLE: ReadonlySet<number> = new Set([
  // bool bytea "char" int8 int2 int4 text oid json xml
  16, 17, 18, 20, 21, 23, 25, 26, 114, 142,
  // point lseg path box polygon line cidr float4 float8 circle macaddr8 macaddr inet
  600, 601, 602, 603, 604, 628, 650, 700, 701, 718, 774, 829, 869,
  // bpchar varchar date time timestamp timestamptz interval timetz bit varbit numeric uuid
  1042, 1043, 1082, 1083, 1114, 1184, 1186, 1266, 1560, 1562, 1700, 2950,
  // tsvector tsquery jsonb jsonpath pg_lsn
  3614, 3615, 3802, 4072, 3220,
  // ranges of int4, numeric, timestamp, timestamptz, date, int8
  3904, 3906, 3908, 3910, 3912, 3926,
  // arrays: bool bytea "char" int2 int4 text bpchar varchar int8 float4 float8 oid json
  1000, 1001, 1002, 1005, 1007, 1009, 1014, 1015, 1016, 1021, 1022, 1028, 199,
  // arrays: timestamp date time timestamptz interval numeric timetz bit varbit uuid jsonb inet cidr
  1115, 1182, 1183, 1185, 1187, 1231, 1270, 1561, 1563, 2951, 3807, 1041, 651,
]);

/** The columns; `typeNames` has what `format_type` says of each. */
export function columnsOf(described: readonly Described[], typeNames: readonly string[]): readonly Column[] {
  return described.map(({ name, oid, modifier }, index) => ({
    name,
    type: TYPES.get(oid) ?? 'TEXT',
    source_type: typeNames[index] ?? '',
    ...(oid === OID.numeric ? digitsOf(modifier) : {}),
  }));
}

/** Precision and scale of a numeric, if it is declared with them. */
function digitsOf(modifier: number): { precision?: number; scale?: number } {
  if (modifier < 4) return {};
  const precision = ((modifier - 4) >> 16) & 0xffff;
  // From Postgres 15 on a scale may be negative, or more than the precision: 11 bits with a sign.
  const scale = (((modifier - 4) & 0x7ff) ^ 0x400) - 0x400;
  if (scale < 0) return { precision: precision - scale, scale: 0 };
  return { precision: Math.max(precision, scale), scale };
}

/** How the columns are asked for. */
export interface Request {
  readonly columns: readonly Column[];
  /** On the wire, by column. */
  readonly formats: readonly number[];
  /** The statement in place of the query, or null if that can be run as it is. */
  readonly sql: string | null;
}

/** As tuples whose fields have the binary form of their column's standard type, or of its own. */
export function binaryRequest(
  described: readonly Described[],
  columns: readonly Column[],
  types: 'standard' | 'source',
  query: string,
): Request {
  if (types === 'source') {
    const kept = described.map(({ oid }) => PORTABLE.has(oid));
    return {
      columns: columns.map((column, index) =>
        kept[index] === true ? { ...column, pg_type: column.source_type } : column,
      ),
      formats: described.map(({ oid }, index) =>
        kept[index] === true || STANDARD_BINARY.has(oid) ? BINARY : TEXT,
      ),
      sql: null,
    };
  }
  return {
    columns,
    // Text in its text form is also its binary form, which holds for everything that becomes TEXT or JSON.
    formats: described.map(({ oid }) => (STANDARD_BINARY.has(oid) || CASTS.has(oid) ? BINARY : TEXT)),
    sql: castQuery(described, query),
  };
}

/** As text, but for what we make text of ourselves. */
export function textRequest(described: readonly Described[], columns: readonly Column[]): Request {
  return {
    columns,
    formats: described.map(({ oid }) => (FICKLE_TEXT.has(oid) ? BINARY : TEXT)),
    sql: null,
  };
}

function castQuery(described: readonly Described[], query: string): string | null {
  if (!described.some(({ oid }) => CASTS.has(oid))) return null;
  const names = described.map((_, index) => `c${index + 1}`);
  const values = described.map(({ oid }, index) => {
    const cast = CASTS.get(oid);
    return cast === undefined ? `q.${names[index]}` : cast(`q.${names[index]}`);
  });
  // The line break ends a comment that the query may end with.
  return `SELECT ${values.join(', ')} FROM (${query}\n) AS q (${names.join(', ')})`;
}
