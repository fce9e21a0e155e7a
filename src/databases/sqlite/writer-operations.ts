/** What the child process of a results file does. */
import type { Column, Owner, PublishedBy, ResultColumn, ResultTable } from '../database.ts';
import type { Piece, Sealed } from './spool.ts';
import type { StagedRows } from './staging-file.ts';

/** Given to the process as its one argument, in JSON. */
export interface WriterSetup {
  readonly path: string;
  /** How errors call the database. */
  readonly database: string;
  /** Table name, with %s for the job id. */
  readonly results_table: string;
}

export interface Publication {
  readonly owner: Owner;
  readonly columns: readonly ResultColumn[];
  readonly staged: StagedRows;
  /** The loaded staging table; null: the rows are few and copied in the publishing transaction. */
  readonly staging: string | null;
  readonly ttl_ms: number | null;
  readonly warnings: readonly string[];
}

export type WriterOperations = {
  ping: { readonly request: null; readonly reply: null };

  /** Begins to collect rows in a staging file. */
  spool: {
    readonly request: { readonly file: string; readonly columns: readonly Column[] };
    readonly reply: null;
  };
  /** Rows as values, or as lines of `copy-text` that need not end where the piece does. */
  append: {
    readonly request: { readonly file: string } & Piece;
    /** So far. */
    readonly reply: { readonly rows: number; readonly bytes: number };
  };
  /** The file is complete. */
  seal: {
    readonly request: { readonly file: string };
    readonly reply: Sealed;
  };
  /** Lets go of a file that is not sealed; of no consequence if there is none. */
  unspool: { readonly request: { readonly file: string }; readonly reply: null };

  /** Makes and registers a staging table. */
  begin: {
    readonly request: {
      readonly owner: Owner;
      readonly columns: readonly ResultColumn[];
      readonly staged: StagedRows;
      readonly staging: string;
    };
    readonly reply: null;
  };
  /** Copies staged rows into a staging table, a few at a time. */
  copy: {
    readonly request: { readonly staging: string; readonly staged: StagedRows; readonly width: number };
    readonly reply: null;
    /** Rows so far. */
    readonly event: number;
  };
  publish: {
    readonly request: Publication & { readonly ticket: number };
    readonly reply: ResultTable;
  };
  /** Takes back a `publish` that has not begun; false: it has, and its own answer counts. */
  withdraw: { readonly request: { readonly ticket: number }; readonly reply: boolean };
  /** Ends the copying into a staging table and gives the table up. */
  discard: { readonly request: { readonly staging: string }; readonly reply: null };
  /** The job's table if this attempt has published it. */
  published: { readonly request: Owner; readonly reply: ResultTable | null };

  drop: {
    readonly request: { readonly job_id: string; readonly fence: number | null };
    readonly reply: boolean;
  };
  /** Drops tables past their expiry; how many. */
  expire: { readonly request: null; readonly reply: number };
  /** What attempts of a store have left here so far. */
  leftovers: {
    readonly request: { readonly store_id: string };
    readonly reply: {
      readonly staging: readonly { readonly table: string; readonly fence: number }[];
      readonly unsettled: readonly PublishedBy[];
    };
  };
  /** Marks a published table as wanted: nobody asks again. */
  settle: {
    readonly request: { readonly job_id: string; readonly store_id: string; readonly fence: number };
    readonly reply: null;
  };
  /** Drops staging tables of other stores that nobody has touched for a long time; how many. */
  forget: { readonly request: { readonly store_id: string }; readonly reply: number };

  close: { readonly request: null; readonly reply: null };
};
