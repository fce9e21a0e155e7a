import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  bytes,
  count,
  integer,
  name,
  names,
  queueName,
  seconds,
  truth,
  wholeSeconds,
} from '../../src/tasks/values.ts';

type Case = readonly [given: string, wanted: unknown];

function check(what: string, read: (text: string) => unknown, cases: readonly Case[]): void {
  test(what, () => {
    for (const [given, wanted] of cases) assert.deepEqual(read(given), wanted, JSON.stringify(given));
  });
}

const refused = (...texts: string[]) => texts.map((text): Case => [text, undefined]);

check('seconds', seconds, [
  ['90', 90],
  ['90s', 90],
  ['5m', 300],
  ['1h30m', 5400],
  ['1.5h', 5400],
  ['500ms', 0.5],
  ['1ms', 0.001],
  ['1000000000', 1_000_000_000],
  ...refused(
    '',
    '0',
    '0s',
    '-1',
    '-5m',
    '1.5',
    '5 m',
    '5M',
    '1d',
    '1h 30m',
    '1ns',
    '1000000001',
    '1e3',
    'h',
    '9e99',
  ),
  ...refused('9'.repeat(400), `${'9'.repeat(400)}h`),
]);

check('whole seconds', wholeSeconds, [
  ['60', 60],
  ['1.5m', 90],
  ['1000ms', 1],
  ...refused('1500ms', '0.5s', '0', ''),
]);

check('counts', count, [
  ['1', 1],
  ['007', 7],
  ['1_000_000', 1_000_000],
  ['9007199254740991', 9_007_199_254_740_991],
  ...refused('', '0', '-1', '+1', '1.0', '1e6', '1,000', '_1', '1_', '1__0', '9007199254740992', '٣'),
]);

check('bytes', bytes, [
  ['500', 500],
  ['500B', 500],
  ['1kB', 1000],
  ['10MB', 10_000_000],
  ['10 mb', 10_000_000],
  ['2GB', 2_000_000_000],
  ['1tb', 1_000_000_000_000],
  ['1KiB', 1024],
  ['1MiB', 1_048_576],
  ['1GIB', 1_073_741_824],
  ['1TiB', 1_099_511_627_776],
  ['1_000KB', 1_000_000],
  ...refused(
    '',
    'MB',
    '0',
    '0MB',
    '-1',
    '1.5GB',
    '10M',
    '10K',
    '10Mb/s',
    '1PB',
    '9007199254740991KB',
    '1 000',
  ),
]);

check('integers', integer, [
  ['0', 0],
  ['-0', 0],
  ['+7', 7],
  ['-5', -5],
  ['2147483647', 2_147_483_647],
  ['-2147483647', -2_147_483_647],
  ...refused('', '2147483648', '-2147483648', '1.5', 'high', '0x10', '1e3', '- 1'),
]);

check('truth', truth, [
  ...['1', 'true', 'TRUE', 'yes', 'on', 't', 'y'].map((text): Case => [text, true]),
  ...['0', 'false', 'False', 'no', 'off', 'f', 'n'].map((text): Case => [text, false]),
  ...refused('', '2', 'maybe', 'truely', ' 1'),
]);

check('lists of names', names, [
  ['a', ['a']],
  ['a, b ,c', ['a', 'b', 'c']],
  ['b,a,b', ['b', 'a']],
  ['my db', ['my db']],
  ...refused('', ',', 'a,', ',a', 'a,,b', 'a, ,b', 'a\tb'),
]);

check('names', name, [
  ['a', 'a'],
  ['a b/c.d?e%20', 'a b/c.d?e%20'],
  ['.', '.'],
  ['отчёт 💰', 'отчёт 💰'],
  ...refused('', 'a\tb', 'a\u007f', 'a\u0085b', 'a\u2028b', 'a\u2029b'),
]);

check('names of queues', queueName, [['slow ones', 'slow ones'], ...refused('', 'a, b', 'a\tb')]);
