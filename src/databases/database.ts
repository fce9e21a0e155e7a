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
}

/**
 * How rows can be handed over. A results backend lists what it takes, with what the source must know for
 * it; a source picks the one it likes best.
 */
export type Accept =
  /** Arrays of JS values, in batches. Every backend takes it. */
  | { readonly encoding: 'rows' }
  /** One table in a SQLite file that the source makes inside `directory` and the receiver reads there. */
  | { readonly encoding: 'sqlite-file'; readonly directory: string };

/** A value in a row: integers are bigint, so that none is rounded. */
export type Value = null | bigint | number | string | boolean | Uint8Array;

/** A result set on its way. It is complete only if its stream ended without an error. */
export type Body =
  | { readonly encoding: 'rows'; readonly batches: AsyncIterable<readonly (readonly Value[])[]> }
  | {
      readonly encoding: 'sqlite-file';
      /** The file is complete and closed. Table `rows`, columns c0, c1, … without a type, in rowid order from 1. */
      readonly path: string;
      readonly rows: number;
      readonly bytes: number;
    };

export interface ResultSet extends AsyncDisposable {
  readonly columns: readonly Column[];
  readonly body: Body;
}

export interface Limits {
  /** The most rows, bytes (as stored by the receiver or on the wire, whichever is counted first). Null: no limit. */
  readonly max_rows: number | null;
  readonly max_bytes: number | null;
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
  /** Aborting ends the query inside the database; the call rejects with the signal's reason. */
  readonly signal: AbortSignal;
  /** Who asks: shown in the database where it can show such a thing, and part of names on disk. */
  readonly owner: Owner;
  onProgress(progress: TransferProgress): void;
}

/** An attempt, as far as databases need to know one. The pair (store_id, fence) orders attempts. */
export interface Owner {
  readonly job_id: string;
  readonly task: string;
  readonly attempt: number;
  readonly store_id: string;
  readonly fence: number;
}

export interface StatementInfo {
  /** How many arguments it takes. */
  readonly parameters: number;
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

/** Whether an attempt's table is wanted: see `sweep`. */
export type Verdict = 'keep' | 'drop' | 'undecided';

export interface SweepOptions {
  /** This store's id: what another store's attempts left is touched only by its expiry. */
  readonly store_id: string;
  /** Fences of attempts that may still be writing, asked after the leftovers were listed. */
  liveFences(): Promise<ReadonlySet<number>>;
  /** Of a published table not yet judged: keep (its job succeeded with it), drop, or ask again later. */
  judge(published: { readonly job_id: string; readonly fence: number }): Promise<Verdict>;
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
   * Loads a result set and publishes it as the job's table: complete, or not at all. Replaces the table of
   * an earlier run of the same job id in one step. Rejects, with nothing left behind, if the source fails,
   * the signal aborts, a limit is passed, `confirm` rejects, or a newer attempt (same store_id, higher
   * fence) has written or begun to write the table.
   */
  write(result: ResultSet, options: WriteOptions): Promise<ResultTable>;
  /** Drops the job's table and its catalog row; if `fence` is given, only when that attempt published it. */
  drop(job_id: string, fence?: number): Promise<boolean>;
  /** Drops expired tables and what dead attempts left. In small steps. */
  sweep(options: SweepOptions): Promise<Swept>;
  ping(signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}
