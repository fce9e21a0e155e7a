import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import fc from 'fast-check';
import { realText } from '../../../src/databases/encodings/real-text.ts';

test('a float as text is the same float, reads like none but a float, and as SQLite prints it', (t) => {
  const db = new DatabaseSync(':memory:');
  t.after(() => db.close());
  const cast = db.prepare('SELECT CAST(? AS TEXT) AS text');
  const edges = [1, 0, -0, 0.1, 1e16, 1e17, 1e22, 1e-4, 1e-5, 123456789012345, 5e-324, 1e300, -2.5, 2 ** 53];
  for (const value of edges) assert.ok(Object.is(Number(realText(value)), value), realText(value));
  assert.equal(realText(-0), '-0.0');
  assert.equal(realText(Number.NEGATIVE_INFINITY), '-Infinity');
  // SQLite prints digits that the value does not need where there are many, and now and then where there are few.
  const short = fc.tuple(fc.integer({ min: -99_999, max: 99_999 }), fc.integer({ min: -30, max: 30 }));
  fc.assert(
    fc.property(fc.oneof(fc.double({ noNaN: true }), short), (input) => {
      const value = typeof input === 'number' ? input : Number(`${input[0]}e${input[1]}`);
      const text = realText(value);
      assert.ok(Object.is(Number(text), value), text);
      assert.match(text, /\.|Infinity/);
      if (typeof input === 'number' || value === 0) return;
      const own = String(cast.get(value)?.['text']);
      if (own.length <= text.length) assert.equal(text, own);
      else assert.equal(/e.*$/.exec(text)?.[0], /e.*$/.exec(own)?.[0], `${text} beside ${own}`);
    }),
  );
});
