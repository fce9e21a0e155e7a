/** Holds lines of copy-text that come in pieces to the bound of their values, at little cost where those are small. */
import type { Chunk } from '../database.ts';
import type { ValueBound } from '../value-bound.ts';

const TAB = 0x09;
const NEWLINE = 0x0a;
const BACKSLASH = 0x5c;

/** The same chunks, none of which ends inside of an escape. Throws in place of one with which a value is too large. */
export async function* boundLines(
  chunks: AsyncIterable<Chunk>,
  bound: ValueBound,
): AsyncGenerator<Chunk, void, void> {
  const lines = new LineBound(bound);
  for await (const chunk of chunks) {
    lines.check(chunk);
    yield chunk;
  }
}

class LineBound {
  readonly #bound: ValueBound;
  /** Lines that have ended. */
  #rows = 0;
  /** Of the line under way: the place of its last field, and the bytes of that and of all, without escapes. */
  #column = 0;
  #field_bytes = 0;
  #row_bytes = 0;

  constructor(bound: ValueBound) {
    this.#bound = bound;
  }

  check({ data, rows }: Chunk): void {
    const { value, row } = this.#bound;
    if (data.length + this.#field_bytes > value || data.length + this.#row_bytes > row) {
      this.#count(data, 0);
      return;
    }
    // Nothing in it can be too large: of interest is where it ends.
    const last = data.lastIndexOf(NEWLINE);
    if (last >= 0) {
      this.#rows += rows - 1;
      this.#endLine();
    }
    this.#count(data, last + 1);
  }

  #count(data: Buffer, start: number): void {
    const { value, row } = this.#bound;
    for (let at = start; at < data.length; at += 1) {
      const byte = data[at];
      if (byte === NEWLINE) {
        this.#endLine();
      } else if (byte === TAB) {
        this.#column += 1;
        this.#field_bytes = 0;
      } else {
        if (byte === BACKSLASH) at += 1;
        this.#field_bytes += 1;
        this.#row_bytes += 1;
        if (this.#field_bytes > value) throw this.#bound.valueError(this.#column, this.#rows + 1);
        if (this.#row_bytes > row) throw this.#bound.rowError(this.#rows + 1);
      }
    }
  }

  #endLine(): void {
    this.#rows += 1;
    this.#column = 0;
    this.#field_bytes = 0;
    this.#row_bytes = 0;
  }
}
