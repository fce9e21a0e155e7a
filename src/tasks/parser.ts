/**
 * Reads .sql files in goyesql's format.
 *
 * A file is a list of tasks. `-- name: x` begins one, the `-- tag: value` lines below it are its tags, the rest is
 * its query, in which a comment is a comment. Blank lines and comments around the query are dropped; from its first
 * line to its last it is kept to the letter, since only its database knows what is a comment in it and what is a
 * string.
 */
import { quote, TaskError } from './errors.ts';
import { Lexer } from './lexer.ts';
import { keyOf, misspelt, ofOriginal, TAGS, type Tagged, UNTAGGED } from './tags.ts';
import type { Task } from './task.ts';
import { name } from './values.ts';

/**
 * A comment that has the form of a tag. Not one: `-- name::text`, a cast that was commented out. goyesql
 * takes all up to the last colon for the tag, so that any comment with a colon is one.
 */
const TAG_LINE = /^\s*--\s*([^\s:]+)\s*:(?!:)(.*)$/s;
const COMMENT_LINE = /^\s*--/;
/** To be dropped after the first line of a query, a line must be a comment to every database; --1 is not. */
const SURE_COMMENT = /^[ \t\v\f\r]*--(?:[ \t\v\f\r]|$)/;
const BLANK_LINE = /^[ \t\v\f\r]*$/;

/**
 * The tasks of a file, in its order. Throws a `TaskError` with every fault that was found.
 *
 * @param file names it in messages
 */
export function parseTasks(text: string, file: string): Task[] {
  const unreadable = findUnreadable(text);
  if (unreadable !== null) throw new TaskError([`${file}:${unreadable.line}: ${unreadable.message}`]);
  const reader = new Reader(file);
  let number = 0;
  for (let at = text.startsWith('\ufeff') ? 1 : 0; at < text.length; ) {
    const feed = text.indexOf('\n', at);
    const next = feed === -1 ? text.length : feed + 1;
    number++;
    reader.read(text.slice(at, next), number);
    at = next;
  }
  return reader.end();
}

/** What no query can hold: a file with it is not the text that its author saw. */
function findUnreadable(text: string): { readonly line: number; readonly message: string } | null {
  const lineOf = (index: number) => text.slice(0, index).split('\n').length;
  const nul = text.indexOf('\0');
  if (nul !== -1) return { line: lineOf(nul), message: 'there is a NUL character' };
  // Databases differ in whether one ends a comment, so that it could hide a line of a query or bring one back.
  const lone = /\r(?![\r\n]|$)/.exec(text);
  if (lone !== null) {
    return { line: lineOf(lone.index), message: 'there is a CR without LF; lines must end in LF or CR LF' };
  }
  if (!text.isWellFormed()) {
    const half = text.search(/\p{Surrogate}/u);
    return { line: lineOf(half), message: 'there is half a character (a lone surrogate)' };
  }
  return null;
}

/** A task as far as it has been read. */
interface Draft {
  /** Null: what stands before the first name. */
  readonly name: string | null;
  readonly line: number;
  tagged: Tagged;
  readonly extra: Record<string, string>;
  /** The line of each tag so far, by the word it is written with. */
  readonly seen: Map<string, number>;
  /** The query's lines, from its first on, with their line breaks. */
  readonly body: string[];
  /** The line of the first of them. */
  bodyAt: number;
  readonly mistakable: { readonly tag: string; readonly line: number }[];
  /** How many of the body's lines there are up to the last that is neither blank nor a comment. */
  needed: number;
  readonly lexer: Lexer;
}

function newDraft(name: string | null, line: number): Draft {
  return {
    name,
    line,
    tagged: UNTAGGED,
    extra: {},
    seen: new Map(),
    body: [],
    bodyAt: line,
    mistakable: [],
    needed: 0,
    lexer: new Lexer(),
  };
}

class Reader {
  readonly #file: string;
  readonly #faults: { readonly line: number; readonly message: string }[] = [];
  readonly #tasks: Task[] = [];
  readonly #lines = new Map<string, number>();
  #draft = newDraft(null, 1);

  constructor(file: string) {
    this.#file = file;
  }

  /** Reads one line, with its line break. */
  read(line: string, number: number): void {
    const draft = this.#draft;
    const content = line.replace(/(?<![\r\n])[\r\n]+$/, '');
    const { place } = draft.lexer;
    const [, word = '', value = ''] = place === 'inside' ? [] : (TAG_LINE.exec(content) ?? []);
    const key = keyOf(word);
    if (key === 'name') {
      // Also where only some databases are outside of a string here, or LIKE 'a\%' ESCAPE '\' would swallow
      // the next task. One that is inside gets a query with an open string and refuses it: nothing is silent.
      this.#finish();
      this.#begin(value.trim(), number);
    } else if (key !== null && draft.lexer.codeAt === null && place === 'code') {
      this.#tag(draft, key, word, value.trim(), number);
      // Below a block comment: the lines of the query remain those of the file.
      if (draft.body.length > 0) draft.body.push('\n');
    } else if (draft.body.length > 0) {
      if (key !== null) this.#tagInQuery(draft, key, word.toLowerCase(), number);
      draft.body.push(line);
      const drops = place === 'code' && (SURE_COMMENT.test(content) || BLANK_LINE.test(content));
      if (!drops) draft.needed = draft.body.length;
      draft.lexer.read(content, number);
    } else if (COMMENT_LINE.test(content)) {
      if (draft.name !== null) this.#checkSpelling(content, number);
    } else if (content.trim() !== '') {
      draft.body.push(line);
      draft.bodyAt = number;
      draft.needed = 1;
      draft.lexer.read(content, number);
    }
  }

  end(): Task[] {
    this.#finish();
    if (this.#faults.length > 0) {
      this.#faults.sort((a, b) => a.line - b.line);
      throw new TaskError(this.#faults.map(({ line, message }) => `${this.#file}:${line}: ${message}`));
    }
    return this.#tasks;
  }

  #fault(line: number, message: string): void {
    this.#faults.push({ line, message });
  }

  #begin(given: string, line: number): void {
    this.#draft = newDraft(given, line);
    const earlier = this.#lines.get(given);
    if (given === '') {
      this.#fault(line, 'a task needs a name, as in "-- name: my_report"');
    } else if (name(given) === undefined) {
      this.#fault(line, `the name ${quote(given)} holds a tab, a line break or another control character`);
    } else if (earlier !== undefined) {
      this.#fault(line, `there is already a task ${quote(given)}, in line ${earlier}`);
    } else {
      this.#lines.set(given, line);
    }
  }

  /** Among the tags, a comment that looks like one is a fault: see `misspelt`. */
  #checkSpelling(comment: string, line: number): void {
    const [before = '', ...after] = comment.split(':', 2);
    const word = before.replace(/^\s*--/, '').trim();
    const meant = after.length === 0 ? null : misspelt(word);
    if (meant === null || comment.startsWith('::', before.length)) return;
    this.#fault(
      line,
      `there is no tag ${quote(word)}; did you mean "${meant}"? (if it is a comment, leave out the colon)`,
    );
  }

  /** A comment of the query that has the form of a tag. goyesql would apply those that it knows. */
  #tagInQuery(draft: Draft, key: string, tag: string, line: number): void {
    if (ofOriginal(key)) {
      this.#fault(
        line,
        `"${tag}" is below the first line of the query, where it is a comment; put it between the name and the ` +
          'query (if it is a comment, leave out the colon)',
      );
    } else if (TAGS.has(key)) {
      draft.mistakable.push({ tag, line });
    }
  }

  #tag(draft: Draft, key: string, word: string, value: string, line: number): void {
    const written = word.toLowerCase();
    const earlier = draft.seen.get(written);
    draft.seen.set(written, earlier ?? line);
    const tag = TAGS.get(key);
    const said = tag?.read(value);
    if (draft.name === null) {
      this.#fault(line, `the tag "${written}" comes before any "-- name:"`);
    } else if (earlier !== undefined) {
      this.#fault(line, `there is already a tag "${written}", in line ${earlier}`);
    } else if (tag === undefined) {
      draft.extra[key] = value;
    } else if (said === undefined) {
      this.#fault(line, `"${written}" takes ${tag.takes}, not ${quote(value)}`);
    } else if (disagree(draft.tagged.concurrency, said.concurrency)) {
      this.#fault(line, '"concurrency" and "conc" are one tag, and here they differ');
    } else {
      draft.tagged = { ...draft.tagged, ...said };
    }
  }

  #finish(): void {
    const { name: given, line, tagged, extra, body, bodyAt, needed, lexer, mistakable } = this.#draft;
    const { place, codeAt, openedAt } = lexer;
    if (place === 'inside') {
      this.#fault(openedAt ?? line, 'a string, a quoted name or a comment begins here and does not end');
    } else if (given === null) {
      if (codeAt !== null) {
        this.#fault(codeAt, 'there is a query without a name; put "-- name: my_report" above it');
      }
    } else if (codeAt === null) {
      this.#fault(line, `the task ${quote(given)} has no query`);
    }
    if (given === null) return;
    const text = body.slice(0, needed).join('');
    const begins = { line: bodyAt, column: text.length - text.trimStart().length + 1 };
    this.#tasks.push({
      name: given,
      sql: text.trim(),
      file: this.#file,
      line,
      begins,
      ...tagged,
      extra,
      mistakable,
    });
  }
}

/** The original documents `concurrency` and reads `conc`: files may well have both. */
function disagree(one: number | null, other: number | null | undefined): boolean {
  return one !== null && other !== null && other !== undefined && one !== other;
}
