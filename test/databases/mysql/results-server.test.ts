/** A results server that takes no LOAD DATA LOCAL, dies, takes no writes, has no room left. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { Chunk, ResultSet } from '../../../src/databases/database.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { mounted } from '../../support/mount.ts';
import {
  databaseOf,
  execute,
  noPrivate,
  type PrivateServer,
  privateNames,
  startPrivate,
} from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { never, writeOptions } from '../support.ts';
import { commandProxy } from './results-proxy.ts';
import {
  catalogued,
  column,
  NUMBERS,
  numbers,
  onlyTables,
  openResults,
  resultSet,
  rows,
} from './results-support.ts';

/** Rows of a kilobyte for as long as somebody takes them; `reached` resolves after some. */
function wide(): { readonly source: ResultSet; readonly reached: Promise<void> } {
  const reached = Promise.withResolvers<void>();
  const data = Buffer.from(`1\t${'x'.repeat(1_000)}\n`.repeat(64));
  async function* chunks(): AsyncGenerator<Chunk> {
    for (let at = 0; ; at += 1) {
      if (at === 200) reached.resolve();
      yield { data, rows: 64 };
    }
  }
  return {
    source: resultSet(NUMBERS, { encoding: 'copy-text', chunks: chunks() }),
    reached: reached.promise,
  };
}

for (const name of privateNames('mysql')) {
  suite(`a results server of ${name} by itself`, { skip: noPrivate(name) }, () => {
    let server: PrivateServer;
    let ended: (() => void | Promise<void>)[] = [];
    before(async () => {
      server = await startPrivate({ after: (end) => void ended.push(end) }, name, {
        settings: { 'local-infile': 'OFF', 'max-allowed-packet': '1M' },
      });
    });
    after(async () => {
      while (ended.length > 0) {
        const [end] = ended;
        ended = ended.slice(1);
        await end?.();
      }
    });
    const database = async (name: string): Promise<string> => {
      await execute(server.dsn, `CREATE DATABASE ${name}`);
      return databaseOf(server.dsn, name);
    };

    test('LOAD DATA LOCAL switched off while sessions are open: rows go on by INSERT', async (t) => {
      const dsn = await database('switched');
      await execute(dsn, 'SET GLOBAL local_infile = 1');
      const results = await openResults(t, dsn, { max_active: 1 });
      await results.write(numbers(3), writeOptions('a'));
      await execute(dsn, 'SET GLOBAL local_infile = 0');
      const { rows } = await results.write(numbers(5_000), writeOptions('b'));
      assert.equal(rows, 5_000);
      const sums = 'SELECT COUNT(*), SUM(n), COUNT(DISTINCT n) FROM';
      assert.deepEqual(await execute(dsn, `${sums} results_b`), [
        ['5000', String((5_000 * 5_001) / 2), '5000'],
      ]);
      // Between one piece that was loaded and the next.
      await execute(dsn, 'SET GLOBAL local_infile = 1');
      const open = await openResults(t, dsn, { max_active: 1 });
      const padding = 'x'.repeat(4_000);
      async function* chunks() {
        for (let from = 0; from < 12_000; from += 1_000) {
          if (from === 5_000) await execute(dsn, 'SET GLOBAL local_infile = 0');
          const lines = Array.from({ length: 1_000 }, (_, index) => `${from + index}\t${padding}\n`);
          yield { data: Buffer.from(lines.join('')), rows: 1_000 };
        }
      }
      const many = await open.write(
        resultSet([column('n', 'BIGINT'), column('t', 'TEXT')], { encoding: 'copy-text', chunks: chunks() }),
        writeOptions('c'),
      );
      assert.equal(many.rows, 12_000);
      assert.deepEqual(
        await execute(
          dsn,
          'SELECT COUNT(*), MIN(n), MAX(n), COUNT(DISTINCT n), SUM(LENGTH(t)) FROM results_c',
        ),
        [['12000', '0', '11999', '12000', '48000000']],
      );
    });

    test('without LOAD DATA LOCAL: the same values, by INSERT', async (t) => {
      const dsn = await database('inserts');
      const results = await openResults(t, dsn);
      const columns = [
        column('n', 'BIGINT'),
        column('t', 'TEXT'),
        column('b', 'BYTES'),
        column('z', 'TIMESTAMPTZ'),
        column('f', 'DOUBLE'),
      ];
      const values = Array.from({ length: 1_500 }, (_, index) => [
        BigInt(index),
        index % 3 === 0 ? null : `a\tb\\N\n\f\v\0ü🎉 ${'x'.repeat(index % 700)}`,
        Buffer.from(Array.from({ length: index % 300 }, (_, byte) => byte % 256)),
        '2024-02-29 23:59:59.5+00',
        index / 7,
      ]);
      const { rows: written } = await results.write(rows(columns, values), writeOptions('a'));
      assert.equal(written, values.length);
      assert.deepEqual(
        await execute(dsn, 'SELECT n, t, HEX(b), z, f FROM results_a'),
        values.map(([n, text, bytes, , f]) => [
          String(n),
          text,
          (bytes as Buffer).toString('hex').toUpperCase(),
          '2024-02-29 23:59:59.500000',
          String(f),
        ]),
      );
      await results.write(numbers(20_000), writeOptions('b'));
      assert.deepEqual(await execute(dsn, 'SELECT COUNT(*), SUM(n) FROM results_b'), [
        ['20000', '200010000'],
      ]);

      const refused = (type: 'DECIMAL' | 'DOUBLE' | 'DATE', value: string) =>
        assert.rejects(
          results.write(
            rows(
              [column('n', 'BIGINT'), column('v', type)],
              [
                [1n, null],
                [2n, null],
                [3n, value],
              ],
            ),
            writeOptions('c'),
          ),
          (error: unknown) => {
            assert.ok(
              error instanceof DatabaseError && !error.transient && error.code === 'query_failed',
              String(error),
            );
            assert.match(error.message, /^results "reports": column "v", row 3: a value /);
            assert.ok(!error.message.includes(value), error.message);
            return true;
          },
        );
      await refused('DECIMAL', 'NaN');
      await refused('DECIMAL', '0.1234567890123456789012345678901');
      await refused('DATE', '10000-01-01');
      await assert.rejects(
        results.write(rows([column('t', 'TEXT')], [['a'], ['x'.repeat(2_000_000)]]), writeOptions('c')),
        {
          code: 'query_failed',
          transient: false,
          message: /^results "reports": row 2 takes 2000009 bytes, .* max_allowed_packet/,
        },
      );
      await onlyTables(dsn, ['results_a', 'results_b']);
    });

    test('a server that takes no writes for now, and takes them again', async (t) => {
      const dsn = await database('readonly');
      const results = await openResults(t, dsn);
      await results.write(numbers(3), writeOptions('a'));
      // An administrator writes all the same: what is asked here is another account.
      await execute(server.dsn, "CREATE USER writer IDENTIFIED BY 'w'");
      await execute(server.dsn, 'GRANT ALL ON readonly.* TO writer');
      const url = new URL(dsn);
      url.username = 'writer';
      url.password = 'w';
      const writer = await openResults(t, url.href);
      await writer.ping(never());
      await execute(server.dsn, 'SET GLOBAL read_only = 1');
      await assert.rejects(writer.write(numbers(4), writeOptions('a')), {
        code: 'unavailable',
        transient: true,
      });
      await execute(server.dsn, 'SET GLOBAL read_only = 0');
      assert.equal((await writer.write(numbers(5), writeOptions('a'))).rows, 5);
      await onlyTables(dsn, ['results_a']);
    });

    test('a server that demands primary keys', async (t) => {
      const dsn = await database('demanding');
      const demand = name === 'mysql' ? 'sql_require_primary_key' : 'innodb_force_primary_key';
      await execute(server.dsn, `SET GLOBAL ${demand} = ON`);
      const results = await openResults(t, dsn);
      await results.write(numbers(2_000), writeOptions('a'));
      await execute(server.dsn, `SET GLOBAL ${demand} = OFF`);
      const read = await execute(dsn, 'SELECT * FROM results_a');
      assert.deepEqual(
        read.map(([n, , ...more]) => [n, more]),
        Array.from({ length: 2_000 }, (_, index) => [String(index + 1), []]),
      );
    });

    test('rights that suffice: those on the database alone, and no others', async (t) => {
      const dsn = await database('rights');
      await execute(server.dsn, "CREATE USER limited IDENTIFIED BY 'l'");
      await execute(
        server.dsn,
        'GRANT CREATE, DROP, ALTER, INSERT, SELECT, UPDATE, DELETE ON rights.* TO limited',
      );
      const url = new URL(dsn);
      url.username = 'limited';
      url.password = 'l';
      const results = await openResults(t, url.href);
      await results.write(numbers(3), writeOptions('a'));
      await results.write(numbers(4), writeOptions('a'));
      assert.equal(await results.drop('a'), true);
      await onlyTables(dsn, []);
      await execute(server.dsn, 'REVOKE CREATE ON rights.* FROM limited');
      const later = await openResults(t, url.href);
      await assert.rejects(later.write(numbers(3), writeOptions('a')), {
        code: 'query_failed',
        transient: false,
        message: /^results "reports": CREATE command denied/,
      });
    });

    test('a server that is killed while a table is published, and comes back', async (t) => {
      const dsn = await database('publishing');
      const steady = await openResults(t, dsn);
      await steady.write(numbers(3), writeOptions('a'));
      const calm = await commandProxy(t, dsn, null);
      await (await openResults(t, calm.dsn)).write(numbers(3), writeOptions('a'));
      const swap = calm.commands.findIndex((command) => command.startsWith('RENAME TABLE'));
      assert.ok(swap > 0);
      let rows = 10;
      for (const when of ['before', 'after'] as const) {
        const proxy = await commandProxy(t, dsn, { command: swap, when, how: 'sleep' });
        const results = await openResults(t, proxy.dsn);
        rows += 1;
        const writing = results.write(numbers(rows), writeOptions('a'));
        await Promise.race([proxy.stopped, writing]);
        await server.kill('SIGKILL');
        proxy.wake();
        await server.start();
        assert.equal((await writing).rows, rows, when);
        assert.deepEqual(await execute(dsn, 'SELECT COUNT(*), MAX(n) FROM results_a'), [
          [`${rows}`, `${rows}`],
        ]);
        assert.equal((await catalogued(dsn, 'a'))?.['rows'], String(rows));
        await onlyTables(dsn, ['results_a']);
      }
    });

    test('rows that a server has lost when it died are no result', async (t) => {
      const dsn = await database('forgetful');
      const results = await openResults(t, dsn);
      const confirm = async () => {
        // As a server does that had not written the end of its log.
        const [[staging = ''] = []] = await execute(dsn, "SHOW TABLES LIKE 'dungbeetle\\_staging\\_%'");
        await execute(dsn, `DELETE FROM ${staging} WHERE n = 5`);
        await server.kill('SIGKILL');
        await server.start();
      };
      await assert.rejects(results.write(numbers(5), writeOptions('a', { confirm })), {
        code: 'unavailable',
        transient: true,
        message: /lost rows/,
      });
      await onlyTables(dsn, []);
    });

    test('a server that is killed while loading, and comes back', async (t) => {
      const dsn = await database('killed');
      const results = await openResults(t, dsn);
      await results.write(numbers(3), writeOptions('a'));
      const { source, reached } = wide();
      const writing = results.write(source, writeOptions('a'));
      await Promise.race([reached, writing]);
      await server.kill('SIGKILL');
      await assert.rejects(writing, { code: 'unavailable', transient: true });
      await assert.rejects(results.ping(never()), { code: 'unavailable', transient: true });
      await server.start();
      // It comes back by itself.
      await results.ping(never());
      assert.equal((await catalogued(dsn, 'a'))?.['rows'], '3');
      assert.deepEqual(await execute(dsn, 'SELECT COUNT(*) FROM results_a'), [['3']]);
      const swept = await results.sweep({
        store_id: 'store',
        liveFences: async () => new Set(),
        judge: async () => 'keep',
      });
      assert.deepEqual(swept, { expired: 0, orphans: 1 });
      await onlyTables(dsn, ['results_a']);
      assert.equal((await results.write(numbers(5), writeOptions('a'))).rows, 5);
    });

    test('a server with no room left', async (t) => {
      const folder = mounted(t, 'size=220m,mode=777');
      if (folder === null) return;
      const small = await startPrivate(t, name, { dataFolder: folder });
      const dsn = small.dsn;
      const results = await openResults(t, dsn);
      await results.write(numbers(3), writeOptions('a'));
      const { source } = wide();
      await assert.rejects(results.write(source, writeOptions('a')), {
        code: 'unavailable',
        transient: true,
      });
      await until(
        'its table is gone',
        async () => (await execute(dsn, "SHOW TABLES LIKE 'dungbeetle\\_staging\\_%'")).length === 0,
      );
      assert.deepEqual(await execute(dsn, 'SELECT COUNT(*) FROM results_a'), [['3']]);
      assert.equal((await results.write(numbers(5), writeOptions('a'))).rows, 5);
      await onlyTables(dsn, ['results_a']);
    });
  });
}
