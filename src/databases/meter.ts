/** Counts a result set while it goes by, holds it to its limits and tells how far it is. */
import type { Chunk, Limits, TransferProgress } from './database.ts';
import { DatabaseError } from './errors.ts';

export interface MeterOptions {
  readonly limits: Limits;
  onProgress(progress: TransferProgress): void;
}

/** Rows and bytes that went by so far. */
export class Meter {
  rows = 0;
  bytes = 0;
  readonly #options: MeterOptions;

  constructor(options: MeterOptions) {
    this.#options = options;
  }

  /** The same chunks. Throws `limit_reached` in place of the chunk that passes a limit. */
  async *chunks(chunks: AsyncIterable<Chunk>): AsyncGenerator<Chunk, void, void> {
    const { limits, onProgress } = this.#options;
    for await (const chunk of chunks) {
      this.rows += chunk.rows;
      this.bytes += chunk.data.length;
      checkLimits(this, limits);
      onProgress({ phase: 'load', rows: this.rows, bytes: this.bytes });
      yield chunk;
    }
  }
}

/** Throws a permanent `limit_reached` if more has come than may. */
export function checkLimits(
  counted: { readonly rows: number; readonly bytes: number },
  limits: Limits,
): void {
  if (limits.max_rows !== null && counted.rows > limits.max_rows) {
    throw new DatabaseError('limit_reached', `the result has more rows than max_rows (${limits.max_rows})`);
  }
  if (limits.max_bytes !== null && counted.bytes > limits.max_bytes) {
    throw tooManyBytes(limits);
  }
}

export function tooManyBytes({ max_bytes }: Limits): DatabaseError {
  return new DatabaseError('limit_reached', `the result has more bytes than max_bytes (${max_bytes})`);
}
