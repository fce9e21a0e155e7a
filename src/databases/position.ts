/** Where in a statement that is which a database complains of. */
import type { Position } from './errors.ts';

/** Of a place in UTF-16 units from 0. */
export function positionAt(sql: string, offset: number): Position {
  const lines = sql.slice(0, offset).split('\n');
  // Counted in characters, not in UTF-16's halves of them.
  return { line: lines.length, column: [...(lines.at(-1) ?? '')].length + 1 };
}

/** The same of a place in characters from 1, as Postgres counts. */
export function positionOfCharacter(sql: string, character: number): Position {
  return positionAt(sql, [...sql].slice(0, character - 1).join('').length);
}

/** Of the first place outside of strings and comments where the pattern, which is global, matches; null: there is none. */
export function positionOf(sql: string, pattern: RegExp): Position | null {
  const [found] = code(sql).matchAll(pattern);
  return found === undefined ? null : positionAt(sql, found.index);
}

/** How databases name what is not there, or not allowed, without quotes. */
const NAMED = [
  /of parameter (\$\d+)/,
  /no such \w+: ([\w.$]+)/,
  /Unknown \w+(?: \w+)?: ([\w.$]+)/i,
  /Table ([\w.$]+) doesn't exist/,
  /permission denied for (?:materialized view|foreign table|\w+) "?([\w.$]+)/,
  /denied to user .* for (?:table|column|routine) [`']?([\w.$`']+)/,
];

/** As far as it can be told from what the database says; null: it cannot. */
export function positionIn(sql: string, message: string): Position | null {
  const said = message.replace(/^db "[^"]*": /, '');
  const [, near, line] = /near '([\s\S]*)' at line (\d+)/.exec(said) ?? / at (line) (\d+)/.exec(said) ?? [];
  if (line !== undefined) return nearby(sql, near ?? '', Number(line));
  const [, token] = /^near "([^"]+)": /.exec(said) ?? [];
  if (token !== undefined) {
    // It may be any of several.
    const at = code(sql).indexOf(token);
    return at < 0 || code(sql).includes(token, at + 1) ? null : positionAt(sql, at);
  }
  const names = [
    ...NAMED.flatMap((pattern) => pattern.exec(said)?.[1] ?? []),
    ...[...said.matchAll(/["'`]([^"'`]+)["'`]/g)].map(([, name = '']) => name),
  ].map((name) => name.replace(/^.*\./s, '').replaceAll(/[`'"]/g, ''));
  for (const name of names.filter((one) => one !== '')) {
    const found = positionOf(sql, new RegExp(`(?<![\\w$])${escaped(name)}(?![\\w$])`, 'g'));
    if (found !== null) return found;
  }
  return null;
}

/** MySQL quotes the statement from the place on, or nothing when that is its end. */
function nearby(sql: string, near: string, line: number): Position {
  if (near === '') return positionAt(sql, sql.length);
  for (let at = sql.indexOf(near); at >= 0; at = sql.indexOf(near, at + 1)) {
    const found = positionAt(sql, at);
    if (found.line === line) return found;
  }
  return { line, column: null };
}

function escaped(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}

/** The statement with blanks for what is in its strings and comments. */
function code(sql: string): string {
  return sql.replaceAll(/--[^\n]*|\/\*(?:[^*]|\*(?!\/))*\*\/|'[^']*'/g, (text) =>
    text.replaceAll(/[^\n]/g, ' '),
  );
}
