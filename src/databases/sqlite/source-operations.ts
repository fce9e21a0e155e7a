/** What the child process of a source does. */
import type { Argument, Column, StatementInfo, Value } from '../database.ts';

export interface Target {
  readonly path: string;
  /** How errors call the database. */
  readonly database: string;
}

export interface QueryRequest extends Target {
  readonly sql: string;
  readonly args: readonly Argument[];
}

export interface Staged {
  readonly columns: readonly Column[];
  readonly rows: number;
  readonly bytes: number;
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
    readonly request: QueryRequest & { readonly file: string; readonly max_rows: number | null };
    readonly reply: Staged | null;
    /** The columns, before the query runs; types that only values can tell are ANY. */
    readonly event: readonly Column[];
  };
  /** Begins a query whose rows are then fetched. */
  open: { readonly request: QueryRequest; readonly reply: readonly Column[] };
  fetch: {
    readonly request: null;
    readonly reply: {
      readonly rows: readonly (readonly Value[])[];
      /** Of their values: text in UTF-8, 8 for a number. */
      readonly bytes: number;
      readonly done: boolean;
    };
  };
};
