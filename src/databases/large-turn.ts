/**
 * Values that somebody has to hold as a whole (a row for SQLite, a statement for MySQL, what SQLite itself has read)
 * take turns: in all of this process there is one at a time. Whoever waits holds no more than the beginning of its own.
 */
import type { Chunk } from './database.ts';
import { Places } from './places.ts';

/** What is larger waits for its turn, bytes. */
export const LARGE_BYTES = 1024 * 1024;

const turn = new Places(1);

/** Resolves to a function that ends the turn, of no consequence the second time. */
export function takeTurn(signal: AbortSignal): Promise<() => void> {
  return turn.take(signal);
}

const NEWLINE = 0x0a;

/** The same chunks of lines. While a large line is being handed over it is this one's turn. */
export async function* inTurns(
  chunks: AsyncIterable<Chunk>,
  signal: AbortSignal,
): AsyncGenerator<Chunk, void, void> {
  let end: (() => void) | null = null;
  /** Of the line under way. */
  let bytes = 0;
  try {
    for await (const chunk of chunks) {
      const last = chunk.data.lastIndexOf(NEWLINE);
      const goes_on = chunk.data.length - last - 1;
      bytes = last < 0 ? bytes + goes_on : goes_on;
      if (bytes > LARGE_BYTES) end ??= await takeTurn(signal);
      yield chunk;
      if (bytes > LARGE_BYTES) continue;
      // Whoever asks for more has done with the line.
      end?.();
      end = null;
    }
  } finally {
    end?.();
  }
}
