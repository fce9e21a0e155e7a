/** A named SQL query from a .sql file, with its tags. */
export interface Task {
  readonly name: string;
  /** The query from its first line to its last, as written; comment lines before and after it are dropped. */
  readonly sql: string;
  /** Where it is from, for messages. `line` is that of its name tag, from 1. */
  readonly file: string;
  readonly line: number;
  /** Where the query's first character is in the file, both from 1. Its lines are the file's from there on. */
  readonly begins: Place;
  /** Names of sources and results backends; null: not tagged, any will do. */
  readonly db: readonly string[] | null;
  readonly results: readonly string[] | null;
  readonly queue: string | null;
  readonly concurrency: number | null;
  /** Not prepared at start. */
  readonly raw: boolean;
  /** Seconds; null: not tagged. */
  readonly timeout: number | null;
  readonly ttl: number | null;
  readonly max_rows: number | null;
  readonly max_bytes: number | null;
  readonly max_value_bytes: number | null;
  /** A result counts though its database has cut values or left out rows. */
  readonly allow_cut: boolean;
  readonly priority: number | null;
  /** Tags that begin with `x-`, by lower-case name, kept for the people who wrote them. */
  readonly extra: Readonly<Record<string, string>>;
  /** Comments below the query's first line that look like tags of ours. They are none, and their author may not know. */
  readonly mistakable: readonly { readonly tag: string; readonly line: number }[];
}

export interface Place {
  readonly line: number;
  readonly column: number;
}
