/** What ends up in MySQL and MariaDB: tables, names, values, the catalog. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { Column, ColumnType, TransferProgress } from '../../../src/databases/database.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { never, owner, writeOptions } from '../support.ts';
import {
  catalogued,
  column,
  NUMBERS,
  numbers,
  onlyTables,
  openReader,
  openResults,
  rows,
  text,
} from './results-support.ts';

const KINDS: readonly ColumnType[] = [
  'BIGINT',
  'DECIMAL',
  'DOUBLE',
  'TIMESTAMP',
  'TIMESTAMPTZ',
  'DATE',
  'BOOLEAN',
  'TEXT',
  'JSON',
  'BYTES',
  'ANY',
];
const ALL: readonly Column[] = KINDS.map((type) => column(type.toLowerCase(), type));

for (const server of servers('mysql')) {
  suite(`results on ${server.name}`, { skip: server.skip }, () => {
    test('publishes a table with its row in the catalog', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const told: TransferProgress[] = [];
      const write = owner('a', { task: 'profits', attempt: 2, seq: 7 });
      const written = await results.write(
        numbers(2_500),
        writeOptions('a', { owner: write, ttl_ms: 60_000, onProgress: (progress) => told.push(progress) }),
      );
      assert.equal(written.table, 'results_a');
      assert.equal(written.rows, 2_500);
      assert.deepEqual(written.columns, [
        { name: 'n', type: 'BIGINT', source_type: '' },
        { name: 'note', type: 'LONGTEXT', source_type: '' },
      ]);
      const [[now = '']] = (await execute(dsn, 'SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)')) as [
        [string],
      ];
      assert.ok(written.expires_at !== null && Math.abs(written.expires_at - Number(now) - 60_000) < 10_000);
      assert.deepEqual(await catalogued(dsn, 'a'), {
        table_name: 'results_a',
        task: 'profits',
        store_id: 'store',
        fence: String(write.fence),
        attempt: '2',
        rows: '2500',
        bytes: String(written.bytes),
        settled: '0',
        seq: '7',
        warnings: '[]',
      });
      const read = await openReader(t, dsn);
      // In the query's order.
      const got = await read('SELECT n, note FROM results_a');
      assert.equal(got.length, 2_500);
      assert.ok(
        got.every(([n, note], index) => n === String(index + 1) && note === `a note for row ${index + 1}`),
      );
      assert.deepEqual([...new Set(told.map(({ phase }) => phase))], ['load', 'publish']);
      assert.deepEqual(told.at(-1), { phase: 'publish', rows: 2_500, bytes: written.bytes });
      await onlyTables(dsn, ['results_a']);
    });

    test('every type of column, in lines cut anywhere', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const read = await openReader(t, dsn);
      const lines = Buffer.from(
        [
          '-9223372036854775808\t12.340\t0.1\t0044-03-15 00:00:00\t2024-02-29 23:59:59.123456+00\t2024-02-29\t1\ta\\tb\\nc\\\\d\\fe\\vf\\\\v\\\\\\v\\bg\\rh\\0i\t{"a":1e400,"a":12345678901234567890.10}\t\\\\x00ff0a095c\t\\\\N\n',
          '9223372036854775807\t-12345678901234567890123456789012345.123456789012345678901234567891\t5e-324\t9999-12-31 23:59:59.999999\t0001-01-01 00:00:00+00\t0001-01-01\t0\t\t[]\t\\\\x\tgrüße 🎉 \n',
          `${ALL.map(() => '\\N').join('\t')}\n`,
          '0\t0\t1.7976931348623157e308\t1000-01-01 00:00:00.1\t9999-12-31 23:59:59.5+00\t9999-12-31\t1\ta\tnull\t\\\\xff\tA\n',
        ].join(''),
      );
      const expected = [
        [
          '-9223372036854775808',
          '12.340000000000000000000000000000',
          '0.1',
          '0044-03-15 00:00:00.000000',
          '2024-02-29 23:59:59.123456',
          '2024-02-29',
          '1',
          'a\tb\nc\\d\fe\vf\\v\\\v\bg\rh\0i',
          '{"a":1e400,"a":12345678901234567890.10}',
          '00FF0A095C',
          '\\N',
        ],
        [
          '9223372036854775807',
          '-12345678901234567890123456789012345.123456789012345678901234567891',
          '5e-324',
          '9999-12-31 23:59:59.999999',
          '0001-01-01 00:00:00.000000',
          '0001-01-01',
          '0',
          '',
          '[]',
          '',
          'grüße 🎉 ',
        ],
        ALL.map(() => null),
        [
          '0',
          '0.000000000000000000000000000000',
          '1.7976931348623157e308',
          '1000-01-01 00:00:00.100000',
          '9999-12-31 23:59:59.500000',
          '9999-12-31',
          '1',
          'a',
          'null',
          'FF',
          'A',
        ],
      ];
      for (const size of [1, 7, 100_000]) {
        const { columns } = await results.write(text(ALL, lines, size), writeOptions('types'));
        assert.deepEqual(
          columns.map(({ type }) => type),
          [
            'BIGINT',
            'DECIMAL(65,30)',
            'DOUBLE',
            'DATETIME(6)',
            'DATETIME(6)',
            'DATE',
            'BOOLEAN',
            'LONGTEXT',
            server.name === 'mariadb' ? 'JSON' : 'LONGTEXT',
            'LONGBLOB',
            'LONGTEXT',
          ],
        );
        assert.deepEqual(
          await read(
            'SELECT `bigint`, `decimal`, `double`, timestamp, timestamptz, date, `boolean`, text, json, hex(bytes), `any` FROM results_types',
          ),
          expected,
        );
      }
    });
  });
}
