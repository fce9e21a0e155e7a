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
import { type Answer, Batch, run } from './batch.ts';
import { type Catalog, type Publication, stateOf } from './catalog.ts';
import { isConnectionError, sqlState } from './failure.ts';
import type { Guard } from './guard.ts';
import { quoteName } from './quote.ts';
import { createTable } from './results-columns.ts';
import { RowEncoder } from './results-rows.ts';

/** Up to this size a result is held in memory until it is complete, bytes. */
const SMALL_BYTES = 256 * 1024;
/**
 * How long the old table's readers are waited for, ms: in steps, because whoever comes to read it while we wait
 * in line has to wait behind us; and in all.
 */
const LINE_MS = 200;
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
  readonly columns: readonly ResultColumn[];
  readonly unlogged: boolean;
  /** For messages: `results "name"`. */
  readonly database: string;
}

/** An error that did not come from our server: the source's, or what `confirm` threw. */
export class Foreign extends Error {
  constructor(error: unknown) {
    super('an error of somebody else', { cause: error });
    this.name = 'Foreign';
  }
}

/** The connection broke after COMMIT was sent, and nobody knows yet whether it was heard. */
export class InDoubt extends Error {
  constructor(error: unknown) {
    super('the outcome of a commit is not known', { cause: error });
    this.name = 'InDoubt';
  }
}

/** What is to become a table: complete in memory, or in a staging table. */
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
    return this.#publish(loaded, { owner, columns, rows, count: 'data' in loaded, bytes, ttl_ms, warnings });
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
    if (client.getTransactionStatus() !== 'I') await client.query('ROLLBACK');
  }

  async #load(iterator: AsyncGenerator<Chunk, void, void>): Promise<Loaded> {
    const { guard } = this.#writing;
    const head: Buffer[] = [];
    for (let bytes = 0; bytes <= SMALL_BYTES; ) {
      const next = await guard.wait(foreign(iterator.next()));
      if (next.done === true) return { data: head };
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
    this.#checkCount(answers.at(-1));
    return staging;
  }

  async #publish(loaded: Loaded, publication: Omit<Publication, 'table'>): Promise<ResultTable> {
    const { client } = this.#writing;
    const deadline = performance.now() + READERS_MS;
    const [begin, undo] =
      'data' in loaded
        ? ['BEGIN', 'ROLLBACK']
        : ['SAVEPOINT publishing', 'ROLLBACK TO publishing; RELEASE publishing'];
    for (let conflicts = 0; ; ) {
      try {
        return await this.#tryPublish(loaded, publication, begin);
      } catch (error) {
        const state = sqlState(error);
        const waits = state === '55P03' && performance.now() < deadline;
        const snatched = (state === '23505' || state === '42P07') && conflicts < MOST_CONFLICTS;
        if (!waits && !snatched) throw error;
        await this.#answer(run(client, [undo]));
        if (snatched) conflicts += 1;
        else await this.#writing.guard.wait(delay(PAUSE_MS));
      }
    }
  }

  async #tryPublish(loaded: Loaded, draft: Omit<Publication, 'table'>, begin: string): Promise<ResultTable> {
    const { client, guard, catalog, columns } = this.#writing;
    const { owner } = draft;
    const [, , , found] = await this.#answer(
      run(client, [
        begin,
        `SET LOCAL lock_timeout = ${LINE_MS}`,
        catalog.lock(owner.job_id),
        catalog.state(owner.job_id, owner.store_id),
      ]),
    );
    const state = stateOf(found);
    if (state.newest !== null && state.newest > owner.fence) throw this.fenced();
    const { name, drops, replaced } = this.#nameFor(state);
    const warnings = replaced
      ? [...draft.warnings, '1 table of that name, not in the catalog, was replaced']
      : draft.warnings;
    const publication: Publication = { ...draft, table: name, warnings };
    const table = catalog.qualified(name);
    const batch = new Batch(
      client,
      [
        ...drops.map((other) => `DROP TABLE ${catalog.qualified(other)}`),
        ...('data' in loaded
          ? [createTable(table, columns, false), this.#copy(table)]
          : [`ALTER TABLE ${catalog.qualified(loaded.staging)} RENAME TO ${quoteName(name)}`]),
        catalog.publish(publication),
        'COMMIT',
      ].join(';\n'),
    );
    if ('data' in loaded) await this.#sendAll(batch, loaded.data);
    // From here on the server decides. What it says counts, and not that somebody gave up meanwhile.
    const answers = await this.#committed(guard.outcome(batch.done));
    const expires = answers.find(({ tag }) => tag.startsWith('INSERT'))?.rows[0]?.[0] ?? null;
    const { rows, bytes } = draft;
    const expires_at = expires === null ? null : Number(expires);
    return { table: name, columns, rows, bytes, expires_at, warnings };
  }

  /** Hands over a small result. An error is told by the batch's outcome. */
  async #sendAll(batch: Batch, data: readonly Buffer[]): Promise<void> {
    const binary = this.#format === 'binary';
    const whole = Buffer.concat([
      ...(binary ? [BINARY_HEADER] : []),
      ...data,
      ...(binary ? [BINARY_TRAILER] : []),
    ]);
    await this.#committed(this.#writing.guard.outcome(batch.send(whole)));
    batch.finish();
  }

  async #committed<T>(promise: Promise<T>): Promise<T> {
    try {
      return await promise;
    } catch (error) {
      throw isConnectionError(error) ? new InDoubt(error) : error;
    }
  }

  fenced(): DatabaseError {
    return new DatabaseError(
      'fenced',
      `${this.#writing.database}: a newer attempt of the job writes the result table`,
    );
  }

  /** Finds the job's table a name, and what has to go from there. */
  #nameFor({ earlier, taken, there }: ReturnType<typeof stateOf>): {
    readonly name: string;
    readonly drops: readonly string[];
    readonly replaced: boolean;
  } {
    const { catalog } = this.#writing;
    const { job_id } = this.#options.owner;
    if (earlier !== null) {
      const kind = there[earlier.table];
      // Whoever knows the name finds the new rows under it.
      if (kind === undefined || isTable(kind)) {
        return { name: earlier.table, drops: kind === undefined ? [] : [earlier.table], replaced: false };
      }
      throw this.#conflict(earlier.table, kind);
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

  #checkCount(answer: Answer | undefined): void {
    const loaded = Number(answer?.tag.replace(/^COPY /, ''));
    if (loaded === this.#meter.rows) return;
    throw new DatabaseError(
      'query_failed',
      `${this.#writing.database}: ${loaded} rows arrived where the source counted ${this.#meter.rows}`,
      { transient: true },
    );
  }
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

export function isTable(kind: string | null): boolean {
  return kind === 'r';
}

async function foreign<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (error) {
    throw new Foreign(error);
  }
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
