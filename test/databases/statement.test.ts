import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import fc from 'fast-check';
import { DatabaseError } from '../../src/databases/errors.ts';
import { parseStatement } from '../../src/databases/sqlite/statement.ts';

function refusal(sql: string): string {
  try {
    parseStatement(sql);
  } catch (error) {
    assert.ok(error instanceof DatabaseError);
    assert.equal(error.code, 'invalid_statement');
    assert.equal(error.transient, false);
    return error.message;
  }
  throw new Error(`accepted: ${sql}`);
}

test('takes what surrounds a statement away', () => {
  for (const sql of [
    'SELECT 1 AS a',
    '  SELECT 1 AS a  ',
    '\ufeffSELECT 1 AS a;',
    ';;SELECT 1 AS a;;;',
    '-- a; b\nSELECT 1 AS a -- c; d',
    '/* a; \n*/SELECT 1 AS a/* c; d */; -- e\n;/**/',
    'SELECT 1 AS a /* never closed',
    'SELECT 1 AS a; /* never closed *',
  ]) {
    assert.equal(parseStatement(sql).text, 'SELECT 1 AS a', sql);
  }
});

test('tells one statement from several', () => {
  for (const sql of [
    "SELECT ';'",
    'SELECT 1 AS ";"',
    'SELECT 1 AS [;]',
    'SELECT 1 AS `;`',
    "SELECT 'it''s; fine'",
    'SELECT 1 /* ; */ + 1',
    'SELECT 1 -- ;\n + 1',
    "SELECT 5 - -3, 4/2, 1.5e-3, x'00', 0x1F",
  ]) {
    assert.equal(parseStatement(sql).text, sql);
  }
  for (const sql of ['SELECT 1; SELECT 2', 'SELECT 1; x', 'SELECT 1;; -- a\nDROP TABLE t', "SELECT 1; ''"]) {
    assert.match(refusal(sql), /more than one statement/);
  }
});

test('refuses what is no read, by its first word', () => {
  for (const word of ['INSERT', 'delete', 'Attach', 'PRAGMA', 'VACUUM', 'EXPLAIN', 'BEGIN', 'CREATE', '(']) {
    assert.match(refusal(`/* SELECT */ ${word} x`), /only SELECT/);
  }
  for (const sql of ['', '  \n', ';', '-- SELECT 1', '/* SELECT 1 */;']) {
    assert.match(refusal(sql), /no statement/);
  }
  assert.match(refusal('SELECT 1\0; DROP TABLE t'), /NUL/);
  assert.deepEqual(
    ['select 1', 'WiTh a AS (SELECT 1) SELECT * FROM a', 'VALUES (1)'].map(
      (sql) => parseStatement(sql).text.length,
    ),
    [8, 36, 10],
  );
});

test('counts parameters as SQLite does, and $1 as Postgres does', () => {
  const counts = (sql: string) => {
    const { numbered, parameters, used } = parseStatement(sql);
    return { numbered, parameters, used };
  };
  assert.deepEqual(counts('SELECT ?, ?'), { numbered: 'SELECT ?1, ?2', parameters: 2, used: [1, 2] });
  assert.deepEqual(counts('SELECT ?2, ?'), { numbered: 'SELECT ?2, ?3', parameters: 3, used: [2, 3] });
  assert.deepEqual(counts('SELECT ?3'), { numbered: 'SELECT ?3', parameters: 3, used: [3] });
  assert.deepEqual(counts('SELECT :a, @a, :a, ?'), {
    numbered: 'SELECT ?1, ?2, ?1, ?3',
    parameters: 3,
    used: [1, 2, 3],
  });
  assert.deepEqual(counts('SELECT $2, $1, $2'), {
    numbered: 'SELECT ?2, ?1, ?2',
    parameters: 2,
    used: [2, 1],
  });
  assert.deepEqual(counts('SELECT \'?\', "?", [?], a$1 -- ?\n, ?/* ? */'), {
    numbered: 'SELECT \'?\', "?", [?], a$1 -- ?\n, ?1',
    parameters: 1,
    used: [1],
  });
  assert.deepEqual(counts('SELECT ?AS a'), { numbered: 'SELECT ?1 AS a', parameters: 1, used: [1] });
  assert.match(refusal('SELECT $1, ?'), /cannot be mixed/);
  assert.match(refusal('SELECT ?0'), /no parameter \?0/);
  assert.match(refusal('SELECT ?99999'), /no parameter/);
  assert.match(refusal(`SELECT ${'?, '.repeat(32_766)}?`), /at most 32766 parameters/);
  assert.match(refusal('SELECT #1'), /no parameter #1/);
});

test('agrees with SQLite about any text that SQLite takes for one statement', () => {
  const db = new DatabaseSync(':memory:');
  const piece = fc.constantFrom(
    ...[
      "'a'",
      "'it''s'",
      '"b"',
      '[c]',
      '`d`',
      '1',
      '1.5',
      '.5',
      '1e3',
      "x'00'",
      '?',
      '?2',
      ':n',
      '@n',
      '$n',
      '$a::b',
    ],
    ...[
      '+',
      '-',
      '*',
      '/',
      ',',
      '(',
      ')',
      '||',
      '->>',
      "'$.a'",
      ' ',
      '\n',
      '\t',
      '-- c\n',
      '/* d */',
      '/*',
      '*/',
    ],
    ...[
      ';',
      'SELECT',
      'AS',
      'x',
      'é',
      '_a$1',
      'UNION',
      'VALUES',
      '--',
      "'",
      '"',
      '[',
      '`',
      '\f',
      '\ufeff',
      '#a',
    ],
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const sql = `SELECT 1${pieces.join('')}`;
      let compiled: string;
      try {
        compiled = db.prepare(sql).sourceSQL;
      } catch {
        return; // SQLite refuses it, and so it does when we pass it on
      }
      let parsed: ReturnType<typeof parseStatement>;
      try {
        parsed = parseStatement(sql);
      } catch (error) {
        assert.ok(error instanceof DatabaseError);
        // Refused by us: there is a rest that is not empty, or parameters are mixed.
        if (/mixed/.test(error.message)) return;
        assert.match(error.message, /more than one statement/);
        assert.notEqual(sql.slice(compiled.length).trim(), '');
        return;
      }
      const statement = db.prepare(parsed.text);
      assert.equal(statement.sourceSQL, parsed.text);
      // All parameters found: with these bound, SQLite has none left. Names that are not there would throw.
      const numbered = db.prepare(parsed.numbered);
      numbered.setAllowUnknownNamedParameters(false);
      numbered.iterate(Object.fromEntries(parsed.used.map((number) => [`?${number}`, 7])));
      const bare = numbered.expandedSQL.replace(
        /'[^']*'|"[^"]*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)/g,
        '',
      );
      assert.doesNotMatch(bare, /[?:@]/);
      assert.equal(numbered.columns().length, statement.columns().length);
    }),
    { numRuns: 3_000 },
  );
  db.close();
});
