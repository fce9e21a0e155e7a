/** What can be known of the columns of a query's result. */
import type { DatabaseSync, StatementColumnMetadata } from 'node:sqlite';
import type { Column, ColumnType } from '../database.ts';
import type { ParsedStatement } from './statement.ts';
import { affinityOf, SEEN, typeOfDeclared, typeOfSeen } from './types.ts';

type StorageClass = 'integer' | 'real' | 'text' | 'blob';

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
  const proving = new Map<string, ReadonlySet<string>>();
  const unproven: number[] = [];
  const columns = metadata.map(({ name, type, table, column, database }, index): Column => {
    const declared = type ?? '';
    let known: ColumnType | null = null;
    if (!compound && table !== null && column !== null && database === 'main') {
      let names = proving.get(table);
      if (names === undefined) {
        names = provingColumns(db, table);
        proving.set(table, names);
      }
      if (names.has(column)) known = typeOfDeclared(declared);
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

/**
 * The columns of a table whose values have all been stored with the column's affinity: those of an ordinary
 * table that are not generated and, where a -0.0 would matter, have no default (which holds for rows older
 * than the column without ever having been stored).
 */
function provingColumns(db: DatabaseSync, table: string): ReadonlySet<string> {
  const row = db.prepare("SELECT sql FROM main.sqlite_schema WHERE name = ? AND type = 'table'").get(table);
  if (row === undefined || /^CREATE\s+VIRTUAL/i.test(String(row['sql']))) return new Set();
  const columns = db
    .prepare("SELECT name, type, dflt_value FROM pragma_table_xinfo(?, 'main') WHERE hidden = 0")
    .all(table);
  return new Set(
    columns
      .filter((column) => column['dflt_value'] === null || affinityOf(String(column['type'])) !== 'REAL')
      .map((column) => String(column['name'])),
  );
}

/**
 * Whether a table has a virtual generated column of REAL affinity. SQLite computes a whole number for it in
 * a form of its own, which it stores as an integer in a column without a type (3.53: the value read is 1.0,
 * the value inserted 1).
 */
export function hasComputedReals(db: DatabaseSync): boolean {
  const tables = db
    .prepare("SELECT name, sql FROM main.sqlite_schema WHERE type = 'table' AND sql LIKE '%AS%(%'")
    .all();
  return tables.some(
    ({ name, sql }) =>
      /\bAS\s*\(/i.test(String(sql)) &&
      db
        .prepare("SELECT type FROM pragma_table_xinfo(?, 'main') WHERE hidden = 2")
        .all(String(name))
        .some((column) => affinityOf(String(column['type'])) === 'REAL'),
  );
}

/** Reads the storage classes in columns c<n> of a staged table, in one pass. */
export function typesSeen(
  db: DatabaseSync,
  table: string,
  positions: readonly number[],
): ReadonlyMap<number, ColumnType> {
  // SQLite prints a negative zero as it does the other one: only its bits tell.
  db.function('is_negative_zero', { deterministic: true }, (value) => (Object.is(value, -0) ? 1 : 0));
  const types = new Map<number, ColumnType>();
  // SQLite's limit is 2,000 columns in a result set.
  for (let from = 0; from < positions.length; from += 600) {
    const part = positions.slice(from, from + 600);
    // Of several kinds, the least and the greatest are different; NULL is not a kind of its own.
    const parts = part.flatMap((at) => [
      `min(nullif(typeof(c${at}), 'null'))`,
      `max(nullif(typeof(c${at}), 'null'))`,
      `max(CASE WHEN c${at} = 0 AND typeof(c${at}) = 'real' THEN is_negative_zero(c${at}) END)`,
    ]);
    const statement = db.prepare(`SELECT ${parts.join(', ')} FROM ${table}`);
    statement.setReturnArrays(true);
    const [found] = statement.all() as unknown as [readonly (StorageClass | number | null)[]];
    part.forEach((position, index) => {
      const [least, greatest, negative_zero] = found.slice(3 * index, 3 * index + 3);
      const seen =
        (typeof least === 'string' ? SEEN[least] : 0) |
        (typeof greatest === 'string' ? SEEN[greatest] : 0) |
        (negative_zero === 1 ? SEEN.negative_zero : 0);
      types.set(position, typeOfSeen(seen));
    });
  }
  return types;
}
