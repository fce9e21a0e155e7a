/** Lines of copy-text, as LOAD DATA reads them and in pieces that end where a line ends. */
import type { Chunk } from '../database.ts';

/** Lines that are loaded by one statement. */
export interface Segment {
  /** Pieces of moderate size; together they end where a line ends. */
  readonly pieces: AsyncIterable<Buffer>;
  /** How many lines went by; all of them when `pieces` has ended. */
  rows(): number;
}

const NEWLINE = 0x0a;
const BACKSLASH = 0x5c;
/** Escapes that LOAD DATA does not know: it takes \v for a "v". */
const FOREIGN: Readonly<Record<number, number>> = { 102: 0x0c, 118: 0x0b };
const FORM_FEED = Buffer.from('\\f');
const VERTICAL_TAB = Buffer.from('\\v');
/** Well under any max_allowed_packet. */
const PIECE_BYTES = 256 * 1024;

/**
 * Cuts a stream of lines into segments of about so many bytes. Each is to be read to its end before the next is
 * asked for. A stream without lines has no segment.
 */
export async function* segmentsOf(
  chunks: AsyncIterable<Chunk>,
  bytes: number,
): AsyncGenerator<Segment, void, void> {
  const source = chunks[Symbol.asyncIterator]();
  const escapes = new Escapes();
  /** The beginning of a line, left over from the segment before. */
  let rest: Buffer | null = null;
  let ended = false;
  try {
    for (;;) {
      const first = rest === null ? await source.next() : null;
      if (first?.done === true) return;
      let rows = 0;
      const pieces = async function* (): AsyncGenerator<Buffer, void, void> {
        let sent = 0;
        let chunk = first?.value ?? null;
        if (rest !== null) yield* cut(rest);
        rest = null;
        for (;;) {
          if (chunk === null) {
            const next = await source.next();
            if (next.done === true) {
              const last = escapes.end();
              if (last !== null) yield last;
              ended = true;
              return;
            }
            chunk = next.value;
          }
          rows += chunk.rows;
          const data = escapes.translate(chunk.data);
          sent += data.length;
          chunk = null;
          const end = sent >= bytes ? data.lastIndexOf(NEWLINE) + 1 : 0;
          if (end > 0) {
            yield* cut(data.subarray(0, end));
            rest = end < data.length ? data.subarray(end) : null;
            return;
          }
          yield* cut(data);
        }
      };
      yield { pieces: pieces(), rows: () => rows };
      if (ended) return;
    }
  } finally {
    // Not waited for: a source that has not heard of an error may be busy with the next chunk.
    if (!ended) source.return?.().catch(() => {});
  }
}

function* cut(data: Buffer): Generator<Buffer, void, void> {
  for (let at = 0; at < data.length; at += PIECE_BYTES) yield data.subarray(at, at + PIECE_BYTES);
}

/** Puts the characters themselves for the escapes that LOAD DATA does not know. */
export class Escapes {
  /** Whether the last chunk ended between a backslash and what it escapes. */
  #open = false;

  translate(chunk: Buffer): Buffer {
    const data = this.#open ? Buffer.concat([Buffer.of(BACKSLASH), chunk]) : chunk;
    let slashes = 0;
    while (data[data.length - 1 - slashes] === BACKSLASH) slashes += 1;
    this.#open = slashes % 2 === 1;
    const whole = this.#open ? data.subarray(0, -1) : data;
    return whole.includes(FORM_FEED) || whole.includes(VERTICAL_TAB) ? translated(whole) : whole;
  }

  /** A backslash at the very end, which is no copy-text, is for the server to judge. */
  end(): Buffer | null {
    return this.#open ? Buffer.of(BACKSLASH) : null;
  }
}

function translated(data: Buffer): Buffer {
  const plain = Buffer.allocUnsafe(data.length);
  let length = 0;
  let from = 0;
  for (let at = data.indexOf(BACKSLASH); at !== -1; at = data.indexOf(BACKSLASH, at + 2)) {
    const character = FOREIGN[data[at + 1] ?? 0];
    if (character === undefined) continue;
    length += data.copy(plain, length, from, at);
    plain[length] = character;
    length += 1;
    from = at + 2;
  }
  length += data.copy(plain, length, from);
  return plain.subarray(0, length);
}
