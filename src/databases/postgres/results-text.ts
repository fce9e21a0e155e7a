/**
 * Lines of copy-text on their way to COPY, watched for what no text of Postgres is: a NUL, and bytes that are not UTF-8.
 * The server refuses both, but says of neither in which column it is.
 */
import { isUtf8 } from 'node:buffer';
import type { Chunk, Column } from '../database.ts';
import { DatabaseError } from '../errors.ts';

const TAB = 0x09;
const NEWLINE = 0x0a;
const BACKSLASH = 0x5c;
const NUL = Buffer.from('\\0');

/** The same chunks. Throws at the first such value. */
export async function* watchText(
  chunks: AsyncIterable<Chunk>,
  columns: readonly Pick<Column, 'name'>[],
  database: string,
): AsyncGenerator<Chunk, void, void> {
  const none = Buffer.alloc(0);
  /** The end of the last chunk that makes sense only with the next: half a character, half an escape. */
  let begun: Buffer = none;
  let rows = 0;
  let fields = 0;
  for await (const chunk of chunks) {
    const data = begun.length === 0 ? chunk.data : Buffer.concat([begun, chunk.data]);
    const end = data.length - openBytes(data);
    const whole = data.subarray(0, end);
    if (!isUtf8(whole) || whole.includes(NUL)) {
      const fault = findFault(whole);
      if (fault !== null) {
        const row = rows + fault.rows + 1;
        const column = columns[fault.fields + (fault.rows === 0 ? fields : 0)]?.name ?? '';
        throw new DatabaseError(
          'query_failed',
          `${database}: row ${row}, column "${column}": the value ${fault.what}; cast or convert it in the query`,
        );
      }
    }
    begun = Buffer.from(data.subarray(end));
    rows += chunk.rows;
    const line = whole.lastIndexOf(NEWLINE);
    fields = (line < 0 ? fields : 0) + count(whole.subarray(line + 1), TAB);
    yield chunk;
  }
}

/** How many bytes at the end are the beginning of a character, or a backslash whose other half has not come. */
function openBytes(data: Buffer): number {
  let slashes = 0;
  while (data[data.length - 1 - slashes] === BACKSLASH) slashes += 1;
  if (slashes > 0) return slashes % 2;
  for (let back = 1; back <= 3; back += 1) {
    const byte = data[data.length - back] ?? 0;
    if (byte < 0x80) return 0;
    if (byte < 0xc0) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    return length > back ? back : 0;
  }
  return 0;
}

interface Fault {
  /** Lines that end before it, and fields that do in its own line. */
  readonly rows: number;
  readonly fields: number;
  readonly what: string;
}

function findFault(data: Buffer): Fault | null {
  let rows = 0;
  let fields = 0;
  for (let start = 0; start <= data.length; ) {
    let end = start;
    while (end < data.length && data[end] !== TAB && data[end] !== NEWLINE) end += 1;
    const field = data.subarray(start, end);
    if (!isUtf8(field)) return { rows, fields, what: 'is not UTF-8 text' };
    // Behind an even number of backslashes.
    if (/(?:^|[^\\])(?:\\\\)*\\0/.test(field.toString('latin1'))) {
      return { rows, fields, what: 'is text with a NUL character' };
    }
    if (data[end] === NEWLINE) rows += 1;
    fields = data[end] === NEWLINE ? 0 : fields + 1;
    start = end + 1;
  }
  return null;
}

function count(data: Buffer, byte: number): number {
  let found = 0;
  for (let at = data.indexOf(byte); at >= 0; at = data.indexOf(byte, at + 1)) found += 1;
  return found;
}
