/**
 * Values of any kind in a column of one type, as SQLite gives them. MySQL would make do with most of them: it
 * rounds 1.5 to 2 and takes 101112 for a date without a word. What is not a value of its column's type is an error.
 */
import type { Value } from '../database.ts';
import { isLong } from '../encodings/long-value.ts';
import { realText } from '../encodings/real-text.ts';
import { DatabaseError } from '../errors.ts';
import type { PlannedColumn } from './results-columns.ts';

/** The same rows. Throws at a value that its column's type does not have. */
export async function* fitRows(
  batches: AsyncIterable<readonly (readonly Value[])[]>,
  columns: readonly PlannedColumn[],
  database: string,
): AsyncGenerator<readonly (readonly Value[])[], void, void> {
  let rows = 0;
  for await (const batch of batches) {
    yield batch.map((row) => {
      rows += 1;
      return row.map((value, index) => {
        const column = columns[index];
        if (column === undefined) throw new Error(`row ${rows} has more values than there are columns`);
        if (value === null) return null;
        const fit = fitValue(value, column);
        if (fit !== undefined) return fit;
        throw new DatabaseError(
          'query_failed',
          `${database}: column "${column.name}", row ${rows}: ${kindOf(value)} is not one for ${column.type}; convert it in the query, to text for example`,
        );
      });
    });
  }
}

function kindOf(value: Exclude<Value, null>): string {
  if (typeof value === 'object') return isLong(value) && value.long === 'text' ? 'a text' : 'a blob';
  if (typeof value === 'string') return 'a text';
  if (typeof value === 'boolean') return 'a boolean';
  return typeof value === 'bigint' || Number.isInteger(value) ? 'an integer' : 'a float';
}

const DAY = '(?:\\d{4}|[1-9]\\d{4,})-\\d\\d-\\d\\d';
const DATE = new RegExp(`^${DAY}( BC)?$|^-?infinity$`);
const TIME = '(?:[ T]\\d\\d:\\d\\d(?::\\d\\d(?:\\.\\d{1,6})?)?)';
const TIMESTAMP = new RegExp(`^${DAY}${TIME}?( BC)?$|^-?infinity$`);
const TIMESTAMPTZ = new RegExp(`^(${DAY}${TIME})(?:Z|[+]00(?::?00)?)$`);
const DIGITS = /^-?\d+$/;
const DECIMAL = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)$|^(?:NaN|-?Infinity)$/;

/** The value as it is written, undefined if it has no place. */
function fitValue(value: Exclude<Value, null>, { from }: PlannedColumn): Value | undefined {
  switch (from.type) {
    case 'BIGINT':
      return integerOf(value);
    case 'BOOLEAN':
      return integerOf(value);
    case 'DECIMAL':
      if (typeof value === 'string') return DECIMAL.test(value) ? value : undefined;
      return typeof value === 'number' ? value : integerOf(value);
    case 'DOUBLE':
      if (typeof value === 'number') return value;
      // A wider integer would lose its last digits.
      return typeof value === 'bigint' && BigInt(Number(value)) === value ? value : undefined;
    case 'DATE':
      return typeof value === 'string' && DATE.test(value) ? value : undefined;
    case 'TIMESTAMP':
      return typeof value === 'string' && TIMESTAMP.test(value) ? value : undefined;
    case 'TIMESTAMPTZ': {
      if (typeof value !== 'string') return undefined;
      const [, utc] = TIMESTAMPTZ.exec(value) ?? [];
      return utc === undefined ? undefined : `${utc}+00`;
    }
    case 'BYTES':
      if (isLong(value)) return { ...value, long: 'bytes' };
      if (typeof value === 'string') return Buffer.from(value);
      return typeof value === 'object' ? value : undefined;
    case 'TEXT':
    case 'JSON':
    case 'ANY':
      if (typeof value === 'number') return realText(value);
      if (isLong(value)) return value.long === 'text' ? value : undefined;
      return typeof value === 'object' ? undefined : value;
  }
}

function integerOf(value: Exclude<Value, null>): Value | undefined {
  if (typeof value === 'bigint' || typeof value === 'boolean') return value;
  if (typeof value === 'number') return Number.isSafeInteger(value) ? BigInt(value) : undefined;
  return typeof value === 'string' && DIGITS.test(value) ? value : undefined;
}
