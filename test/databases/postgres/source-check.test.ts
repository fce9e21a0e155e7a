/** What a source tells of a statement before it runs: that it writes, that the role may not, and where. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { suite, type TestContext, test } from 'node:test';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { openSource } from '../../../src/databases/open.ts';
import { positionIn } from '../../../src/databases/position.ts';
import { afterOthers } from '../../support/scope.ts';
import { execute, freshDatabase, type Service, servers } from '../../support/services.ts';
import { never } from '../support.ts';

const SETUP = `
CREATE TABLE open (id int, note text); CREATE TABLE secret (id int);
CREATE FUNCTION touch() RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO open VALUES (1); RETURN 1; END';
CREATE PROCEDURE five(INOUT x int) LANGUAGE plpgsql AS 'BEGIN x := 5; END';
CREATE VIEW glimpse AS SELECT id FROM secret`;

/** The source of a role that may read all but `secret`, and write nowhere but in `open`. */
async function reader(t: TestContext, server: Service) {
  const dsn = await freshDatabase(t, server);
  const role = `test_reader_${randomBytes(6).toString('hex')}`;
  await execute(dsn, `${SETUP}; CREATE ROLE ${role} LOGIN PASSWORD 'secret'; GRANT ALL ON open TO ${role}`);
  await execute(dsn, `GRANT SELECT ON glimpse TO ${role}`);
  afterOthers(t, async () => {
    if (server.dsn !== null) await execute(server.dsn, `DROP ROLE ${role}`);
  });
  const url = new URL(dsn);
  url.username = role;
  url.password = 'secret';
  const source = await openSource({
    type: 'postgres',
    name: 'x',
    dsn: url.href,
    max_active: 1,
    max_idle: 1,
    connect_timeout_ms: 10_000,
  });
  t.after(() => source.close());
  return { source, dsn };
}

/** The statement, what is said of it, and where: the place of the mark ^ in the line above it. */
const REFUSED: readonly (readonly [
  sql: string,
  message: RegExp,
  line: number | null,
  column: number | null,
])[] = [
  ['INSERT INTO open VALUES (1) RETURNING id', /only statements that read .* not INSERT/, 1, 1],
  ['-- first\n  UPDATE open SET id = 1 RETURNING id', /not UPDATE/, 2, 3],
  ['DELETE FROM open RETURNING id', /not DELETE/, 1, 1],
  ['WITH d AS (\n  DELETE FROM open RETURNING id)\nSELECT count(*) FROM d', /writes \(DELETE\)/, 2, 3],
  ["WITH d AS (INSERT INTO open VALUES ($1, 'a') RETURNING id) SELECT id FROM d", /writes \(INSERT\)/, 1, 12],
  ['SELECT *\nFROM open\nFOR UPDATE', /locks rows/, 3, 1],
  ["SELECT 'for share' FROM (SELECT * FROM open FOR SHARE) AS locked", /locks rows/, 1, 45],
  ['SELECT * FROM open WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED', /locks rows/, 1, 34],
  ['SELECT 1 AS n INTO other', /no rows|SELECT INTO/, null, null],
  ['EXPLAIN ANALYZE INSERT INTO open VALUES (1)', /not INSERT/, null, null],
  ['EXPLAIN (ANALYZE, VERBOSE) DELETE FROM open', /not DELETE/, 1, 28],
  ['EXPLAIN ANALYZE SELECT * FROM open FOR UPDATE', /locks rows/, 1, 36],
  ['CALL five(1)', /not CALL/, 1, 1],
  ['EXECUTE something', /not EXECUTE/, 1, 1],
  ['SELECT open.id\nFROM open JOIN secret USING (id)', /permission denied for table secret/, 2, 16],
  [
    'SELECT f.id FROM open AS f WHERE EXISTS (SELECT FROM secret)',
    /permission denied for table secret/,
    1,
    54,
  ],
  ['SELECT *\nFROM nowhere', /"nowhere" does not exist/, 2, 6],
  ["SELECT 'ü💥', nothing", /"nothing" does not exist/, 1, 14],
  ['SELECT id FROM open WHERE id = ?', /written \$1, \$2, …, not \?/, null, null],
  ['SELECT id FROM open WHERE id = ? AND note = ?', /written \$1, \$2, …, not \?/, 1, 34],
  ['SELECT id FROM open WHERE id IN (?)', /written \$1, \$2, …, not \?/, 1, 35],
  ['SELECT id FROM open WHERE id = :id', /":" .*; parameters are written \$1/, 1, 32],
  [
    'SELECT id FROM open WHERE $1 IS NULL',
    /data type of parameter \$1; say its type, as in \$1::text/,
    1,
    27,
  ],
  [
    `SELECT 1 AS n WHERE 1 IN (${Array.from({ length: 65_536 }, (_, n) => `$${n + 1}::int`).join()})`,
    /more than 65535 parameters/,
    null,
    null,
  ],
  ['SELECT 1; SELECT 2', /multiple commands/, null, null],
];

const TAKEN: readonly string[] = [
  '; SELECT 1 AS n',
  ';;-- a; b\n (SELECT 1 AS n) ;',
  'VALUES (1)',
  'TABLE open',
  'SELECT id FROM open WHERE id = $1 AND note = $2; -- done',
  "SELECT note ? 'a' FROM (SELECT '{}'::jsonb AS note) AS j",
  "WITH d AS (SELECT 'delete from open for update' AS t) SELECT t FROM d",
  'SELECT id FROM glimpse',
  'SHOW server_version',
  'EXPLAIN SELECT 1',
  'EXPLAIN ANALYZE SELECT id FROM open',
  'EXPLAIN (FORMAT TEXT) DELETE FROM open',
  'SELECT touch() AS n',
];

for (const server of servers('postgres')) {
  suite(`statements before they run: ${server.name}`, { skip: server.skip }, () => {
    test('a read is taken, also one whose function writes, and nothing of it is run', async (t) => {
      const { source, dsn } = await reader(t, server);
      for (const sql of TAKEN) await assert.doesNotReject(source.prepare(sql, never()), sql);
      assert.deepEqual(await execute(dsn, 'SELECT count(*) FROM open'), [['0']]);
    });

    test('what writes, locks, may not be read or has parameters of another kind is refused', async (t) => {
      const { source, dsn } = await reader(t, server);
      for (const [sql, message, line, column] of REFUSED) {
        await assert.rejects(
          source.prepare(sql, never()),
          (error) => {
            assert.ok(error instanceof DatabaseError, String(error));
            assert.match(error.message, message, sql);
            assert.match(error.message, /^db "x": /);
            assert.equal(error.transient, false, sql);
            const place = error.position ?? positionIn(sql, error.message);
            if (line !== null) assert.deepEqual(place, { line, column }, sql);
            return true;
          },
          sql,
        );
      }
      assert.deepEqual(await execute(dsn, 'SELECT count(*) FROM open'), [['0']]);
    });
  });
}

test('what a database says of a place is found in the statement', () => {
  const said: readonly (readonly [sql: string, message: string, line?: number, column?: number | null])[] = [
    ['SELECT 1\nFORM t', 'db "near": You have an error … near \'FORM t\' at line 2 (error 1064)', 2, 1],
    ['SELECT 1,\n\n', "… near '' at line 3 (error 1064)", 3, 1],
    ['SELECT a b c', "… near 'gone' at line 1 (error 1064)", 1, null],
    ['SELECT a,\n b FROM t', "db \"a\": Unknown column 'b' in 'field list' (error 1054)", 2, 2],
    [
      "-- secret\nSELECT 'secret' FROM src.secret",
      "SELECT command denied to user 'src'@'x' for table `src`.`secret` (error 1142)",
      2,
      26,
    ],
    ['SELECT *\nFROM nope', "Table 'test.nope' doesn't exist (error 1146)", 2, 6],
    ['SELECT *\nFROM nope', "Table default.nope doesn't exist. (code 60)", 2, 6],
    ['SELECT x FROM t', 'db "t": no such column: x', 1, 8],
    ['SELECT 1 FORM t', 'db "t": near "FORM": syntax error', 1, 10],
    ['SELECT (1) + (2', 'db "t": near "(": syntax error'],
    ['SELECT secret_2 FROM secret', 'permission denied for table secret (SQLSTATE 42501)', 1, 22],
    ['SELECT 1', 'db "t": something else'],
  ];
  for (const [sql, message, line, column] of said) {
    const wanted = line === undefined ? null : { line, column: column ?? null };
    assert.deepEqual(positionIn(sql, message), wanted, message);
  }
});
