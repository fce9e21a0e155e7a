/**
 * Writes one result set, all of it in one transaction: whenever it ends before its COMMIT, by whatever hand,
 * the server leaves nothing of it.
 *
 * - A small result is read to its end first. Its table is then made under its own name, filled and
 *   published in one round trip.
 * - A larger one is loaded into a staging table, which gets its name when it is published.
 *
 * COPY's FREEZE makes rows visible to every snapshot. Without it a reader whose transaction is older than the
 * table would find the new table under the old name, and nothing in it.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { Chunk, ResultColumn, ResultSet, ResultTable, WriteOptions } from '../database.ts';
import { DatabaseError } from '../errors.ts';
import { Meter } from '../meter.ts';
import { Batch, run } from './batch.ts';
import { type Catalog, isTable, type Publication, type State, stateOf } from './catalog.ts';
import { sessionOf } from './connect.ts';
import { isConnectionError, sqlState } from './failure.ts';
import { foreign } from './foreign.ts';
import type { Guard } from './guard.ts';
import { quoteName } from './quote.ts';
import { createInlineTable, createTable, INLINE_BYTES } from './results-columns.ts';
import { RowEncoder } from './results-rows.ts';

/** Up to this size a result is held in memory until it is complete, bytes. */
const SMALL_BYTES = 256 * 1024;
/**
 * How long the old table's readers are waited for, ms: in steps as long as the session's lock_timeout, because
 * whoever comes to read it while we wait in line has to wait behind us; the pause after each; and in all.
 */
const PAUSE_MS = 300;
const READERS_MS = 30_000;
/** How often a name may be snatched away by another job. */
const MOST_CONFLICTS = 5;

/** "PGCOPY", a line end that text mode would spoil, flags and extension length 0. */
const BINARY_HEADER = Buffer.concat([Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'), Buffer.alloc(8)]);
const BINARY_TRAILER = Buffer.from([0xff, 0xff]);

export interface Writing {
  readonly client: pg.Client;
  readonly guard: Guard;
  readonly catalog: Catalog;
  /** What stood in the table's way when the attempt began. */
  readonly state: State;
  readonly columns: readonly ResultColumn[];
  readonly unlogged: boolean;
  /** For messages: `results "name"`. */
  readonly database: string;
}

/** The connection broke after COMMIT was sent, and nobody knows yet whether it was heard. */
export class InDoubt extends Error {
  constructor(error: unknown) {
    super('the outcome of a commit is not known', { cause: error });
    this.name = 'InDoubt';
  }
}

/** What is to become a table: complete in memory, or in a staging table. */
type Draft = Omit<Publication, 'table'>;
type Loaded = { readonly data: readonly Buffer[] } | { readonly staging: string };

export class ResultWriter {
  readonly #writing: Writing;
  readonly #options: WriteOptions;
  readonly #meter: Meter;
  readonly #format: 'text' | 'binary';
  /** What the server was given last and has perhaps not answered. */
  #copying: Batch | null = null;

  constructor(result: ResultSet, writing: Writing, options: WriteOptions) {
    this.#writing = writing;
    this.#options = options;
    this.#meter = new Meter(options);
    this.#format = result.body.encoding === 'pg-binary' ? 'binary' : 'text';
  }

  async write(result: ResultSet): Promise<ResultTable> {
    const { guard, columns, database } = this.#writing;
    const { onProgress, owner, ttl_ms } = this.#options;
    const encoder = new RowEncoder(result.columns, database);
    const iterator = this.#meter.chunks(chunksOf(result, encoder))[Symbol.asyncIterator]();
    let loaded: Loaded;
    try {
      loaded = await this.#load(iterator);
    } catch (error) {
      // A source that is being read gives in when its result set is disposed of; nobody waits for it here.
      iterator.return().catch(() => {});
      throw error;
    }
    const { rows, bytes } = this.#meter;
    const warnings = [...(result.warnings?.() ?? []), ...encoder.warnings()];
    onProgress({ phase: 'publish', rows, bytes });
    await guard.wait(foreign(this.#options.confirm()));
    const draft: Draft = { owner, columns, rows, bytes, ttl_ms, warnings };
    return (await this.#publishAtOnce(loaded, draft)) ?? this.#publish(loaded, draft);
  }

  /** Ends what the server is doing, if it listens: afterwards the connection can be used again. */
  async abandon(): Promise<void> {
    const { client } = this.#writing;
    if (this.#copying !== null) {
      this.#copying.fail();
      await this.#copying.done.catch(() => {
        // It failed, as it was told to.
      });
    }
    // Whether it is in a transaction is known only once it has answered all that it was sent.
    await client.query('ROLLBACK');
  }

  async #load(iterator: AsyncGenerator<Chunk, void, void>): Promise<Loaded> {
    const { guard } = this.#writing;
    const head: Buffer[] = [];
    for (let bytes = 0; bytes <= SMALL_BYTES; ) {
      const next = await guard.wait(foreign(iterator.next()));
      if (next.done === true) {
        this.#checkCount((this.#format === 'binary' ? countTuples : countLines)(Buffer.concat(head)));
        return { data: head };
      }
      head.push(next.value.data);
      bytes += next.value.data.length;
    }
    return { staging: await this.#stage(head, iterator) };
  }

  /** Opens the transaction and loads a staging table in it. */
  async #stage(head: Buffer[], iterator: AsyncGenerator<Chunk, void, void>): Promise<string> {
    const { client, guard, catalog, columns, unlogged } = this.#writing;
    const staging = `dungbeetle_staging_${randomBytes(8).toString('hex')}`;
    const table = catalog.qualified(staging);
    const batch = new Batch(
      client,
      ['BEGIN', createTable(table, columns, unlogged), this.#copy(table)].join(';\n'),
    );
    this.#copying = batch;
    // The server may refuse a row while the source has none to give.
    batch.done.catch((error: unknown) => guard.raise(error));
    const send = (data: Buffer) => guard.answer(batch.send(data));
    if (this.#format === 'binary') await send(BINARY_HEADER);
    for (const data of head.splice(0)) await send(data);
    for (;;) {
      const next = await guard.wait(foreign(iterator.next()));
      if (next.done === true) break;
      await send(next.value.data);
    }
    if (this.#format === 'binary') await send(BINARY_TRAILER);
    batch.finish();
    const answers = await guard.answer(batch.done);
    this.#copying = null;
    this.#checkCount(Number(answers.at(-1)?.tag.replace(/^COPY /, '')));
    return staging;
  }

  /**
   * Publishes a small result in one round trip, trusting that nothing has changed since the attempt began. The
   * server refuses if something has; whatever it refuses is done again with care, which finds out what it was.
   */
  async #publishAtOnce(loaded: Loaded, draft: Draft): Promise<ResultTable | null> {
    const { client, catalog, state } = this.#writing;
    if (!('data' in loaded)) return null;
    try {
      return await this.#commit(loaded, draft, state, ['BEGIN', catalog.lock(draft.owner.job_id)]);
    } catch (error) {
      if (sqlState(error) === null) throw error;
      await this.#answer(run(client, ['ROLLBACK']));
      return null;
    }
  }

  async #publish(loaded: Loaded, draft: Draft): Promise<ResultTable> {
    const { client, guard, catalog } = this.#writing;
    const { job_id, store_id, fence } = draft.owner;
    const deadline = performance.now() + READERS_MS;
    const [begin, undo] =
      'data' in loaded
        ? ['BEGIN', 'ROLLBACK']
        : ['SAVEPOINT publishing', 'ROLLBACK TO publishing; RELEASE publishing'];
    for (let conflicts = 0; ; ) {
      try {
        const answers = await this.#answer(
          run(client, [begin, catalog.lock(job_id), catalog.state(job_id, store_id)]),
        );
        const state = stateOf(answers.at(-1));
        if (state.newest !== null && state.newest > fence) throw fenced(this.#writing.database);
        return await this.#commit(loaded, draft, state, []);
      } catch (error) {
        const code = sqlState(error);
        if (code === '23502') throw fenced(this.#writing.database);
        const waits = code === '55P03' && performance.now() < deadline;
        const snatched = (code === '23505' || code === '42P07') && conflicts < MOST_CONFLICTS;
        if (!waits && !snatched) throw error;
        await this.#answer(run(client, [undo]));
        if (snatched) conflicts += 1;
        else await guard.wait(delay(PAUSE_MS));
      }
    }
  }

  /** The round trip after which the table is there. */
  async #commit(loaded: Loaded, draft: Draft, state: State, begin: readonly string[]): Promise<ResultTable> {
    const { client, guard, catalog, columns } = this.#writing;
    const { name, drops, replaced } = this.#nameFor(state);
    const warnings = replaced
      ? [...draft.warnings, '1 table of that name, not in the catalog, was replaced']
      : draft.warnings;
    const table = catalog.qualified(name);
    const statements = [
      ...begin,
      ...drops.map((other) => `DROP TABLE ${catalog.qualified(other)}`),
      ...('data' in loaded
        ? [...this.#create(table, loaded.data, begin.length > 0), this.#copy(table)]
        : [`ALTER TABLE ${catalog.qualified(loaded.staging)} RENAME TO ${quoteName(name)}`]),
      catalog.publish({ ...draft, table: name, warnings }),
      'COMMIT',
    ];
    guard.check();
    const batch = new Batch(
      client,
      statements.join(';\n'),
      'data' in loaded ? this.#framed(loaded.data) : undefined,
    );
    // From here on the server decides. What it says counts, and not that somebody gave up meanwhile.
    const answers = await this.#committed(guard.outcome(batch.done));
    const expires = answers.find(({ tag }) => tag.startsWith('INSERT'))?.rows[0]?.[0] ?? null;
    const { rows, bytes } = draft;
    const expires_at = expires === null ? null : Number(expires);
    return { table: name, columns, rows, bytes, expires_at, warnings };
  }

  /** `trusting`: whether what the server refuses is done again with care. */
  #create(table: string, data: readonly Buffer[], trusting: boolean): readonly string[] {
    const { client, columns } = this.#writing;
    const bytes = data.reduce((sum, { length }) => sum + length, 0);
    // Values grow on their way from text to a row: a digit becomes eight bytes.
    const isShort = bytes + columns.length * 16 < INLINE_BYTES;
    return trusting && isShort
      ? createInlineTable(table, columns, sessionOf(client).version)
      : [createTable(table, columns, false)];
  }

  #framed(data: readonly Buffer[]): Buffer {
    return Buffer.concat(this.#format === 'binary' ? [BINARY_HEADER, ...data, BINARY_TRAILER] : data);
  }

  async #committed<T>(promise: Promise<T>): Promise<T> {
    try {
      return await promise;
    } catch (error) {
      throw isConnectionError(error) ? new InDoubt(error) : error;
    }
  }

  /** Finds the job's table a name, and what has to go from there. */
  #nameFor({ earlier, taken, there }: State): {
    readonly name: string;
    readonly drops: readonly string[];
    readonly replaced: boolean;
  } {
    const { catalog } = this.#writing;
    const { job_id } = this.#options.owner;
    if (earlier !== null) {
      const kind = there[earlier];
      // Whoever knows the name finds the new rows under it.
      if (kind === undefined || isTable(kind)) {
        return { name: earlier, drops: kind === undefined ? [] : [earlier], replaced: false };
      }
      throw this.#conflict(earlier, kind);
    }
    for (const name of catalog.namesOf(job_id)) {
      if (taken.includes(name)) continue;
      const kind = there[name];
      if (kind === undefined) return { name, drops: [], replaced: false };
      if (!isTable(kind) || !catalog.hasOwnNames) throw this.#conflict(name, kind);
      return { name, drops: [name], replaced: true };
    }
    throw new DatabaseError(
      'table_conflict',
      `${this.#writing.database}: there is no free table name for job "${job_id}"`,
    );
  }

  #conflict(name: string, kind: string): DatabaseError {
    return new DatabaseError(
      'table_conflict',
      `${this.#writing.database}: there is already a ${KINDS[kind] ?? 'relation'} "${name}", and it is not one of ours`,
    );
  }

  #copy(table: string): string {
    return `COPY ${table} FROM STDIN WITH (FORMAT ${this.#format}, FREEZE)`;
  }

  async #answer<T>(promise: Promise<T>): Promise<T> {
    return this.#writing.guard.answer(promise);
  }

  #checkCount(loaded: number): void {
    if (loaded === this.#meter.rows) return;
    throw new DatabaseError(
      'query_failed',
      `${this.#writing.database}: ${loaded} rows arrived where the source counted ${this.#meter.rows}`,
      { transient: true },
    );
  }
}

export function fenced(database: string): DatabaseError {
  return new DatabaseError('fenced', `${database}: a newer attempt of the job writes the result table`);
}

/** pg_class.relkind */
const KINDS: Readonly<Record<string, string>> = {
  r: 'table',
  p: 'partitioned table',
  v: 'view',
  m: 'materialized view',
  f: 'foreign table',
  i: 'index',
  I: 'index',
  S: 'sequence',
  c: 'type',
};

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

function chunksOf({ body }: ResultSet, encoder: RowEncoder): AsyncIterable<Chunk> {
  switch (body.encoding) {
    case 'pg-binary':
    case 'copy-text':
      return body.chunks;
    case 'rows':
      return encoder.encode(body.batches);
    case 'sqlite-file':
      throw new TypeError('Postgres does not take SQLite files');
  }
}
