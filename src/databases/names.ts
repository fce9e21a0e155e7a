/** Names of result tables and their columns: made unique in a way that anyone can work out. */
import { digest } from '../util/digest.ts';

/**
 * Column names as a table can have them, in the query's order. A name that occurs once stays as it is. An
 * empty one becomes `column_<n>`, n its position from 1. Of several that differ at most by case the first
 * keeps its name, the others get `_2`, `_3` and so on, passing over names that the query has itself. A name
 * longer than `most` bytes of UTF-8 is cut and ends with a hash of the whole.
 */
export function columnNames(names: readonly string[], most = Number.POSITIVE_INFINITY): readonly string[] {
  const wanted = names.map((name, index) => {
    // What no engine can hold in a name: a NUL, half a surrogate pair.
    const sane = name.toWellFormed().replaceAll('\0', '\ufffd');
    return fit(sane === '' ? `column_${index + 1}` : sane, most);
  });
  // A made-up name must not take that of a column further on.
  const reserved = new Set(wanted.map((name) => name.toLowerCase()));
  const used = new Set<string>();
  const copies = new Map<string, number>();
  return wanted.map((name) => {
    const key = name.toLowerCase();
    let unique = name;
    if (used.has(key)) {
      let copy = copies.get(key) ?? 1;
      do {
        copy += 1;
        unique = fit(`${name}_${copy}`, most);
      } while (used.has(unique.toLowerCase()) || reserved.has(unique.toLowerCase()));
      copies.set(key, copy);
    }
    used.add(unique.toLowerCase());
    return unique;
  });
}

/**
 * The names a job's result table may have, best first: the template with the job's id for %s, and the same
 * with a hash of the id at its end, for when the first is taken by another job (names that differ by case
 * alone are one name to most engines) or too long.
 */
export function tableNames(template: string, job_id: string, most: number): readonly string[] {
  const plain = template.replaceAll('%s', () => job_id);
  const hashed = [12, 40].map((length) => {
    const suffix = `_${digest(job_id, length)}`;
    return cut(plain, most - suffix.length) + suffix;
  });
  return Buffer.byteLength(plain) <= most ? [plain, ...hashed] : hashed;
}

function fit(name: string, most: number): string {
  if (Buffer.byteLength(name) <= most) return name;
  const suffix = `_${digest(name, 12)}`;
  return cut(name, most - suffix.length) + suffix;
}

/** The longest head of a text that has at most so many bytes of UTF-8. */
function cut(text: string, most: number): string {
  let head = '';
  let bytes = 0;
  for (const character of text) {
    bytes += Buffer.byteLength(character);
    if (bytes > most) break;
    head += character;
  }
  return head;
}
