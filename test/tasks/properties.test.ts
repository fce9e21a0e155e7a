/** What holds for any file: generated ones, and random ones. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TaskError } from '../../src/tasks/errors.ts';
import { parseTasks } from '../../src/tasks/parser.ts';
import type { Task } from '../../src/tasks/task.ts';

const TAG_LINES = [
  '-- name: no',
  '-- queue: no',
  '--db:no',
  '  -- X-a: no',
  '-- raw: 1',
  '-- a comment',
  '--',
  '',
];

/** Text for the inside of something, over several lines, some of which look like tags; never with `without`. */
function inside(without: RegExp): fc.Arbitrary<string> {
  const piece = fc.oneof(
    fc.constantFrom(
      ...TAG_LINES.map((line) => `\n${line}\n`),
      ';',
      "'",
      '"',
      '`',
      '--',
      '/*',
      '#',
      '[',
      '$',
      ' ',
    ),
    fc.string({ unit: 'grapheme', maxLength: 8 }),
  );
  return fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join('').replace(without, ''));
}

const WORDS = [
  'SELECT',
  'FROM',
  't',
  '1',
  '(',
  ')',
  ',',
  '=',
  '?',
  '$1',
  'a$b$c',
  ';',
  '-',
  '/',
  ':',
  '::text',
  'é',
];

/** A piece of SQL that begins and ends outside of strings and comments, to every database. */
const piece = fc.oneof(
  fc.constantFrom(...WORDS),
  inside(/[\\']/g).map((text) => `'${text}'`),
  inside(/[\\']/g).map((text) => `'${text}''${text}'`),
  inside(/[\\"]/g).map((text) => `"${text}"`),
  inside(/[\\`]/g).map((text) => `\`${text}\``),
  inside(/\$/g).map((text) => `$$${text}$$`),
  inside(/\$/g).map((text) => `$tag$${text}$ $$ $tag$`),
  inside(/[/*]/g).map((text) => `/*${text}*/`),
  inside(/\n/g).map((text) => `-- note ${text}\n`),
  fc.constantFrom('\n', '\n\n', '\n  -- by date: newest first\n', '\n-- name::text\n'),
);
const query = fc.array(piece, { maxLength: 12 }).map((pieces) => ['SELECT', ...pieces, 'x'].join(' '));

/** How a tag is written, and what it says. */
type Written = readonly [string, string, Partial<Task>];
const OF_ORIGINAL: readonly Written[] = [
  ['db', 'one, two', { db: ['one', 'two'] }],
  ['results', 'r', { results: ['r'] }],
  ['queue', 'slow: ones', { queue: 'slow: ones' }],
  ['concurrency', '5', { concurrency: 5 }],
  ['conc', '6', { concurrency: 6 }],
  ['raw', 'yes', { raw: true }],
];
const OF_OURS: readonly Written[] = [
  ['timeout', '1m30s', { timeout: 90 }],
  ['ttl', '60', { ttl: 60 }],
  ['max_rows', '1_000', { max_rows: 1000 }],
  ['max_bytes', '2KiB', { max_bytes: 2048 }],
  ['allow_cut', '1', { allow_cut: true }],
  ['priority', '-1', { priority: -1 }],
];
const tag = fc.constantFrom(...OF_ORIGINAL, ...OF_OURS);
const TAG_NAME = { selector: ([, , says]: Written) => Object.keys(says)[0] };

const blank = fc.constantFrom('', ' ', '\t', '  ');
const filler = fc.array(
  fc.constantFrom(
    '',
    '  ',
    '--',
    "-- don't: this is not a tag",
    '-- see https://example.com',
    '\t-- a b: c',
    '--1',
  ),
  { maxLength: 2 },
);
/** After a query, only these are dropped: to MySQL the other is minus minus one. */
const certain = (comment: string) => comment !== '--1';
const printed = fc.record({
  query,
  name: fc
    .string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
    .map((name) => name.replace(/[\p{Cc}\u2028\u2029]/gu, '').trim())
    .filter((name) => name !== '' && !name.startsWith(':')),
  above: fc.uniqueArray(tag, { maxLength: 5, ...TAG_NAME }),
  below: fc.uniqueArray(fc.constantFrom(...OF_OURS), { maxLength: 2, ...TAG_NAME }),
  upper: fc.boolean(),
  blanks: fc.tuple(blank, blank, blank, blank),
  fillers: fc.tuple(filler, filler, filler),
});

test('what was written is read: any query, between any comments, with any line ends', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(printed, { maxLength: 5, selector: (task) => task.name }),
      fc.constantFrom('\n', '\r\n'),
      fc.constantFrom('', '\ufeff'),
      fc.boolean(),
      (tasks, end, mark, last) => {
        const lines: string[] = ['-- The header: of the file.'];
        const wanted: Task[] = [];
        for (const { name, query, above, below, upper, blanks, fillers } of tasks) {
          const [a, b, c, d] = blanks;
          const print = (key: string, value: string) =>
            lines.push(`${a}--${b}${upper ? key.toUpperCase() : key}${c}:${d}${value}${a}`);
          // Lines are counted in the finished text: the queries have line breaks of their own.
          const next = () => lines.join(end).replaceAll('\r\n', '\n').split('\n').length + 1;
          lines.push(...fillers[0].filter(certain));
          const line = next();
          print('name', name);
          for (const [key, value] of above) print(key, value);
          lines.push(...fillers[1]);
          const begins = { line: next(), column: 1 };
          lines.push(query, ...fillers[2].filter(certain));
          const mistakable = below.map(([key, value]) => {
            // With a blank: to MySQL the other is minus minus something.
            lines.push(`${a}-- ${key}${c}:${value}`);
            return { tag: key, line: next() - 1 };
          });
          wanted.push(
            Object.assign(
              {
                name,
                sql: query,
                file: 'f',
                line,
                begins,
                mistakable,
                db: null,
                results: null,
                queue: null,
                concurrency: null,
              },
              {
                raw: false,
                timeout: null,
                ttl: null,
                max_rows: null,
                max_bytes: null,
                max_value_bytes: null,
                allow_cut: false,
                priority: null,
                extra: {},
              },
              ...above.map(([, , said]) => said),
            ),
          );
        }
        assert.deepEqual(parseTasks(mark + lines.join(end) + (last ? end : ''), 'f'), wanted);
      },
    ),
    { numRuns: 500 },
  );
});

/** One line each, complete to the databases that take it, and with an open string to others. */
const PECULIAR = [
  "LIKE '50\\%' ESCAPE '\\'",
  "'C:\\'",
  "'it\\'s'",
  '"a \\" b"',
  "E'it\\'s'",
  "[it's]",
  "1 # don't",
  "data #> '{a}'",
  "/* /* it's */ */",
  '/* a /* b */',
  "5 --it's",
  "$$it's$$",
  "/* it's */",
  "ARRAY['a]', 'b']",
];

test('a task ends at the next name where any database sees the end of its last string', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...PECULIAR), { minLength: 1, maxLength: 6 }), (pieces) => {
      const text = pieces.map((sql, n) => `-- name: t${n}\n-- queue: q\nSELECT ${sql}\n`).join('\n');
      assert.deepEqual(
        parseTasks(text, 'f').map(({ name, queue, sql }) => ({ name, queue, sql })),
        pieces.map((sql, n) => ({ name: `t${n}`, queue: 'q', sql: `SELECT ${sql}` })),
      );
    }),
  );
});

/** The tasks, or null where the parser refuses the text; anything else that it throws gets through. */
function parsed(text: string): readonly Task[] | null {
  try {
    return parseTasks(text, 'f');
  } catch (error) {
    if (!(error instanceof TaskError)) throw error;
    assert.ok(error.faults.length > 0, 'there is a reason');
    for (const fault of error.faults) assert.match(fault, /^f:[1-9][0-9]*: [^\n\r]+$/);
    return null;
  }
}

const soup = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        '-- name: a\n',
        '-- name: b\n',
        '-- db: x\n',
        '--x-y:\n',
        '-- nmae: c\n',
        'SELECT 1\n',
        'x\n',
      ),
      fc.constantFrom(
        "'",
        '"',
        '`',
        '\\',
        '/*',
        '*/',
        '$$',
        '$t$',
        '#',
        '[',
        ']',
        "E'",
        '--',
        '-- ',
        ':',
        ';',
        '::',
      ),
      fc.constantFrom('\n', '\r\n', '\r', '\ufeff', '\u2028', '\u0085', '\0', '\t', ' ', '\ud800', '💥'),
    ),
    { maxLength: 30 },
  )
  .map((pieces) => pieces.join(''));

test('a text that is no file of tasks gives a TaskError with a line, never another error', () => {
  let refused = 0;
  let taken = 0;
  const check = (text: string) => {
    if (parsed(text) === null) refused++;
    else taken++;
  };
  fc.assert(fc.property(soup, check), { numRuns: 3000 });
  fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 60 }), check), { numRuns: 1000 });
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => check(Buffer.from(bytes).toString('latin1'))),
    { numRuns: 1000 },
  );
  assert.ok(refused > 100 && taken > 100, `both happened: ${refused}, ${taken}`);
});

test('no line of a query is lost but comments, tags and blank lines', () => {
  let checked = 0;
  fc.assert(
    fc.property(soup, (after) => {
      const text = `-- name: first\n${after}`;
      const kept = (parsed(text) ?? []).flatMap(({ sql }) => sql.split('\n'));
      if (kept.length === 0) return;
      let at = 0;
      for (const line of text.split('\n').map((one) => one.trim())) {
        if (line === '' || line.startsWith('--')) continue;
        while (at < kept.length && kept[at]?.trim() !== line) at++;
        assert.ok(at < kept.length, `${JSON.stringify(line)} of ${JSON.stringify(text)} is in a query`);
        at++;
        checked++;
      }
    }),
    { numRuns: 3000 },
  );
  assert.ok(checked > 500, `lines were looked at: ${checked}`);
});
