/** A query cut into words, literals, quoted names and single marks, as ClickHouse's lexer does, without comments. */

export interface Token {
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

/** `refuse` is told what is not closed. */
export function tokens(sql: string, refuse: (message: string) => never): Token[] {
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
