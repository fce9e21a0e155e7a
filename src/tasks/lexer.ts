/**
 * Follows SQL from line to line as far as is needed to tell whether a line begins inside a string, a quoted
 * name or a comment: there, what looks like a tag is none.
 *
 * The dialect is not known. What matters is whether a backslash escapes the quote after it (MySQL,
 * ClickHouse) or not (the standard, Postgres, SQLite); both readings are followed, and where they do not
 * agree, nobody can tell.
 */

/** What a line is in the middle of. */
type Inside = 'code' | "'" | '"' | '`' | 'comment' | { readonly dollar: string };

const DOLLAR_QUOTE = /\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$/y;

export class Lexer {
  #standard: Inside = 'code';
  #escaping: Inside = 'code';

  /** Reads one line, without its line break. */
  read(line: string): void {
    this.#standard = advance(this.#standard, line, false);
    this.#escaping = advance(this.#escaping, line, true);
  }

  /** Where the next line begins: outside of everything, inside something, or that depends on the dialect. */
  get place(): 'code' | 'inside' | 'unclear' {
    const standard = this.#standard === 'code';
    const escaping = this.#escaping === 'code';
    if (standard !== escaping) return 'unclear';
    return standard ? 'code' : 'inside';
  }
}

function advance(inside: Inside, line: string, escapes: boolean): Inside {
  let at = 0;
  while (at < line.length) {
    if (inside === 'code') {
      const character = line[at];
      if (character === "'" || character === '"' || character === '`') {
        inside = character;
        at++;
      } else if (line.startsWith('--', at)) {
        return inside;
      } else if (line.startsWith('/*', at)) {
        inside = 'comment';
        at += 2;
      } else if (character === '$') {
        DOLLAR_QUOTE.lastIndex = at;
        const dollar = DOLLAR_QUOTE.exec(line)?.[0];
        if (dollar !== undefined) inside = { dollar };
        at += dollar?.length ?? 1;
      } else {
        at++;
      }
      continue;
    }
    const [end, length] = endOf(inside, line, at, escapes);
    if (end === -1) return inside;
    // A doubled quote ends and begins again, which comes to the same.
    inside = 'code';
    at = end + length;
  }
  return inside;
}

/** Where what the line is inside of ends (-1: not on this line), and the length of what ends it. */
function endOf(
  inside: Exclude<Inside, 'code'>,
  line: string,
  from: number,
  escapes: boolean,
): [number, number] {
  if (inside === 'comment') return [line.indexOf('*/', from), 2];
  if (typeof inside === 'object') return [line.indexOf(inside.dollar, from), inside.dollar.length];
  for (let at = from; at < line.length; at++) {
    if (line[at] === inside) return [at, 1];
    if (escapes && inside !== '`' && line[at] === '\\') at++;
  }
  return [-1, 0];
}
