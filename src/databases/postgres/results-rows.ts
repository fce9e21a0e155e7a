/**
 * Rows of JS values as lines for COPY. Postgres judges most of them, but it is generous where a silent
 * change would come of it: it takes 'now' for a date and 24:00:00 for the next day, drops the zone of a timestamp and
 * rounds its nanoseconds. Such values are refused here.
 */
import type { Chunk, Column, ColumnType, LongValue, Value, WholeValue } from '../database.ts';
import { encodeField } from '../encodings/copy-text.ts';
import { encodeLong, isLong } from '../encodings/long-value.ts';
import { realText } from '../encodings/real-text.ts';
import { DatabaseError } from '../errors.ts';

const DAY = String.raw`(\d{4}|[1-9]\d{4,})-\d\d-\d\d`;
const TIME = String.raw`([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6}0*)?)?`;
const ZONE = String.raw`(Z|[+-]\d\d(:?\d\d(:\d\d)?)?)`;
const INFINITE = 'infinity|-infinity';
const DATE = new RegExp(`^(${DAY}( BC)?|${INFINITE})$`);
const TIMESTAMP = new RegExp(`^(${DAY}([ T]${TIME})?( BC)?|${INFINITE})$`);
const TIMESTAMPTZ = new RegExp(`^(${DAY}[ T]${TIME} ?${ZONE}( BC)?|${INFINITE})$`);

/** Where a number is kept as its text. */
const HOLDS_TEXT: ReadonlySet<ColumnType | undefined> = new Set(['TEXT', 'JSON', 'ANY']);

/** Chunks of about this many characters: large enough for the socket, small enough for the event loop. */
const CHUNK_CHARACTERS = 64 * 1024;

export class RowEncoder {
  readonly #columns: readonly Pick<Column, 'name' | 'type'>[];
  readonly #database: string;
  /** Binary values in columns of mixed kinds, by column. */
  readonly #bytes: number[];
  #row = 0;

  constructor(columns: readonly Pick<Column, 'name' | 'type'>[], database: string) {
    this.#columns = columns;
    this.#database = database;
    this.#bytes = columns.map(() => 0);
  }

  async *encode(batches: AsyncIterable<readonly (readonly Value[])[]>): AsyncGenerator<Chunk, void, void> {
    let lines = '';
    let rows = 0;
    for await (const batch of batches) {
      for (const row of batch) {
        this.#row += 1;
        if (row.length !== this.#columns.length)
          throw new Error('a row of a result has too few or too many values');
        for (let index = 0; index < row.length; index += 1) {
          const value = row[index] ?? null;
          if (index > 0) lines += '\t';
          if (!isLong(value)) {
            lines += this.#field(index, value);
            continue;
          }
          yield { data: Buffer.from(lines), rows };
          lines = '';
          rows = 0;
          for await (const data of encodeLong(this.#checkLong(index, value))) yield { data, rows };
        }
        lines += '\n';
        rows += 1;
        if (lines.length < CHUNK_CHARACTERS) continue;
        yield { data: Buffer.from(lines), rows };
        lines = '';
        rows = 0;
      }
    }
    if (rows > 0) yield { data: Buffer.from(lines), rows };
  }

  /** What was kept in another form. */
  warnings(): readonly string[] {
    return this.#columns.flatMap(({ name }, index) => {
      const count = this.#bytes[index] ?? 0;
      return count === 0 ? [] : [`column "${name}": ${count} binary values are kept as text (\\x…)`];
    });
  }

  #field(index: number, value: WholeValue): string {
    if (value !== null) this.#check(index, value);
    return typeof value === 'number' && HOLDS_TEXT.has(this.#columns[index]?.type)
      ? realText(value)
      : encodeField(value);
  }

  #checkLong(index: number, { long, pieces }: LongValue): LongValue {
    const type = this.#columns[index]?.type ?? 'ANY';
    if (long === 'bytes') {
      this.#checkBytes(index);
      return { long, pieces };
    }
    if (!HOLDS_TEXT.has(type)) throw this.#refused(index, `is not ${WANTED[type] ?? type}`);
    const refused = () => this.#refused(index, NO_TEXT);
    async function* checked(): AsyncGenerator<Uint8Array, void, void> {
      for await (const piece of pieces) {
        if (piece.includes(0)) throw refused();
        yield piece;
      }
    }
    return { long, pieces: checked() };
  }

  #check(index: number, value: Exclude<WholeValue, null>): void {
    const type = this.#columns[index]?.type ?? 'ANY';
    if (typeof value === 'string' && (value.includes('\0') || !value.isWellFormed())) {
      throw this.#refused(index, NO_TEXT);
    }
    if (value instanceof Uint8Array) {
      this.#checkBytes(index);
      return;
    }
    if (!isOfKind(type, value)) throw this.#refused(index, `is not ${WANTED[type] ?? type}`);
  }

  #checkBytes(index: number): void {
    const type = this.#columns[index]?.type ?? 'ANY';
    if (type === 'BYTES') return;
    if (type !== 'ANY') throw this.#refused(index, `is binary (or text that is not UTF-8), not ${type}`);
    this.#bytes[index] = (this.#bytes[index] ?? 0) + 1;
  }

  #refused(index: number, what: string): DatabaseError {
    const name = this.#columns[index]?.name ?? '';
    return new DatabaseError(
      'query_failed',
      `${this.#database}: row ${this.#row}, column "${name}": the value ${what}; cast or convert it in the query`,
    );
  }
}

const NO_TEXT = 'is text with a NUL character or half a surrogate pair';

const WANTED: Partial<Record<ColumnType, string>> = {
  BYTES: 'binary',
  DATE: 'a date of the form 2024-02-29',
  TIMESTAMP: 'a timestamp of the form 2024-02-29 23:59:59.123456 without a zone',
  TIMESTAMPTZ: 'a timestamp of the form 2024-02-29 23:59:59.123456+00 with its zone',
  BOOLEAN: 'true, false, 1 or 0',
  BIGINT: 'a whole number',
  DECIMAL: 'a number',
  DOUBLE: 'a number',
};

function isOfKind(type: ColumnType, value: bigint | number | string | boolean): boolean {
  switch (type) {
    case 'BYTES':
      return false;
    case 'DATE':
      return typeof value === 'string' && DATE.test(value);
    case 'TIMESTAMP':
      return typeof value === 'string' && TIMESTAMP.test(value);
    case 'TIMESTAMPTZ':
      return typeof value === 'string' && TIMESTAMPTZ.test(value);
    case 'BOOLEAN':
      return typeof value === 'string'
        ? value === '1' || value === '0'
        : Number(value) === 0 || Number(value) === 1;
    case 'BIGINT':
      return typeof value === 'string' ? /^-?\d+$/.test(value) : typeof value !== 'boolean' && isWhole(value);
    case 'DECIMAL':
    case 'DOUBLE':
      return typeof value === 'string'
        ? /^(-?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|NaN|-?Infinity)$/i.test(value)
        : typeof value !== 'boolean';
    case 'TEXT':
    case 'JSON':
    case 'ANY':
      return true;
  }
}

function isWhole(value: bigint | number): boolean {
  return typeof value === 'bigint' || Number.isSafeInteger(value);
}
