/** Gets lines of copy-text into a staging table: all of them, exactly, or an error. */
import { Readable } from 'node:stream';
import type { Chunk } from '../database.ts';
import { LineDecoder } from '../encodings/copy-text.ts';
import { DatabaseError } from '../errors.ts';
import { quoteName } from './quote.ts';
import { findTable } from './results-catalog.ts';
import type { Flavor, PlannedColumn } from './results-columns.ts';
import { type Segment, segmentsOf } from './results-lines.ts';
import { errorNumber, type Outcome, type Session, StatementError } from './results-session.ts';

/**
 * What one LOAD DATA takes. Each commits: ending a load, or failing on its last row, undoes no more than this,
 * where InnoDB would roll back ten million rows for minutes; and an error that the server only tells at the end
 * of its input (a full disk, say) is heard of in good time. Costs no measurable time.
 */
const SEGMENT_BYTES = 32 * 1024 * 1024;
/** One INSERT: rows up to this size, in bytes of copy-text, and no more placeholders than MySQL takes. */
const INSERT_BYTES = 256 * 1024;
const MOST_PLACEHOLDERS = 65_535;
const MOST_INSERT_ROWS = 1_024;
/** The largest 32-bit float, in digits that no server takes for more. */
const LARGEST_FLOAT = '3.4028234663852886e38';
/** Of a packet beside its values: more than it can be. */
const PACKET_OVERHEAD = 64 * 1024;

/** Resolves with the number of rows. Errors of the stream reject as they are; the session is destroyed then. */
export async function loadLines(
  db: Session,
  table: string,
  columns: readonly PlannedColumn[],
  chunks: AsyncIterable<Chunk>,
): Promise<number> {
  return db.local_infile
    ? await loadFiles(db, table, columns, chunks)
    : await insertRows(db, table, columns, chunks, 0);
}

/**
 * Throws if a server that died has lost rows that it had taken, as one may that writes its log to disk once in a while
 * (innodb_flush_log_at_trx_commit other than 1).
 */
export async function checkLoaded(db: Session, table: string, rows: number): Promise<void> {
  // Published already, or taken away by a newer attempt: which of them is for publishing to find out.
  if ((await findTable(db, table)) === null) return;
  const [found] = await db.query<{ count: number }>(`SELECT COUNT(*) AS count FROM ${quoteName(table)}`);
  if (Number(found?.count) === rows) return;
  throw new DatabaseError('unavailable', `${db.database}: the server died and has lost rows of the result`);
}

/** LOAD DATA LOCAL has been switched off: of old servers, of MySQL, of MariaDB. */
const SWITCHED_OFF: ReadonlySet<number> = new Set([1148, 3948, 4166]);

async function loadFiles(
  db: Session,
  table: string,
  columns: readonly PlannedColumn[],
  chunks: AsyncIterable<Chunk>,
): Promise<number> {
  const sql = loadStatement(table, columns, db.flavor);
  let rows = 0;
  const segments = segmentsOf(chunks, SEGMENT_BYTES);
  for await (const segment of segments) {
    let asked = false;
    const failed = Promise.withResolvers<never>();
    failed.promise.catch(() => {}); // it may come when nobody listens any more
    const pieces = async function* () {
      try {
        yield* segment.pieces;
      } catch (error) {
        // The driver would end the file as if it were whole: the connection is cut before it hears of it.
        failed.reject(error);
        db.destroy();
        throw error;
      }
    };
    const stream = Readable.from(pieces(), { objectMode: false, highWaterMark: 256 * 1024 });
    stream.on('error', () => {}); // told by `failed`
    try {
      const file = () => {
        asked = true;
        return stream;
      };
      const outcome = await Promise.race([failed.promise, db.load(sql, file)]);
      if (outcome.warnings > 0) await tellWarning(db, columns, rows);
      demand(db, outcome, segment.rows());
    } catch (error) {
      // Since this session has begun; nothing of the segment was read.
      if (asked || !SWITCHED_OFF.has(errorNumber(error))) throw error;
      return await insertRows(db, table, columns, chunksOf(segment, segments), rows);
    } finally {
      stream.destroy();
    }
    rows += segment.rows();
  }
  return rows;
}

/** What is left of a stream that was cut into segments. */
async function* chunksOf(
  first: Segment,
  others: AsyncIterable<Segment>,
): AsyncGenerator<Pick<Chunk, 'data'>, void, void> {
  for await (const data of first.pieces) yield { data };
  for await (const { pieces } of others) for await (const data of pieces) yield { data };
}

/** A server that counts other rows than we sent has not taken what we sent. */
function demand(db: Session, outcome: Outcome, rows: number): void {
  if (outcome.rows === rows) return;
  throw new DatabaseError('query_failed', `${db.database}: the server took ${outcome.rows} rows of ${rows}`);
}

/**
 * MySQL looks at the text as a whole if it is said to be utf8mb4, and does not tell where it is none. As bytes, each column
 * takes them for its own character set, and says so.
 */
function loadStatement(table: string, columns: readonly PlannedColumn[], { mariadb }: Flavor): string {
  const charset = mariadb ? 'utf8mb4' : 'binary';
  const fields: string[] = [];
  const sets: string[] = [];
  columns.forEach(({ name, conversion }, index) => {
    const variable = `@c${index}`;
    const set = converted(conversion, variable);
    fields.push(set === null ? quoteName(name) : variable);
    if (set !== null) sets.push(`${quoteName(name)} = ${set}`);
  });
  const tail = sets.length === 0 ? '' : ` SET ${sets.join(', ')}`;
  return `LOAD DATA LOCAL INFILE 'rows' INTO TABLE ${quoteName(table)} CHARACTER SET ${charset} FIELDS TERMINATED BY '\\t' ENCLOSED BY '' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' (${fields.join(', ')})${tail}`;
}

/** What makes a column's value of a field's text, as SQL; null: the server does it by itself. */
function converted(conversion: PlannedColumn['conversion'], text: string): string | null {
  switch (conversion) {
    case 'as_is':
      return null;
    case 'utc':
      return `TRIM(TRAILING '+00' FROM ${text})`;
    case 'hex':
      return `UNHEX(SUBSTR(${text}, 3))`;
    case 'year':
      // The text 0 is the year 2000, the number is 0000.
      return `CAST(${text} AS UNSIGNED)`;
    case 'float':
      // The largest float has shortest digits that lie a little above it.
      return `GREATEST(LEAST(${text} + 0e0, ${LARGEST_FLOAT}), -${LARGEST_FLOAT})`;
  }
}

/**
 * For servers that take no LOAD DATA LOCAL: the default of MySQL 8. Bounded by their max_allowed_packet. `before`: how many
 * rows are in the table already; resolves with how many there are then.
 */
async function insertRows(
  db: Session,
  table: string,
  columns: readonly PlannedColumn[],
  chunks: AsyncIterable<Pick<Chunk, 'data'>>,
  before: number,
): Promise<number> {
  const decoder = new LineDecoder(
    columns.map(({ from, conversion }) => ({
      name: from.name,
      type: conversion === 'hex' ? 'BYTES' : 'TEXT',
    })),
  );
  // Bytes are bound as such.
  const row = `(${columns.map(({ conversion }) => (conversion === 'hex' ? '?' : (converted(conversion, '?') ?? '?'))).join(', ')})`;
  const most = Math.min(MOST_INSERT_ROWS, Math.floor(MOST_PLACEHOLDERS / columns.length));
  let rows = before;
  let waiting: Values[] = [];
  const insert = async () => {
    const [count, bytes] = insertable(waiting, most);
    if (bytes > db.max_packet - PACKET_OVERHEAD) {
      throw new DatabaseError(
        'query_failed',
        `${db.database}: row ${rows + 1} takes ${bytes} bytes, the server takes ${db.max_packet} at a time: raise its max_allowed_packet, or set local_infile = 1`,
      );
    }
    const sql = `INSERT INTO ${quoteName(table)} VALUES ${Array.from({ length: count }, () => row).join(', ')}`;
    const outcome = await db.run(sql, waiting.slice(0, count).flat()).catch((error: unknown) => {
      throw rowError(db, error, columns, rows) ?? error;
    });
    if (outcome.warnings > 0) await tellWarning(db, columns, rows);
    demand(db, outcome, count);
    waiting = waiting.slice(count);
    rows += count;
  };
  try {
    let bytes = 0;
    for await (const { data } of chunks) {
      bytes += data.length;
      waiting.push(...(decoder.push(data) as Values[]));
      if (waiting.length < most && bytes < INSERT_BYTES) continue;
      while (waiting.length >= most || (bytes >= INSERT_BYTES && waiting.length > 0)) await insert();
      bytes = 0;
    }
    decoder.end();
    while (waiting.length > 0) await insert();
  } catch (error) {
    db.destroy();
    throw error;
  }
  return rows;
}

type Values = readonly (string | Buffer | null)[];

/** How many rows go into the next statement, and their bytes. A power of two: few statements to prepare. */
function insertable(rows: readonly Values[], most: number): readonly [number, number] {
  const sizes: number[] = [];
  let sum = 0;
  for (const row of rows) {
    const size = row.reduce((bytes, value) => bytes + 9 + (value === null ? 0 : Buffer.byteLength(value)), 0);
    if (sizes.length === most || (sizes.length > 0 && sum + size > INSERT_BYTES)) break;
    sum += size;
    sizes.push(sum);
  }
  const count = 2 ** Math.floor(Math.log2(sizes.length));
  return [count, sizes[count - 1] ?? 0];
}

/** Throws what the server has warned of: with LOAD DATA LOCAL no value is an error. */
async function tellWarning(db: Session, columns: readonly PlannedColumn[], before: number): Promise<never> {
  const warnings = await db.query<{ Code: number; Message: string }>('SHOW WARNINGS');
  // What names its column says more: MariaDB explains what is wrong with JSON before it says where.
  const { Code, Message } = warnings.find((each) => columnOf(each.Message, columns) !== undefined) ??
    warnings[0] ?? { Code: 0, Message: '' };
  throw valueError(db, Code, Message, columns, before);
}

/** An error about a value, null if it is about something else. */
function rowError(
  db: Session,
  error: unknown,
  columns: readonly PlannedColumn[],
  before: number,
): DatabaseError | null {
  const number = errorNumber(error);
  if (!(error instanceof StatementError) || KINDS[number] === undefined) return null;
  return valueError(db, number, error.message, columns, before);
}

/** What the server's codes mean; its own words quote the value. */
const KINDS: Readonly<Record<number, string>> = {
  1264: 'is out of the range of',
  1265: 'does not fit without being rounded or cut into',
  1292: 'is not one for',
  1366: 'is not one for',
  1406: 'is too long for',
  3140: 'is not JSON that can be stored in',
  4025: 'is not JSON that can be stored in',
};

function valueError(
  db: Session,
  code: number,
  message: string,
  columns: readonly PlannedColumn[],
  before: number,
): DatabaseError {
  const in_statement = AT_ROW.exec(message)?.[1];
  const row = in_statement === undefined ? '' : `, row ${before + Number(in_statement)}`;
  const column = columnOf(message, columns);
  if (code === TOO_LARGE) {
    return new DatabaseError(
      'query_failed',
      `${db.database}${row}: a value is larger than the server takes, ${db.max_packet} bytes: raise its max_allowed_packet, or let the query give less of it`,
    );
  }
  if (column === undefined)
    return new DatabaseError(
      'query_failed',
      `${db.database}: a value of the result cannot be stored (warning ${code})${row}`,
    );
  return new DatabaseError(
    'query_failed',
    `${db.database}: column "${column.name}"${row}: a value ${KINDS[code] ?? `cannot be stored (${code}) in`} ${column.type}; convert it in the query, to text for example`,
  );
}

/** What a function gives (UNHEX of the bytes of a BLOB) would be larger than max_allowed_packet. */
const TOO_LARGE = 1301;

const AT_ROW = / at row (\d+)$/;

/** The column that a message is about: it ends with its name and the row, or is about its CHECK. */
function columnOf(message: string, columns: readonly PlannedColumn[]): PlannedColumn | undefined {
  const place = message.replace(AT_ROW, '');
  return columns.find(
    ({ name }) =>
      place.endsWith(`\`${name}\``) ||
      place.endsWith(`'${name}'`) ||
      place.includes(`.${name}\` failed for `),
  );
}
