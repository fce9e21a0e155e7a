import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { instantText } from '../../../src/databases/postgres/copy-text-form.ts';

const MICROSECONDS_TO_1970 = 946_684_800_000_000n;

/** As the wire has it: microseconds since 2000 in two halves. */
function instant(microseconds: bigint): string {
  return instantText(Number(microseconds >> 32n), Number(microseconds & 0xffffffffn), '+00');
}

test('an instant reads as Date has it', () => {
  const dates = fc.date({
    min: new Date('0001-01-01T00:00:00Z'),
    max: new Date('9999-12-31T23:59:59.999Z'),
    noInvalidDate: true,
  });
  fc.assert(
    fc.property(dates, (date) => {
      const text = instant(BigInt(date.getTime()) * 1000n - MICROSECONDS_TO_1970);
      assert.match(text, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d*[1-9])?\+00$/);
      assert.equal(new Date(text.replace(' ', 'T').replace('+00', 'Z')).getTime(), date.getTime());
    }),
  );
});

test('microseconds are exact, near and far', () => {
  for (const [microseconds, expected] of [
    [0n, '2000-01-01 00:00:00+00'],
    [-1n, '1999-12-31 23:59:59.999999+00'],
    [1n, '2000-01-01 00:00:00.000001+00'],
    [(1n << 52n) - 1n, '2142-09-17 23:53:47.370495+00'],
    [1n << 53n, '2285-06-04 23:47:34.740992+00'],
    [-211_813_488_000_000_000n, '4714-11-24 00:00:00+00 BC'],
    [-63_113_904_000_000_001n, '0002-12-31 23:59:59.999999+00 BC'],
    [9_223_371_331_199_999_999n, '294276-12-31 23:59:59.999999+00'],
    [9_223_372_036_854_775_807n, 'infinity'],
    [-9_223_372_036_854_775_808n, '-infinity'],
  ] as const) {
    assert.equal(instant(microseconds), expected);
  }
});
