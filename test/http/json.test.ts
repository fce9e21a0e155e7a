import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { JsonError, parseJson } from '../../src/http/json.ts';

test('whatever JSON.stringify writes is read as JSON.parse reads it', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 8, noUnicodeString: false }), (value) => {
      const text = JSON.stringify(value);
      fc.pre(!/\d{16}/.test(text)); // the next test is about those
      assert.deepEqual(parseJson(text), JSON.parse(text));
    }),
  );
});

test('an integer passes exactly if it is safe', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }), (value) => {
      const safe = value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER;
      if (safe) assert.deepEqual(parseJson(`[${value}]`), [Number(value)]);
      else assert.throws(() => parseJson(`[${value}]`), JsonError);
    }),
  );
});

test('numbers that stay what they are', () => {
  for (const text of [
    '0',
    '-0',
    '0.1',
    '1.50',
    '1e3',
    '1E+3',
    '1e-7',
    '123.456e2',
    '1.7976931348623157e308',
    '5e-324',
    '1e21',
  ]) {
    assert.deepEqual(parseJson(`[${text}]`), [Number(text)], text);
  }
});

test('numbers that would be rounded are refused, with their place and the way out', () => {
  for (const text of [
    '9007199254740993',
    '-9007199254740993',
    '9007199254740992',
    '12345678901234567.89',
    '0.12345678901234567890',
    '1e400',
    '-1e400',
    '1e-400',
  ]) {
    assert.throws(
      () => parseJson(`{"jobs":[{"args":["a",${text}]}]}`),
      (error: unknown) =>
        error instanceof JsonError &&
        error.message.startsWith(
          `jobs[0].args[1]: the number ${text} may be rounded on its way; send it as a string`,
        ),
      text,
    );
  }
});

test('what would be lost or cannot be kept is refused', () => {
  const cases: [string, RegExp][] = [
    ['{"a":1,"a":2}', /^the key "a" is there twice$/],
    ['{"a":1,"\\u0061":2}', /^the key "a" is there twice$/],
    ['{"jobs":[{},{"x":1,"x":1}]}', /^jobs\[1\]: the key "x" is there twice$/],
    ['{"__proto__":1,"__proto__":2}', /"__proto__" is there twice/],
    ['{"args":["\\ud800"]}', /^args\[0\]: holds half a surrogate pair/],
    ['{"\\udc00":1}', /half a surrogate pair/],
    ['{"a"', /^the body is not valid JSON: /],
    ['{"a":1}}', /^the body is not valid JSON: /],
    ["{'a':1}", /^the body is not valid JSON: /],
    ['[1,]', /^the body is not valid JSON: /],
    ['NaN', /^the body is not valid JSON: /],
    ['[01]', /^the body is not valid JSON: /],
    ['['.repeat(33) + ']'.repeat(33), /^the body is nested deeper than 32 levels$/],
    ['['.repeat(400_000) + ']'.repeat(400_000), /^the body is nested deeper than 32 levels$/],
  ];
  for (const [text, message] of cases) {
    assert.throws(
      () => parseJson(text),
      (error: unknown) => error instanceof JsonError && message.test(error.message),
      text.slice(0, 60),
    );
  }
});

test('the same key in two objects, and escapes, are fine', () => {
  assert.deepEqual(parseJson('[{"a":1},{"a":{"a":2}}]'), [{ a: 1 }, { a: { a: 2 } }]);
  assert.deepEqual(parseJson('["\\ud83d\\ude00","a\\"b","\\\\",",{}[]: 1e400"]'), [
    '😀',
    'a"b',
    '\\',
    ',{}[]: 1e400',
  ]);
  assert.deepEqual(parseJson('['.repeat(32) + ']'.repeat(32)), JSON.parse('['.repeat(32) + ']'.repeat(32)));
});
