/**
 * The contract of the engines: sources that tasks read, and results backends that result tables are
 * written to. An engine implements either or both in a folder of its own and knows nothing of jobs, HTTP
 * or other engines; what two of them share is an encoding, negotiated per query.
 */

/** An argument of a query, before it is bound. */
export type Argument = null | string | number | boolean;

/**
 * What a value is, in terms every engine understands. A results backend maps it to its own column type.
 *
 * BYTES is binary data, DOUBLE a binary float; ANY is a column whose values differ in kind.
 */
export type ColumnType =
  | 'BIGINT'
  | 'DECIMAL'
  | 'DOUBLE'
  | 'TIMESTAMP'
  | 'TIMESTAMPTZ'
  | 'DATE'
  | 'BOOLEAN'
  | 'TEXT'
  | 'JSON'
  | 'BYTES'
  | 'ANY';

export interface Column {
  /** As the query names it; may be empty, repeated or overlong. */
  readonly name: string;
  readonly type: ColumnType;
  /** The source's own word for the type, "" when it has none. */
  readonly source_type: string;
  /** Of a DECIMAL column, where the source says: how many digits in all, and how many after the point. */
  readonly precision?: number;
  readonly scale?: number;
  /**
   * The Postgres type whose binary form the fields of a `pg-binary` body have, as SQL writes it ("integer",
   * "numeric(10,2)"). Only where the receiver asked for the source's own types; otherwise the type says it.
   */
  readonly pg_type?: string;
}

/**
 * How rows can be handed over. A results backend lists what it takes, with what the source must know for
 * it; a source picks the one it likes best.
 */
export type Accept =
  /** Arrays of JS values, in batches. Every backend takes it, every source can give it. */
  | { readonly encoding: 'rows' }
  /** Lines of tab-separated text; see `encodings/copy-text.ts` for the form of each type. */
  | { readonly encoding: 'copy-text' }
  /**
   * Tuples of Postgres' COPY BINARY without its header and trailer. `types`: each field in the binary form of
   * the standard type of its column (BIGINT int8, DECIMAL numeric, DOUBLE float8, TIMESTAMP timestamp,
   * TIMESTAMPTZ timestamptz, DATE date, BOOLEAN bool, BYTES bytea, TEXT, JSON and ANY UTF-8 text), or, with
   * `source`, of the column's `pg_type` where it has one.
   */
  | { readonly encoding: 'pg-binary'; readonly types: 'standard' | 'source' }
  /** One table in a SQLite file that the source makes inside `directory` and the receiver reads there. */
  | { readonly encoding: 'sqlite-file'; readonly directory: string };

/**
 * A value in a row, by its column's type: BIGINT bigint; DECIMAL its digits as a string (or "NaN", "Infinity",
 * "-Infinity"); DOUBLE number; BOOLEAN boolean; BYTES Uint8Array; TEXT and JSON string; DATE, TIMESTAMP and
 * TIMESTAMPTZ the text that `encodings/copy-text.ts` describes. SQLite, whose values have types of their own,
 * gives any of them in any column: a DECIMAL may be a bigint or a number, a BOOLEAN 1, text that is not UTF-8
 * its bytes.
 */
export type Value = WholeValue | LongValue;
export type WholeValue = null | bigint | number | string | boolean | Uint8Array;

/**
 * A text, as UTF-8, or bytes, too large to be handed over as one. It is the last of its batch's rows that has such
 * values; they are read once, to their end, in the order of the columns, before the next batch is asked for.
 */
export interface LongValue {
  readonly long: 'text' | 'bytes';
  readonly pieces: AsyncIterable<Uint8Array>;
}

/** A piece of a result set on its way. Its end need not be the end of a row. */
export interface Chunk {
  readonly data: Buffer;
  /** How many rows end in it. */
  readonly rows: number;
}

/**
 * A result set on its way. It is complete only if its stream ended without an error, which takes the engine's
 * own word that it is. The source goes on only as fast as the stream is read.
 */
export type Body =
  | { readonly encoding: 'rows'; readonly batches: AsyncIterable<readonly (readonly Value[])[]> }
  | { readonly encoding: 'copy-text' | 'pg-binary'; readonly chunks: AsyncIterable<Chunk> }
  | {
      readonly encoding: 'sqlite-file';
      /** The file is complete and closed. Table `rows`, columns c0, c1, … without a type, in rowid order from 1. */
      readonly path: string;
      readonly rows: number;
      readonly bytes: number;
    };

/** Disposing of it ends a query that still runs; it resolves once the database no longer works on it. */
export interface ResultSet extends AsyncDisposable {
  readonly columns: readonly Column[];
  readonly body: Body;
  /** What the source could not hand over exactly, in words with counts; asked when the body has ended. */
  warnings?(): readonly string[];
}

export interface Limits {
  /** The most rows, bytes (as stored by the receiver or on the wire, whichever is counted first). Null: no limit. */
  readonly max_rows: number | null;
  readonly max_bytes: number | null;
  /** The most bytes of one value as the source sends it; a row may have twice as many. See value-bound.ts. */
  readonly max_value_bytes: number;
}

/** What has moved so far. */
export interface TransferProgress {
  readonly phase: 'query' | 'load' | 'publish';
  readonly rows: number;
  readonly bytes: number;
}

export interface QueryOptions {
  readonly accept: readonly Accept[];
  readonly limits: Limits;
  /** The longest the query may run, ms: a database that can, ends it by itself when nobody aborts it. */
  readonly timeout_ms?: number | null;
  /**
   * Whether a result counts though the database says that it gave less than was asked for: a text that it cut at a limit
   * of its own, rows that it left out. It is a warning then; without this, or false, an error.
   */
  readonly allow_cut?: boolean;
  /** Aborting ends the query inside the database; the call rejects with the signal's reason. */
  readonly signal: AbortSignal;
  /**
   * Who asks: shown in the database where it can show such a thing, and part of names on disk. From the second
   * attempt on, a query that an earlier attempt of the same job left running in the database is ended first.
   */
  readonly owner: Owner;
  onProgress(progress: TransferProgress): void;
  /** Called once with the columns, before the first row is fetched. What it throws is what `query` rejects with. */
  onColumns(columns: readonly Column[]): void;
}

/**
 * An attempt, as far as databases need to know one. Fences order the attempts of one store; `seq` is the same
 * for the attempts of one post of the job's id, and another for the next post.
 */
export interface Owner {
  readonly job_id: string;
  readonly task: string;
  readonly attempt: number;
  readonly store_id: string;
  readonly fence: number;
  readonly seq: number;
}

export interface StatementInfo {
  /** How many arguments it takes. */
  readonly parameters: number;
  /** None: they are known when the statement runs. */
  readonly columns: readonly Column[];
}

export interface Source {
  readonly engine: string;
  /** Prepares without running. Throws a permanent `DatabaseError` if it is not one statement that reads. */
  prepare(sql: string, signal: AbortSignal): Promise<StatementInfo>;
  /** Throws `DatabaseError`; a wrong number of arguments is one, thrown before anything runs. */
  query(sql: string, args: readonly Argument[], options: QueryOptions): Promise<ResultSet>;
  ping(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

export interface WriteOptions {
  readonly owner: Owner;
  readonly limits: Limits;
  readonly signal: AbortSignal;
  /** How long the table is kept, ms; null: until it is dropped. */
  readonly ttl_ms: number | null;
  onProgress(progress: TransferProgress): void;
  /** Awaited right before the table is published; a rejection means that it must not be. */
  confirm(): Promise<void>;
}

export interface ResultColumn {
  readonly name: string;
  /** The results backend's column type. */
  readonly type: string;
  readonly source_type: string;
}

/** A published result table, as the catalog has it. */
export interface ResultTable {
  readonly table: string;
  readonly columns: readonly ResultColumn[];
  readonly rows: number;
  readonly bytes: number;
  /** ms since 1970, by the results database's clock; null: kept. */
  readonly expires_at: number | null;
  /** What could not be kept exactly, in words with counts. */
  readonly warnings: readonly string[];
}

/** Which attempt made a published table. */
export type PublishedBy = Pick<Owner, 'job_id' | 'fence' | 'seq'>;

/** Whether an attempt's table is wanted: see `sweep`. */
export type Verdict = 'keep' | 'drop' | 'undecided';

export interface SweepOptions {
  /** This store's id: what another store's attempts left is touched only by its expiry. */
  readonly store_id: string;
  /** Fences of attempts that may still be writing, asked after the leftovers were listed. */
  liveFences(): Promise<ReadonlySet<number>>;
  /** Of a published table not yet judged: keep (its job succeeded with it), drop, or ask again later. */
  judge(published: PublishedBy): Promise<Verdict>;
}

export interface Swept {
  /** Result tables past their expiry. */
  readonly expired: number;
  /** Staging tables, files and published tables of attempts that died or were cancelled. */
  readonly orphans: number;
}

export interface ResultsBackend {
  readonly engine: string;
  readonly accepts: readonly Accept[];
  /**
   * Makes a table as a report's and drops it again, so that what every report would be refused is told before the first.
   * Throws `DatabaseError`, a permanent one if it is a matter of rights.
   */
  check(signal: AbortSignal): Promise<void>;
  /** Throws a permanent `DatabaseError` if no table of this engine can have such columns. */
  checkColumns(columns: readonly Column[]): void;
  /**
   * Loads a result set and publishes it as the job's table: complete, or not at all. Replaces the table of
   * an earlier run of the same job id in one step. Rejects, with nothing left behind, if the source fails,
   * the signal aborts, a limit is passed, `confirm` rejects, or a newer attempt (same store_id, higher
   * fence) has written the table or begun to. (A first attempt need not note that it has begun: it can only have
   * predecessors from an earlier post of the id.)
   */
  write(result: ResultSet, options: WriteOptions): Promise<ResultTable>;
  /** Drops the job's table and its catalog row; if `fence` is given, only when that attempt published it. */
  drop(job_id: string, fence?: number): Promise<boolean>;
  /** Drops expired tables and what dead attempts left. In small steps. */
  sweep(options: SweepOptions): Promise<Swept>;
  ping(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}
