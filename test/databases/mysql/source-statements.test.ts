/** What a query may be, and what its arguments are taken for. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { countingParameters, foreignParameter, lockOf } from '../../../src/databases/mysql/source-tokens.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { never } from '../support.ts';
import { openSource, rowsOf } from './source-support.ts';

for (const server of servers('mysql')) {
  suite(server.name, { skip: server.skip, concurrency: 2 }, () => {
    test('numbers are compared and added as what was written', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(dsn, 'CREATE TABLE t (id INT, i BIGINT, d DECIMAL(38,10), f DOUBLE)');
      await execute(
        dsn,
        `INSERT INTO t VALUES (1, 9007199254740993, 12345678901234567890.1234567891, 0.1),
          (2, 9007199254740992, 12345678901234567890.1234567892, 0.2), (3, 5, 0.1, 1e300)`,
      );
      const source = await openSource(t, dsn);
      const ids = async (condition: string, ...args: (string | number)[]) =>
        (await rowsOf(source, `SELECT id FROM t WHERE ${condition} ORDER BY id`, args)).flat();
      assert.deepEqual(await ids('d = ?', 0.1), [3n]);
      assert.deepEqual(await ids('d IN (?, ?)', 0.1, 7), [3n]);
      assert.deepEqual(await ids('f = ?', 0.1), [1n]);
      assert.deepEqual(await ids('f IN (?, ?)', 0.2, 1e300), [2n, 3n]);
      assert.deepEqual(await ids('i - ? = d', 4.9), [3n]);
      const [[sum, small, large, tiny] = []] = await rowsOf(
        source,
        'SELECT CAST((SELECT d FROM t WHERE id = 1) + ? AS CHAR), CAST(? AS CHAR), CAST(? AS CHAR), ?',
        [0.1, -2.5e-20, 1e22, 1e-31],
      );
      assert.equal(String(sum).replace(/0+$/, ''), '12345678901234567890.2234567891');
      assert.equal(small, '-0.000000000000000000025');
      assert.equal(large, '10000000000000000000000');
      assert.equal(tiny, 1e-31);
      // Text is text; where it meets an integer or a single DECIMAL it is read exactly, else a cast makes it exact.
      const exact = 'CAST(? AS DECIMAL(38,10))';
      assert.deepEqual(await ids('i = ?', '9007199254740993'), [1n]);
      assert.deepEqual(await ids('i IN (?, ?)', '9007199254740993', '5'), [1n, 3n]);
      assert.deepEqual(await ids('d = ?', '12345678901234567890.1234567891'), [1n]);
      assert.deepEqual(await ids(`d IN (${exact}, ${exact})`, '12345678901234567890.1234567891', '7'), [1n]);
      assert.deepEqual(await rowsOf(source, `SELECT ${exact} + 1`, ['9007199254740993']), [
        ['9007199254740994.0000000000'],
      ]);
    });

    test('a LIMIT takes whole numbers, and its refusal says which argument it was', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(dsn, 'CREATE TABLE t (id INT)');
      await execute(dsn, 'INSERT INTO t VALUES (1), (2), (3)');
      const source = await openSource(t, dsn);
      for (const sql of [
        'SELECT id FROM t WHERE id > ? ORDER BY id LIMIT ?',
        "SELECT id FROM t WHERE id > ? AND 'LIMIT ?' <> '?''' -- ?\n ORDER BY id LIMIT/* ? */ ?",
        'SELECT id FROM t WHERE id > ? ORDER BY id LIMIT 0, ?',
        'SELECT id FROM (SELECT id FROM t WHERE id > ? ORDER BY id LIMIT ? OFFSET 0) few ORDER BY id',
        "SELECT id FROM t WHERE id > ? AND 'it\\'s' > '' ORDER BY id LIMIT ?",
      ]) {
        for (const limit of [2, '2'])
          assert.deepEqual(await rowsOf(source, sql, [0, limit]), [[1n], [2n]], sql);
        assert.deepEqual(await rowsOf(source, sql, ['0', '18446744073709551615']), [[1n], [2n], [3n]]);
        for (const limit of [
          '2; DROP TABLE t',
          'abc',
          '',
          ' 2',
          '1e1',
          '18446744073709551616',
          1.5,
          -1,
          null,
          true,
        ]) {
          await assert.rejects(rowsOf(source, sql, [0, limit]), {
            code: 'invalid_arguments',
            message:
              'db "app": argument 2 is a LIMIT or OFFSET of the query, which takes a whole number from 0 on',
          });
        }
      }
      await assert.rejects(rowsOf(source, 'SELECT id FROM t LIMIT ?, ?', ['1x', 1]), /argument 1 is a LIMIT/);
      await assert.rejects(
        rowsOf(source, 'SELECT id FROM t LIMIT ? OFFSET ?', [1, '1x']),
        /argument 2 is a LIMIT/,
      );
    });

    test('what locks, works on whole tables or writes is refused before it runs', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(dsn, 'CREATE TABLE t (id INT PRIMARY KEY, share INT)');
      const source = await openSource(t, dsn);
      for (const sql of [
        'SELECT id FROM t LOCK IN SHARE MODE',
        'SELECT id FROM t lock /* */ in\n share mode',
        'SELECT id FROM t FOR UPDATE',
        'SELECT id FROM t FOR UPDATE SKIP LOCKED',
        'SELECT id FROM t FOR SHARE',
        'SELECT id FROM t FOR SHARE OF t NOWAIT',
        'SELECT * FROM (SELECT id FROM t FOR UPDATE) a',
        'SELECT (SELECT MAX(id) FROM t LOCK IN SHARE MODE) AS m',
        '(SELECT id FROM t FOR UPDATE) UNION (SELECT 1)',
        "SELECT 'x''y' FROM t /*!40000 FOR UPDATE */",
      ]) {
        await assert.rejects(
          source.prepare(sql, never()),
          { code: 'invalid_statement', message: /holds up those who write/ },
          sql,
        );
      }
      for (const sql of [
        'ANALYZE TABLE t',
        'analyze no_write_to_binlog table t',
        'CHECK TABLE t',
        'OPTIMIZE TABLE t',
        'REPAIR TABLE t',
        'ANALYZE UPDATE t SET id = 2',
        'ANALYZE FORMAT=JSON DELETE FROM t',
      ]) {
        await assert.rejects(
          source.prepare(sql, never()),
          { code: 'invalid_statement', message: /not one that only reads/ },
          sql,
        );
        await assert.rejects(rowsOf(source, sql), { code: 'invalid_statement' }, sql);
      }
      for (const sql of [
        "SELECT 'FOR UPDATE', id FROM t",
        'SELECT share FROM t -- LOCK IN SHARE MODE\n',
        'SELECT id AS `for update` FROM t',
        "SELECT '\\'' AS a, id FROM t WHERE 'FOR SHARE' > ''",
      ]) {
        await source.prepare(sql, never());
      }
    });

    test('a lock is told with its place', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      await assert.rejects(source.prepare("SELECT 'é'\n  FROM DUAL FOR UPDATE", never()), {
        position: { line: 2, column: 13 },
      });
    });

    test("other databases' parameters are told from ours", async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      for (const [sql, found] of [
        ['SELECT 1 WHERE 1 = $1', '$1'],
        ['SELECT 1 AS a FROM DUAL WHERE 1 = :id', ':id'],
      ] as const) {
        await assert.rejects(source.prepare(sql, never()), {
          code: 'invalid_statement',
          message: new RegExp(
            `; a parameter is a \\? on MySQL and MariaDB, not ${found.replace('$', '\\$')}$`,
          ),
        });
      }
      await assert.rejects(source.prepare("SELECT nothing, '$1 :id'", never()), (error: Error) => {
        assert.doesNotMatch(error.message, /a parameter is/);
        return true;
      });
    });

    test('more parameters than the protocol counts are refused', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      const sql = (count: number) =>
        `SELECT 1 IN (${Array.from({ length: count }, () => '?').join(', ')}) AS a`;
      assert.equal((await source.prepare(sql(65_535), never())).parameters, 65_535);
      await assert.rejects(source.prepare(sql(65_536), never()), {
        code: 'invalid_statement',
        message: /too many placeholders/,
      });
    });
  });
}

test('a query is read as the server may read it', () => {
  assert.equal(lockOf("SELECT 'a\\' FOR UPDATE")?.clause, 'FOR UPDATE');
  assert.equal(lockOf("SELECT 'a\\' FOR UPDATE '"), null);
  assert.equal(lockOf("SELECT 'open FOR UPDATE"), null);
  assert.deepEqual(countingParameters("SELECT '\\' LIMIT ?', ? LIMIT ?", 2), [1]);
  assert.deepEqual(countingParameters("SELECT '\\', ? LIMIT ?", 2), [1]);
  assert.deepEqual(countingParameters('SELECT ? FETCH FIRST ? ROWS ONLY', 2), [1]);
  assert.deepEqual(countingParameters('SELECT limit_of(?), ?', 3), []);
  assert.equal(foreignParameter('SELECT @a := 1'), null);
  const long = `SELECT ${'a, '.repeat(200_000)}? LIMIT ?`;
  assert.deepEqual(countingParameters(long, 2), [1]);
});
