/** A task's statement as far as we need to read it ourselves; all else is asked of the server. */
import { DatabaseError } from '../errors.ts';

/**
 * What may stand in front of the next thing that counts: blanks and comments. Comments nest, which a regular
 * expression cannot follow, so those are skipped by hand.
 */
const BLANK = /\s+|--[^\n]*/y;
const QUOTED = [
  // A backslash escapes in an E'…' string only.
  /\b[eE]'(?:[^'\\]|\\.|'')*'/sy,
  /'(?:[^']|'')*'/y,
  /"(?:[^"]|"")*"/y,
  /(\$(?:[\p{L}_][\p{L}\p{N}_]*)?\$).*?\1/suy,
];
/** A word or a number is skipped as a whole: a `$` or an `e` inside of it begins nothing. */
const WORD = /[\p{L}\p{N}_][\p{L}\p{N}_$]*|\$\d+/uy;

/**
 * The statement without semicolons in front of it, and without the one at its end and what follows it. Text behind the semicolon that is more
 * than blanks and comments stays: the server refuses it as a second statement.
 */
export function withoutEnd(sql: string): string {
  const leading: number[] = [];
  let begun = false;
  let end: number | null = null;
  let at = 0;
  while (at < sql.length) {
    const next = skipBlank(sql, at) ?? (sql[at] === ';' ? at + 1 : null);
    if (next !== null) {
      if (sql[at] === ';') {
        end ??= at;
        if (!begun) leading.push(at);
      }
      at = next;
      continue;
    }
    begun = true;
    end = null;
    at =
      QUOTED.map((pattern) => matchEnd(pattern, sql, at)).find((found) => found !== null) ??
      matchEnd(WORD, sql, at) ??
      at + 1;
  }
  const text = end === null ? sql : sql.slice(0, end);
  return leading
    .filter((index) => index < text.length)
    .reduce((found, index) => `${found.slice(0, index)} ${found.slice(index + 1)}`, text);
}

/** Where the next thing stands that counts: behind blanks, comments and semicolons. */
export function beginsAt(sql: string, from = 0): number {
  let at = from;
  while (at < sql.length) {
    const next = skipBlank(sql, at) ?? (sql[at] === ';' ? at + 1 : null);
    if (next === null) break;
    at = next;
  }
  return at;
}

/**
 * The words and names that stand in a statement outside of strings and comments, as the server folds them. null: they
 * cannot be told, because of escapes in names or of a backslash before a quote, whose meaning is a setting.
 */
export function wordsOf(sql: string): readonly string[] | null {
  if (/\bu&"/i.test(sql) || sql.includes("\\'")) return null;
  const words = new Set<string>();
  let at = 0;
  while (at < sql.length) {
    const blank = skipBlank(sql, at);
    if (blank !== null) {
      at = blank;
      continue;
    }
    const quoted =
      QUOTED.map((pattern) => matchEnd(pattern, sql, at)).find((found) => found !== null) ?? null;
    const end = quoted ?? matchEnd(WORD, sql, at) ?? at + 1;
    const text = sql.slice(at, end);
    if (text.startsWith('"')) words.add(text.slice(1, -1).replaceAll('""', '"'));
    else if (quoted === null && /^[\p{L}_]/u.test(text)) words.add(text.toLowerCase());
    at = end;
  }
  return [...words];
}

/** The protocol ends its strings with a NUL: what comes behind one would be lost. */
export function checkText(sql: string, database: string): void {
  if (!sql.includes('\0')) return;
  throw new DatabaseError('invalid_statement', `${database}: the query holds a NUL character`);
}

function skipBlank(sql: string, at: number): number | null {
  if (sql.startsWith('/*', at)) return skipComment(sql, at);
  return matchEnd(BLANK, sql, at);
}

function skipComment(sql: string, begin: number): number {
  let depth = 0;
  let at = begin;
  do {
    if (sql.startsWith('/*', at)) {
      depth += 1;
      at += 2;
    } else if (sql.startsWith('*/', at)) {
      depth -= 1;
      at += 2;
    } else {
      at += 1;
    }
  } while (depth > 0 && at < sql.length);
  return at;
}

function matchEnd(pattern: RegExp, sql: string, at: number): number | null {
  pattern.lastIndex = at;
  return pattern.test(sql) ? pattern.lastIndex : null;
}
