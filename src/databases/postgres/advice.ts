import type { Position } from '../errors.ts';

/** What to do about a parameter that the server has stumbled over; `code` is the SQLSTATE. */
export function adviceOf(code: string, sql: string, position: Position | null): string {
  if (code === '42P18') return '; say its type, as in $1::text';
  if (code !== '42601' && code !== '42883' && code !== '42703') return '';
  const at = position === null ? sql.length : offsetOf(sql, position);
  // `?` is an operator to Postgres, so what comes behind it is what it complains of.
  const mark = sql.slice(0, at).trimEnd().endsWith('?') || sql[at] === '?';
  if (mark) return '; parameters are written $1, $2, …, not ?';
  return /^[:@]\w|^%s/.test(sql.slice(at)) ? '; parameters are written $1, $2, …' : '';
}

function offsetOf(sql: string, { line, column }: Position): number {
  const above = sql.split('\n', line - 1).reduce((sum, text) => sum + text.length + 1, 0);
  return above + [...sql.slice(above)].slice(0, (column ?? 1) - 1).join('').length;
}
