/**
 * Which question marks of a query are placeholders, and which the operator of `condition ? this : that`. That is told by
 * what ClickHouse's grammar has in the place: where a value is missing it is a placeholder, behind a value it is the
 * operator. Nearly every keyword can be the name of a column too (`first`, `limit`, `any`), so a word is judged by its
 * place as well: behind a value it continues the query, where a value is missing it mostly is one.
 */
import type { Token } from './tokens.ts';

/** What is due next: a value (or a name), only a name (behind "." and AS), or what can stand behind a value. */
export type Place = 'value' | 'name' | 'operator';

/** Words that, behind a value, are followed by another value. */
const BEFORE_VALUE = new Set(
  `WHERE PREWHERE HAVING QUALIFY AND OR IN LIKE ILIKE REGEXP BETWEEN ESCAPE LIMIT OFFSET BY ON WHEN THEN ELSE DIV MOD
   SAMPLE FROM FOR TO STEP STALENESS JOIN`.split(/\s+/),
);
/** The same, but only with a question mark right behind them: they have other uses. */
const BEFORE_PLACEHOLDER = new Set(['ROWS', 'RANGE', 'FETCH', 'FIRST', 'NEXT']);
/** Words behind which, where they are keywords, nothing but a number stands. */
const BEFORE_NUMBER = new Set(['LIMIT', 'OFFSET', 'TOP', 'SAMPLE', 'FETCH', 'FIRST', 'NEXT']);
/** Behind WITH at the end of a clause. */
const MODIFIERS = new Set(['TOTALS', 'ROLLUP', 'CUBE', 'TIES', 'FILL']);
/** `TRIM(BOTH 'x' FROM text)` */
const SIDES = new Set(['BOTH', 'LEADING', 'TRAILING']);
const UNIT = /^(?:NANO|MICRO|MILLI)?SECOND$|^(?:MINUTE|HOUR|DAY|WEEK|MONTH|QUARTER|YEAR)$/;
const CLOSING = /^[)\]}]$/;

/** What the walk says of a token. */
export interface Role {
  /** What is due where it stands. */
  readonly place: Place;
  /** Of a placeholder: whether the grammar takes nothing but a number there. Null: it is none. */
  readonly number_only: boolean | null;
}

/** The role of each token, in order. */
export function rolesOf(tokens: readonly Token[]): readonly Role[] {
  let place: Place = 'value';
  let counting = false;
  /** The keyword just passed, if the last token was one. */
  let keyword = '';
  return tokens.map((token, index) => {
    const behind_value = place === 'operator';
    const placeholder = token.kind === 'mark' && token.text === '?' && place === 'value';
    const role: Role = { place, number_only: placeholder ? counting : null };
    const before = keyword;
    keyword = token.kind === 'word' && place !== 'name' ? keywordAt(tokens, index, behind_value, before) : '';
    if (keyword !== '') {
      counting = BEFORE_NUMBER.has(keyword);
      place = keyword === 'AS' ? 'name' : 'value';
    } else if (token.kind === 'literal' || placeholder) {
      // The number of TOP has no comma behind it.
      place = before === 'TOP' ? 'value' : 'operator';
      if (before === 'TOP') counting = false;
    } else if (token.kind !== 'mark') {
      place = 'operator';
      counting &&= behind_value;
    } else {
      counting &&= token.text === ',';
      if (CLOSING.test(token.text) || (token.text === '*' && !behind_value)) place = 'operator';
      else place = token.text === '.' && behind_value ? 'name' : 'value';
    }
    return role;
  });
}

/** The word as a keyword behind which a value is due, in capitals; empty: it is a name, or says nothing of what follows. */
function keywordAt(tokens: readonly Token[], index: number, behind_value: boolean, keyword: string): string {
  const text = (at: number) => tokens[at]?.text.toUpperCase() ?? '';
  const word = text(index);
  const before = text(index - 1);
  const next = text(index + 1);
  if (word === 'SELECT') return word;
  if (word === 'WITH') return MODIFIERS.has(next) ? '' : word;
  if (behind_value) {
    if (BEFORE_PLACEHOLDER.has(word)) {
      const fetched = before === 'FETCH' || (word !== 'FIRST' && word !== 'NEXT');
      return next === '?' && fetched ? word : '';
    }
    return BEFORE_VALUE.has(word) || word === 'AS' ? word : '';
  }
  switch (word) {
    case 'NOT':
      return word;
    case 'FROM':
      return index === 0 || before === '(' || before === ',' ? word : '';
    case 'DISTINCT':
      return keyword === 'SELECT' || before === '(' ? word : '';
    case 'TOP':
      return keyword === 'SELECT' || keyword === 'DISTINCT' ? word : '';
    case 'WHEN':
      return keyword === 'CASE' ? word : '';
    case 'CASE':
      return next === '?' && text(index + 2) !== 'WHEN' ? '' : startsValue(tokens[index + 1]) ? word : '';
    case 'INTERVAL':
      return next === '?' && !UNIT.test(text(index + 2)) ? '' : startsValue(tokens[index + 1]) ? word : '';
    default:
      return SIDES.has(word) && before === '(' && text(index - 2) === 'TRIM' ? word : '';
  }
}

/** Whether a token is none that continues the query behind a name. */
function startsValue(token: Token | undefined): boolean {
  if (token === undefined) return false;
  if (token.kind !== 'word') return token.kind !== 'mark' || /^[?([{-]$/.test(token.text);
  const word = token.text.toUpperCase();
  return word === 'WHEN' || !(BEFORE_VALUE.has(word) || ['AS', 'IS', 'NOT', 'GLOBAL'].includes(word));
}
