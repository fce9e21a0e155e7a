/**
 * Follows a query from line to line, as far as is needed to tell whether a line begins inside a string, a
 * quoted name or a comment: there, what looks like a tag or a comment is none.
 *
 * Which database will read the query is not known here, and they do not agree on where a string ends. So it
 * is read as each of them would, side by side; where they differ, the caller is told so.
 */

/** What the databases disagree about. All know '…', "…", `…`, $tag$…$tag$, -- and block comments. */
interface Dialect {
  /** Quotes in which a backslash makes the quote after it an ordinary character. */
  readonly escaping: string;
  /** Postgres: E'…' has backslash escapes, '…' has none. */
  readonly escape_strings: boolean;
  /** Block comments hold block comments. */
  readonly nested_comments: boolean;
  /** [a name] */
  readonly bracketed_names: boolean;
  /** What makes the rest of a line a comment. Sticky. */
  readonly line_comment: RegExp;
}

export const DIALECTS = {
  postgres: {
    escaping: '',
    escape_strings: true,
    nested_comments: true,
    bracketed_names: false,
    line_comment: /--/y,
  },
  sqlite: {
    escaping: '',
    escape_strings: false,
    nested_comments: false,
    bracketed_names: true,
    line_comment: /--/y,
  },
  /** And MariaDB. Without a blank after it, -- is minus minus. */
  mysql: {
    escaping: `'"`,
    escape_strings: false,
    nested_comments: false,
    bracketed_names: false,
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters count as blanks here
    line_comment: /--(?=[\u0000-\u0020]|$)|#/y,
  },
  clickhouse: {
    escaping: `'"\``,
    escape_strings: false,
    nested_comments: false,
    bracketed_names: false,
    line_comment: /--|#[ !]/y,
  },
} satisfies Readonly<Record<string, Dialect>>;

/** What a line is in the middle of. */
type Open =
  | { readonly kind: 'quote'; readonly quote: string; readonly escapes: boolean }
  | { readonly kind: 'comment'; readonly depth: number }
  | { readonly kind: 'delimiter'; readonly end: string };

/** Where the next line begins: in all readings outside of everything, in all inside something, or it depends. */
export type Place = 'code' | 'inside' | 'unclear';

export class Lexer {
  readonly #readings: readonly Reading[] = Object.values(DIALECTS).map((dialect) => new Reading(dialect));

  /** Reads one line, without its line break. `number` is for `codeAt` and `openedAt`. */
  read(line: string, number: number): void {
    for (const reading of this.#readings) reading.read(line, number);
  }

  get place(): Place {
    const inside = this.#readings.filter((reading) => reading.open !== null).length;
    if (inside === 0) return 'code';
    return inside === this.#readings.length ? 'inside' : 'unclear';
  }

  /** The first line with anything but blanks, semicolons and comments in any reading; null: there was none. */
  get codeAt(): number | null {
    return first(this.#readings.map((reading) => reading.codeAt));
  }

  /** The line where that begins which the next line is inside of: the first, if the readings differ. */
  get openedAt(): number | null {
    return first(this.#readings.map((reading) => (reading.open === null ? null : reading.openedAt)));
  }
}

/** The smallest, or null if there is none. */
function first(lines: readonly (number | null)[]): number | null {
  const some = lines.filter((line) => line !== null);
  return some.length === 0 ? null : Math.min(...some);
}

/**
 * The next word, number or other character that says something. Words are taken whole, since $ is a letter
 * inside them: a$b$c holds no $b$.
 */
const TOKEN = /[\w\u0080-\uffff][\w$\u0080-\uffff]*|[^\s;]/g;
/** $1 is a parameter. */
const DOLLAR_QUOTE = /\$(?![0-9])[\w\u0080-\uffff]*\$/y;
const COMMENT_MARK = /\/\*|\*\//g;

/** One database's way to read. */
export class Reading {
  readonly #dialect: Dialect;
  open: Open | null = null;
  openedAt = 0;
  codeAt: number | null = null;

  constructor(dialect: Dialect) {
    this.#dialect = dialect;
  }

  read(line: string, number: number): void {
    let at = 0;
    while (at < line.length) {
      if (this.open !== null) {
        at = this.#readInside(this.open, line, at);
      } else {
        at = this.#readCode(line, at, number);
        if (this.open !== null) this.openedAt = number;
      }
    }
  }

  /** Reads one token; returns where the next one may begin. */
  #readCode(line: string, from: number, number: number): number {
    TOKEN.lastIndex = from;
    const found = TOKEN.exec(line);
    if (found === null) return line.length;
    const [token] = found;
    const at = found.index;
    const end = at + token.length;
    if (startsWith(this.#dialect.line_comment, line, at) !== null) return line.length;
    if (line.startsWith('/*', at)) {
      this.open = { kind: 'comment', depth: 1 };
      return at + 2;
    }
    this.codeAt ??= number;
    if (token === "'" || token === '"' || token === '`') {
      this.open = { kind: 'quote', quote: token, escapes: this.#dialect.escaping.includes(token) };
    } else if (this.#dialect.escape_strings && /^e$/i.test(token) && line[end] === "'") {
      this.open = { kind: 'quote', quote: "'", escapes: true };
      return end + 1;
    } else if (this.#dialect.bracketed_names && token === '[') {
      this.open = { kind: 'delimiter', end: ']' };
    } else if (token === '$') {
      const delimiter = startsWith(DOLLAR_QUOTE, line, at);
      if (delimiter !== null) {
        this.open = { kind: 'delimiter', end: delimiter };
        return at + delimiter.length;
      }
    }
    return end;
  }

  /** Reads on to the end of what is open, or of the line; returns where it got to. */
  #readInside(open: Open, line: string, from: number): number {
    switch (open.kind) {
      case 'quote': {
        const { quote, escapes } = open;
        const stop = escapes ? ESCAPED_STOP[quote] : undefined;
        for (let at = from; ; at += 2) {
          at = stop === undefined ? line.indexOf(quote, at) : search(stop, line, at);
          if (at === -1 || at >= line.length) return line.length;
          // A doubled quote is one character of the string, and so is what a backslash escapes.
          if (line[at] === quote && line[at + 1] !== quote) {
            this.open = null;
            return at + 1;
          }
        }
      }
      case 'comment': {
        if (!this.#dialect.nested_comments) return this.#readTo('*/', line, from);
        COMMENT_MARK.lastIndex = from;
        const mark = COMMENT_MARK.exec(line);
        if (mark === null) return line.length;
        const depth = open.depth + (mark[0] === '/*' ? 1 : -1);
        this.open = depth === 0 ? null : { kind: 'comment', depth };
        return mark.index + 2;
      }
      case 'delimiter':
        return this.#readTo(open.end, line, from);
    }
  }

  #readTo(end: string, line: string, from: number): number {
    const at = line.indexOf(end, from);
    if (at === -1) return line.length;
    this.open = null;
    return at + end.length;
  }
}

const ESCAPED_STOP: Readonly<Record<string, RegExp>> = { "'": /['\\]/g, '"': /["\\]/g, '`': /[`\\]/g };

/** Where the pattern matches next, or -1. */
function search(pattern: RegExp, text: string, from: number): number {
  pattern.lastIndex = from;
  return pattern.exec(text)?.index ?? -1;
}

/** What a sticky pattern matches right there, or null. */
function startsWith(pattern: RegExp, text: string, at: number): string | null {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0] ?? null;
}
