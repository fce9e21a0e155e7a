/** Sizes, and texts that no file on disk can hold. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TaskError } from '../../src/tasks/errors.ts';
import { parseTasks } from '../../src/tasks/parser.ts';

function faults(text: string): readonly string[] {
  try {
    parseTasks(text, 'f');
  } catch (error) {
    if (error instanceof TaskError) return error.faults;
    throw error;
  }
  throw assert.fail('the text is refused');
}

test('half of a character has its line in the error', () => {
  assert.deepEqual(faults("-- name: a\nSELECT '\ud83d'"), [
    'f:2: there is half a character (a lone surrogate)',
  ]);
});

test('an error shows control characters and long texts in a way that fits on a line', () => {
  const [fault] = faults(
    `-- name: a\n-- db: ${'x'.repeat(1000)},\u0085,\u2028\n-- raw: \u0007\u0085\nSELECT 1`,
  );
  assert.equal(
    fault,
    `f:2: "db" takes names of databases, with commas between them, not "${'x'.repeat(80)}…"`,
  );
  assert.equal(faults('-- name: \u0007\u0085x\nSELECT 1')[0]?.includes('"\\u0007\\u0085x"'), true);
});

test('an error with thousands of faults shows the first fifty', () => {
  const error = new TaskError(Array.from({ length: 1000 }, (_, n) => `f:${n}: wrong`));
  assert.equal(error.faults.length, 1000);
  const lines = error.message.split('\n');
  assert.equal(lines.length, 51);
  assert.equal(lines[49], 'f:49: wrong');
  assert.equal(lines[50], 'and 950 more');
});

test('ten thousand tasks in a file', () => {
  const lines = Array.from({ length: 10_000 }, (_, n) => `-- name: t${n}\n-- queue: q${n}\nSELECT ${n};\n`);
  const tasks = parseTasks(lines.join('\n'), 'f');
  assert.equal(tasks.length, 10_000);
  const { name, sql, line, queue } = tasks[9_999] ?? {};
  assert.deepEqual(
    { name, sql, line, queue },
    { name: 't9999', sql: 'SELECT 9999;', line: 39_997, queue: 'q9999' },
  );
});

/** What makes pattern matchers and lexers slow. */
const TEDIOUS = [
  [
    'x',
    "'",
    "''",
    '"',
    '[',
    '$',
    '$a',
    '$a$',
    '/*',
    '/**/',
    '*/',
    '--',
    '-- ',
    '\\',
    "\\'",
    "E'",
    ' ',
    '\t',
    ';',
  ],
  [
    '#',
    ':',
    ': ',
    '-- a :',
    '-- x\n',
    'x\n',
    "'\n",
    '/*\n',
    '\\\n',
    '\r\n',
    '-- timuot\n',
    '-- a b: c\n',
    'é',
    '\u2028',
  ],
].flat();

/** How long it takes, ms. */
function parsing(text: string): number {
  const from = performance.now();
  try {
    parseTasks(text, 'f');
  } catch (error) {
    assert.ok(error instanceof TaskError);
  }
  return performance.now() - from;
}

test('reading takes time that grows with the length alone', () => {
  for (const unit of TEDIOUS) {
    for (const start of ['-- name: a\nSELECT ', '-- name: a\n', '-- name: a\n-- ']) {
      const ms = parsing(start + unit.repeat(100_000 / unit.length));
      // Measured: under 50 ms. Time that grows with the square of the length would be tens of seconds.
      assert.ok(ms < 3_000, `${JSON.stringify(start + unit)}… took ${ms} ms`);
    }
  }
});

test('a query of a megabyte is kept to the letter, and read in well under a second', () => {
  const sql = `SELECT '${"it''s -- name: x\n-- name: x\n\n".repeat(1_000_000 / 29)}'`;
  assert.ok(sql.length > 999_000);
  const text = `-- name: a\n${sql}\n-- name: b\nSELECT 2`;
  const [task, ...more] = parseTasks(text, 'f');
  assert.equal(task?.sql, sql);
  assert.deepEqual(
    more.map(({ name }) => name),
    ['b'],
  );
  // The best of some, since other tests run at the same time. Measured: 0.1 s.
  const best = Math.min(...Array.from({ length: 4 }, () => parsing(text)));
  assert.ok(best < 1_000, `it took ${best} ms`);
});
