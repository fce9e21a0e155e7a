import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { parseStatement, render } from '../../../src/databases/clickhouse/statement.ts';

/** The statement with its placeholders numbered. */
function placed(sql: string): string {
  const statement = parseStatement(sql, 'db "app"');
  const names = statement.placeholders.map(({ number_only }, index) => `<${index}${number_only ? '#' : ''}>`);
  return render(statement, names).replace(/ (<\d+#?>) /g, '$1');
}

suite('a statement of ClickHouse', () => {
  test('placeholders are where a value is missing', () => {
    const cases: readonly (readonly [string, string])[] = [
      ['SELECT ?', 'SELECT <0>'],
      ['SELECT f(?, ?), [?]', 'SELECT f(<0>, <1>), [<2>]'],
      ["SELECT '?', \"?\", `?`, 'it''s ?', 'a\\'?', ?", "SELECT '?', \"?\", `?`, 'it''s ?', 'a\\'?', <0>"],
      ['SELECT 1 -- ?\n, ? /* ? */', 'SELECT 1 -- ?\n, <0> /* ? */'],
      ['SELECT $$ ? $$, $a$ ? $$ $a$, ?', 'SELECT $$ ? $$, $a$ ? $$ $a$, <0>'],
      ['SELECT a ? 1 : 2 FROM t WHERE b = ?', 'SELECT a ? 1 : 2 FROM t WHERE b = <0>'],
      ['SELECT (a = ?) ? f(?) : ? FROM t', 'SELECT (a = <0>) ? f(<1>) : <2> FROM t'],
      ['SELECT a = ? ? b[1] ? 1 : 2 : ?', 'SELECT a = <0> ? b[1] ? 1 : 2 : <1>'],
      ["SELECT NULL ? 1 : 2, 'x' ? 1 : 2, 5 ? 1 : 2", "SELECT NULL ? 1 : 2, 'x' ? 1 : 2, 5 ? 1 : 2"],
      ['SELECT arrayMap(x -> x + ?, a)', 'SELECT arrayMap(x -> x + <0>, a)'],
      [
        'SELECT a FROM t WHERE a BETWEEN ? AND ? AND b IN (?, ?) AND c LIKE ? AND NOT ?',
        'SELECT a FROM t WHERE a BETWEEN <0> AND <1> AND b IN (<2>, <3>) AND c LIKE <4> AND NOT <5>',
      ],
      ['SELECT CASE WHEN ? THEN ? ELSE ? END', 'SELECT CASE WHEN <0> THEN <1> ELSE <2> END'],
      ['SELECT a FROM t LIMIT ?', 'SELECT a FROM t LIMIT <0#>'],
      ['SELECT a FROM t LIMIT ?, ?', 'SELECT a FROM t LIMIT <0#>, <1#>'],
      ['SELECT a FROM t LIMIT ? OFFSET ?', 'SELECT a FROM t LIMIT <0#> OFFSET <1#>'],
      ['SELECT a FROM t LIMIT 5, ?', 'SELECT a FROM t LIMIT 5, <0#>'],
      ['SELECT (SELECT a LIMIT ?), ?', 'SELECT (SELECT a LIMIT <0#>), <1>'],
      ['SELECT ?::UInt8', 'SELECT <0>::UInt8'],
    ];
    for (const [sql, wanted] of cases) assert.equal(placed(sql), wanted);
  });

  test('a minus before a negative number does not become a comment', () => {
    assert.equal(render(parseStatement('SELECT 1-?', 'db'), ['-5']), 'SELECT 1- -5 ');
  });

  test('the form of the answer is left out, columns called so are not', () => {
    for (const sql of [
      'SELECT a FROM t FORMAT JSON',
      'SELECT a FROM t\nformat  CSV ;',
      'SHOW TABLES FORMAT XML',
    ]) {
      assert.doesNotMatch(placed(sql), /format/i, sql);
    }
    assert.equal(placed('SELECT * FORMAT CSV SETTINGS a = 1').replace(/ +/g, ' '), 'SELECT * SETTINGS a = 1');
    for (const sql of [
      'SELECT format FROM t',
      'SELECT a AS format FROM t',
      'SELECT a, format x',
      "SELECT format('{}', a) FROM t",
      'SELECT a FROM (SELECT a format FROM t)',
    ]) {
      assert.equal(placed(sql), sql);
    }
  });

  test('one statement that reads', () => {
    for (const sql of [
      'SELECT 1',
      ' ( SELECT 1 ) ',
      'WITH 1 AS x SELECT x;',
      'SELECT 1 ;; -- and so on',
      "SELECT ';'",
      'SHOW TABLES',
      'DESC t',
      'EXISTS TABLE t',
      '-- first\nEXPLAIN SELECT 1',
    ]) {
      assert.ok(parseStatement(sql, 'db'), sql);
    }
    const refused: readonly (readonly [string, RegExp])[] = [
      ['', /only reads/],
      ['-- nothing', /only reads/],
      ['INSERT INTO t VALUES (1)', /only reads/],
      ['insert into t select 1', /only reads/],
      ['ALTER TABLE t DELETE WHERE 1', /only reads/],
      ['CREATE TABLE t (a UInt8) ENGINE = Memory', /only reads/],
      ['SET readonly = 0', /only reads/],
      ["KILL QUERY WHERE query_id = 'x'", /only reads/],
      ['SYSTEM SHUTDOWN', /only reads/],
      ['/* SELECT */ DROP TABLE t', /only reads/],
      ['SELECT 1; SELECT 2', /more than one statement/],
      ['SELECT 1; DROP TABLE t', /more than one statement/],
      ['SELECT 1) UNION ALL (SELECT 2', /parentheses/],
      ['SELECT (1', /parentheses/],
      ['SELECT [1)', /parentheses/],
      ["SELECT 'a", /quote/],
      ['SELECT `a', /quote/],
      ['SELECT 1 /* a', /comment/],
      ["SELECT 1 INTO OUTFILE 'x'", /INTO OUTFILE/],
      ['SELECT 1\0', /NUL/],
      ['SELECT \ud800', /Unicode/],
    ];
    for (const [sql, reason] of refused) {
      assert.throws(
        () => parseStatement(sql, 'db "app"'),
        { code: 'invalid_statement', message: reason },
        sql,
      );
    }
  });
});
