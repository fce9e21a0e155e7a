import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { columnNames, tableNames } from '../../src/databases/names.ts';

test('column names stay as they are where they can', () => {
  assert.deepEqual(columnNames(['a', 'B', 'select', 'x"y', ' ', "'; DROP TABLE t"]), [
    'a',
    'B',
    'select',
    'x"y',
    ' ',
    "'; DROP TABLE t",
  ]);
});

test('empty and repeated column names are made unique', () => {
  assert.deepEqual(columnNames(['', 'a', 'A', 'a', '']), ['column_1', 'a', 'A_2', 'a_3', 'column_5']);
  assert.deepEqual(columnNames(['a', 'a', 'a_2', 'a']), ['a', 'a_3', 'a_2', 'a_4']);
  assert.deepEqual(columnNames(['column_2', '']), ['column_2', 'column_2_2']);
});

test('overlong column names keep their head', () => {
  const [first, second, other] = columnNames(['é'.repeat(40), 'é'.repeat(40), `${'é'.repeat(39)}e`], 63);
  assert.match(first ?? '', /^é{25}_[0-9a-f]{12}$/);
  assert.ok(Buffer.byteLength(second ?? '') <= 63);
  assert.equal(new Set([first, second, other]).size, 3);
});

test('column names are always unique by case, bounded, and the same again', () => {
  const name = fc.oneof(
    fc.constantFrom(
      '',
      'a',
      'A',
      'a_2',
      'A_2',
      'a_3',
      'column_1',
      'column_2',
      'ß',
      'SS',
      'İ',
      'i̇',
      'a\0',
      'a\ufffd',
    ),
    fc.string({ unit: 'binary', maxLength: 30 }),
  );
  fc.assert(
    fc.property(
      fc.array(name, { maxLength: 30 }),
      fc.constantFrom(20, 63, Number.POSITIVE_INFINITY),
      (names, most) => {
        const unique = columnNames(names, most);
        assert.equal(unique.length, names.length);
        assert.equal(new Set(unique.map((each) => each.toLowerCase())).size, names.length);
        for (const each of unique)
          assert.ok(each !== '' && !each.includes('\0') && Buffer.byteLength(each) <= most);
        assert.deepEqual(columnNames(names, most), unique);
      },
    ),
  );
});

test('a thousand repeated names are made unique in no time', () => {
  const unique = columnNames(Array<string>(2_000).fill('a'));
  assert.equal(unique.at(-1), 'a_2000');
});

test('table names', () => {
  const [plain, hashed, longer] = tableNames('results_%s', 'Job', 63);
  assert.equal(plain, 'results_Job');
  assert.match(hashed ?? '', /^results_Job_[0-9a-f]{12}$/);
  assert.match(longer ?? '', /^results_Job_[0-9a-f]{40}$/);
  assert.notEqual(tableNames('results_%s', 'job', 63)[1]?.toLowerCase(), hashed?.toLowerCase());
  assert.equal(tableNames('%s', '$&', 63)[0], '$&');
});

test('overlong table names are cut and hashed', () => {
  const names = tableNames('results_%s', 'x'.repeat(128), 63);
  assert.deepEqual(
    names.map((name) => name.length),
    [63, 63],
  );
  assert.notEqual(names[0], tableNames('results_%s', `${'x'.repeat(127)}y`, 63)[0]);
});
