/** What the server warns of is counted, and fails where it gave less than was asked for. */
import assert from 'node:assert/strict';
import { suite, type TestContext, test } from 'node:test';
import type { Argument } from '../../../src/databases/database.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { queryOptions } from '../support.ts';
import { chunksOf, openSource } from './source-support.ts';

/** A recursion of 2,000 numbers: longer than MySQL's limit lets it be without a word. */
const MANY = `(WITH RECURSIVE d (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM d WHERE i < 49)
  SELECT a.i * 50 + b.i AS i FROM d a, d b) many`;

for (const server of servers('mysql')) {
  suite(server.name, { skip: server.skip, concurrency: 2 }, () => {
    const resultOf = async (
      t: TestContext,
      dsn: string,
      sql: string,
      args: readonly Argument[] = [],
      allow_cut = false,
    ) => {
      const source = await openSource(t, dsn);
      const options = queryOptions([{ encoding: 'copy-text' }], { allow_cut });
      await using result = await source.query(sql, args, options);
      const { data } = await chunksOf(result);
      return { text: data.toString(), warnings: result.warnings?.() ?? [] };
    };

    test('a text that was cut fails the query, unless that is allowed', async (t) => {
      const dsn = await freshDatabase(t, server);
      const sql = `SELECT GROUP_CONCAT(i) FROM ${MANY}`;
      const limited = new URL(dsn);
      limited.searchParams.set('group_concat_max_len', '1024');
      await assert.rejects(resultOf(t, limited.href, sql), {
        name: 'DatabaseError',
        code: 'query_failed',
        transient: false,
        message:
          /^db "app": the server did not give all of the result: Row \d+ was cut by (?:GROUP_CONCAT|group_concat)\(\) \(warning 1260\); group_concat_max_len=1000000 in the DSN raises the limit; "-- allow_cut: 1"/i,
      });
      const cut = await resultOf(t, limited.href, sql, [], true);
      assert.equal(cut.text.length, 1_025);
      assert.match(
        cut.warnings.join('\n'),
        /^the server warned once: Row \d+ was cut by .*\(warning 1260\)$/i,
      );
      limited.searchParams.set('group_concat_max_len', '1000000');
      assert.deepEqual((await resultOf(t, limited.href, sql)).warnings, []);
    });

    test('a session is fit for the next query after a text that was cut', async (t) => {
      const dsn = new URL(await freshDatabase(t, server));
      dsn.searchParams.set('group_concat_max_len', '4');
      const source = await openSource(t, dsn.href, 1);
      const run = async (sql: string) => {
        await using result = await source.query(sql, [], queryOptions([{ encoding: 'copy-text' }]));
        return (await chunksOf(result)).data.toString();
      };
      await assert.rejects(run(`SELECT GROUP_CONCAT(i) FROM ${MANY}`), /warning 1260/);
      assert.equal(await run('SELECT 1'), '1\n');
    });

    test('a text past max_allowed_packet, which became NULL, fails', async (t) => {
      const dsn = await freshDatabase(t, server);
      const [[packet = '0'] = []] = await execute(dsn, 'SELECT @@max_allowed_packet');
      const sql = `SELECT REPEAT('x', ${packet} + 1)`;
      await assert.rejects(
        resultOf(t, dsn, sql),
        /\(warning 1301\); max_allowed_packet of the server is the limit/,
      );
      assert.equal((await resultOf(t, dsn, sql, [], true)).text, '\\N\n');
    });

    test('a value that its type does not hold fails', async (t) => {
      const dsn = await freshDatabase(t, server);
      await assert.rejects(
        resultOf(t, dsn, 'SELECT CAST(123456 AS DECIMAL(5,2)) AS amount'),
        /Out of range value for column 'CAST\(123456 AS DECIMAL\(5,2\)\)|Out of range value for column .*\(warning 1264\)/,
      );
    });

    test('other warnings are counted by kind, without values', async (t) => {
      const dsn = await freshDatabase(t, server);
      const { text, warnings } = await resultOf(
        t,
        dsn,
        `SELECT SUM(1 / (i % 2) IS NULL), SUM('1secret' = i) + SUM(? = i)
          FROM (SELECT 1 AS i UNION SELECT 2 UNION SELECT 3 UNION SELECT 4) few`,
        ['2private'],
      );
      assert.equal(text, '2\t2\n');
      assert.match(warnings.join('\n'), /the server warned 2 times: Division by (?:zero|0) \(warning 1365\)/);
      assert.match(
        warnings.join('\n'),
        /the server warned (?:\d+ times|once): Truncated incorrect \w+ value: '…' \(warning 1292\)/,
      );
      assert.doesNotMatch(warnings.join('\n'), /secret|private/);
    });

    test('more warnings than the server keeps: counted, and a failure where they may say that a value was cut', async (t) => {
      const dsn = await freshDatabase(t, server);
      const many = await resultOf(t, dsn, `SELECT SUM(1 / (i * 0)) FROM ${MANY}`);
      assert.match(
        many.warnings.join('\n'),
        /^the server warned 1024 times: Division by (?:zero|0) \(warning 1365\)\nthe server warned 1476 times more and does not tell of what$/,
      );
      const sql = `SELECT SUM(1 / (i * 0)), GROUP_CONCAT(IF(i < 5, i, NULL)) FROM ${MANY}`;
      await assert.rejects(resultOf(t, dsn, sql), /nobody knows whether it has cut a value/);
      assert.match((await resultOf(t, dsn, sql, [], true)).warnings.join('\n'), /more and does not tell/);
    });

    test('rows that were left out fail', async (t) => {
      const dsn = await freshDatabase(t, server);
      const [[version = ''] = []] = await execute(dsn, 'SELECT VERSION()');
      if (!/mariadb/i.test(version ?? '')) {
        t.skip('MySQL leaves no rows out');
        return;
      }
      await execute(dsn, `CREATE TABLE t AS SELECT i FROM ${MANY}`);
      const sql = 'SELECT i FROM t LIMIT ROWS EXAMINED 10';
      await assert.rejects(resultOf(t, dsn, sql), /\(warning 1931\)/);
      assert.match((await resultOf(t, dsn, sql, [], true)).warnings.join('\n'), /\(warning 1931\)/);
    });
  });
}
