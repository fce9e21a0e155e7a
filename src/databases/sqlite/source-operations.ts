/** What the child process of a source does. */
import type { Argument, Column, Limits, LongValue, StatementInfo, WholeValue } from '../database.ts';

export interface Target {
  readonly path: string;
  /** How errors call the database. */
  readonly database: string;
}

export interface QueryRequest extends Target {
  readonly sql: string;
  readonly args: readonly Argument[];
  readonly limits: Limits;
}

export interface Staged {
  readonly columns: readonly Column[];
  readonly rows: number;
  readonly bytes: number;
  /** There was a large value in it. */
  readonly has_large: boolean;
}

/** A type, not an interface, so that it is assignable to Operations. */
export type SourceOperations = {
  ping: { readonly request: Target; readonly reply: null };
  prepare: { readonly request: Target & { readonly sql: string }; readonly reply: StatementInfo };
  /**
   * Runs the query into table `rows` of a new file. One row more than `max_rows` is `limit_reached`. Null: the
   * database holds its texts in UTF-16, and so would the file, which no database in UTF-8 attaches.
   */
  stage: {
    readonly request: QueryRequest & {
      readonly file: string;
      /** There may be large values: each is looked at. Otherwise the query is begun anew at the first one. */
      readonly has_large: boolean;
    };
    readonly reply: Staged | null;
    /** The columns, before the query runs; types that only values can tell are ANY. */
    readonly event: readonly Column[];
  };
  /** Begins a query whose rows are then fetched. */
  open: { readonly request: QueryRequest; readonly reply: readonly Column[] };
  fetch: {
    readonly request: null;
    readonly reply: {
      /** The last one may have large values: they stand as what they are, and come by `piece`. */
      readonly rows: readonly (readonly (WholeValue | LongValue['long'])[])[];
      /** In which columns of the last row there are such. */
      readonly long: readonly number[];
      /** Of their values: text in UTF-8, 8 for a number. */
      readonly bytes: number;
      readonly done: boolean;
    };
  };
  /** The next bytes of a large value of the row that was fetched last; null: there are no more. */
  piece: { readonly request: { readonly column: number }; readonly reply: Uint8Array | null };
};
