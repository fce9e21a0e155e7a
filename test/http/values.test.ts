import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatTime, parseBoolean, parseDuration, parseTime } from '../../src/http/values.ts';
import { didYouMean, suggest } from '../../src/util/suggest.ts';

test('times that exist are read, to the millisecond and never earlier', () => {
  const cases: [string, string][] = [
    ['2024-02-29 00:00:00', '2024-02-29T00:00:00.000Z'],
    ['2024-06-30 23:59:59', '2024-06-30T23:59:59.000Z'],
    ['2024-01-01T00:00:00Z', '2024-01-01T00:00:00.000Z'],
    ['2024-01-01t10:00:00z', '2024-01-01T10:00:00.000Z'],
    ['2024-01-01T00:00:00+05:30', '2023-12-31T18:30:00.000Z'],
    ['2024-01-01T00:00:00-08:00', '2024-01-01T08:00:00.000Z'],
    ['2024-01-01 00:00:00+02:00', '2023-12-31T22:00:00.000Z'],
    ['2024-01-01T00:00:00.5Z', '2024-01-01T00:00:00.500Z'],
    ['2024-01-01T00:00:00.0001Z', '2024-01-01T00:00:00.001Z'],
    ['2024-01-01T00:00:00.123456789+00:00', '2024-01-01T00:00:00.124Z'],
    ['0001-01-01T00:00:00Z', '0001-01-01T00:00:00.000Z'],
    ['9999-12-31 23:59:59', '9999-12-31T23:59:59.000Z'],
  ];
  for (const [text, expected] of cases) {
    const time = parseTime(text);
    assert.equal(formatTime(time), expected, text);
  }
});

test('times that do not exist, or say too little, are not', () => {
  for (const text of [
    '2024-02-30 00:00:00',
    '2023-02-29 00:00:00',
    '2024-13-01 00:00:00',
    '2024-00-10 00:00:00',
    '2024-04-31T00:00:00Z',
    '2024-01-01 24:00:00',
    '2024-01-01 00:60:00',
    '2024-06-30 23:59:60',
    '2024-01-01',
    '2024-01-01T00:00:00',
    '2024-1-1 00:00:00',
    '2024-01-01 00:00',
    ' 2024-01-01 00:00:00',
    '2024-01-01 00:00:00\n',
    '2024-01-01  00:00:00',
    '20240101T000000Z',
    '2024-01-01T00:00:00+24:00',
    '2024-01-01T00:00:00+01:60',
    '2024-01-01T00:00:00+0100',
    '9999-12-31T23:59:59-01:00',
    '0000-01-01T00:00:00+01:00',
    'tomorrow',
    '1700000000',
    '',
  ]) {
    assert.equal(parseTime(text), null, text);
  }
});

test('every time that the API writes, it reads', () => {
  const year = (n: number) => Date.UTC(n, 0, 1);
  fc.assert(
    fc.property(fc.integer({ min: year(1000), max: year(9999) }), (ms) => {
      assert.equal(parseTime(formatTime(ms)), ms);
    }),
  );
});

test('durations as Go writes them, or seconds', () => {
  const cases: [string, number | null][] = [
    ['30s', 30_000],
    ['1m30s', 90_000],
    ['500ms', 500],
    ['1.5s', 1500],
    ['10µs', 0.01],
    ['1h', 3_600_000],
    ['30', 30_000],
    ['0.5', 500],
    ['0', 0],
    ['0s', 0],
    ['', null],
    ['-1s', null],
    ['1 s', null],
    ['s', null],
    ['1e3', null],
    ['1d', null],
    ['Infinity', null],
  ];
  for (const [text, expected] of cases) assert.equal(parseDuration(text), expected, text);
});

test('booleans as Go reads them', () => {
  for (const text of ['1', 't', 'T', 'TRUE', 'true', 'True']) assert.equal(parseBoolean(text), true);
  for (const text of ['0', 'f', 'F', 'FALSE', 'false', 'False']) assert.equal(parseBoolean(text), false);
  for (const text of ['', 'yes', 'tRUE', '2', ' true']) assert.equal(parseBoolean(text), null);
});

test('a slip of the pen is recognized, another word is not', () => {
  const keys = ['job_id', 'queue', 'eta', 'retries', 'args'];
  assert.equal(suggest('retires', keys), 'retries');
  assert.equal(suggest('jobid', keys), 'job_id');
  assert.equal(suggest('Queue', keys), 'queue');
  assert.equal(suggest('arg', keys), 'args');
  assert.equal(suggest('zzz', keys), null);
  assert.equal(suggest('x', keys), null);
  assert.equal(suggest('', keys), null);
  assert.equal(suggest('q'.repeat(100_000), keys), null);
  assert.equal(didYouMean('etaa', keys), '; did you mean "eta"?');
});
