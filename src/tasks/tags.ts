/** The tags that a task can have. */
import { suggest } from '../util/suggest.ts';
import type { Task } from './task.ts';
import { bytes, count, integer, names, queueName, seconds, truth, wholeSeconds } from './values.ts';

/** What tags say about a task. */
export type Tagged = Pick<
  Task,
  | 'db'
  | 'results'
  | 'queue'
  | 'concurrency'
  | 'raw'
  | 'timeout'
  | 'ttl'
  | 'max_rows'
  | 'max_bytes'
  | 'max_value_bytes'
  | 'allow_cut'
  | 'priority'
>;

export const UNTAGGED: Tagged = {
  db: null,
  results: null,
  queue: null,
  concurrency: null,
  raw: false,
  timeout: null,
  ttl: null,
  max_rows: null,
  max_bytes: null,
  max_value_bytes: null,
  allow_cut: false,
  priority: null,
};

export interface Tag {
  /** What it takes, for messages. */
  readonly takes: string;
  /** What the value says; undefined: the tag does not take it. */
  read(value: string): Partial<Tagged> | undefined;
}

function tag<Key extends keyof Tagged>(
  key: Key,
  takes: string,
  read: (text: string) => Tagged[Key] | undefined,
): [string, Tag] {
  return [
    key,
    {
      takes,
      read(text) {
        const value = read(text);
        return value === undefined ? undefined : { [key]: value };
      },
    },
  ];
}

const COUNT = 'a whole number, 1 or more';
const BYTES = 'a number of bytes, with a unit if need be: 500000, 10MB, 1GiB';

/** All but `name`, which begins a task. By key: see `keyOf`. */
export const TAGS: ReadonlyMap<string, Tag> = new Map([
  tag('db', 'names of databases, with commas between them', names),
  tag('results', 'names of results backends, with commas between them', names),
  tag('queue', 'the name of one queue, without commas', queueName),
  tag('concurrency', COUNT, count),
  tag('raw', '1 or 0', truth),
  tag('timeout', 'seconds, or a duration like 90s or 1h30m', seconds),
  tag('ttl', 'whole seconds, or a duration like 90s or 1h30m', wholeSeconds),
  tag('max_rows', COUNT, count),
  tag('max_bytes', BYTES, bytes),
  tag('max_value_bytes', BYTES, bytes),
  tag('allow_cut', '1 or 0', truth),
  tag('priority', 'a whole number', integer),
]);

/** The tag that a word in a file stands for: a key of TAGS, "name", or an "x-…"; null: none. */
export function keyOf(word: string): string | null {
  const lower = word.toLowerCase();
  if (lower === 'conc') return 'concurrency';
  if (lower === 'name' || TAGS.has(lower)) return lower;
  return lower.startsWith('x-') && lower.length > 2 ? lower : null;
}

/** Whether the original server knows the tag too. */
export function ofOriginal(key: string): boolean {
  return ['db', 'results', 'queue', 'concurrency', 'raw'].includes(key);
}

/** Slips in tags too short to guess by likeness: `row:`, `do:` and `same:` are words of their own. */
const SHORT_SLIPS: ReadonlyMap<string, string> = new Map([
  ['bd', 'db'],
  ['dbs', 'db'],
  ['database', 'db'],
  ['databases', 'db'],
  ['arw', 'raw'],
  ['rwa', 'raw'],
  ['raws', 'raw'],
  ['tll', 'ttl'],
  ['ttll', 'ttl'],
  ['cocn', 'conc'],
  ['concs', 'conc'],
  ['nmae', 'name'],
  ['naem', 'name'],
  ['anme', 'name'],
  ['nam', 'name'],
  ['nme', 'name'],
  ['naame', 'name'],
  ['namme', 'name'],
  ['namee', 'name'],
  ['nname', 'name'],
]);

/**
 * The tag that was probably meant by a word that is none, or null. A job without the timeout that its task
 * seems to have is worse than a comment that has to be put in other words.
 */
export function misspelt(word: string): string | null {
  const long = [...TAGS.keys()].filter((key) => key.length >= 7);
  return SHORT_SLIPS.get(word.toLowerCase()) ?? suggest(word, long) ?? suggest(word, ['queue'], 1);
}
