/** What ends up in MySQL and MariaDB: tables, names, values, the catalog. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { suite, test } from 'node:test';
import type { Column, ColumnType, TransferProgress, Value } from '../../../src/databases/database.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { folded } from '../../../src/databases/mysql/results-names.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { NO_LIMITS, never, owner, writeOptions } from '../support.ts';
import {
  catalogued,
  column,
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

/** What has a server refuse tables without a primary key, or give them one, as far as a session can ask for it. */
const KEYS = {
  mariadb: [],
  mysql: ['sql_require_primary_key', 'sql_generate_invisible_primary_key'],
} as const;

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
            server.name.startsWith('mariadb') ? 'JSON' : 'LONGTEXT',
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

    test('what a column cannot hold fails the job, by column and row, and leaves nothing', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      await results.ping(never());
      const first = column('id', 'BIGINT');
      const bad: readonly (readonly [Column, string])[] = [
        [column('v', 'BIGINT'), '9223372036854775808'],
        [column('v', 'DECIMAL'), 'NaN'],
        [column('v', 'DECIMAL'), '1.1234567890123456789012345678901'],
        [column('v', 'DECIMAL', { precision: 5, scale: 2 }), '1234.00'],
        [column('v', 'DOUBLE'), 'NaN'],
        [column('v', 'DOUBLE'), '-Infinity'],
        [column('v', 'DATE'), 'infinity'],
        [column('v', 'DATE'), '0044-03-15 BC'],
        [column('v', 'DATE'), '10000-01-01'],
        [column('v', 'DATE'), '0000-00-00'],
        [column('v', 'TIMESTAMP'), '-infinity'],
        [column('v', 'TIMESTAMP'), '2024-02-30 00:00:00'],
        [column('v', 'TIMESTAMPTZ'), '12024-01-01 00:00:00+00'],
        [column('o\'d`d " v', 'TIMESTAMPTZ'), '0044-03-15 00:00:00+00 BC'],
        ...(server.name.startsWith('mariadb') ? [[column('v', 'JSON'), '{"secret'] as const] : []),
      ];
      for (const [kind, value] of bad) {
        const lines = `1\t\\N\n2\t${value}\n3\t\\N\n`;
        await assert.rejects(
          results.write(text([first, kind], lines), writeOptions('bad')),
          (error: unknown) => {
            assert.ok(error instanceof DatabaseError, String(error));
            assert.equal(error.code, 'query_failed', error.message);
            assert.equal(error.transient, false);
            assert.ok(error.message.startsWith(`results "reports": column "${kind.name}"`), error.message);
            assert.ok(kind.type === 'JSON' || error.message.includes(', row 2: '), error.message);
            assert.ok(!error.message.includes(value), error.message);
            return true;
          },
        );
      }
      const invalid = Buffer.concat([Buffer.from('1\tsecret'), Buffer.of(0xff, 0xfe), Buffer.from('\n')]);
      await assert.rejects(results.write(text([first, column('v', 'TEXT')], invalid), writeOptions('bad')), {
        code: 'query_failed',
        message: /^results "reports": column "v", row 1: a value is not one for LONGTEXT/,
      });
      await onlyTables(dsn, []);
    });

    test('values of other kinds than their column are kept where that loses nothing, or refused', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const read = await openReader(t, dsn);
      const kept: readonly (readonly [ColumnType, Value, string | null])[] = [
        ['BIGINT', 5, '5'],
        ['BIGINT', '-7', '-7'],
        ['BOOLEAN', 1n, '1'],
        ['DECIMAL', 0.25, '0.250000000000000000000000000000'],
        ['DECIMAL', 3n, '3.000000000000000000000000000000'],
        ['DOUBLE', 4n, '4'],
        ['TIMESTAMP', '2024-02-29T10:11', '2024-02-29 10:11:00.000000'],
        ['TIMESTAMP', '2024-02-29', '2024-02-29 00:00:00.000000'],
        ['TIMESTAMPTZ', '2024-02-29T10:11:12.5Z', '2024-02-29 10:11:12.500000'],
        ['TEXT', 7n, '7'],
        ['ANY', 0.1, '0.1'],
        ['BYTES', 'ab', 'ab'],
        ['TEXT', null, null],
      ];
      await results.write(
        rows(
          kept.map(([type], index) => column(`c${index}`, type)),
          [kept.map(([, value]) => value)],
        ),
        writeOptions('kept'),
      );
      assert.deepEqual(await read('SELECT * FROM results_kept'), [kept.map(([, , stored]) => stored)]);

      const refused: readonly (readonly [ColumnType, Value])[] = [
        ['BIGINT', 1.5],
        ['BIGINT', '1.5'],
        ['BIGINT', 'secret'],
        ['BOOLEAN', 0.5],
        ['DECIMAL', 'secret'],
        ['DOUBLE', 9007199254740993n],
        ['DOUBLE', '1.5'],
        ['DATE', 20240102n],
        ['DATE', '10:11:12'],
        ['DATE', '2024-1-2'],
        ['TIMESTAMP', 1_700_000_000],
        ['TIMESTAMP', '2024-02-29 10:11:12.1234567'],
        ['TIMESTAMPTZ', '2024-02-29 10:11:12'],
        ['TIMESTAMPTZ', '2024-02-29 10:11:12+02'],
        ['BYTES', 1n],
        ['TEXT', Buffer.of(0xff)],
        ['ANY', Buffer.of(0x61)],
      ];
      for (const [type, value] of refused) {
        const source = rows([column('v', type)], [[null], [value]]);
        await assert.rejects(results.write(source, writeOptions('kept')), (error: unknown) => {
          assert.ok(error instanceof DatabaseError, String(error));
          assert.deepEqual([error.code, error.transient], ['query_failed', false], error.message);
          assert.ok(error.message.startsWith('results "reports": column "v", row 2: '), error.message);
          assert.ok(typeof value === 'object' || !error.message.includes(String(value)), error.message);
          return true;
        });
      }
      await onlyTables(dsn, ['results_kept']);
    });

    test('all bytes, every character and values of 20 MB', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const read = await openReader(t, dsn);
      const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
      let characters = '';
      for (let code = 0; code < 0x3000; code += 1) characters += String.fromCodePoint(code);
      const large = 'ü\\\n2345678901234567'.repeat(1_000_000);
      const blob = Buffer.alloc(20_000_000, 0xa5);
      const source = rows(
        [column('t', 'TEXT'), column('b', 'BYTES')],
        [
          [characters, bytes],
          [large, blob],
          ['', Buffer.alloc(0)],
        ],
      );
      await results.write(source, writeOptions('a'));
      assert.deepEqual(await read('SELECT sha2(t, 256), sha2(b, 256), length(t), length(b) FROM results_a'), [
        [sha256(characters), sha256(bytes), String(Buffer.byteLength(characters)), '256'],
        [sha256(large), sha256(blob), '20000000', '20000000'],
        [sha256(''), sha256(''), '0', '0'],
      ]);
    });

    test('what is distinct in the source is distinct in the table', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const read = await openReader(t, dsn);
      const values = ['a', 'A', 'ä', 'a ', 'a\0', ''];
      await results.write(
        rows(
          [column('t', 'TEXT')],
          values.map((value) => [value]),
        ),
        writeOptions('a'),
      );
      assert.deepEqual(await read('SELECT COUNT(DISTINCT t) FROM results_a'), [[String(values.length)]]);
    });

    test('columns of any name', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const names = [
        '',
        'a',
        'a',
        'A',
        'ä',
        'a_2',
        '; DROP TABLE x',
        '`"\'\\',
        'blank ',
        ' blank',
        '🎉',
        'x'.repeat(200),
        `${'x'.repeat(200)}y`,
        '@c0',
        'ß',
        'null\0',
      ];
      const { columns } = await results.write(
        rows(
          names.map((name) => column(name, 'BIGINT')),
          [names.map((_, index) => BigInt(index))],
        ),
        writeOptions('a'),
      );
      const made = columns.map(({ name }) => name);
      assert.deepEqual(made.slice(0, 6), ['column_1', 'a', 'a_3', 'A_4', 'ä_5', 'a_2']);
      assert.deepEqual(made.slice(6, 11), ['; DROP TABLE x', '`"\'\\', 'blank', ' blank', '\ufffd']);
      assert.ok(made[11]?.length === 64 && made[12]?.length === 64 && made[11] !== made[12]);
      const described = await execute(dsn, 'SHOW COLUMNS FROM results_a');
      assert.deepEqual(
        described.map(([name]) => name),
        made,
      );
      assert.deepEqual(await execute(dsn, 'SELECT * FROM results_a'), [
        names.map((_, index) => String(index)),
      ]);
    });

    test('names that the server takes for one are one to us', async (t) => {
      const dsn = await freshDatabase(t, server);
      const characters = Array.from({ length: 0xffff }, (_, code) => String.fromCharCode(code + 1)).filter(
        (one) => one.isWellFormed(),
      );
      const classes = new Map<string, Set<string>>();
      for (let at = 0; at < characters.length; at += 4_000) {
        const some = characters.slice(at, at + 4_000);
        const weights = some.map(
          (one) =>
            `HEX(WEIGHT_STRING(_utf8mb3 X'${Buffer.from(one).toString('hex')}' COLLATE utf8mb3_general_ci))`,
        );
        const [row = []] = await execute(dsn, `SELECT ${weights.join(', ')}`);
        for (const [index, weight] of row.entries()) {
          const known = classes.get(weight ?? '') ?? new Set();
          classes.set(weight ?? '', known.add(folded(some[index] ?? '')));
        }
      }
      assert.ok(classes.size > 60_000);
      assert.deepEqual(
        [...classes.values()].filter((keys) => keys.size > 1),
        [],
      );
    });

    test('the widest tables that the server makes, and none wider', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn, { column_types: 'source' });
      const kinds: readonly (readonly [Column['type'], Partial<Column>])[] = [
        ['TEXT', {}],
        ['BIGINT', {}],
        ['DECIMAL', {}],
        ['DECIMAL', { precision: 10, scale: 2 }],
        ['DATE', {}],
        ['TIMESTAMP', {}],
        ['BOOLEAN', {}],
        ['BYTES', {}],
        ['TEXT', { source_type: 'varchar(60)' }],
        ['TEXT', { source_type: 'char(9)' }],
        ['BYTES', { source_type: 'varbinary(50)' }],
        ['BYTES', { source_type: 'binary(20)' }],
      ];
      for (const [type, fields] of kinds) {
        const fits = (count: number) => {
          try {
            results.checkColumns(
              Array.from({ length: count }, (_, index) => column(`c${index}`, type, fields)),
            );
            return true;
          } catch (error) {
            assert.ok(error instanceof DatabaseError && !error.transient && error.code === 'query_failed');
            assert.match(error.message, /^results "reports": the result('s| has) \d+ columns/);
            return false;
          }
        };
        await results.ping(never()); // so that it knows the server
        let most = 1;
        for (let step = 512; step >= 1; step /= 2) if (fits(most + step)) most += step;
        const source = rows(
          Array.from({ length: most }, (_, index) => column(`c${index}`, type, fields)),
          [Array.from({ length: most }, () => null)],
        );
        const { columns } = await results.write(source, writeOptions('wide'));
        assert.equal(columns.length, most);
        // One more is too many for the server, too.
        const definitions = Array.from({ length: most + 1 }, (_, index) => `c${index} ${columns[0]?.type}`);
        const statement = `CREATE TABLE wider (${definitions.join(', ')}) ROW_FORMAT = DYNAMIC`;
        await assert.rejects(execute(dsn, statement), /Row size|Too many columns/, `${type}: ${most + 1}`);
      }
    });

    test('limits hold for what arrives', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const limited = (max_rows: number | null, max_bytes: number | null) =>
        results.write(numbers(5_000), writeOptions('a', { limits: { ...NO_LIMITS, max_rows, max_bytes } }));
      await assert.rejects(limited(4_999, null), { code: 'limit_reached', message: /max_rows \(4999\)/ });
      await assert.rejects(limited(null, 50_000), { code: 'limit_reached', message: /max_bytes \(50000\)/ });
      await onlyTables(dsn, []);
      assert.equal((await limited(5_000, 1_000_000)).rows, 5_000);
    });

    test('a source that fails in mid-stream leaves nothing', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const failure = new Error('the source is gone');
      for (const count of [0, 1, 20_000]) {
        const source = numbers(count, async () => {
          throw failure;
        });
        await assert.rejects(results.write(source, writeOptions('a')), (error) => error === failure);
        await onlyTables(dsn, []);
      }
      await results.write(numbers(0), writeOptions('a'));
      assert.deepEqual(await execute(dsn, 'SELECT COUNT(*) FROM results_a'), [['0']]);
    });

    test('confirm is awaited before the table can be seen, and its refusal is final', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      await results.write(numbers(3), writeOptions('kept'));
      const refusal = new Error('the lease is lost');
      for (const job_id of ['kept', 'new']) {
        let asked = 0;
        const confirm = async () => {
          asked += 1;
          assert.deepEqual(await execute(dsn, 'SELECT COUNT(*) FROM results_kept'), [['3']]);
          throw refusal;
        };
        await assert.rejects(
          results.write(numbers(5), writeOptions(job_id, { confirm })),
          (error) => error === refusal,
        );
        assert.equal(asked, 1);
      }
      await onlyTables(dsn, ['results_kept']);
      assert.equal((await catalogued(dsn, 'kept'))?.['rows'], '3');
    });

    test('an attempt that was overtaken is refused; another store takes over', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      await results.write(numbers(3), writeOptions('a', { owner: owner('a', { fence: 8 }) }));
      await assert.rejects(
        results.write(numbers(5), writeOptions('a', { owner: owner('a', { fence: 7 }) })),
        {
          code: 'fenced',
        },
      );
      await assert.rejects(
        results.write(
          numbers(5),
          writeOptions('a', {
            owner: owner('a', { fence: 9 }),
            confirm: async () => {
              await results.write(numbers(7), writeOptions('a', { owner: owner('a', { fence: 10 }) }));
            },
          }),
        ),
        { code: 'fenced' },
      );
      assert.equal((await catalogued(dsn, 'a'))?.['rows'], '7');
      await onlyTables(dsn, ['results_a']);
      // Dropped is not forgotten.
      assert.equal(await results.drop('a', 9), false);
      assert.equal(await results.drop('a', 10), true);
      assert.equal(await results.drop('a'), false);
      await assert.rejects(
        results.write(numbers(5), writeOptions('a', { owner: owner('a', { fence: 9 }) })),
        {
          code: 'fenced',
        },
      );
      await results.write(
        numbers(1),
        writeOptions('a', { owner: owner('a', { fence: 1, store_id: 'another' }) }),
      );
      assert.equal((await catalogued(dsn, 'a'))?.['store_id'], 'another');
      await onlyTables(dsn, ['results_a']);
    });

    test('names that are taken', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const bare = await openResults(t, dsn, { results_table: '%s' });
      assert.equal((await results.write(numbers(1), writeOptions('Mine'))).table, 'results_Mine');
      assert.match(
        (await results.write(numbers(2), writeOptions('mine'))).table,
        /^results_mine_[0-9a-f]{12}$/,
      );
      await execute(dsn, 'CREATE TABLE results_theirs (a INT)');
      const { warnings } = await results.write(numbers(2), writeOptions('theirs'));
      assert.deepEqual(warnings, ['1 table of that name, not in the catalog, was replaced']);
      assert.equal((await catalogued(dsn, 'theirs'))?.['warnings'], JSON.stringify(warnings));
      await execute(dsn, 'CREATE TABLE users (a INT)');
      await execute(dsn, 'CREATE VIEW results_view AS SELECT 1');
      await assert.rejects(bare.write(numbers(1), writeOptions('users')), { code: 'table_conflict' });
      await assert.rejects(results.write(numbers(1), writeOptions('view')), { code: 'table_conflict' });
      assert.match(
        (await bare.write(numbers(1), writeOptions('dungbeetle_results'))).table,
        /^dungbeetle_results_[0-9a-f]{12}$/,
      );
      assert.equal((await results.write(numbers(1), writeOptions('x'.repeat(128)))).table.length, 64);
      assert.match(
        (await results.write(numbers(1), writeOptions(`${'-'.repeat(127)}x`))).table,
        /_[0-9a-f]{12,40}$/,
      );
      await assert.rejects(openResults(t, dsn, { results_table: 'dungbeetle_%s' }), TypeError);
      await assert.rejects(openResults(t, dsn, { results_table: 'results' }), TypeError);
    });

    test('a sweep drops what is expired, unwanted or left behind, and nothing else', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const fences = new Map<string, number>();
      for (const job_id of ['kept', 'dropped', 'undecided', 'live', 'expired', 'foreign']) {
        const by = owner(job_id, job_id === 'foreign' ? { store_id: 'another' } : {});
        fences.set(job_id, by.fence);
        const ttl_ms = job_id === 'expired' ? 0 : 3_600_000;
        await results.write(numbers(1), writeOptions(job_id, { owner: by, ttl_ms }));
      }
      const judged: string[] = [];
      const swept = await results.sweep({
        store_id: 'store',
        liveFences: async () => new Set([fences.get('live') ?? 0]),
        judge: async ({ job_id, seq }) => {
          judged.push(job_id);
          assert.equal(seq, 1);
          return job_id === 'kept' ? 'keep' : job_id === 'dropped' ? 'drop' : 'undecided';
        },
      });
      assert.deepEqual(swept, { expired: 1, orphans: 1 });
      assert.deepEqual(judged.toSorted(), ['dropped', 'kept', 'undecided']);
      await onlyTables(dsn, ['results_foreign', 'results_kept', 'results_live', 'results_undecided']);
      assert.equal((await catalogued(dsn, 'kept'))?.['settled'], '1');
      assert.equal((await catalogued(dsn, 'undecided'))?.['settled'], '0');
    });

    test('a table that a foreign key refers to is not replaced, and keeps no sweep from the others', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      await results.write(numbers(3), writeOptions('a:1'));
      await results.write(numbers(3), writeOptions('b', { ttl_ms: 1 }));
      await execute(dsn, 'ALTER TABLE `results_a:1` ADD UNIQUE INDEX (n)');
      await execute(
        dsn,
        'CREATE TABLE notes (n BIGINT, CONSTRAINT of_result FOREIGN KEY (n) REFERENCES `results_a:1` (n))',
      );
      await assert.rejects(results.write(numbers(5), writeOptions('a:1')), {
        code: 'table_conflict',
        message:
          /a foreign key of table .*notes.* \(.*of_result\) refers to the table "results_a:1".*: drop that key$/,
      });
      assert.deepEqual(await execute(dsn, 'SELECT COUNT(*) FROM `results_a:1`'), [['3']]);
      // Another that somebody drops all the same, with what its key holds.
      await results.write(numbers(3), writeOptions('c'));
      await execute(dsn, 'ALTER TABLE results_c ADD UNIQUE INDEX (n)');
      await execute(dsn, 'CREATE TABLE others (n BIGINT, FOREIGN KEY (n) REFERENCES results_c (n))');
      await results.drop('c').catch(() => false);
      const sweep = () =>
        results.sweep({ store_id: 'store', liveFences: async () => new Set(), judge: async () => 'keep' });
      await until('the table that has expired is dropped', async () => (await sweep()).expired > 0);
      assert.deepEqual(await execute(dsn, "SHOW TABLES LIKE 'results_b'"), []);
      await execute(dsn, 'DROP TABLE others');
      await sweep();
      await onlyTables(dsn, ['notes', 'results_a:1']);
      await execute(dsn, 'DROP TABLE notes');
      assert.equal((await results.write(numbers(5), writeOptions('a:1'))).rows, 5);
    });

    test('columns keep the types of a source like this where that is asked for', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn, { column_types: 'source' });
      const kinds: readonly (readonly [ColumnType, string, string, Partial<Column>?])[] = [
        ['BIGINT', 'int(11)', 'int(11)'],
        ['DECIMAL', 'bigint(20) unsigned', 'bigint(20) unsigned', { precision: 20, scale: 0 }],
        ['TEXT', 'varchar(20)', 'varchar(20)'],
        ['DECIMAL', 'decimal(10,2)', 'decimal(10,2)'],
        ['DOUBLE', 'float', 'float'],
        ['TIMESTAMP', 'datetime(3)', 'datetime(3)'],
        ['TIMESTAMPTZ', 'timestamp', 'timestamp'],
        ['TEXT', 'time(6)', 'time(6)'],
        ['BYTES', 'varbinary(5)', 'varbinary(5)'],
        ['TEXT', 'text', 'LONGTEXT'],
        ['TEXT', "enum('a','b')", 'LONGTEXT'],
        ['TEXT', 'int(11)', 'LONGTEXT'],
        ['BIGINT', 'int); DROP TABLE x; --', 'BIGINT'],
        ['TEXT', 'varchar(20000)', 'LONGTEXT'],
      ];
      const line =
        '1\t18446744073709551615\tgrüße\t1.50\t0.1\t2024-02-29 01:02:03.125\t2024-02-29 01:02:03+00\t-838:59:59.000000\t\\\\x00ff\tx\ta\t1\t2\ty\n';
      const { columns } = await results.write(
        text(
          kinds.map(([type, source_type, , fields], index) =>
            column(`c${index}`, type, { source_type, ...fields }),
          ),
          `${line}${kinds.map(() => '\\N').join('\t')}\n`,
        ),
        writeOptions('a'),
      );
      assert.deepEqual(
        columns.map(({ type }) => type),
        kinds.map(([, , made]) => made),
      );
      const read = await openReader(t, dsn);
      await read("SET time_zone = '+00:00'");
      assert.deepEqual(
        (await read('SELECT c0,c1,c2,c3,c4,c5,c6,c7,hex(c8),c9,c10,c11,c12,c13 FROM results_a'))[0],
        [
          '1',
          '18446744073709551615',
          'grüße',
          '1.50',
          '0.1',
          '2024-02-29 01:02:03.125',
          '2024-02-29 01:02:03',
          '-838:59:59.000000',
          '00FF',
          'x',
          'a',
          '1',
          '2',
          'y',
        ],
      );
    });

    test('an account with rights on the tables of its database alone', async (t) => {
      const dsn = new URL(await freshDatabase(t, server));
      const database = dsn.pathname.slice(1);
      await execute(dsn.href, `CREATE USER ${database} IDENTIFIED BY 'a'`);
      t.after(() => execute(dsn.href, `DROP USER ${database}`));
      await execute(
        dsn.href,
        `GRANT CREATE, DROP, ALTER, INSERT, SELECT, UPDATE, DELETE ON ${database}.* TO ${database}`,
      );
      const account = new URL(dsn);
      account.username = database;
      account.password = 'a';
      const results = await openResults(t, account.href);
      await results.ping(never());
      await results.write(numbers(3), writeOptions('a'));
      await results.write(numbers(4), writeOptions('a'));
      // What does not fit is told all the same.
      const columns = [column('d', 'DECIMAL', { precision: 3, scale: 1 })];
      await assert.rejects(
        results.write(rows(columns, [['1.25']]), writeOptions('b')),
        /column "d".* rounded/,
      );
      assert.equal(await results.drop('a'), true);
      await onlyTables(dsn.href, []);
    });

    test('settings of the DSN count, but for those that a report relies on', async (t) => {
      const dsn = new URL(await freshDatabase(t, server));
      const columns = [column('d', 'DECIMAL', { precision: 3, scale: 1 })];
      // A server that keeps no warning in words counts them still.
      dsn.searchParams.set('max_error_count', '0');
      dsn.searchParams.set('sql_mode', '');
      dsn.searchParams.set('sql_notes', '0');
      const loose = await openResults(t, dsn.href);
      await assert.rejects(
        loose.write(rows(columns, [['1.25']]), writeOptions('a')),
        /cannot be stored|rounded/,
      );
      await loose.write(numbers(3), writeOptions('a'));
      dsn.searchParams.set('default_storage_engine', 'no such engine');
      const broken = await openResults(t, dsn.href);
      await assert.rejects(
        broken.ping(never()),
        /^DatabaseError: results "reports": Unknown storage engine .*\(error 1286\)$/,
      );
    });

    for (const demand of KEYS[server.name.startsWith('mariadb') ? 'mariadb' : 'mysql']) {
      test(`where tables must have a primary key (${demand}), SELECT * gives the query's columns`, async (t) => {
        const dsn = new URL(await freshDatabase(t, server));
        dsn.searchParams.set(demand, 'ON');
        const results = await openResults(t, dsn.href);
        const columns = [
          column('my_row_id', 'BIGINT'),
          column('dungbeetle_row', 'TEXT'),
          column('b', 'BYTES'),
        ];
        const values = Array.from({ length: 500 }, (_, index) => [BigInt(500 - index), `${index}`, null]);
        await results.write(rows(columns, values), writeOptions('a'));
        assert.deepEqual(
          await execute(dsn.href, 'SELECT * FROM results_a'),
          values.map(([n, text]) => [String(n), text, null]),
        );
        await results.write(numbers(3), writeOptions('a'));
        assert.deepEqual(await execute(dsn.href, 'SELECT n FROM results_a'), [['1'], ['2'], ['3']]);
        const most = Array.from({ length: 997 }, (_, index) => column(`c${index}`, 'BIGINT'));
        await results.write(rows(most.slice(1), [most.slice(1).map(() => 1n)]), writeOptions('b'));
        assert.throws(() => results.checkColumns(most), /997 columns take \d+ bytes in InnoDB's page/);
        assert.equal(await results.drop('a'), true);
        assert.equal(await results.drop('b'), true);
        await onlyTables(dsn.href, []);
      });
    }

    test('a newer schema is refused', async (t) => {
      const dsn = await freshDatabase(t, server);
      await (await openResults(t, dsn)).ping(never());
      await execute(dsn, "ALTER TABLE dungbeetle_results COMMENT = 'dungbeetle schema 2'");
      const results = await openResults(t, dsn);
      await assert.rejects(results.ping(never()), {
        code: 'unavailable',
        transient: false,
        message: /version 2/,
      });
      await assert.rejects(results.write(numbers(1), writeOptions('a')), /version 2/);
    });
  });
}

function sha256(data: string | Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}
