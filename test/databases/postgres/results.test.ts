/** What ends up in Postgres: tables, names, values, the catalog. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { Column, ColumnType, Value } from '../../../src/databases/database.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { NO_LIMITS, never } from '../support.ts';
import {
  catalogued,
  column,
  count,
  int64,
  MANY,
  NUMBERS,
  numbers,
  openResults,
  options,
  reader,
  rejection,
  resultSet,
  rows,
  tables,
  text,
  tuple,
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

function failure(error: unknown): DatabaseError {
  assert.ok(error instanceof DatabaseError, String(error));
  return error;
}

for (const server of servers('postgres')) {
  suite(`results on ${server.name}`, { skip: server.skip }, () => {
    test('connections are renewed after so many tables', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn, { max_uses: 5 });
      const client = await reader(t, dsn);
      const sessions = new Set<number>();
      for (let n = 0; n < 40; n += 1) {
        await results.write(numbers(2), options(`job${n}`, {}, n % 2 === 0 ? {} : { attempt: 2 }));
        const { rows } = await client.query<{ pid: number }>(
          "SELECT pid FROM pg_stat_activity WHERE application_name = 'dungbeetle results' AND query ~ 'COPY' AND datname = current_database()",
        );
        for (const { pid } of rows) sessions.add(pid);
      }
      assert.ok(sessions.size >= 3, `${sessions.size} sessions`);
      assert.equal((await catalogued(client)).length, 40);
    });

    test('types of columns, and lines of text in them', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const lines = [
        '-9223372036854775808\t12.340\t0.1\t0044-03-15 00:00:00 BC\t2024-02-29 23:59:59.123456+00\t2024-02-29\t1\ta\\tb\\nc\\\\\t{"a":1,"a":1.0}\t\\\\x00ff\tx\n',
        '9223372036854775807\tNaN\t-Infinity\tinfinity\t-infinity\t0001-01-01 BC\t0\t\t[]\t\\\\x\t\\\\N\n',
        `${Array.from({ length: 11 }, () => '\\N').join('\t')}\n`,
      ];
      const written = await results.write(text(ALL, lines.join('')), options('a', { ttl_ms: 60_000 }));
      assert.deepEqual(
        written.columns.map(({ type }) => type),
        [
          'BIGINT',
          'NUMERIC',
          'DOUBLE PRECISION',
          'TIMESTAMP',
          'TIMESTAMPTZ',
          'DATE',
          'BOOLEAN',
          'TEXT',
          'JSON',
          'BYTEA',
          'TEXT',
        ],
      );
      const client = await reader(t, dsn);
      await client.query("SET TimeZone = 'UTC'");
      const { rows: read } = await client.query({
        text: `SELECT bigint::text, "decimal"::text, double::text, "timestamp"::text, timestamptz::text, date::text,
          "boolean"::text, "text", json::text, bytes::text, "any" FROM results_a`,
        rowMode: 'array',
      });
      assert.deepEqual(read, [
        [
          '-9223372036854775808',
          '12.340',
          '0.1',
          '0044-03-15 00:00:00 BC',
          '2024-02-29 23:59:59.123456+00',
          '2024-02-29',
          'true',
          'a\tb\nc\\',
          '{"a":1,"a":1.0}',
          '\\x00ff',
          'x',
        ],
        [
          '9223372036854775807',
          'NaN',
          '-Infinity',
          'infinity',
          '-infinity',
          '0001-01-01 BC',
          'false',
          '',
          '[]',
          '\\x',
          '\\N',
        ],
        Array.from({ length: 11 }, () => null),
      ]);
      const { rows: catalog } = await client.query('SELECT * FROM dungbeetle_results');
      const [row] = catalog;
      assert.equal(catalog.length, 1);
      assert.deepEqual(JSON.parse(row.columns), written.columns);
      assert.deepEqual(
        [row.job_id, row.table_name, row.task, row.store_id, row.attempt, row.rows, row.seq, row.settled],
        ['a', 'results_a', 'test', 'store', 1, '3', '1', false],
      );
      assert.equal(Number(row.expires_at), written.expires_at);
      assert.equal(Number(row.expires_at) - Number(row.created_at), 60_000);
      assert.ok(Math.abs(Number(row.created_at) - Date.now()) < 60_000);
    });

    for (const many of [3, MANY]) {
      test(`binary rows: ${many}`, async (t) => {
        const dsn = await freshDatabase(t, server);
        const results = await openResults(t, dsn);
        const seen: string[] = [];
        const table = await results.write(
          numbers(many),
          options('a', { onProgress: ({ phase, rows }) => seen.push(`${phase} ${rows}`) }),
        );
        assert.equal(table.rows, many);
        assert.deepEqual(table.warnings, []);
        const client = await reader(t, dsn);
        const { rows: read } = await client.query(
          'SELECT sum(n)::text, max(label), count(*)::int FROM results_a',
        );
        assert.deepEqual(read, [
          { sum: String((many * (many + 1)) / 2), max: many === 3 ? 'number 3' : 'number 9999', count: many },
        ]);
        assert.deepEqual(seen.slice(-2), [`load ${many}`, `publish ${many}`]);
        assert.deepEqual(await tables(client), ['results_a']);
      });
    }

    test("the source's own types, where it has them", async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn, { column_types: 'source' });
      const columns = [
        column('price', 'DECIMAL', { pg_type: 'numeric(10,2)' }),
        column('tags', 'TEXT', { pg_type: 'character varying(20)[]' }),
        column('plain', 'TEXT'),
      ];
      assert.deepEqual(results.accepts[0], { encoding: 'pg-binary', types: 'source' });
      const table = await results.write(text(columns, '1.50\t{a,b}\tx\n'), options('a'));
      assert.deepEqual(
        table.columns.map(({ type }) => type),
        ['numeric(10,2)', 'character varying(20)[]', 'TEXT'],
      );
      const sly = [column('x', 'TEXT', { pg_type: 'text); DROP TABLE dungbeetle_results; --' })];
      assert.match(String(await rejection(results.write(text(sly, 'x\n'), options('b')))), /not the name of/);
    });

    test('JS values', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const values: readonly Value[][] = [
        [
          2n ** 63n - 1n,
          12n,
          -0,
          '2024-02-29',
          '2024-02-29 10:00Z',
          '2024-02-29',
          1n,
          '\\.',
          '{"a":[1]}',
          new Uint8Array([0, 255]),
          new Uint8Array([1]),
        ],
        [
          '5',
          1.5,
          1e300,
          '2024-02-29T01:02:03.5',
          '2024-02-29 10:00:00+05:30',
          'infinity',
          true,
          'é',
          '1',
          null,
          1.5,
        ],
      ];
      const table = await results.write(rows(ALL, values), options('a'));
      assert.deepEqual(table.warnings, ['column "any": 1 binary values are kept as text (\\x…)']);
      const client = await reader(t, dsn);
      await client.query("SET TimeZone = 'UTC'");
      const { rows: read } = await client.query({
        text: `SELECT bigint::text, "decimal"::text, double::text, "timestamp"::text, timestamptz::text, date::text,
          "boolean"::text, "text", json::text, bytes::text, "any" FROM results_a`,
        rowMode: 'array',
      });
      assert.deepEqual(read, [
        [
          '9223372036854775807',
          '12',
          '-0',
          '2024-02-29 00:00:00',
          '2024-02-29 10:00:00+00',
          '2024-02-29',
          'true',
          '\\.',
          '{"a":[1]}',
          '\\x00ff',
          '\\x01',
        ],
        [
          '5',
          '1.5',
          '1e+300',
          '2024-02-29 01:02:03.5',
          '2024-02-29 04:30:00+00',
          'infinity',
          'true',
          'é',
          '1',
          null,
          '1.5',
        ],
      ]);
    });

    test('a value that its column cannot hold exactly fails the report, and is not repeated', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const refused: readonly [ColumnType, Exclude<Value, null>][] = [
        ['DATE', 'now'],
        ['DATE', '20240229'],
        ['DATE', '29/02/2024'],
        ['DATE', '2023-02-29'],
        ['DATE', 20240229n],
        ['TIMESTAMP', 'yesterday'],
        ['TIMESTAMP', '2024-02-29 10:00:00+02'],
        ['TIMESTAMP', '2024-02-29 10:00:00.123456789'],
        ['TIMESTAMP', 1700000000n],
        ['TIMESTAMPTZ', '2024-02-29 10:00:00'],
        ['BIGINT', 1.5],
        ['BIGINT', 2n ** 63n],
        ['BIGINT', 'abcdef'],
        ['DECIMAL', 'abcdef'],
        ['DOUBLE', '1e999'],
        ['BOOLEAN', 2n],
        ['BOOLEAN', 'on'],
        ['TEXT', new Uint8Array([0xff, 0xfe])],
        ['TEXT', 'half \ud800 pair'],
        ['TEXT', 'a\0b'],
        ['JSON', '{abcdef'],
        ['BYTES', 'abcdef'],
      ];
      for (const [type, value] of refused) {
        const columns = [column('fine', 'TEXT'), column('odd, "one": x', type)];
        const error = failure(
          await rejection(
            results.write(
              rows(columns, [
                ['x', null],
                ['y', value],
              ]),
              options('a'),
            ),
          ),
        );
        assert.equal(error.code, 'query_failed', error.message);
        assert.equal(error.transient, false, error.message);
        assert.match(
          error.message,
          /^results "reports": row 2, column "odd, "one": x": /,
          `${type} ${value}`,
        );
        assert.doesNotMatch(error.message, /abcdef|1700000000|29\/02|20240229(?!\))/, error.message);
      }
      // Bytes of which Postgres itself would not say the column.
      for (const bad of ['a\\0b', 'a\xff']) {
        async function* chunks() {
          yield { data: Buffer.from(`x\n${bad}\n`, 'latin1'), rows: 2 };
        }
        const set = resultSet([column('t', 'TEXT')], { encoding: 'copy-text', chunks: chunks() });
        const error = failure(await rejection(results.write(set, options('a'))));
        assert.match(error.message, /row 2, column "t": the value is (text with a NUL|not UTF-8)/);
        assert.equal(error.transient, false);
      }
      const client = await reader(t, dsn);
      assert.deepEqual(await tables(client), []);
      assert.deepEqual(await catalogued(client), []);
    });

    test('names of columns', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const names = [
        '',
        'a',
        'A',
        'a',
        'ctid',
        'CTID',
        'ctid_',
        'xmin',
        'oid',
        '"; drop',
        'é'.repeat(40),
        'x\0y',
      ];
      const line = `${names.map(() => 'v').join('\t')}\n`;
      const table = await results.write(
        text(
          names.map((name) => column(name, 'TEXT')),
          line,
        ),
        options('a'),
      );
      const client = await reader(t, dsn);
      const { fields, rows: read } = await client.query('SELECT * FROM results_a');
      assert.deepEqual(
        fields.map(({ name }) => name),
        table.columns.map(({ name }) => name),
      );
      assert.equal(Object.keys(read[0]).length, names.length);
      assert.deepEqual(
        fields.slice(0, 10).map(({ name }) => name),
        ['column_1', 'a', 'A_2', 'a_3', 'ctid_', 'CTID', 'ctid__2', 'xmin_', 'oid_', '"; drop'],
      );
    });

    test('no rows, and no columns', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const client = await reader(t, dsn);
      assert.equal((await results.write(numbers(0), options('a'))).rows, 0);
      assert.equal((await results.write(rows(NUMBERS, []), options('b'))).rows, 0);
      assert.equal((await results.write(text([], '\n\n'), options('c'))).rows, 2);
      assert.deepEqual(
        [
          await count(client, 'results_a'),
          await count(client, 'results_b'),
          await count(client, 'results_c'),
        ],
        [0, 0, 2],
      );
    });

    test('more columns than a table can have, and rows that do not fit', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const wide = (width: number) => Array.from({ length: width }, (_, n) => column(`c${n}`, 'BIGINT'));
      assert.throws(() => results.checkColumns(wide(1_601)), /1601 columns.*at most 1600/);
      results.checkColumns(wide(1_600));
      const line = (width: number) => `${Array.from({ length: width }, () => '1').join('\t')}\n`;
      assert.equal((await results.write(text(wide(1_000), line(1_000)), options('a'))).rows, 1);
      const error = failure(await rejection(results.write(text(wide(1_600), line(1_600)), options('b'))));
      assert.match(error.message, /too big.*8 kB/);
      assert.deepEqual([error.code, error.transient], ['query_failed', false]);
    });

    test('values of 20 MB', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const long = Buffer.alloc(20_000_000, 'long ');
      async function* chunks() {
        const whole = tuple([int64(1n), long]);
        for (let at = 0; at < whole.length; at += 65_537) {
          const data = whole.subarray(at, at + 65_537);
          yield { data, rows: at + data.length === whole.length ? 1 : 0 };
        }
      }
      await results.write(resultSet(NUMBERS, { encoding: 'pg-binary', chunks: chunks() }), options('a'));
      const read = await execute(
        dsn,
        "SELECT length(label), md5(label) = md5(repeat('long ', 4000000)) AS same FROM results_a",
      );
      assert.deepEqual(read, [['20000000', 't']]);
    });

    test('a job that runs again replaces its table and its row', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const client = await reader(t, dsn);
      for (const many of [5, MANY, 6]) {
        const table = await results.write(numbers(many), options('a'));
        assert.equal(table.table, 'results_a');
        assert.equal(await count(client, 'results_a'), many);
      }
      const { rows: catalog } = await client.query('SELECT rows, settled FROM dungbeetle_results');
      assert.deepEqual(catalog, [{ rows: '6', settled: false }]);
      assert.deepEqual(await tables(client), ['results_a']);
    });

    test('names of tables: long ones, ones of other jobs and of strangers', async (t) => {
      const dsn = await freshDatabase(t, server);
      const client = await reader(t, dsn);
      const results = await openResults(t, dsn);
      const long = 'x'.repeat(70);
      const hashed = await results.write(numbers(1), options(long));
      assert.match(hashed.table, /^results_x+_[0-9a-f]{12}$/);
      assert.equal(Buffer.byteLength(hashed.table), 63);
      const quoted = await results.write(numbers(1), options('"; DROP TABLE x; --'));
      assert.equal(await count(client, quoted.table.replaceAll('"', '""')), 1);
      assert.equal((await results.write(numbers(1), options('A'))).table, 'results_A');
      assert.equal((await results.write(numbers(1), options('a'))).table, 'results_a');

      await client.query('CREATE TABLE results_old (x int); CREATE VIEW results_view AS SELECT 1');
      const replaced = await results.write(numbers(2), options('old'));
      assert.deepEqual(replaced.warnings, ['1 table of that name, not in the catalog, was replaced']);
      assert.equal(await count(client, 'results_old'), 2);
      const view = failure(await rejection(results.write(numbers(1), options('view'))));
      assert.equal(view.code, 'table_conflict');
      assert.match(view.message, /a view "results_view"/);

      const bare = await openResults(t, dsn, { results_table: '%s' });
      await client.query('CREATE TABLE users (x int); CREATE TYPE mood AS ENUM ()');
      for (const job of ['users', 'mood']) {
        const error = failure(await rejection(bare.write(numbers(1), options(job))));
        assert.deepEqual([error.code, error.transient], ['table_conflict', false]);
      }
      // A job whose name under one template is another's under the other.
      assert.match((await bare.write(numbers(1), options('results_a'))).table, /^results_a_[0-9a-f]{12}$/);
      for (const own of ['dungbeetle_results', 'dungbeetle_fences', 'dungbeetle_results_pkey']) {
        assert.match((await bare.write(numbers(1), options(own))).table, new RegExp(`^${own}_[0-9a-f]{12}$`));
      }
      assert.deepEqual(await count(client, 'users'), 0);
    });

    test('the first schema of the search_path, whatever it is called', async (t) => {
      const dsn = await freshDatabase(t, server);
      const client = await reader(t, dsn);
      await client.query('CREATE SCHEMA "My ""own"""');
      const results = await openResults(
        t,
        `${dsn}?search_path=${encodeURIComponent('"My ""own""", public')}`,
      );
      await results.write(numbers(3), options('a'));
      assert.equal(await count(client, 'My ""own"""."results_a'), 3);
      const none = await openResults(t, `${dsn}?search_path=nowhere`);
      assert.match(
        failure(await rejection(none.write(numbers(1), options('a')))).message,
        /no schema that exists/,
      );
    });

    test('a newer attempt: one that has published, one that has begun, one of another store', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const client = await reader(t, dsn);
      await results.write(numbers(1), options('a', {}, { fence: 1010 }));
      for (const many of [2, MANY]) {
        const error = failure(
          await rejection(results.write(numbers(many), options('a', {}, { fence: 1009 }))),
        );
        assert.equal(error.code, 'fenced');
      }
      assert.equal(await count(client, 'results_a'), 1);
      // The same attempt may write again, and another store's fences say nothing.
      await results.write(numbers(2), options('a', {}, { fence: 1010 }));
      await results.write(numbers(3), options('a', {}, { fence: 1, store_id: 'another' }));
      assert.equal(await count(client, 'results_a'), 3);

      // Overtaken while it loads, and while it waits for its confirmation.
      for (const many of [2, MANY]) {
        const older = options(
          'b',
          {
            confirm: async () => {
              await assert.rejects(
                results.write(
                  numbers(2, {
                    before: () => {
                      throw new Error('the newer one fails');
                    },
                  }),
                  options('b', {}, { attempt: 2, fence: older.owner.fence + 1_000 }),
                ),
                /the newer one fails/,
              );
            },
          },
          { fence: 2_000 + many },
        );
        assert.equal(failure(await rejection(results.write(numbers(many), older))).code, 'fenced');
        await client.query("DELETE FROM dungbeetle_fences WHERE job_id = 'b'");
      }
      assert.deepEqual(await tables(client), ['results_a']);
    });

    test('dropping', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const client = await reader(t, dsn);
      assert.equal(await results.drop('a'), false);
      await results.write(numbers(1), options('a', {}, { fence: 500 }));
      assert.equal(await results.drop('a', 499), false);
      assert.equal(await results.drop('a', 500), true);
      assert.deepEqual(await tables(client), []);
      assert.deepEqual(await catalogued(client), []);
      // A zombie cannot bring it back.
      const zombie = failure(await rejection(results.write(numbers(1), options('a', {}, { fence: 499 }))));
      assert.equal(zombie.code, 'fenced');
      // What somebody has put in the place of our table stays.
      await results.write(numbers(1), options('a', {}, { fence: 501 }));
      await client.query('DROP TABLE results_a; CREATE VIEW results_a AS SELECT 1');
      assert.equal(await results.drop('a'), true);
      assert.equal(await count(client, 'results_a'), 1);
    });

    test('sweeping: expired tables, and those of attempts that were not wanted', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const others = await openResults(t, dsn);
      const client = await reader(t, dsn);
      for (const name of ['gone1', 'gone2', 'viewed']) {
        await results.write(numbers(1), options(name, { ttl_ms: 0 }));
      }
      await client.query('CREATE VIEW looks AS SELECT * FROM results_viewed');
      await results.write(numbers(1), options('later', { ttl_ms: 3_600_000 }, { seq: 7, fence: 901 }));
      await results.write(numbers(1), options('wanted', {}, { fence: 902, seq: 8 }));
      await results.write(numbers(1), options('unwanted', {}, { fence: 903, seq: 9 }));
      await results.write(numbers(1), options('undecided', {}, { fence: 904 }));
      await results.write(numbers(1), options('live', {}, { fence: 905 }));
      await results.write(numbers(1), options('foreign', {}, { fence: 906, store_id: 'another' }));
      const asked: string[] = [];
      const sweep = {
        store_id: 'store',
        liveFences: async () => new Set([905]),
        judge: async ({ job_id, fence, seq }: { job_id: string; fence: number; seq: number }) => {
          asked.push(`${job_id} ${fence} ${seq}`);
          if (job_id === 'unwanted') return 'drop';
          return job_id === 'undecided' || job_id === 'viewed' ? 'undecided' : 'keep';
        },
      } as const;
      const [one, other] = await Promise.all([
        results.sweep(sweep),
        others.sweep({ ...sweep, store_id: 'nobody' }),
      ]);
      // Both look for what has expired, one drops it.
      assert.deepEqual([one.expired + other.expired, one.orphans, other.orphans], [2, 1, 0]);
      const kept = ['foreign', 'later', 'live', 'undecided', 'viewed', 'wanted'].map(
        (name) => `results_${name}`,
      );
      assert.deepEqual(await tables(client), kept);
      assert.deepEqual(await catalogued(client), kept);
      assert.ok(asked.includes('later 901 7') && asked.includes('unwanted 903 9'));
      asked.splice(0);
      assert.deepEqual(await results.sweep(sweep), { expired: 0, orphans: 0 });
      assert.deepEqual(
        asked.toSorted().map((line) => line.split(' ')[0]),
        ['undecided', 'viewed'],
      );
    });

    test('limits', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const client = await reader(t, dsn);
      for (const many of [11, MANY]) {
        const limits = { ...NO_LIMITS, max_rows: many - 1 };
        const error = failure(await rejection(results.write(numbers(many), options('a', { limits }))));
        assert.deepEqual([error.code, error.transient], ['limit_reached', false], error.message);
        const small = { ...NO_LIMITS, max_bytes: many * 10 };
        const other = failure(await rejection(results.write(numbers(many), options('a', { limits: small }))));
        assert.equal(other.code, 'limit_reached', other.message);
      }
      assert.deepEqual(await tables(client), []);
      const fits = { ...NO_LIMITS, max_rows: 11 };
      assert.equal((await results.write(numbers(11), options('a', { limits: fits }))).rows, 11);
    });

    test('what the source warns of is told with the table', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const { body } = numbers(1);
      const table = await results.write(resultSet(NUMBERS, body, ['2 dates are NULL']), options('a'));
      assert.deepEqual(table.warnings, ['2 dates are NULL']);
      const catalog = await execute(dsn, 'SELECT warnings FROM dungbeetle_results');
      assert.deepEqual(catalog, [['["2 dates are NULL"]']]);
    });

    test('unlogged: large tables only', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn, { unlogged: true });
      await results.write(numbers(3), options('small'));
      await results.write(numbers(MANY), options('large'));
      const kinds = await execute(
        dsn,
        "SELECT relname, relpersistence FROM pg_class WHERE relname LIKE 'results_%' AND relkind = 'r' ORDER BY 1",
      );
      assert.deepEqual(kinds, [
        ['results_large', 'u'],
        ['results_small', 'p'],
      ]);
    });

    test('a table of short rows has no TOAST table, and every other one has', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      const written = async (job_id: string, length: number) => {
        const { table } = await results.write(
          text([column('a', 'TEXT')], `${'x'.repeat(length)}\n`),
          options(job_id),
        );
        const [found] = await execute(
          dsn,
          `SELECT reltoastrelid <> 0, length(a) FROM pg_class, ${table} WHERE relname = '${table}'`,
        );
        return found;
      };
      assert.deepEqual(await written('short', 500), ['f', '500']);
      assert.deepEqual(await written('long', 5_000), ['t', '5000']);
      // Over the page: it must not matter that it is one row.
      assert.deepEqual(await written('longer', 100_000), ['t', '100000']);
      // Whoever makes a column of it larger is given one.
      await execute(dsn, 'ALTER TABLE results_short ALTER a SET STORAGE EXTENDED');
      await execute(dsn, "UPDATE results_short SET a = repeat(md5('x'), 1000)");
      assert.deepEqual(await execute(dsn, 'SELECT length(a) FROM results_short'), [['32000']]);
      // Replaced by one that is none.
      await results.write(text([column('a', 'TEXT')], `${'y'.repeat(9_000)}\n`), options('short'));
      assert.deepEqual(await execute(dsn, 'SELECT length(a) FROM results_short'), [['9000']]);
    });

    test('a count that the source got wrong publishes nothing', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      for (const many of [2, MANY]) {
        const { body } = numbers(many);
        assert.ok(body.encoding === 'pg-binary');
        const { chunks } = body;
        async function* wrong() {
          for await (const chunk of chunks) yield { ...chunk, rows: chunk.rows + 1 };
        }
        const set = resultSet(NUMBERS, { encoding: 'pg-binary', chunks: wrong() });
        const error = failure(await rejection(results.write(set, options('a'))));
        assert.match(error.message, /rows/);
        assert.equal(error.transient, true);
      }
      assert.deepEqual(await tables(await reader(t, dsn)), []);
    });

    test('a catalog of a later version is refused', async (t) => {
      const dsn = await freshDatabase(t, server);
      const first = await openResults(t, dsn);
      await first.write(numbers(1), options('a'));
      await execute(dsn, 'UPDATE dungbeetle_version SET version = 2');
      const second = await openResults(t, dsn);
      const error = failure(await rejection(second.write(numbers(1), options('a'))));
      assert.match(error.message, /version 2.*upgrade/);
      assert.equal(error.transient, false);
    });

    test('many processes make the catalog at once', async (t) => {
      const dsn = await freshDatabase(t, server);
      const backends = await Promise.all(Array.from({ length: 6 }, () => openResults(t, dsn)));
      await Promise.all(backends.map((results, n) => results.write(numbers(n), options(`job${n}`))));
      assert.equal((await catalogued(await reader(t, dsn))).length, 6);
    });

    test('a catalog that somebody dropped is made anew', async (t) => {
      const dsn = await freshDatabase(t, server);
      const results = await openResults(t, dsn);
      await Promise.all([1, 2, 3].map((n) => results.write(numbers(n), options(`job${n}`))));
      await execute(dsn, 'DROP SCHEMA public CASCADE; CREATE SCHEMA public');
      assert.equal((await results.write(numbers(1), options('a'))).rows, 1);
      assert.equal((await results.write(numbers(MANY), options('b'))).rows, MANY);
    });

    test('no right to create tables: a permanent error that says so', async (t) => {
      const dsn = await freshDatabase(t, server);
      const role = `reader_${process.pid}_${Date.now()}`;
      await execute(
        dsn,
        `CREATE ROLE ${role} LOGIN PASSWORD 'reader'; REVOKE CREATE ON SCHEMA public FROM public`,
      );
      t.after(async () => {
        await execute(server.dsn ?? '', `DROP ROLE IF EXISTS ${role}`);
      });
      const url = new URL(dsn);
      url.username = role;
      url.password = 'reader';
      const results = await openResults(t, url.href);
      await results.ping(never());
      const error = failure(await rejection(results.write(numbers(1), options('a'))));
      assert.match(error.message, /permission denied for schema public/);
      assert.equal(error.transient, false);
    });
  });
}
