/** What errors of a server are to us: by their numbers, with nothing in them that is secret. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DatabaseError } from '../../../src/databases/errors.ts';
import {
  type Doing,
  failureOf,
  isConnectionError,
  ServerError,
} from '../../../src/databases/mysql/failure.ts';
import { ConnectionLost } from '../../../src/databases/mysql/source-wire.ts';

const told = (
  number: number,
  message: string,
  doing: Doing = 'query_failed',
  args: readonly unknown[] = [],
) => failureOf(new ServerError(number, 'HY000', message), 'db "app"', doing, { args });

test('by number: what it is, and whether to try again', () => {
  const cases: readonly (readonly [number: number, code: string, transient: boolean])[] = [
    [1040, 'unavailable', true],
    [1053, 'unavailable', true],
    [1205, 'unavailable', true],
    // Limits of the server or of the account, for now.
    [1203, 'unavailable', true],
    [1226, 'unavailable', true],
    [1129, 'unavailable', true],
    [1461, 'unavailable', true],
    [1637, 'unavailable', true],
    [1206, 'unavailable', true],
    [1297, 'unavailable', true],
    [1429, 'unavailable', true],
    [1689, 'unavailable', true],
    [1878, 'unavailable', true],
    [3015, 'unavailable', true],
    [3168, 'unavailable', true],
    [3169, 'unavailable', true],
    [3675, 'unavailable', true],
    [3985, 'unavailable', true],
    [4081, 'unavailable', true],
    [4150, 'unavailable', true],
    [1153, 'query_failed', false],
    [1213, 'unavailable', true],
    [1021, 'unavailable', true],
    [1114, 'unavailable', true],
    [1927, 'unavailable', true],
    [1045, 'unavailable', true],
    [1317, 'query_failed', true],
    [1969, 'query_failed', true],
    [3024, 'query_failed', true],
    [1064, 'invalid_statement', false],
    [1146, 'invalid_statement', false],
    [1142, 'invalid_statement', false],
    [1792, 'invalid_statement', false],
    [1290, 'invalid_statement', false],
    [1292, 'query_failed', false],
    [1690, 'query_failed', false],
    [9999, 'query_failed', false],
  ];
  for (const [number, code, transient] of cases) {
    const failure = told(number, 'it failed');
    assert.deepEqual([failure.code, failure.transient], [code, transient], String(number));
    const limit =
      number === 1969 || number === 3024
        ? `: a time limit of the database (${number === 1969 ? 'max_statement_time' : 'max_execution_time'})`
        : '';
    assert.equal(failure.message, `db "app": it failed${limit} (error ${number})`);
  }
  // Written on our own account, what is refused is not the statement but the time.
  for (const number of [1290, 1792, 1836]) assert.deepEqual(told(number, 'no', 'write').code, 'unavailable');
  assert.equal(told(1146, 'no table', 'write').code, 'query_failed');
  assert.equal(told(1292, 'bad value', 'invalid_statement').code, 'invalid_statement');
  assert.equal(
    told(3, 'Error writing file \'./x\' (Errcode: 28 "No space left on device")').code,
    'unavailable',
  );
  assert.equal(told(1026, 'Error 28 No space left on device').transient, true);
});

test('values are masked, names are kept', () => {
  assert.equal(
    told(1292, "Truncated incorrect DOUBLE value: 'it's s3cret'").message,
    'db "app": Truncated incorrect DOUBLE value: \'…\' (error 1292)',
  );
  assert.doesNotMatch(told(1062, "Duplicate entry 's3cret' for key 'x'").message, /s3cret/);
  assert.match(told(1054, "Unknown column 'due' in 'where clause'").message, /'due' in 'where clause'/);
  assert.doesNotMatch(
    told(1305, 'FUNCTION s3cret does not exist', 'query_failed', ['s3cret']).message,
    /s3cret/,
  );
  const short = told(1054, "Unknown column 'ab' in 'field list'", 'query_failed', ['ab', null, 1, '']);
  assert.equal(short.message, "db \"app\": Unknown column '…' in 'field list' (error 1054)");
});

test('a connection that is gone', () => {
  // Attempts at several addresses fail together, without a word.
  const silent = Object.assign(new Error('none'), { code: 'ECONNREFUSED', message: '' });
  const lost = [
    new ConnectionLost(),
    new ServerError(1927, '70100', 'Connection was killed'),
    new ServerError(1053, '08S01', 'Server shutdown in progress'),
    Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', syscall: 'read', errno: -104 }),
    Object.assign(new Error('certificate has expired'), { code: 'CERT_HAS_EXPIRED' }),
    silent,
  ];
  for (const error of lost) {
    assert.ok(isConnectionError(error), error.message);
    const failure = failureOf(error, 'db "app"', 'query_failed');
    assert.deepEqual([failure.code, failure.transient], ['unavailable', true]);
    assert.match(failure.message, /^db "app": ./);
  }
  const others = [
    new ServerError(1317, '70100', 'Query execution was interrupted'),
    new TypeError('x is not a function'),
    Object.assign(new Error('bad'), { code: 'ERR_INVALID_ARG_TYPE' }),
    new DatabaseError('unavailable', 'ours'),
    'a string',
  ];
  for (const error of others) assert.equal(isConnectionError(error), false);
  const bug = failureOf(new TypeError('x is not a function'), 'db "app"', 'query_failed');
  assert.deepEqual([bug.code, bug.transient], ['query_failed', false]);
  const ours = new DatabaseError('limit_reached', 'ours');
  assert.equal(failureOf(ours, 'db "app"', 'query_failed'), ours);
});
