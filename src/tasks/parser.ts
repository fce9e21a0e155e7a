/**
 * Reads .sql files in goyesql's format.
 *
 * A file is a list of tasks. `-- name: x` begins one, `-- tag: value` lines are its tags, the rest is its
 * query. Blank lines and other comments before the query are dropped; from its first line on the query is
 * kept to the letter, since only its database knows what is a comment in it and what is a string.
 */
import { didYouMean, suggest } from '../util/suggest.ts';
import { TaskError } from './errors.ts';
import { Lexer } from './lexer.ts';
import type { Task } from './task.ts';
import { bytes, count, integer, name, names, seconds, truth } from './values.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** A task as far as it has been read. */
interface Draft {
  readonly task: Mutable<Omit<Task, 'sql' | 'extra'>> & { readonly extra: Record<string, string> };
  readonly tags: Set<string>;
  sql: string;
  readonly lexer: Lexer;
}

interface Tag {
  /** What it takes, for messages. */
  readonly takes: string;
  /** Stores the value; false: it does not take it. */
  set(task: Draft['task'], value: string): boolean;
}

const TAGS: Readonly<Record<string, Tag>> = {
  db: tag('names of databases, separated by commas', names, (task, value) => {
    task.db = value;
  }),
  results: tag('names of results backends, separated by commas', names, (task, value) => {
    task.results = value;
  }),
  queue: tag('the name of a queue', name, (task, value) => {
    task.queue = value;
  }),
  concurrency: tag('a whole number, 1 or more', count, (task, value) => {
    task.concurrency = value;
  }),
  raw: tag('1 or 0', truth, (task, value) => {
    task.raw = value;
  }),
  timeout: tag('seconds, or a duration such as 90s or 1h30m', seconds, (task, value) => {
    task.timeout = value;
  }),
  ttl: tag('seconds, or a duration such as 90s or 1h30m', seconds, (task, value) => {
    task.ttl = value;
  }),
  max_rows: tag('a whole number, 1 or more', count, (task, value) => {
    task.max_rows = value;
  }),
  max_bytes: tag('bytes, with a unit if you like: 500000, 10MB, 1GiB', bytes, (task, value) => {
    task.max_bytes = value;
  }),
  priority: tag('a whole number', integer, (task, value) => {
    task.priority = value;
  }),
};

/** Another name for a tag, from the original. */
const ALIASES: Readonly<Record<string, string>> = { conc: 'concurrency' };
const KNOWN = ['name', ...Object.keys(TAGS), ...Object.keys(ALIASES)];

/** A tag line; goyesql takes any text before the last colon, which makes comments into tags. */
const TAG_LINE = /^\s*--\s*([A-Za-z][\w-]*)\s*:(.*)$/;
const COMMENT_LINE = /^\s*--/;
const LINE = /([^\r\n]*)(\r\n|\n|\r|$)/y;

/**
 * The tasks of a file, in its order. Throws a `TaskError` with every fault that was found.
 *
 * @param file names it in messages
 */
export function parseTasks(text: string, file: string): Task[] {
  const drafts: Draft[] = [];
  const byName = new Map<string, Draft>();
  const faults: string[] = [];
  let draft: Draft | undefined;
  let number = 0;
  const fault = (message: string, line = number) => faults.push(`${file}:${line}: ${message}`);

  const begin = (value: string) => {
    const valid = name(value);
    if (valid === undefined) fault('a task needs a name: "-- name: my_report"');
    const earlier = byName.get(value);
    if (valid !== undefined && earlier !== undefined) {
      fault(`there is already a task "${value}" in line ${earlier.task.line}`);
    }
    draft = newDraft(value, file, number);
    drafts.push(draft);
    byName.set(value, draft);
  };

  LINE.lastIndex = text.startsWith('\ufeff') ? 1 : 0;
  while (LINE.lastIndex < text.length) {
    const [, line = '', end = ''] = LINE.exec(text) ?? [];
    number++;
    const inQuery = draft !== undefined && draft.sql !== '';
    const place = draft?.lexer.place ?? 'code';
    const [, word = '', rest = ''] = place === 'inside' ? [] : (TAG_LINE.exec(line) ?? []);
    const lower = word.toLowerCase();
    const key = ALIASES[lower] ?? lower;
    const known = key === 'name' || Object.hasOwn(TAGS, key) || key.startsWith('x-');
    if (known && place === 'unclear') {
      fault(
        `whether this line is a tag depends on how the database reads the backslashes before it; ` +
          'write the quotes in the query without backslashes',
      );
    } else if (key === 'name') {
      begin(rest.trim());
    } else if (known && draft === undefined) {
      fault(`"${word}" comes before any "-- name:"`);
    } else if (known && draft !== undefined) {
      const problem = setTag(draft, key, word, rest.trim());
      if (problem !== null) fault(problem);
    } else if (inQuery && draft !== undefined) {
      draft.sql += line + end;
      draft.lexer.read(line);
    } else if (COMMENT_LINE.test(line)) {
      // Among the tags, a slip of the pen would turn a timeout into a comment.
      const meant = word.length > 3 ? suggest(word, KNOWN, 1) : null;
      if (meant !== null && draft !== undefined) fault(`unknown tag "${word}"${didYouMean(word, KNOWN)}`);
    } else if (line.trim() !== '') {
      if (draft === undefined) {
        fault('a query without a name; begin it with "-- name: my_report"');
        draft = newDraft('', file, number);
      }
      draft.sql += line + end;
      draft.lexer.read(line);
    }
  }
  for (const { task, sql, lexer } of drafts) {
    if (sql === '') fault(`task "${task.name}" has no query`, task.line);
    if (lexer.place === 'inside') fault(`task "${task.name}" ends inside a string or a comment`, task.line);
  }
  if (faults.length > 0) throw new TaskError(faults);
  return drafts.map(({ task, sql }) => ({ ...task, sql: sql.trim() }));
}

function newDraft(name: string, file: string, line: number): Draft {
  return {
    task: {
      name,
      file,
      line,
      db: null,
      results: null,
      queue: null,
      concurrency: null,
      raw: false,
      timeout: null,
      ttl: null,
      max_rows: null,
      max_bytes: null,
      priority: null,
      extra: {},
    },
    tags: new Set(),
    sql: '',
    lexer: new Lexer(),
  };
}

/** Null, or what is wrong with it. */
function setTag(draft: Draft, key: string, word: string, value: string): string | null {
  if (draft.tags.has(key)) return `task "${draft.task.name}" has "${word}" already`;
  draft.tags.add(key);
  const known = TAGS[key];
  if (known === undefined) {
    draft.task.extra[key] = value;
    return null;
  }
  return known.set(draft.task, value) ? null : `${word} takes ${known.takes}, not "${value}"`;
}

function tag<T>(
  takes: string,
  read: (text: string) => T | undefined,
  store: (task: Draft['task'], value: T) => void,
): Tag {
  return {
    takes,
    set(task, text) {
      const value = read(text);
      if (value === undefined) return false;
      store(task, value);
      return true;
    },
  };
}
