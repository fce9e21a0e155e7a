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

  test('a word is a keyword only in a keyword’s place', () => {
    const columns =
      'any all first next limit offset top step to by on like in is as and or between when then else range rows fetch interval case sample div mod global regexp not_a_word'.split(
        ' ',
      );
    // Behind a point any word is a column; where a value is missing nearly any.
    for (const word of columns) {
      assert.equal(
        placed(`SELECT t.${word} ? 'y' : 'n' AS r FROM t WHERE t.${word} = ?`),
        `SELECT t.${word} ? 'y' : 'n' AS r FROM t WHERE t.${word} = <0>`,
      );
      assert.equal(
        placed(`SELECT x, ${word} ? ${word} : ? FROM t`),
        `SELECT x, ${word} ? ${word} : <0> FROM t`,
      );
      assert.equal(placed(`SELECT f(${word}, ?) FROM t`), `SELECT f(${word}, <0>) FROM t`);
      assert.equal(placed(`SELECT 1 AS ${word}, ? FROM t`), `SELECT 1 AS ${word}, <0> FROM t`);
    }
    for (const [sql, wanted] of [
      ['SELECT any ? 1 : 0 FROM (SELECT 1 AS any)', 'SELECT any ? 1 : 0 FROM (SELECT 1 AS any)'],
      ['SELECT t.limit, ? FROM t LIMIT ?', 'SELECT t.limit, <0> FROM t LIMIT <1#>'],
      [
        'SELECT * FROM t WHERE x NOT IN (?) AND y NOT LIKE ?',
        'SELECT * FROM t WHERE x NOT IN (<0>) AND y NOT LIKE <1>',
      ],
      [
        'SELECT x IS NULL ? ? : 1, x IS NOT NULL ? ? : 1',
        'SELECT x IS NULL ? <0> : 1, x IS NOT NULL ? <1> : 1',
      ],
      ['SELECT x IS NOT DISTINCT FROM ?', 'SELECT x IS NOT DISTINCT FROM <0>'],
      [
        'SELECT count(*) ? 1 : 0, count(DISTINCT ?), t.* FROM t',
        'SELECT count(*) ? 1 : 0, count(DISTINCT <0>), t.* FROM t',
      ],
      [
        'SELECT now() - INTERVAL ? DAY, interval ? 1 : 0',
        'SELECT now() - INTERVAL <0> DAY, interval ? 1 : 0',
      ],
      [
        'SELECT now() - INTERVAL 1 DAY, (a + INTERVAL (? + 1) HOUR)',
        'SELECT now() - INTERVAL 1 DAY, (a + INTERVAL (<0> + 1) HOUR)',
      ],
      ['SELECT CASE ? WHEN ? THEN 1 END ? 1 : ?', 'SELECT CASE <0> WHEN <1> THEN 1 END ? 1 : <2>'],
      ['SELECT CASE x WHEN ? THEN ? ELSE ? END', 'SELECT CASE x WHEN <0> THEN <1> ELSE <2> END'],
      ['SELECT TOP ? a FROM t', 'SELECT TOP <0#> a FROM t'],
      ['SELECT TOP 5 ?, a FROM t', 'SELECT TOP 5 <0>, a FROM t'],
      [
        'SELECT a FROM t ORDER BY a DESC NULLS FIRST LIMIT ? BY a, b',
        'SELECT a FROM t ORDER BY a DESC NULLS FIRST LIMIT <0#> BY a, b',
      ],
      [
        'SELECT a FROM t ORDER BY a OFFSET ? ROWS FETCH FIRST ? ROWS ONLY',
        'SELECT a FROM t ORDER BY a OFFSET <0#> ROWS FETCH FIRST <1#> ROWS ONLY',
      ],
      [
        'SELECT a FROM t ORDER BY a WITH FILL FROM ? TO ? STEP ?',
        'SELECT a FROM t ORDER BY a WITH FILL FROM <0> TO <1> STEP <2>',
      ],
      [
        'SELECT sum(a) OVER (PARTITION BY b ORDER BY c ROWS BETWEEN ? PRECEDING AND ? FOLLOWING)',
        'SELECT sum(a) OVER (PARTITION BY b ORDER BY c ROWS BETWEEN <0> PRECEDING AND <1> FOLLOWING)',
      ],
      [
        'SELECT sum(a) OVER (ORDER BY c ROWS ? PRECEDING)',
        'SELECT sum(a) OVER (ORDER BY c ROWS <0> PRECEDING)',
      ],
      [
        'SELECT a FROM t GLOBAL ANY LEFT JOIN u ON t.a = ? SAMPLE ?',
        'SELECT a FROM t GLOBAL ANY LEFT JOIN u ON t.a = <0> SAMPLE <1#>',
      ],
      [
        'WITH ? AS x, y AS (SELECT ?) SELECT x ? 1 : 2 FROM y',
        'WITH <0> AS x, y AS (SELECT <1>) SELECT x ? 1 : 2 FROM y',
      ],
      ['FROM t SELECT ?', 'FROM t SELECT <0>'],
      [
        'SELECT 1 UNION ALL SELECT ? UNION DISTINCT SELECT ?',
        'SELECT 1 UNION ALL SELECT <0> UNION DISTINCT SELECT <1>',
      ],
      [
        'SELECT trim(BOTH ? FROM a), substring(a FROM ? FOR ?)',
        'SELECT trim(BOTH <0> FROM a), substring(a FROM <1> FOR <2>)',
      ],
      [
        'SELECT CAST(? AS Decimal(10, 2)) ? 1 : 0, x::Nullable(UInt8) ? 1 : ?',
        'SELECT CAST(<0> AS Decimal(10, 2)) ? 1 : 0, x::Nullable(UInt8) ? 1 : <1>',
      ],
      ['SELECT a.1 ? 1 : 0, a[?] ? 1 : 0, -? * ?', 'SELECT a.1 ? 1 : 0, a[<0>] ? 1 : 0, -<1> * <2>'],
      ['SELECT a * ?, (SELECT * FROM t) ? 1 : 0', 'SELECT a * <0>, (SELECT * FROM t) ? 1 : 0'],
      ['SHOW TABLES FROM db LIKE ? LIMIT ?', 'SHOW TABLES FROM db LIKE <0> LIMIT <1#>'],
      [
        'SELECT limit FROM t WHERE limit = ? AND offset = 1',
        'SELECT limit FROM t WHERE limit = <0> AND offset = 1',
      ],
    ] as const) {
      assert.equal(placed(sql), wanted);
    }
  });

  test('settings by which a result is cut short are refused, columns called so are not', () => {
    for (const setting of [
      ...[
        "read_overflow_mode = 'break'",
        'limit = 5',
        'a = 1, `limit` = 5',
        'extremes = 1',
        'skip_unavailable_shards = 1',
      ],
      ...[
        'input_format_allow_errors_num = 5',
        's3_ignore_file_doesnt_exist = 1',
        'partial_result_on_first_cancel = 1',
      ],
    ]) {
      for (const sql of [
        `SELECT 1 SETTINGS ${setting}`,
        `SELECT * FROM (SELECT 1 AS a SETTINGS ${setting}) WHERE a`,
      ]) {
        assert.throws(() => parseStatement(sql, 'db'), /can cut a result short/, sql);
      }
    }
    const sql = 'SELECT limit FROM t WHERE limit = 1 AND t.offset = 2 SETTINGS max_threads = 1';
    assert.equal(placed(sql), sql);
  });

  test('a parameter as other databases write it is refused with how it is written here', () => {
    for (const parameter of ['$1', ':id', '@id', '{id:UInt32}']) {
      assert.throws(
        () => parseStatement(`SELECT a FROM t WHERE a = ${parameter}`, 'db'),
        (error: Error) => error.message.includes(`"${parameter}" is no parameter here`),
      );
    }
    const sql = "SELECT a ? b :c, x::UInt8, {'a': 1}, '$1', $x$ $1 $x$";
    assert.equal(placed(sql), sql);
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
