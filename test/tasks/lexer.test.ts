/** Where strings, names and comments end, as each of the databases has it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DIALECTS, Lexer, Reading } from '../../src/tasks/lexer.ts';

type Engine = keyof typeof DIALECTS;
const ENGINES: readonly Engine[] = ['postgres', 'sqlite', 'mysql', 'clickhouse'];

/** Texts, and the databases for which something is still open at their end. */
const CASES: readonly (readonly [text: string, open: readonly Engine[]])[] = [
  ['SELECT 1', []],
  ["'", ENGINES],
  ["''", []],
  ["'a''", ENGINES],
  ["'a''b'", []],
  ["'\n'", []],
  ["'a\n''", ENGINES],
  ['"it\'s"', []],
  ['"a""', ENGINES],
  ['`it\'s"`', []],
  ["'-- '", []],
  ["-- '", []],
  ["a -- '\nb", []],
  ["/* ' */", []],
  ['/* \n', ENGINES],
  ['/*/', ENGINES],
  ['/**/', []],
  ["/* \n ' \n */", []],
  ['/* /* */', ['postgres']],
  ["/* /* */ ' */", ['sqlite', 'mysql', 'clickhouse']],
  ['/* /* /* */ */', ['postgres']],
  ['/* /*\n/* */ */\n*/', []],
  // backslashes
  ["'\\'", ['mysql', 'clickhouse']],
  ["'\\''", ['postgres', 'sqlite']],
  ["'\\\\'", []],
  ["'\\\\\\'", ['mysql', 'clickhouse']],
  ["'\\\n'", []],
  ["'a''\\'", ['mysql', 'clickhouse']],
  ['"\\"', ['mysql', 'clickhouse']],
  ['`\\`', ['clickhouse']],
  ['"\\\'"', []],
  ["\\'", ENGINES],
  // escape strings
  ["E'\\'", ['postgres', 'mysql', 'clickhouse']],
  ["e'\\''", ['sqlite']],
  ["E'a''\\''", ['sqlite']],
  ["E '\\'", ['mysql', 'clickhouse']],
  ["ELSE'\\'", ['mysql', 'clickhouse']],
  ["1E'\\'", ['mysql', 'clickhouse']],
  ["E'x' '\\'", ['mysql', 'clickhouse']],
  // dollar quotes
  ["$$'$$", []],
  ['$$\n$', ENGINES],
  ["$a$ ' $$ $b$ $a$", []],
  ["$é$'$é$", []],
  ['$1$', []],
  ["$1 || '$$' || $2", []],
  ['a$b$c', []],
  ['v$session$', []],
  ['$ $', []],
  ['$a b$', []],
  // names in brackets
  ["[it's]", ['postgres', 'mysql', 'clickhouse']],
  ["['a', 'b']", []],
  ["['a]', 'b']", ['sqlite']],
  ['[\n', ['sqlite']],
  ['a]', []],
  // line comments
  ["# '", ['postgres', 'sqlite']],
  ["#'", ['postgres', 'sqlite', 'clickhouse']],
  ["#! '", ['postgres', 'sqlite']],
  ["--'", ['mysql']],
  ["--\t'", []],
  ["--\n'", ENGINES],
  ["- - '", ENGINES],
  ["a--1 '", ['mysql']],
  ["/ * '", ENGINES],
];

for (const engine of ENGINES) {
  test(engine, () => {
    for (const [text, open] of CASES) {
      const reading = new Reading(DIALECTS[engine]);
      for (const [index, line] of text.split('\n').entries()) reading.read(line, index + 1);
      assert.equal(reading.open !== null, open.includes(engine), JSON.stringify(text));
    }
  });
}

test('together: all are outside, all are inside, or they differ', () => {
  for (const [text, open] of CASES) {
    const lexer = new Lexer();
    for (const [index, line] of text.split('\n').entries()) lexer.read(line, index + 1);
    const place = open.length === 0 ? 'code' : open.length === ENGINES.length ? 'inside' : 'unclear';
    assert.equal(lexer.place, place, JSON.stringify(text));
    assert.equal(lexer.openedAt === null, open.length === 0, JSON.stringify(text));
  }
});

test('where the code begins, and what is open', () => {
  const lexer = new Lexer();
  const states = ['-- a', '/* b', '*/ ; ', '', "1, '", ' ', '\', "', '"; -- c'].map((line, index) => {
    lexer.read(line, index + 1);
    return [lexer.codeAt, lexer.openedAt];
  });
  assert.deepEqual(states, [
    [null, null],
    [null, 2],
    [null, null],
    [null, null],
    [5, 5],
    [5, 5],
    [5, 7],
    [5, null],
  ]);
});
