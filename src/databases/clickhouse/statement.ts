/** Takes a task's query apart: what kind it is, where its arguments go, what must not be sent along. */
import { DatabaseError } from '../errors.ts';

/** A query that may be run, cut at its placeholders. */
export interface Statement {
  /** `select`: it can stand in parentheses after FROM. `direct`: SHOW, DESCRIBE, EXISTS or EXPLAIN. */
  readonly kind: 'select' | 'direct';
  /** The text before, between and after the placeholders; one more than there are placeholders. */
  readonly pieces: readonly string[];
  /** Of each placeholder: whether ClickHouse's grammar takes nothing but a number there (LIMIT, SAMPLE, …). */
  readonly placeholders: readonly { readonly number_only: boolean }[];
}

interface Token {
  readonly kind: 'word' | 'literal' | 'name' | 'mark';
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

const BLANK = /(?:\s+|--[^\n]*|#[ !][^\n]*|\/\*[\s\S]*?\*\/)+/y;
const LEXEMES: readonly (readonly [Token['kind'], RegExp])[] = [
  ['literal', /'(?:[^'\\]|\\[\s\S]|'')*'|\$(\w*)\$[\s\S]*?\$\1\$/y],
  ['name', /"(?:[^"\\]|\\[\s\S]|"")*"|`(?:[^`\\]|\\[\s\S]|``)*`/y],
  ['literal', /(?:0x[\da-f]+|\d[\d_]*(?:\.\d*)?(?:e[+-]?\d+)?)/iy],
  ['word', /[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*/y],
];

const SELECTS = new Set(['SELECT', 'WITH', 'FROM']);
const OTHER_READS = new Set(['SHOW', 'DESCRIBE', 'DESC', 'EXISTS', 'EXPLAIN']);
/**
 * Words after which a value comes. A question mark behind one of them is a placeholder; behind any other word, which
 * is then a column, and behind a value it is the operator of `condition ? this : that`.
 */
const BEFORE_VALUES = new Set(
  `SELECT DISTINCT WHERE PREWHERE HAVING QUALIFY AND OR NOT IN LIKE ILIKE REGEXP BETWEEN LIMIT OFFSET TOP BY ON CASE
   WHEN THEN ELSE INTERVAL WITH DIV MOD SAMPLE FROM TO STEP ROWS RANGE FETCH FIRST NEXT JOIN ALL ANY GLOBAL EXCEPT
   INTERSECT VALUES AS IS`.split(/\s+/),
);
/** Settings, by name, that a query may give itself and that take rows away or put others behind them. */
const CUTTING_SETTING =
  /^(?:\w+_overflow_mode(?:_\w+)?|extremes|limit|offset|skip_unavailable_shards|partial_result\w*)$/i;
const NUMBER_ONLY = new Set(['LIMIT', 'OFFSET', 'TOP', 'SAMPLE', 'FETCH']);
const OPENING: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}' };

/** `database` is how messages name the database. Throws a permanent `invalid_statement` for what is no single read. */
export function parseStatement(sql: string, database: string): Statement {
  const refuse = (message: string): never => {
    throw new DatabaseError('invalid_statement', `${database}: ${message}`);
  };
  if (sql.includes('\0')) refuse('the statement holds a NUL character');
  if (!sql.isWellFormed()) refuse('the statement is not well-formed Unicode');
  const all = tokens(sql, refuse);
  const end = all.findIndex((token) => token.text === ';');
  if (end >= 0 && all.slice(end).some((token) => token.text !== ';')) refuse('it is more than one statement');
  const parts = end < 0 ? all : all.slice(0, end);
  const first = parts.find((token) => token.text !== '(');
  const verb = first?.kind === 'word' ? first.text.toUpperCase() : '';
  const kind = SELECTS.has(verb) ? 'select' : OTHER_READS.has(verb) ? 'direct' : null;
  if (kind === null) {
    return refuse('the statement is none that only reads: SELECT, WITH, SHOW, DESCRIBE, EXISTS or EXPLAIN');
  }

  const closing: string[] = [];
  const cuts: { readonly start: number; readonly end: number; readonly number_only: boolean | null }[] = [];
  let previous: Token | undefined;
  let counting = false;
  for (const [index, token] of parts.entries()) {
    const word = token.kind === 'word' ? token.text.toUpperCase() : '';
    const close = token.kind === 'mark' ? OPENING[token.text] : undefined;
    if (close !== undefined) closing.push(close);
    else if (/^[)\]}]$/.test(token.text) && closing.pop() !== token.text) {
      refuse('its parentheses do not match');
    }
    if (token.text === '?' && !endsValue(previous)) {
      cuts.push({ start: token.start, end: token.end, number_only: counting });
      previous = { ...token, kind: 'literal' };
      continue;
    }
    if (word === 'WITH' && parts[index + 1]?.text.toUpperCase() === 'TOTALS') {
      refuse('WITH TOTALS gives a row that is none of the result; ask for it by UNION ALL, or WITH ROLLUP');
    }
    if (token.kind === 'word' && CUTTING_SETTING.test(token.text) && parts[index + 1]?.text === '=') {
      refuse(`the setting ${token.text} can cut a result short without an error; leave it out`);
    }
    if (closing.length === 0) {
      const next = parts[index + 1];
      if (word === 'INTO' && next?.text.toUpperCase() === 'OUTFILE') {
        refuse('INTO OUTFILE writes a file on a client, and there is none; leave it out');
      }
      const after = parts[index + 2];
      if (
        word === 'FORMAT' &&
        next?.kind === 'word' &&
        (endsValue(previous) || previous?.text === '*') &&
        (after === undefined || after.text.toUpperCase() === 'SETTINGS')
      ) {
        // How an answer is written is between the source and the server; a task that says it means people.
        cuts.push({ start: token.start, end: next.end, number_only: null });
      }
    }
    counting = NUMBER_ONLY.has(word) || (counting && /^(?:,|\d.*)$/.test(token.text));
    previous = token;
  }
  if (closing.length > 0) refuse('its parentheses do not match');

  const pieces = [''];
  let from = 0;
  for (const cut of cuts) {
    pieces[pieces.length - 1] += sql.slice(from, cut.start);
    if (cut.number_only !== null) pieces.push('');
    from = cut.end;
  }
  pieces[pieces.length - 1] += sql.slice(from, end < 0 ? sql.length : all[end]?.start);
  const placeholders = cuts.flatMap(({ number_only }) => (number_only === null ? [] : [{ number_only }]));
  return { kind, pieces, placeholders };
}

/** The query with literals in the places of its arguments. The blanks keep a minus from becoming a comment. */
export function render(statement: Statement, literals: readonly string[]): string {
  return statement.pieces.map((piece, index) => piece + padded(literals[index])).join('');
}

function padded(literal: string | undefined): string {
  return literal === undefined ? '' : ` ${literal} `;
}

function endsValue(token: Token | undefined): boolean {
  if (token === undefined) return false;
  if (token.kind === 'mark') return /^[)\]}]$/.test(token.text);
  return token.kind !== 'word' || !BEFORE_VALUES.has(token.text.toUpperCase());
}

function tokens(sql: string, refuse: (message: string) => never): Token[] {
  const found: Token[] = [];
  let at = 0;
  while (at < sql.length) {
    BLANK.lastIndex = at;
    if (BLANK.test(sql)) {
      at = BLANK.lastIndex;
      continue;
    }
    const token = lexeme(sql, at);
    if (token.kind === 'mark' && /^['"`]$/.test(token.text)) refuse('a quote is not closed');
    if (token.kind === 'mark' && sql.startsWith('/*', at)) refuse('a comment is not closed');
    found.push(token);
    at = token.end;
  }
  return found;
}

function lexeme(sql: string, start: number): Token {
  for (const [kind, pattern] of LEXEMES) {
    pattern.lastIndex = start;
    const text = pattern.exec(sql)?.[0];
    if (text !== undefined && text !== '') return { kind, text, start, end: start + text.length };
  }
  return { kind: 'mark', text: sql[start] ?? '', start, end: start + 1 };
}
