import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withoutValues } from '../../../src/databases/clickhouse/arguments.ts';
import { parseStatement } from '../../../src/databases/clickhouse/statement.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';

test('a column that is called by its expression tells no argument', () => {
  for (const [name, args, expected] of [
    ["length('topsecret')", ['topsecret'], 'length(?)'],
    ["if(greater(length('it\\'s'), 0), nan, 1.5)", ["it's"], 'if(greater(length(?), 0), nan, 1.5)'],
    ["'topsecret'", ['topsecret'], '?'],
    ['plus(number, 42)', ['42'], 'plus(number, ?)'],
    ['plus(number, 421)', [42], 'plus(number, 421)'],
    ['minus(number, -5)', [-5], 'minus(number, ?)'],
    // What people have called so stays.
    ['day 1', ['1'], 'day 1'],
    ['total', ['total'], 'total'],
    ['f(x)', [null, ''], 'f(x)'],
  ] as const) {
    assert.equal(withoutValues(name, args), expected);
  }
});

test('what takes rows away or puts others behind them is refused', () => {
  for (const sql of [
    "SELECT 1 SETTINGS max_execution_time = 1, timeout_overflow_mode = 'break'",
    "SELECT * FROM (SELECT 1 SETTINGS read_overflow_mode='break')",
    'SELECT a, count() FROM t GROUP BY a WITH TOTALS',
    'SELECT * FROM (SELECT a, count() FROM t GROUP BY a with totals)',
    'SELECT 1 SETTINGS extremes = 1',
    'SELECT 1 SETTINGS limit = 3',
  ]) {
    assert.throws(
      () => parseStatement(sql, 'db "app"'),
      (error) => error instanceof DatabaseError && error.code === 'invalid_statement' && !error.transient,
      sql,
    );
  }
  parseStatement('SELECT number AS extremes FROM numbers(5) SETTINGS max_threads = 1', 'db "app"');
});
