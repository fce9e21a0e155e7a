import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { never } from '../support.ts';
import { COPY_TEXT, drained, openSource, queryOptions, rowsOf, textOf } from './source-support.ts';

for (const server of servers('clickhouse')) {
  suite(`${server.name} as a source`, { skip: server.skip, concurrency: 4 }, () => {
    test('columns and values of every type', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      const cases: readonly (readonly [sql: string, source_type: string, type: string, value: unknown])[] = [
        ['toInt8(-128)', 'Int8', 'BIGINT', -128n],
        ['toInt64(-9223372036854775808)', 'Int64', 'BIGINT', -9223372036854775808n],
        ['toUInt8(255)', 'UInt8', 'BIGINT', 255n],
        ['toUInt32(4294967295)', 'UInt32', 'BIGINT', 4294967295n],
        ['toUInt64(18446744073709551615)', 'UInt64', 'DECIMAL', '18446744073709551615'],
        ["toDecimal32('1.5', 4)", 'Decimal(9, 4)', 'DECIMAL', '1.5000'],
        [
          "toDecimal128('-12345678901234567890.12', 10)",
          'Decimal(38, 10)',
          'DECIMAL',
          '-12345678901234567890.1200000000',
        ],
        ['toFloat32(0.1)', 'Float32', 'DOUBLE', 0.1],
        ['toFloat64(0.1)', 'Float64', 'DOUBLE', 0.1],
        ['2.2250738585072014e-308', 'Float64', 'DOUBLE', 2.2250738585072014e-308],
        ['1.7976931348623157e308', 'Float64', 'DOUBLE', Number.MAX_VALUE],
        ['toFloat64(-0.)', 'Float64', 'DOUBLE', -0],
        ['nan', 'Float64', 'DOUBLE', Number.NaN],
        ['inf', 'Float64', 'DOUBLE', Number.POSITIVE_INFINITY],
        ['toNullable(toFloat32(-inf))', 'Nullable(Float32)', 'DOUBLE', Number.NEGATIVE_INFINITY],
        ['CAST(NULL AS Nullable(Float64))', 'Nullable(Float64)', 'DOUBLE', null],
        ["toDate('1970-01-01')", 'Date', 'DATE', '1970-01-01'],
        ["toDate('2105-12-31')", 'Date', 'DATE', '2105-12-31'],
        ["toNullable(toDate('2024-02-29'))", 'Nullable(Date)', 'DATE', '2024-02-29'],
        ['CAST(NULL AS Nullable(Date))', 'Nullable(Date)', 'DATE', null],
        ["toDateTime(0, 'UTC')", "DateTime('UTC')", 'TIMESTAMPTZ', '1970-01-01 00:00:00+00'],
        ['toDateTime(1)', 'DateTime', 'TIMESTAMPTZ', '1970-01-01 00:00:01+00'],
        // Both sides of the hour that Berlin has twice.
        [
          "toDateTime(1729987200, 'Europe/Berlin')",
          "DateTime('Europe/Berlin')",
          'TIMESTAMPTZ',
          '2024-10-27 00:00:00+00',
        ],
        [
          "toDateTime(1729990800, 'Europe/Berlin')",
          "DateTime('Europe/Berlin')",
          'TIMESTAMPTZ',
          '2024-10-27 01:00:00+00',
        ],
        ['CAST(NULL AS Nullable(DateTime))', 'Nullable(DateTime)', 'TIMESTAMPTZ', null],
        ["''", 'String', 'TEXT', ''],
        ["'\\\\N'", 'String', 'TEXT', '\\N'],
        ["toNullable('\\\\N')", 'Nullable(String)', 'TEXT', '\\N'],
        ['CAST(NULL AS Nullable(String))', 'Nullable(String)', 'TEXT', null],
        ["'\\t\\n\\r\\b\\f\\0\\x0b\\\\\\'\"`é😀'", 'String', 'TEXT', '\t\n\r\b\f\0\v\\\'"`é😀'],
        ["toFixedString('ab', 4)", 'FixedString(4)', 'TEXT', 'ab\0\0'],
        [
          "toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')",
          'UUID',
          'TEXT',
          '61f0c404-5cb3-11e7-907b-a6006ad3dba0',
        ],
        ["CAST('it''s' AS Enum8('it''s' = 5))", "Enum8('it\\'s' = 5)", 'TEXT', "it's"],
        ["['a', 'it\\'s', 'b\\tc\\\\']", 'Array(String)', 'TEXT', "['a','it\\'s','b\\tc\\\\']"],
        ['[[1], []]', 'Array(Array(UInt8))', 'TEXT', '[[1],[]]'],
        ['[toNullable(1), NULL]', 'Array(Nullable(UInt8))', 'TEXT', '[1,NULL]'],
        ["(1, 'x')", 'Tuple(UInt8, String)', 'TEXT', "(1,'x')"],
        ['toIntervalDay(3)', 'IntervalDay', 'TEXT', '3'],
        ['NULL', 'Nullable(Nothing)', 'TEXT', null],
      ];
      // All in one row, and each alone: the first column of an old server's answer carries the mark.
      const all = cases.map(([sql], index) => `${sql} AS c${index}`).join(', ');
      assert.deepEqual(await rowsOf(source, `SELECT ${all}`), [cases.map(([, , , value]) => value)]);
      for (const [sql, source_type, type, value] of cases) {
        await using result = await source.query(
          `SELECT ${sql} AS c`,
          [],
          queryOptions([{ encoding: 'rows' }]),
        );
        const [column] = result.columns;
        assert.deepEqual([column?.name, column?.type, column?.source_type], ['c', type, source_type], sql);
        if (result.body.encoding !== 'rows') throw new Error('asked for rows');
        const rows: unknown[] = [];
        for await (const batch of result.body.batches) rows.push(...batch);
        assert.deepEqual(rows, [[value]], sql);
      }
    });

    test('LowCardinality is what it holds', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(
        dsn,
        'CREATE TABLE t (a LowCardinality(String), b LowCardinality(Nullable(String))) ENGINE = Memory',
      ).catch((error: Error) => {
        // Experimental in 2018, and off.
        if (!/LowCardinality/.test(error.message)) throw error;
        t.diagnostic('this server has no LowCardinality');
      });
      const [[exists] = []] = await execute(dsn, 'EXISTS TABLE t');
      if (exists === '0') return;
      await execute(dsn, "INSERT INTO t VALUES ('x', NULL)");
      assert.deepEqual(await rowsOf(await openSource(t, dsn), 'SELECT * FROM t'), [['x', null]]);
    });

    test('the state of an aggregate is refused, by its column', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      const sql = 'SELECT 1, sumState(number) AS s FROM numbers(3)';
      const refused = {
        code: 'invalid_statement',
        transient: false,
        message: /db "app": column "s" is AggregateFunction/,
      };
      await assert.rejects(rowsOf(source, sql), refused);
      await assert.rejects(source.prepare(sql, never()), refused);
    });

    test('bytes that are not UTF-8 pass as they are, and are an error where they are read as text', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      await using result = await source.query("SELECT unhex('ff00fe') AS a", [], queryOptions(COPY_TEXT));
      const parts: Buffer[] = [];
      if (!('chunks' in result.body)) throw new Error('asked for a stream');
      for await (const { data } of result.body.chunks) parts.push(data);
      assert.deepEqual(Buffer.concat(parts), Buffer.from([0xff, 0x5c, 0x30, 0xfe, 0x0a]));
      await assert.rejects(rowsOf(source, "SELECT unhex('ff00fe') AS a"), {
        code: 'query_failed',
        message: /column "a"/,
      });
    });

    test('hostile, repeated and many columns', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      const names = [
        'a`b',
        "it's",
        '"',
        '; DROP TABLE t',
        'tab\tnew\nline\\',
        'c.d',
        'toString(number)',
        'dungbeetle_0',
        'dungbeetle_end',
        'x'.repeat(200),
        'Ünï',
      ];
      const quoted = (name: string) => `\`${name.replaceAll('\\', '\\\\').replaceAll('`', '\\`')}\``;
      const sql = `SELECT ${names.map((name, index) => `number + ${index} AS ${quoted(name)}`).join(', ')} FROM numbers(2)`;
      await using result = await source.query(sql, [], queryOptions(COPY_TEXT));
      assert.deepEqual(
        result.columns.map(({ name }) => name),
        names,
      );
      const row = (first: number) => names.map((_, index) => String(first + index));
      assert.deepEqual(await rowsOf(source, sql), [row(0), row(1)]);
      assert.deepEqual(await rowsOf(source, 'SELECT number, number, number AS n FROM numbers(1)'), [
        ['0', '0', '0'],
      ]);

      const wide = Array.from(
        { length: 1000 },
        (_, index) => `number + ${index} AS \`${'w'.repeat(190)}${index}\``,
      );
      const [only = []] = await rowsOf(source, `SELECT ${wide.join(', ')} FROM numbers(1)`);
      assert.deepEqual(
        only,
        wide.map((_, index) => String(index)),
      );
    });

    test('no rows, and rows in the order of the query', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      assert.deepEqual(await textOf(source, "SELECT number, 'x' FROM numbers(5) WHERE number > 9"), {
        text: '',
        rows: 0,
      });
      const { text, rows } = await textOf(
        source,
        'SELECT number FROM (SELECT number FROM numbers(300000) UNION ALL SELECT number FROM numbers(300000)) ORDER BY number DESC',
      );
      assert.equal(rows, 600_000);
      const numbers = text.trimEnd().split('\n').map(Number);
      assert.ok(numbers.every((number, index) => index === 0 || number <= (numbers[index - 1] ?? -1)));
    });

    test('columns are told before the first row, and what is thrown there ends the query', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      const reason = new Error('too wide');
      await assert.rejects(
        source.query(
          'SELECT number FROM numbers(1000000000000)',
          [],
          queryOptions(COPY_TEXT, {
            onColumns: (columns) => {
              assert.deepEqual(
                columns.map(({ name }) => name),
                ['number'],
              );
              throw reason;
            },
          }),
        ),
        reason,
      );
    });

    test('statements that cannot stand in parentheses', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(dsn, 'CREATE TABLE t (a UInt8 DEFAULT 5, b DateTime) ENGINE = Memory');
      const source = await openSource(t, dsn);
      assert.deepEqual(await rowsOf(source, 'SHOW TABLES -- all'), [['t']]);
      assert.deepEqual(await rowsOf(source, 'EXISTS TABLE nope FORMAT JSON;'), [[0n]]);
      const [first] = await rowsOf(source, 'DESCRIBE TABLE t');
      assert.deepEqual(first?.slice(0, 3), ['a', 'UInt8', 'DEFAULT']);
      const { columns } = await source.prepare('SHOW TABLES', never());
      assert.deepEqual(columns, [{ name: 'name', source_type: 'String', type: 'TEXT' }]);
    });

    test('a query without rows of its own is told at start', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      assert.deepEqual(await source.prepare('SELECT 1 AS a, ? AS b WHERE ? = 1 LIMIT ?', never()), {
        parameters: 3,
        columns: [
          { name: 'a', source_type: 'UInt8', type: 'BIGINT' },
          { name: 'b', source_type: 'Nullable(Nothing)', type: 'TEXT' },
        ],
      });
      assert.equal((await source.prepare('SELECT * FROM numbers(?)', never())).parameters, 1);
      const wrong: readonly (readonly [string, RegExp])[] = [
        ['SELECT * FROM nope WHERE a = ?', /nope doesn't exist|Unknown table/],
        ['SELECT nope WHERE 1 = ? AND 2 = ?', /nope/],
        ['SELEC 1', /only reads/],
        [
          'SELECT 1 FORM t WHERE a = ? AND b = ?',
          /Syntax error at line 1, near "t WHERE a = .*" \(code 62\)$/,
        ],
        ['SELECT 1 WHERE', /Syntax error at line 2, at the end of it/],
        ['SELECT a FROM t WHERE b = $1', /"\$1" is no parameter here: a question mark stands/],
        ['SELECT nope(1)', /nope/],
      ];
      for (const [sql, message] of wrong) {
        await assert.rejects(
          source.prepare(sql, never()),
          { code: 'invalid_statement', transient: false, message },
          sql,
        );
      }
    });

    test('only reads', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(dsn, 'CREATE TABLE t (a UInt8) ENGINE = Memory');
      const source = await openSource(t, dsn);
      for (const sql of [
        'INSERT INTO t VALUES (1)',
        'ALTER TABLE t DELETE WHERE 1',
        'CREATE TABLE u (a UInt8) ENGINE = Memory',
        'DROP TABLE t',
        'TRUNCATE TABLE t',
        'RENAME TABLE t TO u',
        'OPTIMIZE TABLE t',
        'SET readonly = 0',
        "KILL QUERY WHERE query_id = 'x'",
        'SYSTEM RELOAD CONFIG',
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "INSERT INTO FUNCTION remote('127.0.0.1', system.one) VALUES (1)",
        'SELECT 1 SETTINGS readonly = 0',
        'SELECT * FROM (SELECT 1 SETTINGS readonly = 0)',
        'SELECT 1; INSERT INTO t VALUES (1)',
        'EXPLAIN INSERT INTO t VALUES (1); INSERT INTO t VALUES (1)',
      ]) {
        await assert.rejects(rowsOf(source, sql), { code: 'invalid_statement', transient: false }, sql);
      }
      assert.deepEqual(await execute(dsn, 'SELECT count() FROM t'), [['0']]);
      assert.deepEqual(await execute(dsn, 'SHOW TABLES'), [['t']]);
      assert.deepEqual(await rowsOf(source, 'SELECT 1 SETTINGS max_threads = 1'), [[1n]]);
      // The server's own no, should a write ever get past the reading of the statement.
      assert.deepEqual(await rowsOf(source, "SELECT value FROM system.settings WHERE name = 'readonly'"), [
        ['2'],
      ]);
    });

    test('a task cannot make a limit cut its result silently, by the user’s profile', async (t) => {
      const dsn = new URL(await freshDatabase(t, server));
      dsn.searchParams.set('max_result_rows', '10');
      dsn.searchParams.set('max_block_size', '5');
      const source = await openSource(t, dsn.href);
      await assert.rejects(rowsOf(source, 'SELECT number FROM numbers(1000)'), {
        code: 'query_failed',
        transient: false,
        message: /[Ll]imit for result/,
      });
    });

    test('settings of the DSN are sent, and one that the server does not know is told', async (t) => {
      const dsn = new URL(await freshDatabase(t, server));
      dsn.searchParams.set('max_threads', '3');
      const source = await openSource(t, dsn.href);
      assert.deepEqual(await rowsOf(source, "SELECT value FROM system.settings WHERE name = 'max_threads'"), [
        ['3'],
      ]);
      dsn.searchParams.set('no_such_setting', '1');
      await assert.rejects(rowsOf(await openSource(t, dsn.href), 'SELECT 1'), {
        code: 'query_failed',
        message: /db "app": .* no setting "no_such_setting"/,
      });
    });

    test('a wrong login or database is told by name, without the password', async (t) => {
      const dsn = new URL(await freshDatabase(t, server));
      dsn.password = 'hunter2';
      for (const wrong of [dsn.href, dsn.href.replace('://', '://nobody-')]) {
        await assert.rejects((await openSource(t, wrong)).ping(never()), (error) => {
          assert.ok(error instanceof DatabaseError, String(error));
          assert.equal(error.code, 'unavailable');
          assert.match(error.message, /^db "app": /);
          assert.doesNotMatch(error.message, /hunter2/);
          return true;
        });
      }
    });

    test('a database that is not there may come yet', async (t) => {
      const dsn = new URL(await freshDatabase(t, server));
      dsn.pathname += '_nope';
      await assert.rejects(rowsOf(await openSource(t, dsn.href), 'SELECT 1'), {
        code: 'unavailable',
        transient: true,
        message: 'db "app": the server has no such database',
      });
    });

    test('what a query fails with is sorted, and quotes no value', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(dsn, 'CREATE TABLE t (a String, n UInt64) ENGINE = MergeTree ORDER BY n');
      await execute(dsn, "INSERT INTO t VALUES ('secret-row', 1)");
      const source = await openSource(t, dsn);
      const fails: readonly (readonly [string, readonly string[], string, boolean])[] = [
        ['SELECT intDiv(1, n - ?) FROM t', ['1'], 'query_failed', false],
        ['SELECT toUInt64(a), ? FROM t', ['secret-argument'], 'query_failed', false],
        ['SELECT a FROM t WHERE n = ?', ['secret-argument'], 'invalid_arguments', false],
        ['SELECT a FROM t WHERE toDate(n) > ?', ['secret-argument'], 'any', false],
        ['SELECT a FROM t WHERE a = ? AND throwIf(n = 1)', ['secret-row'], 'query_failed', false],
        ['SELECT nope FROM t WHERE a = ?', ['secret-argument'], 'invalid_statement', false],
        ['SELECT nope(a, ?) FROM t', ['secret-argument'], 'invalid_statement', false],
        ['SELECT a FRM t WHERE a = ?', ['secret-argument'], 'invalid_statement', false],
        ['SELECT toUUID(?) = toUUID(?) FROM t', ['secret-argument', 'secret-2'], 'any', false],
      ];
      for (const [sql, args, code, transient] of fails) {
        await assert.rejects(
          rowsOf(source, sql, args),
          (error) => {
            assert.ok(error instanceof DatabaseError, `${sql}: ${error}`);
            assert.match(error.message, /^db "app": /);
            assert.doesNotMatch(error.message, /secret|dungbeetle_|\n/, sql);
            assert.ok(error.cause === undefined || !/secret/.test(String(error.cause)), sql);
            if (code !== 'any') assert.equal(error.code, code, `${sql}: ${error.message}`);
            assert.equal(error.transient, transient, `${sql}: ${error.message}`);
            return true;
          },
          sql,
        );
      }
    });

    test('the time limit holds in the server, and the user’s own shorter one', async (t) => {
      const dsn = await freshDatabase(t, server);
      const limit = (source: Awaited<ReturnType<typeof openSource>>, timeout_ms: number) =>
        rowsOf(source, "SELECT value FROM system.settings WHERE name = 'max_execution_time'", [], {
          timeout_ms,
        });
      assert.deepEqual(await limit(await openSource(t, dsn), 1_500), [['7']]);
      const shorter = new URL(dsn);
      shorter.searchParams.set('max_execution_time', '3');
      assert.deepEqual(await limit(await openSource(t, shorter.href), 1_500), [['3']]);
    });

    test('a query that the server ends at its own limit may work another time', async (t) => {
      const dsn = new URL(await freshDatabase(t, server));
      dsn.searchParams.set('max_execution_time', '1');
      const source = await openSource(t, dsn.href);
      await assert.rejects(rowsOf(source, 'SELECT count() FROM numbers(1000000000000)'), {
        code: 'query_failed',
        transient: true,
        message: /Timeout exceeded.*: a time limit of the database \(max_execution_time\)/,
      });
    });

    test('more queries than places wait in line', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server), 1);
      await using first = await source.query(
        'SELECT number FROM numbers(100000)',
        [],
        queryOptions(COPY_TEXT),
      );
      const impatient = new AbortController();
      const waiting = source.query('SELECT 1', [], queryOptions(COPY_TEXT, { signal: impatient.signal }));
      const second = rowsOf(source, 'SELECT 2');
      impatient.abort(new Error('no patience'));
      await assert.rejects(waiting, /no patience/);
      await source.ping(never()); // not behind the queries
      assert.equal(await drained(first), 100_000);
      assert.deepEqual(await second, [[2n]]);
    });
  });
}
