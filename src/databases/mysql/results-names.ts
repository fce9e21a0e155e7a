/** Names of result tables and their columns as MySQL and MariaDB can have them. */
import { digest } from '../../util/digest.ts';
import { tableNames } from '../names.ts';

/** https://dev.mysql.com/doc/refman/8.4/en/identifier-length.html, in characters. */
const MOST_CHARACTERS = 64;
/** A table is a file, in whose name each character but these takes five bytes ("@002d" for "-"). */
const PLAIN = /[A-Za-z0-9_]/g;
/** File systems take 255 bytes; the rest is for the ending of the file's name. */
const MOST_FILE_NAME = 240;

/**
 * Column names as a table can have them, in the query's order: as `columnNames` of names.ts, and besides a
 * character outside of the Basic Multilingual Plane (an emoji) becomes U+FFFD, blanks at the end go, a name
 * longer than 64 characters is cut and ends with a hash of the whole, and names count as equal if they
 * differ by case or accents alone, as they do for MySQL's data dictionary. InnoDB's own names (DB_ROW_ID and
 * the like) get a `_` behind them.
 */
export function columnNames(names: readonly string[]): readonly string[] {
  const wanted = names.map((name, index) => {
    const sane = name
      .toWellFormed()
      .replace(/[\0\u{10000}-\u{10ffff}]/gu, '\ufffd')
      .trimEnd()
      // InnoDB keeps columns of its own by these names.
      .replace(/^db_(?:row_id|trx_id|roll_ptr)$/i, '$&_');
    return fit(sane === '' ? `column_${index + 1}` : sane, '');
  });
  // A made-up name must not take that of a column further on.
  const reserved = new Set(wanted.map(folded));
  const used = new Set<string>();
  const copies = new Map<string, number>();
  return wanted.map((name) => {
    const key = folded(name);
    let unique = name;
    if (used.has(key)) {
      let copy = copies.get(key) ?? 1;
      do {
        copy += 1;
        unique = fit(name, `_${copy}`);
      } while (used.has(folded(unique)) || reserved.has(folded(unique)));
      copies.set(key, copy);
    }
    used.add(folded(unique));
    return unique;
  });
}

/** A name with an ending, cut where both together are too long. */
function fit(name: string, ending: string): string {
  if (name.length + ending.length <= MOST_CHARACTERS) return name + ending;
  const tail = `_${digest(name, 12)}${ending}`;
  return name.slice(0, MOST_CHARACTERS - tail.length).trimEnd() + tail;
}

/** Equal for all names that utf8mb3_general_ci takes for one (and for some that it tells apart). */
export function folded(name: string): string {
  return name
    .replaceAll('ß', 's') // the two that Unicode sees otherwise
    .replaceAll('\u0345', 'ι')
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .toUpperCase()
    .toLowerCase()
    .normalize('NFKD')
    .replace(/\p{M}/gu, '');
}

/** The names a job's result table may have, best first; none that is ours. */
export function resultTableNames(template: string, job_id: string): readonly string[] {
  return tableNames(template, job_id, MOST_CHARACTERS).filter(
    (name) => !isReserved(name) && fileNameBytes(name) <= MOST_FILE_NAME && name.trimEnd() === name,
  );
}

/** Whether a name is the backend's own, and never a result table's. */
function isReserved(name: string): boolean {
  return /^dungbeetle_(results|staging|fences|staging_[0-9a-f]{16}|trash_[0-9a-f]{16}(_0)?)$/i.test(name);
}

function fileNameBytes(name: string): number {
  const plain = name.match(PLAIN)?.length ?? 0;
  return plain + (name.length - plain) * 5;
}
