/** What a MySQL source takes and refuses, how arguments are bound, and that nothing of a query stays behind. */
import assert from 'node:assert/strict';
import { suite, type TestContext, test } from 'node:test';
import type { Argument } from '../../../src/databases/database.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { marker } from '../../../src/databases/mysql/source-marker.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { never, owner, queryOptions } from '../support.ts';
import { isMariadb, isRunning, openSource, rowsOf, withVariable } from './source-support.ts';

const VICTIM = [
  'CREATE TABLE victim (a INT) ENGINE=InnoDB',
  'CREATE TABLE plain (a INT) ENGINE=MyISAM',
  'INSERT INTO victim VALUES (1)',
  'INSERT INTO plain VALUES (1)',
  'CREATE PROCEDURE harm() BEGIN DELETE FROM victim; SELECT 1; END',
  'CREATE FUNCTION writes() RETURNS INT BEGIN DELETE FROM victim; RETURN 1; END',
  'CREATE FUNCTION writes_plain() RETURNS INT BEGIN DELETE FROM plain; RETURN 1; END',
];

/** Statements that would write, and how they try. */
const HOSTILE: readonly string[] = [
  'INSERT INTO victim VALUES (2)',
  'INSERT INTO victim VALUES (2) RETURNING a',
  'REPLACE INTO victim VALUES (2) RETURNING a',
  'DELETE FROM victim RETURNING a',
  'UPDATE victim SET a = 2',
  'WITH x AS (SELECT 1) UPDATE victim SET a = 2',
  'WITH x AS (SELECT 1) DELETE FROM victim',
  '/*!50000 DELETE */ FROM victim RETURNING a',
  '/*M! DELETE FROM */ victim RETURNING a',
  '(((/* x */ DELETE FROM victim RETURNING a)))',
  '/*!99999 SELECT */ DELETE FROM victim RETURNING a',
  '--\nDELETE FROM victim RETURNING a',
  '-- x\n# y\nDELETE FROM victim RETURNING a',
  'SELECT 1; DELETE FROM victim',
  'SELECT 1; COMMIT; DELETE FROM victim RETURNING a',
  'SELECT a FROM victim FOR UPDATE',
  "SELECT a FROM victim INTO OUTFILE '/tmp/dungbeetle-stolen'",
  "ANALYZE SELECT a FROM victim INTO OUTFILE '/tmp/dungbeetle-stolen'",
  "/*!99999 SELECT */ ANALYZE FORMAT=JSON SELECT a FROM victim INTO/**/DUMPFILE '/tmp/dungbeetle-stolen'",
  "EXPLAIN ANALYZE SELECT a FROM victim INTO OUTFILE '/tmp/dungbeetle-stolen'",
  "SET STATEMENT sql_mode = '' FOR ANALYZE SELECT a FROM victim INTO OUTFILE '/tmp/dungbeetle-stolen'",
  "SELECT a FROM victim INTO DUMPFILE '/tmp/dungbeetle-stolen'",
  'SELECT a INTO @x FROM victim',
  'SELECT writes()',
  'SELECT writes_plain()',
  'SELECT unlocks()',
  'SELECT NEXTVAL(counter)',
  'SELECT SETVAL(counter, 100)',
  'ANALYZE DELETE FROM victim',
  'ANALYZE FORMAT=JSON DELETE FROM victim',
  'SET STATEMENT max_statement_time = 1 FOR DELETE FROM victim RETURNING a',
  'CALL harm()',
  'BEGIN NOT ATOMIC DELETE FROM victim; END',
  "EXECUTE IMMEDIATE 'DELETE FROM victim RETURNING a'",
  "PREPARE p FROM 'DELETE FROM victim'",
  'DO SLEEP(0)',
  'SET @a = 1',
  'SET SESSION TRANSACTION READ WRITE',
  'SET GLOBAL max_connections = 1',
  'COMMIT',
  'ROLLBACK',
  'START TRANSACTION READ WRITE',
  'TRUNCATE victim',
  'DROP TABLE victim',
  'CREATE TABLE evil AS SELECT 1',
  'CREATE TEMPORARY TABLE evil AS SELECT 1',
  'ALTER TABLE victim ADD b INT',
  'RENAME TABLE victim TO gone',
  'OPTIMIZE TABLE victim',
  'LOCK TABLES victim WRITE',
  'HANDLER victim OPEN',
  "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE victim",
  "LOAD DATA INFILE '/etc/passwd' INTO TABLE victim",
  'GRANT ALL ON *.* TO root',
  'KILL 1',
  'FLUSH TABLES',
  'SHUTDOWN',
  'USE mysql',
  'XA START "x"',
];

const SETTINGS = {
  sql_mode: "'ANSI_QUOTES'",
  time_zone: '"+05:30"',
  group_concat_max_len: '1234',
  collation: 'utf8mb4_bin',
};

function withParameters(dsn: string, parameters: Readonly<Record<string, string>>): string {
  const url = new URL(dsn);
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  return url.href;
}

function refusal(code: string, message = /^db "app": /) {
  return (error: unknown) => {
    assert.ok(error instanceof DatabaseError, String(error));
    assert.equal(error.code, code, error.message);
    assert.equal(error.transient, false, error.message);
    assert.match(error.message, message);
    return true;
  };
}

for (const server of servers('mysql')) {
  const mariadb = isMariadb(server);
  /** The variable by which a session's transactions only read. */
  const reads = mariadb ? 'tx_read_only' : 'transaction_read_only';
  suite(server.name, { skip: server.skip, concurrency: 4 }, () => {
    const setUp = async (t: TestContext, statements: readonly string[] = []) => {
      const dsn = await freshDatabase(t, server);
      for (const statement of statements) await execute(dsn, statement);
      return { dsn, source: await openSource(t, dsn, 1) };
    };

    test('nothing that writes gets through', async (t) => {
      const { dsn, source } = await setUp(t, [
        ...VICTIM,
        `CREATE FUNCTION unlocks() RETURNS INT BEGIN SET SESSION ${reads} = 0; DELETE FROM victim; RETURN 1; END`,
        ...(mariadb ? ['CREATE SEQUENCE counter'] : []),
      ]);
      for (const sql of HOSTILE) {
        await assert.rejects(rowsOf(source, sql), refusal('invalid_statement'), sql);
        assert.deepEqual(await execute(dsn, 'SELECT a FROM victim'), [['1']], sql);
      }
      assert.deepEqual(await execute(dsn, 'SELECT a FROM plain'), [['1']]);
      if (mariadb) assert.deepEqual(await execute(dsn, 'SELECT NEXTVAL(counter)'), [['1']]);
      const tables = await execute(dsn, 'SHOW TABLES');
      assert.deepEqual(tables.flat(), [...(mariadb ? ['counter'] : []), 'plain', 'victim']);
    });

    test('what reads is taken, however it is written', async (t) => {
      const { source } = await setUp(t, [
        'CREATE TABLE deleted (`insert` INT)',
        'INSERT INTO deleted VALUES (5)',
      ]);
      for (const sql of [
        'SELECT 5',
        'select 5;',
        ' \n\t(SELECT 5) -- the end',
        '-- first\n#second\n/* third ; ? */ SELECT /*!50000 5 */',
        'WITH x AS (SELECT 5) SELECT * FROM x',
        ...(mariadb ? ['VALUES (5)'] : ['VALUES ROW(5)', 'TABLE deleted']),
        'SELECT `insert` FROM deleted',
        withVariable(server, 'sql_mode', 'ANSI', 'SELECT 5'),
      ]) {
        assert.deepEqual(await rowsOf(source, sql), [[5n]], sql);
      }
      assert.deepEqual(await rowsOf(source, 'SHOW TABLES'), [['deleted']]);
      const plan = mariadb ? 'ANALYZE' : 'EXPLAIN ANALYZE';
      // Of which MySQL does not know the columns before they run.
      for (const [sql, args] of [
        ['EXPLAIN SELECT * FROM deleted WHERE `insert` > ?', [1]],
        ['/* x */ DESCRIBE SELECT 1', []],
        ['EXPLAIN FORMAT=JSON SELECT * FROM deleted', []],
        [`${plan} SELECT * FROM deleted`, []],
        ['DESC deleted', []],
        ['SHOW CREATE TABLE deleted', []],
        ['SHOW COLUMNS FROM deleted', []],
        ['CHECKSUM TABLE deleted', []],
      ] as const) {
        await source.prepare(sql, never());
        assert.equal((await rowsOf(source, sql, args)).length, 1, sql);
      }
      assert.ok((await rowsOf(source, 'SHOW GRANTS')).length > 0);
      for (const sql of [
        `${plan} DELETE FROM deleted`,
        'EXPLAIN DELETE FROM deleted',
        ...(mariadb ? [] : ['EXPLAIN FORMAT=JSON INTO @five SELECT 5']),
      ]) {
        await assert.rejects(rowsOf(source, sql), refusal('invalid_statement'), sql);
      }
    });

    test('mistakes are told with their line, before and when it runs', async (t) => {
      const { source } = await setUp(t);
      const mistakes: readonly (readonly [sql: string, message: RegExp])[] = [
        ['SELEC 1', /near 'SELEC 1' at line 1 \(error 1064\)$/],
        ['SELECT 1\n\nFROMM x', /at line 3/],
        ['SELECT * FROM nowhere', /nowhere' doesn't exist \(error 1146\)$/],
        ['SELECT nothing', /Unknown column 'nothing'/],
        ['', /.*/],
        ['-- nothing', /.*/],
        ['SELECT 1\0', /NUL/],
      ];
      for (const [sql, message] of mistakes) {
        await assert.rejects(source.prepare(sql, never()), refusal('invalid_statement', message), sql);
        await assert.rejects(rowsOf(source, sql), refusal('invalid_statement', message), sql);
      }
    });

    test('prepare tells parameters and columns without running', async (t) => {
      const { dsn, source } = await setUp(t, ['CREATE TABLE t (a INT, b DECIMAL(10,2), c TEXT)']);
      assert.deepEqual(
        await source.prepare('SELECT a, b, c AS `C 3` FROM t WHERE a = ? AND c <> ?', never()),
        {
          parameters: 2,
          columns: [
            { name: 'a', type: 'BIGINT', source_type: 'int' },
            { name: 'b', type: 'DECIMAL', source_type: 'decimal(10,2)', precision: 10, scale: 2 },
            { name: 'C 3', type: 'TEXT', source_type: 'text' },
          ],
        },
      );
      await source.prepare('SELECT SLEEP(1000)', never());
      for (const sql of HOSTILE.filter(
        (each) => !/^SELECT (?:\w+\(|a FROM victim FOR)|^ANALYZE (?!SELECT)|^OPTIMIZE/.test(each),
      )) {
        await assert.rejects(source.prepare(sql, never()), refusal('invalid_statement'), sql);
      }
      assert.equal(await isRunning(dsn, '/* dungbeetle'), false);
    });

    test('a wrong number of arguments is told before anything runs', async (t) => {
      const { source } = await setUp(t);
      const wrong: readonly (readonly [sql: string, args: readonly Argument[], message: RegExp])[] = [
        ['SELECT SLEEP(1000)', [1], /^db "app": the query takes 0 arguments, 1 were given$/],
        ['SELECT SLEEP(1000), ?', [], /^db "app": the query takes 1 argument, 0 were given$/],
        ["SELECT ?, '?', `?` FROM (SELECT 1 AS `?`) t", ['a', 'b', 'c'], /takes 1 argument, 3 were/],
      ];
      for (const [sql, args, message] of wrong) {
        await assert.rejects(rowsOf(source, sql, args), refusal('invalid_arguments', message), sql);
      }
    });

    test('strings work for every kind of parameter, and other values for theirs', async (t) => {
      const { source } = await setUp(t, [
        `CREATE TABLE t (i INT, b BIGINT PRIMARY KEY, u BIGINT UNSIGNED, n DECIMAL(30,10), d DOUBLE, s VARCHAR(50),
          dt DATETIME(6), da DATE, tm TIME, y YEAR, bl BLOB, e ENUM('x', 'y'), bo BOOLEAN, j JSON)`,
        `INSERT INTO t VALUES (42, 9007199254740993, 18446744073709551615, 12345678901234567890.0123456789, 0.1, 'häß''"\\\\',
          '2024-02-29 12:00:00.5', '2024-02-29', '-10:00:00', 2024, 'bytes', 'y', TRUE, '{"a":1}')`,
        'INSERT INTO t (b) VALUES (9007199254740992)',
      ]);
      const found: readonly (readonly [condition: string, arg: Argument])[] = [
        ['i = ?', '42'],
        ['i = ?', 42],
        ['i <> ?', 42.5],
        ['b = ? AND i IS NOT NULL', '9007199254740993'],
        ['u = ?', '18446744073709551615'],
        ['n = ?', '12345678901234567890.0123456789'],
        ['d = ?', '0.1'],
        ['d = ?', 0.1],
        ['s = ?', 'häß\'"\\'],
        ['dt = ?', '2024-02-29 12:00:00.5'],
        ['da = ?', '2024-02-29'],
        ['da BETWEEN ? AND NOW()', '2024-02-01'],
        ['tm = ?', '-10:00:00'],
        ['y = ?', '2024'],
        ['bl = ?', 'bytes'],
        ['e = ?', 'y'],
        ['bo = ?', true],
        ['bo <> ?', false],
        ["JSON_VALUE(j, '$.a') = ?", '1'],
        ['i IS NOT NULL AND ? IS NULL', null],
        ['s LIKE ?', 'h%'],
        ['i IN (1, ?)', '42'],
        ['i IS NOT NULL LIMIT ?', '1'],
        ['i IS NOT NULL LIMIT ?', 1],
      ];
      for (const [condition, arg] of found) {
        const rows = await rowsOf(source, `SELECT i FROM t WHERE ${condition}`, [arg]);
        assert.deepEqual(rows, [[42n]], `${condition} ${arg}`);
      }
      const [values] = await rowsOf(source, 'SELECT ?, ?, ?, ?, ?, ?, ?', [
        "'; DROP TABLE t; --",
        null,
        -5,
        1.5,
        true,
        '',
        '😀'.repeat(100),
      ]);
      assert.deepEqual(values, ["'; DROP TABLE t; --", null, -5n, '1.5', 1n, '', '😀'.repeat(100)]);
      const many = Array.from({ length: 300 }, (_, index) => (index % 3 === 0 ? null : index));
      const [echoed] = await rowsOf(source, `SELECT ${many.map(() => '?').join(', ')}`, many);
      assert.deepEqual(
        echoed,
        many.map((value) => (value === null ? null : BigInt(value))),
      );
    });

    test('no error repeats the value of an argument', async (t) => {
      const { source } = await setUp(t, [
        'CREATE TABLE t (d DATETIME, n INT UNSIGNED)',
        'INSERT INTO t VALUES (NOW(), 1)',
      ]);
      const failing: readonly (readonly [sql: string, args: readonly Argument[]])[] = [
        ['SELECT d FROM t WHERE n - ? > 0', [1_234_567]],
        ['SELECT ST_GeomFromText(?)', ['s3cret']],
        ['SELECT UNCOMPRESS(?), EXTRACTVALUE(?, ?)', ['x', '<a>', '((s3cret']],
        ["SELECT 'a' REGEXP ?", ['(s3cret']],
        ['SELECT CAST(? AS UNSIGNED) - CAST(? AS UNSIGNED)', ['1', '1234567']],
      ];
      let failed = 0;
      for (const [sql, args] of failing) {
        await rowsOf(source, sql, args).catch((error) => {
          failed += 1;
          refusal('query_failed')(error);
          assert.doesNotMatch(
            JSON.stringify([error.message, error.cause, error.stack]),
            /s3cret|1234567/,
            sql,
          );
        });
      }
      assert.ok(failed >= 3, `${failed} failed`);
    });

    test('nothing of one query is left for the next on its connection', async (t) => {
      const { dsn, source } = await setUp(t, [
        "CREATE FUNCTION alters() RETURNS INT BEGIN SET SESSION sql_mode = 'ANSI_QUOTES', SESSION time_zone = '+01:00'; SET @left = 1; RETURN 1; END",
        'CREATE FUNCTION makes() RETURNS INT BEGIN CREATE TEMPORARY TABLE left_over (a INT); RETURN 1; END',
        `CREATE FUNCTION unlocks() RETURNS INT BEGIN SET SESSION ${reads} = 0; RETURN 1; END`,
      ]);
      const session = async () => (await rowsOf(source, 'SELECT CONNECTION_ID()'))[0]?.[0];
      const first = await session();
      const before = await rowsOf(
        source,
        `SELECT @@sql_mode, @@time_zone, @@${reads}, @@autocommit, DATABASE()`,
      );
      const lock = `SELECT GET_LOCK(CONCAT('left ', DATABASE()), 0)`;
      assert.deepEqual(await rowsOf(source, `SELECT @left := 5, alters(), unlocks(), (${lock})`), [
        [5n, 1n, 1n, 1n],
      ]);
      await rowsOf(source, 'SELECT makes()').catch(refusal('invalid_statement'));
      assert.deepEqual(await rowsOf(source, 'SELECT @left'), [[null]]);
      assert.deepEqual(
        await rowsOf(source, `SELECT @@sql_mode, @@time_zone, @@${reads}, @@autocommit, DATABASE()`),
        before,
      );
      assert.deepEqual(await execute(dsn, `SELECT IS_FREE_LOCK(CONCAT('left ', DATABASE()))`), [['1']]);
      await assert.rejects(rowsOf(source, 'SELECT * FROM left_over'), refusal('invalid_statement'));
      // The same connection all the time: after mistakes, too.
      assert.equal(await session(), first);
    });

    test('a session is as its DSN wants it, and stays so', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource(t, withParameters(dsn, SETTINGS), 1);
      for (let round = 0; round < 2; round += 1) {
        const sql =
          "SELECT @@sql_mode, @@time_zone, @@group_concat_max_len, 'a' = 'A', @@collation_connection";
        assert.deepEqual(await rowsOf(source, sql), [['ANSI_QUOTES', '+05:30', '1234', 0n, 'utf8mb4_bin']]);
      }
      const wrong = await openSource(t, withParameters(dsn, { no_such_variable: '1' }), 1);
      await assert.rejects(wrong.ping(never()), /^DatabaseError: db "app": Unknown system variable/);
      const evil = await openSource(
        t,
        withParameters(dsn, { lc_time_names: "en_US', autocommit = 0 -- " }),
        1,
      );
      await assert.rejects(evil.ping(never()), /Unknown locale/);
    });

    test('what the callback for columns throws is what the query rejects with', async (t) => {
      const { dsn, source } = await setUp(t);
      const reason = new Error('too many columns');
      const asker = owner('refused');
      const options = queryOptions([{ encoding: 'pg-binary', types: 'standard' }], {
        owner: asker,
        onColumns: () => {
          throw reason;
        },
      });
      await assert.rejects(
        source.query("SELECT REPEAT('x', 1000000) FROM information_schema.COLLATIONS", [], options),
        (error) => error === reason,
      );
      assert.equal(await isRunning(dsn, marker(asker)), false);
      assert.deepEqual(await rowsOf(source, 'SELECT 1'), [[1n]]);
    });

    test('a slow reader makes the server wait, and loses nothing', async (t) => {
      const { dsn, source } = await setUp(t);
      const asker = owner('slow');
      const sql = `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
        SELECT a.i, REPEAT('x', 200) FROM n a, n b`;
      const options = queryOptions([{ encoding: 'copy-text' }], { owner: asker });
      await using result = await source.query(sql, [], options);
      if (result.body.encoding !== 'copy-text') throw new Error(result.body.encoding);
      const before = process.memoryUsage().arrayBuffers;
      await until('the server waits', async () => {
        const waiting = `SELECT 1 FROM information_schema.PROCESSLIST
          WHERE INFO LIKE '${marker(asker)}%' AND STATE RLIKE 'riting to net|ending to client'`;
        return (await execute(dsn, waiting)).length > 0;
      });
      assert.ok(process.memoryUsage().arrayBuffers - before < 20_000_000);
      let rows = 0;
      for await (const chunk of result.body.chunks) rows += chunk.rows;
      assert.equal(rows, 250_000);
    });

    test('it answers until it is closed, which ends what runs', async (t) => {
      const { dsn, source } = await setUp(t);
      await source.ping(never());
      const asker = owner('asleep');
      const sleeping = rowsOf(source, 'SELECT SLEEP(1000)', [], { owner: asker });
      const closed = assert.rejects(sleeping, (error) => error instanceof DatabaseError);
      await until('it runs', () => isRunning(dsn, marker(asker)));
      await source.close();
      assert.equal(await isRunning(dsn, marker(asker)), false);
      await closed;
      await assert.rejects(source.ping(never()), /^DatabaseError: db "app": .*closed/);
    });
  });
}
