import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { Argument } from '../../../src/databases/database.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { openSource, rowsOf } from './source-support.ts';

for (const server of servers('clickhouse')) {
  suite(`arguments of a query of ${server.name}`, { skip: server.skip, concurrency: 4 }, () => {
    test('text does for columns of every type', async (t) => {
      const dsn = await freshDatabase(t, server);
      await execute(
        dsn,
        `CREATE TABLE t (id UInt64, small Int8, price Float64, amount Decimal(12, 2), name String, day Date, at DateTime,
          uuid UUID, kind Enum8('a' = 1, 'b' = 2), note Nullable(String), n Nullable(Int32)) ENGINE = MergeTree ORDER BY id`,
      );
      await execute(
        dsn,
        `INSERT INTO t VALUES (5, -5, 1.5, 12.30, '5', '2024-02-29', '2024-02-29 12:00:00',
          '61f0c404-5cb3-11e7-907b-a6006ad3dba0', 'b', '5', 5), (6, 6, 6, 6, '6', '2024-03-01', '2024-03-01 00:00:00',
          '61f0c404-5cb3-11e7-907b-a6006ad3dba1', 'a', NULL, NULL)`,
      );
      const source = await openSource(t, dsn);
      const find = async (condition: string, args: readonly Argument[]) =>
        (await rowsOf(source, `SELECT id FROM t WHERE ${condition} ORDER BY id`, args)).map(([id]) => id);
      const five: readonly (readonly [string, readonly Argument[]])[] = [
        ['id = ?', ['5']],
        ['id = ?', [5]],
        ['id < ?', ['6']],
        ['id BETWEEN ? AND ?', ['4', '5']],
        ['id IN (?, ?)', ['5', '7']],
        ['(id, name) IN ((?, ?))', ['5', '5']],
        ['small = ?', ['-5']],
        ['small = ?', [-5]],
        ['price = ?', ['1.5']],
        ['price = ?', [1.5]],
        ['amount = ?', ['12.3']],
        ['amount = ?', [12.3]],
        ['amount > ?', ['6.00']],
        ['amount > ?', ['6']],
        ['name = ?', ['5']],
        ['name = ?', [5]],
        ['name = ? AND id = ?', ['5', '5']],
        ['id = ? AND name = ? AND price = ? AND amount = ? AND n = ?', ['5', '5', '1.5', '12.30', '5']],
        ['day = ?', ['2024-02-29']],
        ['day < ?', ['2024-03-01']],
        ['at = ?', ['2024-02-29 12:00:00']],
        ['uuid = ?', ['61f0c404-5cb3-11e7-907b-a6006ad3dba0']],
        ['kind = ?', ['b']],
        ['note = ?', ['5']],
        ['n = ?', ['5']],
        ['id = plus(?, ?)', ['2', '3']],
        ['id = 5 AND ?', [true]],
        ['NOT (id = 6 OR ?)', [false]],
        ['id IN (SELECT number FROM numbers(?))', ['6']],
        ['substring(name, ?) = ?', ['1', '5']],
      ];
      for (const [condition, args] of five) {
        assert.deepEqual(await find(condition, args), ['5'], `${condition} ${JSON.stringify(args)}`);
        // And from memory, with other values of the same kind.
        assert.deepEqual(await find(condition, args), ['5'], condition);
      }
      assert.deepEqual(await find('note = ?', [null]), []);
      assert.deepEqual(await find('coalesce(?, note) IS NULL', [null]), ['6']);
      assert.deepEqual(await rowsOf(source, 'SELECT id FROM t ORDER BY id LIMIT ? OFFSET ?', ['1', '1']), [
        ['6'],
      ]);
      assert.deepEqual(await rowsOf(source, 'SELECT id FROM t ORDER BY id LIMIT ?, ?', [1, 1]), [['6']]);
      assert.deepEqual(
        await rowsOf(source, 'SELECT id = ? ? ? : ? AS x FROM t ORDER BY id', ['5', 'yes', 'no']),
        [['yes'], ['no']],
      );
    });

    test('text arrives as it is, whatever is in it', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      for (const text of [
        '',
        "it's",
        "'; DROP TABLE t; --",
        "\\'",
        '\\',
        '\\\\',
        '\\N',
        '\0\b\t\n\v\f\r\x1a\x7f',
        '`"?{x:String}$$%_',
        'é😀\u2028\ufeff',
        '007',
        '1e5',
        '-0',
        'NULL',
        'a'.repeat(300_000),
      ]) {
        assert.deepEqual(await rowsOf(source, 'SELECT ? AS a, length(?) AS b', [text, text]), [
          [text, String(Buffer.byteLength(text))],
        ]);
      }
    });

    test('numbers keep every digit', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      assert.deepEqual(await rowsOf(source, 'SELECT ? AS x', [-0]), [[-0]]);
      assert.deepEqual(await rowsOf(source, 'SELECT 1 AS x WHERE toUInt8(0) = ?', [-0]), [[1n]]);
      assert.deepEqual(await rowsOf(source, 'SELECT 1 AS x WHERE toDecimal32(0, 2) = ?', [-0]), [[1n]]);
      for (const [number, type] of [
        ['18446744073709551615', 'UInt64'],
        ['-9223372036854775808', 'Int64'],
      ] as const) {
        const sql = `SELECT to${type}(?) = x AS same, toString(x) FROM (SELECT to${type}(${number}) AS x) WHERE x = ?`;
        assert.deepEqual(await rowsOf(source, sql, [number, number]), [[1n, number]]);
      }
    });

    test('that do not fit are told before anything runs, without their values', async (t) => {
      const source = await openSource(t, await freshDatabase(t, server));
      const wrong: readonly (readonly [string, readonly Argument[], RegExp])[] = [
        ['SELECT ?, ?', ['secret'], /takes 2 arguments, 1 were given/],
        ['SELECT ?', [], /takes 1 argument, 0 were given/],
        ['SELECT 1', ['secret'], /takes 0 arguments, 1 were given/],
        ['SELECT 1 LIMIT ?', ['secret'], /argument 1 must be a number/],
        ['SELECT 1 LIMIT ?', ['-5'], /argument 1 must be a number/],
        ['SELECT 1 LIMIT ?', [null], /argument 1 must be a number/],
        ['SELECT ?', [Number.NaN], /argument 1 is not a finite number/],
        ['SELECT ?', ['\ud800'], /argument 1 is not well-formed/],
        ['SELECT toUInt8(1) + ?', ['secret'], /Illegal type/],
      ];
      for (const [sql, args, message] of wrong) {
        await assert.rejects(rowsOf(source, sql, args), (error: Error) => {
          assert.match(error.message, message, sql);
          assert.doesNotMatch(error.message, /secret/);
          return 'code' in error && error.code === 'invalid_arguments';
        });
      }
    });
  });
}
