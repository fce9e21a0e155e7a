/** A query in pieces, as far as it must be read here: where its words and its parameters are. */

export interface Token {
  /** In upper case, a string or a quoted name as its first mark. */
  readonly text: string;
  /** Where it begins. */
  readonly at: number;
  /** Whether nothing stands between it and the piece before it. */
  readonly touches: boolean;
}

/** Blanks and comments; of comments whose text the server runs (/*!50000 … and /*M! …) the two ends. */
const BLANK = /(?:\s+|--(?=[\s\p{Cc}]|$)[^\n]*|#[^\n]*|\/\*M?!\d*|\*\/|\/\*(?!M?!)[\s\S]*?\*\/)+/uy;
const WORD = /[\w$\u0080-\uffff]+/y;
const STRINGS = {
  escaping: /'(?:[^'\\]|\\[\s\S]|'')*'|"(?:[^"\\]|\\[\s\S]|"")*"|`(?:[^`]|``)*`/y,
  /** Under the sql_mode NO_BACKSLASH_ESCAPES. */
  plain: /'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`/y,
};

/**
 * The readings of a query: where a backslash stands in a string they may differ, and only the server's session knows
 * which is right. None if a string does not end in any.
 */
export function readings(sql: string): readonly (readonly Token[])[] {
  const escaping = tokensOf(sql, STRINGS.escaping);
  const plain = sql.includes('\\') ? tokensOf(sql, STRINGS.plain) : null;
  return [escaping, plain].filter((tokens) => tokens !== null);
}

function tokensOf(sql: string, strings: RegExp): readonly Token[] | null {
  const tokens: Token[] = [];
  let at = 0;
  let touches = false;
  const take = (pattern: RegExp): string | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(sql)?.[0] ?? null;
    at += found?.length ?? 0;
    return found;
  };
  while (at < sql.length) {
    if (take(BLANK) !== null) {
      touches = false;
      continue;
    }
    const start = at;
    let text = take(WORD)?.toUpperCase() ?? take(strings)?.charAt(0);
    if (text === undefined) {
      text = sql.charAt(at);
      if (text === "'" || text === '"' || text === '`') return null;
      at += 1;
    }
    tokens.push({ text, at: start, touches });
    touches = true;
  }
  return tokens;
}

/** Whether the rows may go to a file of the server's: INTO OUTFILE, INTO DUMPFILE. */
export function writesFile(sql: string): boolean {
  if (!/(?:OUT|DUMP)FILE/i.test(sql)) return false;
  return readings(sql).some((tokens) => tokens.some(({ text }) => /^(?:OUT|DUMP)FILE$/.test(text)));
}

export interface Lock {
  readonly clause: string;
  readonly at: number;
}

/** The first clause that locks the rows that are read, null if there is none. */
export function lockOf(sql: string): Lock | null {
  if (!/\b(?:UPDATE|SHARE)\b/i.test(sql)) return null;
  const locks = readings(sql).map(lockIn);
  return locks.includes(null) ? null : (locks[0] ?? null);
}

function lockIn(tokens: readonly Token[]): Lock | null {
  for (const [index, { text, at }] of tokens.entries()) {
    const [second, third, fourth] = tokens.slice(index + 1, index + 4).map((token) => token.text);
    if (text === 'FOR' && (second === 'UPDATE' || second === 'SHARE')) {
      return { clause: `FOR ${second}`, at };
    }
    if (text === 'LOCK' && second === 'IN' && third === 'SHARE' && fourth === 'MODE') {
      return { clause: 'LOCK IN SHARE MODE', at };
    }
  }
  return null;
}

/** A parameter as other databases write it: $1, :name; null if there is none. */
export function foreignParameter(sql: string): string | null {
  for (const tokens of readings(sql)) {
    for (const [index, { text, touches }] of tokens.entries()) {
      if (/^\$\d+$/.test(text)) return text;
      if (touches && /^[A-Z_]\w*$/.test(text) && tokens[index - 1]?.text === ':')
        return `:${text.toLowerCase()}`;
    }
  }
  return null;
}

/** Which of so many parameters, from 0, say how many rows there are to be. */
export function countingParameters(sql: string, parameters: number): readonly number[] {
  if (!/\b(?:LIMIT|OFFSET|FETCH)\b/i.test(sql)) return [];
  for (const tokens of readings(sql)) {
    const places = tokens.flatMap(({ text }, index) => (text === '?' ? [index] : []));
    if (places.length !== parameters) continue;
    return places.flatMap((place, number) => (counts(tokens, place) ? [number] : []));
  }
  return [];
}

function counts(tokens: readonly Token[], place: number): boolean {
  const before = (distance: number) => tokens[place - distance]?.text ?? '';
  if (['LIMIT', 'OFFSET', 'EXAMINED'].includes(before(1))) return true;
  if (before(1) === ',') return /^(?:\?|\d+)$/.test(before(2)) && before(3) === 'LIMIT';
  return ['FIRST', 'NEXT'].includes(before(1)) && before(2) === 'FETCH';
}
