/**
 * Reads a statement the way SQLite's own tokenizer does (tokenize.c), as far as it takes to tell: is it one
 * statement, with which word does it begin, which parameters does it take, and where does it end.
 * node:sqlite compiles the first statement of a text and passes over the rest in silence, cannot say how
 * many parameters there are, and binds NULL to those that were not given.
 */
import { DatabaseError } from '../errors.ts';

export interface ParsedStatement {
  /** The statement without what surrounds it: comments, blanks, the final semicolon. Fit to stand in brackets. */
  readonly text: string;
  /** The same, with its parameters written ?1, ?2, …: the one form that every Node binds by name. */
  readonly numbered: string;
  /** How many arguments it takes. */
  readonly parameters: number;
  /** The parameters that occur in it; a statement with ?3 alone takes three and uses one. */
  readonly used: readonly number[];
  /** Every bare word of it, in upper case. */
  readonly words: ReadonlySet<string>;
}

const BLANK = /[ \t\n\f\r\ufeff]+/y;
const LINE_COMMENT = /--[^\n]*/y;
const BLOCK_COMMENT = /\/\*(?:[^*]|\*(?!\/))*(?:\*\/|\*?$)/y;
const WORD = /[A-Za-z_\u0080-\uffff][A-Za-z0-9_$\u0080-\uffff]*/y;
const NUMBER = /[0-9][A-Za-z0-9_$.\u0080-\uffff]*/y;
const QUOTED = /'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]/y;
const NUMBERED = /\?[0-9]*/y;
const NAMED = /[$:@#](?:[A-Za-z0-9_$\u0080-\uffff]|::)+(?:\([^)\s]*\))?/y;

const READS = new Set(['SELECT', 'WITH', 'VALUES']);
/** SQLite's own limit (SQLITE_MAX_VARIABLE_NUMBER). */
const MAX_PARAMETERS = 32_766;

/** Throws `invalid_statement` unless the text is one statement that begins like a read. */
export function parseStatement(sql: string): ParsedStatement {
  const invalid = (message: string) => new DatabaseError('invalid_statement', message);
  if (sql.includes('\0')) throw invalid('the statement holds a NUL character');

  const words = new Set<string>();
  const found: { readonly name: string; readonly start: number; readonly end: number }[] = [];
  let first = '';
  let start = -1;
  let end = 0;
  let closed = false;
  let at = 0;
  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    return pattern.exec(sql)?.[0];
  };

  while (at < sql.length) {
    const skipped = take(BLANK) ?? take(LINE_COMMENT) ?? take(BLOCK_COMMENT);
    if (skipped !== undefined) {
      at += skipped.length;
      continue;
    }
    if (sql[at] === ';') {
      // Semicolons before and after the statement are empty statements.
      if (start >= 0) closed = true;
      at += 1;
      continue;
    }
    if (closed) throw invalid('there is more than one statement');
    if (start < 0) start = at;
    const word = take(WORD);
    const parameter = word === undefined ? (take(NUMBERED) ?? take(NAMED)) : undefined;
    const token = word ?? parameter ?? take(NUMBER) ?? take(QUOTED) ?? sql.charAt(at);
    if (word !== undefined) {
      words.add(word.toUpperCase());
      if (first === '') first = word.toUpperCase();
    } else if (first === '') {
      first = token;
    }
    if (parameter !== undefined) found.push({ name: parameter, start: at, end: at + parameter.length });
    at += token.length;
    end = at;
  }
  if (start < 0) throw invalid('there is no statement');
  if (!READS.has(first)) {
    throw invalid(`only SELECT, WITH … SELECT and VALUES are run, not ${first.slice(0, 40)}`);
  }

  const numbers = numberParameters(found.map((parameter) => parameter.name));
  if (typeof numbers === 'string') throw invalid(numbers);
  let numbered = '';
  let copied = start;
  found.forEach((parameter, index) => {
    numbered += `${sql.slice(copied, parameter.start)}?${numbers[index]}`;
    // "?1" followed by a digit or a letter would be another token.
    if (/[A-Za-z0-9_$]/.test(sql.charAt(parameter.end))) numbered += ' ';
    copied = parameter.end;
  });
  numbered += sql.slice(copied, end);
  const used = [...new Set(numbers)];
  return {
    text: sql.slice(start, end),
    numbered,
    parameters: used.reduce((most, number) => Math.max(most, number), 0),
    used,
    words,
  };
}

/**
 * The argument that each parameter stands for, from 1, as SQLite counts: ?3 is the third, ? and a new name
 * the one after the highest so far. Only $1, :1 and @1 differ: they mean the first argument, as in
 * Postgres, wherever they stand (SQLite takes them for names). A string is what is wrong.
 */
function numberParameters(names: readonly string[]): readonly number[] | string {
  const known = new Map<string, number>();
  let highest = 0;
  const register = names.find((name) => /^#[0-9]/.test(name));
  if (register !== undefined) return `there is no parameter ${register.slice(0, 40)}`;
  const numeric = names.filter((name) => /^[$:@][0-9]+$/.test(name)).length;
  if (numeric > 0 && numeric < names.length) {
    return 'parameters by number ($1) cannot be mixed with other kinds (?, :name) in one statement';
  }
  const numbers: number[] = [];
  for (const name of names) {
    const digits = /^[?$:@]([0-9]+)$/.exec(name)?.[1];
    const number = digits !== undefined ? Number(digits) : (known.get(name) ?? highest + 1);
    if (name === '?' && number > MAX_PARAMETERS)
      return `a statement takes at most ${MAX_PARAMETERS} parameters`;
    if (number < 1 || number > MAX_PARAMETERS) return `there is no parameter ${name.slice(0, 40)}`;
    if (name !== '?') known.set(name, number);
    highest = Math.max(highest, number);
    numbers.push(number);
  }
  return numbers;
}
