/** What can be known of the columns of a query's result. */
import type { DatabaseSync, StatementColumnMetadata } from 'node:sqlite';
import type { Column, ColumnType } from '../database.ts';
import type { ParsedStatement } from './statement.ts';
import { SEEN, typeOfDeclared, typeOfSeen } from './types.ts';

/**
 * The columns as far as their origin tells. A value of a result column has provably gone through a table
 * column, and so through its affinity, if SQLite names that table column as the origin, the table is an
 * ordinary one, and the query is not a compound: of UNION, INTERSECT and EXCEPT it names the origin in
 * the leftmost arm only. The others are `unproven`: their values may be of any kind.
 */
export function describeColumns(
  db: DatabaseSync,
  metadata: readonly StatementColumnMetadata[],
  parsed: ParsedStatement,
): { readonly columns: readonly Column[]; readonly unproven: readonly number[] } {
  const compound = isCompound(parsed.words) || usesCompoundView(db, parsed.text);
  const ordinary = new Map<string, boolean>();
  const unproven: number[] = [];
  const columns = metadata.map(({ name, type, table, column, database }, index): Column => {
    const declared = type ?? '';
    let known: ColumnType | null = null;
    if (!compound && table !== null && column !== null && database === 'main') {
      let is_ordinary = ordinary.get(table);
      if (is_ordinary === undefined) {
        is_ordinary = isOrdinaryTable(db, table);
        ordinary.set(table, is_ordinary);
      }
      if (is_ordinary) known = typeOfDeclared(declared);
    }
    if (known === null) unproven.push(index);
    return { name, type: known ?? 'ANY', source_type: declared };
  });
  return { columns, unproven };
}

function isCompound(words: ReadonlySet<string>): boolean {
  return words.has('UNION') || words.has('INTERSECT') || words.has('EXCEPT');
}

/** Whether a compound view may take part: taken to be so if its name occurs in what may refer to it. */
function usesCompoundView(db: DatabaseSync, text: string): boolean {
  const views = db
    .prepare("SELECT name, sql FROM main.sqlite_schema WHERE type = 'view'")
    .all()
    .map((row) => ({ name: String(row['name']).toLowerCase(), sql: String(row['sql']).toLowerCase() }));
  const reached = [text.toLowerCase()];
  const left = new Set(views);
  for (const from of reached) {
    for (const view of left) {
      // A name with odd characters may be written in several ways.
      if (/^\w+$/.test(view.name) && !from.includes(view.name)) continue;
      left.delete(view);
      if (/union|intersect|except/.test(view.sql)) return true;
      reached.push(view.sql);
    }
  }
  return false;
}

function isOrdinaryTable(db: DatabaseSync, table: string): boolean {
  const row = db
    .prepare("SELECT type, sql FROM main.sqlite_schema WHERE name = ? AND type = 'table'")
    .get(table);
  return row !== undefined && !/^CREATE\s+VIRTUAL/i.test(String(row['sql']));
}

/** Reads the storage classes in columns c<n> of a staged table, in one pass. */
export function typesSeen(
  db: DatabaseSync,
  table: string,
  positions: readonly number[],
): ReadonlyMap<number, ColumnType> {
  const types = new Map<number, ColumnType>();
  // SQLite's limit is 2,000 columns in a result set.
  for (let from = 0; from < positions.length; from += 900) {
    const part = positions.slice(from, from + 900);
    // Of two kinds, the least and the greatest are different; NULL is not a kind of its own.
    const ends = part.map((at) => `min(nullif(typeof(c${at}), 'null')), max(nullif(typeof(c${at}), 'null'))`);
    const statement = db.prepare(`SELECT ${ends.join(', ')} FROM ${table}`);
    statement.setReturnArrays(true);
    const [found] = statement.all() as unknown as (keyof typeof SEEN | null)[][];
    part.forEach((position, index) => {
      const least = found?.[2 * index] ?? null;
      const greatest = found?.[2 * index + 1] ?? null;
      const seen = (least === null ? 0 : SEEN[least]) | (greatest === null ? 0 : SEEN[greatest]);
      types.set(position, typeOfSeen(seen));
    });
  }
  return types;
}
