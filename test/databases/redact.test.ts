/** Of a message, values of arguments go and the engine's own words stay. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { redact } from '../../src/databases/redact.ts';

const CASES: readonly (readonly [message: string, args: readonly unknown[], safe: string])[] = [
  ['no such user s3cret-4711', ['s3cret-4711'], 'no such user …'],
  ['no such user Smith', ['Smith'], 'no such user …'],
  ["value 'value' is out of range", ['value'], "value '…' is out of range"],
  ['Got a packet bigger than max_allowed_packet bytes', ['packet', 'max_allowed_packet', 'bytes'], ''],
  ['Truncated incorrect DOUBLE value', ['true', 'DOUBLE', 'value'], ''],
  ["the table 'ab' is full", ['ab', 'able', 'is'], "the table '…' is full"],
  ['a stable table', ['able'], ''],
  ['ülk and külk', ['ülk'], ''],
  ['könig', ['könig'], '…'],
  ['4711x', ['4711'], '…x'],
  ['it was secret-4711-x', ['4711', 'secret-4711-x'], 'it was …'],
  ['0.25 is not 17', [0.25, 17], '… is not 17'],
  ['it says "a.b"', ['a.b'], 'it says "…"'],
  ['$& $1', ['$&', '$1'], ''],
];

test('words of messages and values of arguments', () => {
  for (const [message, args, safe] of CASES) {
    assert.equal(redact(message, args, ["'", '"']), safe === '' ? message : safe, message);
  }
  assert.equal(redact('a', [null, undefined, '', true], ["'"]), 'a');
});

test('as many arguments as there may be take no time', () => {
  const args = Array.from({ length: 65_535 }, (_, index) => `secret-${index}-of-many`);
  const message = `${'it failed with '.repeat(50)}secret-40000-of-many`;
  assert.equal(redact(message, args, ["'"]), `${'it failed with '.repeat(50)}…`);
});
