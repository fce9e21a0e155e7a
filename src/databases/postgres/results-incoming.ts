/** A result set on its way into Postgres, as COPY takes it: counted, held to its limits, its head kept in memory. */
import { orAbort } from '../../util/abort.ts';
import type { Chunk, ResultSet, WriteOptions } from '../database.ts';
import { DatabaseError } from '../errors.ts';
import { Meter } from '../meter.ts';
import { foreign } from './foreign.ts';
import { RowEncoder } from './results-rows.ts';
import { watchText } from './results-text.ts';

/** COPY's formats. */
export type Format = 'text' | 'binary';

/** Up to this size a result is held in memory until it is complete, bytes. */
const SMALL_BYTES = 256 * 1024;

export class Incoming {
  readonly format: Format;
  readonly #result: ResultSet;
  readonly #database: string;
  readonly #meter: Meter;
  readonly #encoder: RowEncoder;
  readonly #chunks: AsyncGenerator<Chunk, void, void>;
  #head: Promise<Head> | undefined;

  constructor(result: ResultSet, options: WriteOptions, database: string) {
    this.#result = result;
    this.#database = database;
    this.format = result.body.encoding === 'pg-binary' ? 'binary' : 'text';
    this.#meter = new Meter(options);
    this.#encoder = new RowEncoder(result.columns, database);
    this.#chunks = this.#meter.chunks(chunksOf(result, this.#encoder, database));
  }

  /** What has come so far. */
  get rows(): number {
    return this.#meter.rows;
  }

  get bytes(): number {
    return this.#meter.bytes;
  }

  /** Complete once all rows have come. */
  warnings(): readonly string[] {
    return [...(this.#result.warnings?.() ?? []), ...this.#encoder.warnings()];
  }

  /**
   * All of the result if it is small, or what was read until it turned out to be large. Any number of callers wait
   * for the same. Rejects with a `Foreign` if the source does.
   */
  head(): Promise<Head> {
    this.#head ??= this.#readHead();
    return this.#head;
  }

  /** All of the result if it is small and there within a time, ms. */
  async completeWithin(milliseconds: number, signal: AbortSignal): Promise<readonly Buffer[] | null> {
    const clock = Promise.withResolvers<null>();
    const timer = setTimeout(() => clock.resolve(null), milliseconds);
    try {
      const head = await orAbort(Promise.race([this.head(), clock.promise]), signal);
      return head?.complete === true ? head.data : null;
    } finally {
      clearTimeout(timer);
    }
  }

  /** The next chunk behind the head; null: there are no more. */
  async next(): Promise<Buffer | null> {
    const next = await foreign(this.#chunks.next());
    return next.done === true ? null : next.value.data;
  }

  /** A source that is being read gives in when its result set is disposed of; nobody waits for it here. */
  abandon(): void {
    this.#chunks.return().catch(() => {});
  }

  /** Throws unless as many rows have arrived as the source has counted. */
  checkCount(arrived: number): void {
    if (arrived === this.rows) return;
    throw new DatabaseError(
      'query_failed',
      `${this.#database}: ${arrived} rows arrived where the source counted ${this.rows}`,
      { transient: true },
    );
  }

  async #readHead(): Promise<Head> {
    const data: Buffer[] = [];
    for (let bytes = 0; bytes <= SMALL_BYTES; ) {
      const chunk = await this.next();
      if (chunk === null) {
        this.checkCount((this.format === 'binary' ? countTuples : countLines)(Buffer.concat(data)));
        return { complete: true, data };
      }
      data.push(chunk);
      bytes += chunk.length;
    }
    return { complete: false, data };
  }
}

export interface Head {
  readonly complete: boolean;
  readonly data: readonly Buffer[];
}

/** "PGCOPY", a line end that text mode would spoil, flags and extension length 0. */
export const BINARY_HEADER = Buffer.concat([Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'), Buffer.alloc(8)]);
export const BINARY_TRAILER = Buffer.from([0xff, 0xff]);

/** All that COPY is sent for a complete result. */
export function framed(format: Format, data: readonly Buffer[]): Buffer {
  return Buffer.concat(format === 'binary' ? [BINARY_HEADER, ...data, BINARY_TRAILER] : data);
}

/** How many tuples there are in COPY BINARY; NaN if the last one is not whole. */
function countTuples(data: Buffer): number {
  let tuples = 0;
  let at = 0;
  while (at + 2 <= data.length) {
    let fields = data.readInt16BE(at);
    at += 2;
    for (; fields > 0; fields -= 1) {
      if (at + 4 > data.length) return Number.NaN;
      at += 4 + Math.max(0, data.readInt32BE(at));
    }
    tuples += 1;
  }
  return at === data.length ? tuples : Number.NaN;
}

/** How many lines there are in COPY text, where a line end stands only at the end of one. */
function countLines(data: Buffer): number {
  let lines = 0;
  for (let at = data.indexOf(0x0a); at >= 0; at = data.indexOf(0x0a, at + 1)) lines += 1;
  return data.length === 0 || data.at(-1) === 0x0a ? lines : Number.NaN;
}

function chunksOf({ body, columns }: ResultSet, encoder: RowEncoder, database: string): AsyncIterable<Chunk> {
  switch (body.encoding) {
    case 'pg-binary':
      return body.chunks;
    case 'copy-text':
      return watchText(body.chunks, columns, database);
    case 'rows':
      return encoder.encode(body.batches);
    case 'sqlite-file':
      throw new TypeError('Postgres does not take SQLite files');
  }
}
