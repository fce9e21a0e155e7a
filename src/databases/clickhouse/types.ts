/** What ClickHouse's types are to a results backend, and in what form the server is asked to print them. */
import type { Column } from '../database.ts';

/** A column of a query, as it is asked for. */
export interface Printed {
  readonly column: Column;
  /**
   * The value as SQL, from a reference to the column, so that its TabSeparated form is that of copy-text but for
   * escapes. Null: a value of this type means nothing outside of ClickHouse.
   */
  readonly expression: ((reference: string) => string) | null;
  /** The most bytes that the type's default value takes, escaped. */
  readonly default_bytes: number;
}

const asIs = (reference: string) => reference;
const asText = (reference: string) => `toString(${reference})`;

/**
 * `old`: the server prints the first day and the first second of 1970 as zeros, as ClickHouse did before 20.x, and not
 * every decimal right; the text of these is made of what it prints right.
 */
export function printed(name: string, type: string, old: boolean): Printed {
  const column = { name, source_type: type };
  const { base, nullable } = unwrapped(type);
  const [, word = '', parameters = ''] = /^(\w+)(?:\((.*)\))?$/s.exec(base) ?? [];
  const as = (
    rest: Omit<Column, 'name' | 'source_type'>,
    expression: Printed['expression'],
    default_bytes = 64,
  ): Printed => ({ column: { ...column, ...rest }, expression, default_bytes });

  switch (word) {
    case 'Int8':
    case 'Int16':
    case 'Int32':
    case 'Int64':
    case 'UInt8':
    case 'UInt16':
    case 'UInt32':
      return as({ type: 'BIGINT' }, asIs);
    case 'UInt64':
      return as({ type: 'DECIMAL', precision: 20, scale: 0 }, asIs);
    case 'Int128':
    case 'UInt128':
      return as({ type: 'DECIMAL', precision: 39, scale: 0 }, asIs);
    case 'Int256':
      return as({ type: 'DECIMAL', precision: 77, scale: 0 }, asIs);
    case 'UInt256':
      return as({ type: 'DECIMAL', precision: 78, scale: 0 }, asIs);
    case 'Bool':
      return as({ type: 'BOOLEAN' }, (reference) => `toUInt8(${reference})`);
    case 'Float32':
    case 'Float64':
      return as({ type: 'DOUBLE' }, (reference) => float(reference, nullable));
    case 'BFloat16':
      return as({ type: 'DOUBLE' }, (reference) => float(`toFloat32(${reference})`, nullable));
    case 'Decimal': {
      const [precision, scale = 0] = parameters.split(',').map(Number);
      if (precision === undefined || !Number.isInteger(precision) || !Number.isInteger(scale)) break;
      const wide = old && precision - scale > DIGITS_WRITTEN_RIGHT;
      return as({ type: 'DECIMAL', precision, scale }, wide ? full(wideDecimalOfOld) : asIs, 128);
    }
    case 'Date':
      return as({ type: 'DATE' }, old ? full(dateOfOld) : asIs);
    case 'Date32':
      return as({ type: 'DATE' }, asIs);
    case 'DateTime':
      return as({ type: 'TIMESTAMPTZ' }, old ? full(instantOfOld) : instant);
    case 'DateTime64': {
      const digits = Number(parameters.split(',')[0]);
      return digits <= 6 ? as({ type: 'TIMESTAMPTZ' }, instant) : as({ type: 'TEXT' }, asIs);
    }
    case 'FixedString':
      return as({ type: 'TEXT' }, asIs, 2 * Number(parameters));
    case 'String':
    case 'UUID':
    case 'IPv4':
    case 'IPv6':
    case 'Time':
    case 'Time64':
    case 'Nothing':
      return as({ type: 'TEXT' }, asIs);
    case 'Enum8':
    case 'Enum16':
      // The default of an enum may be none of its names, and then it cannot be written.
      return as({ type: 'TEXT' }, old ? asText : asIs);
    case 'JSON':
      return as({ type: 'JSON' }, asText);
    case 'AggregateFunction':
      return as({ type: 'TEXT' }, null);
  }
  if (word.startsWith('Interval')) return as({ type: 'TEXT' }, asIs);
  // Arrays, tuples, maps and all that is yet to come. toString gives what people see, quotes and backslashes
  // included; the column itself would be written with its inner escapes only, which one cannot take back.
  return as({ type: 'TEXT' }, asText);
}

/** A type without what says only how it is stored, or that it can be NULL. */
function unwrapped(type: string): { readonly base: string; readonly nullable: boolean } {
  let base = type.trim();
  let nullable = false;
  for (;;) {
    const [, wrapper, inner] =
      /^(Nullable|LowCardinality|SimpleAggregateFunction)\((.*)\)$/s.exec(base) ?? [];
    if (wrapper === undefined || inner === undefined) return { base, nullable };
    nullable ||= wrapper === 'Nullable';
    base = (wrapper === 'SimpleAggregateFunction' ? afterFunction(inner) : inner).trim();
  }
}

/** The type in `sum, Float64` and in `groupArrayArray(10, 5), Array(UInt8)`. */
function afterFunction(inner: string): string {
  let depth = 0;
  for (const [at, character] of [...inner].entries()) {
    if (character === '(') depth += 1;
    if (character === ')') depth -= 1;
    if (character === ',' && depth === 0) return [...inner].slice(at + 1).join('');
  }
  return inner;
}

/**
 * Servers of 2018 write integers of more than 20 digits past the end of a buffer where one ends just there: wrong
 * digits, or a crash.
 */
const DIGITS_WRITTEN_RIGHT = 19;

/** In two parts of at most 20 digits: those above the nineteenth, and the others behind a 1 that is cut off. */
function wideDecimalOfOld(reference: string): string {
  const unit = `toDecimal128('1${'0'.repeat(DIGITS_WRITTEN_RIGHT)}', 0)`;
  const size = `abs(${reference})`;
  const high = `toUInt64(${size} / ${unit})`;
  const low = `substring(toString(${size} - toDecimal128(${high}, 0) * ${unit} + ${unit}), 2)`;
  const digits = `if(${size} >= ${unit}, concat(toString(${high}), ${low}), toString(${size}))`;
  return `concat(if(${reference} < 0, '-', ''), ${digits})`;
}

/** ClickHouse writes nan, inf and -inf. A comparison with NULL is NULL, which multiIf takes for false. */
function float(reference: string, nullable: boolean): string {
  const cases = `isFinite(${reference}), toString(${reference}), isNaN(${reference}), 'NaN', ${reference} > 0, 'Infinity'`;
  return nullable
    ? `multiIf(${cases}, ${reference} < 0, '-Infinity', NULL)`
    : `multiIf(${cases}, '-Infinity')`;
}

function instant(reference: string): string {
  return `concat(toString(${reference}, 'UTC'), '+00')`;
}

/** Old servers take no constant that could be NULL in a condition. */
function full(expression: (reference: string) => string): (reference: string) => string {
  return (reference) => expression(`materialize(${reference})`);
}

function instantOfOld(reference: string): string {
  return `if(toUInt32(${reference}) = 0, '1970-01-01 00:00:00+00', ${instant(reference)})`;
}

function dateOfOld(reference: string): string {
  return `if(toUInt16(${reference}) = 0, '1970-01-01', toString(${reference}))`;
}
