/** A small result, complete in memory, and the statements that make a table of it. */
import type { ResultTable } from '../database.ts';
import type { Catalog, Publication } from './catalog.ts';
import { createInlineTable, createTable, INLINE_BYTES } from './results-columns.ts';
import { type Format, framed } from './results-incoming.ts';

/** What is to become a table, but for its name. */
export type Draft = Omit<Publication, 'table'>;

export interface Small {
  readonly draft: Draft;
  readonly format: Format;
  /** What COPY is sent. */
  readonly data: Buffer;
}

export function smallResult(draft: Draft, format: Format, chunks: readonly Buffer[]): Small {
  return { draft, format, data: framed(format, chunks) };
}

/**
 * COPY's FREEZE makes rows visible to every snapshot. Without it a reader whose transaction is older than the
 * table would find the new table under the old name, and nothing in it.
 */
export function copyInto(table: string, format: Format): string {
  return `COPY ${table} FROM STDIN WITH (FORMAT ${format}, FREEZE)`;
}

/**
 * Makes, fills and publishes the table, in the transaction under way; COPY takes `data`. `inline_on`: the server's
 * major version, if a table without TOAST may be tried: the server refuses rows that do not fit.
 */
export function publishSmall(
  catalog: Catalog,
  name: string,
  { draft, format, data }: Small,
  inline_on: number | null,
): readonly string[] {
  const { columns } = draft;
  const table = catalog.qualified(name);
  // Values grow on their way from text to a row: a digit becomes eight bytes.
  const isShort = data.length + columns.length * 16 < INLINE_BYTES;
  return [
    ...(inline_on !== null && isShort
      ? createInlineTable(table, columns, inline_on)
      : [createTable(table, columns, false)]),
    copyInto(table, format),
    catalog.publish({ ...draft, table: name }),
  ];
}

/** `expires`: what the publication has answered. `isUnreplicated`: its commit did without the standby. */
export function publishedTable(
  { columns, rows, bytes, warnings }: Draft,
  table: string,
  expires: string | null,
  isUnreplicated: boolean,
): ResultTable {
  const expires_at = expires === null ? null : Number(expires);
  const all = isUnreplicated ? [...warnings, UNREPLICATED] : warnings;
  return { table, columns, rows, bytes, expires_at, warnings: all };
}

const UNREPLICATED =
  '1 commit was not confirmed by a synchronous standby of the results database: a failover may lose the table';
