/** Behind a pooler, whose sessions others have used before and will use afterwards. */
import assert from 'node:assert/strict';
import { suite, type TestContext, test } from 'node:test';
import pg from 'pg';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { marker } from '../../../src/databases/postgres/marker.ts';
import { noPgbouncer, pooled } from '../../support/pgbouncer.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { closing, never, owner, queryOptions, writeOptions } from '../support.ts';
import { openResults } from './results-support.ts';
import { chunksOf, openSource, rowsOf, streamOf } from './source-support.ts';

const BINARY = [{ encoding: 'pg-binary', types: 'standard' }] as const;

/** What decides what a query reads, and in which form it gives it. */
const VALUES = `SELECT (SELECT name FROM whose), '\\x00ff'::bytea, 0.1::float8 + 0.2, 1.1::float4, '2024-02-01'::date,
  interval '1 day 2 hours', ARRAY[0.1::float8 + 0.2], current_setting('TimeZone')`;
const expected = (schema: string) => [
  [
    `of ${schema}`,
    Buffer.from([0, 255]),
    0.30000000000000004,
    1.1,
    '2024-02-01',
    '1 day 02:00:00',
    '{0.30000000000000004}',
    'Asia/Kolkata',
  ],
];

async function refusal(promise: Promise<unknown>): Promise<DatabaseError> {
  const error = await promise.then(
    () => null,
    (caught: unknown) => caught,
  );
  assert.ok(error instanceof DatabaseError, String(error));
  return error;
}

for (const server of servers('postgres')) {
  suite(`behind a pooler, ${server.name}`, { skip: server.skip || noPgbouncer() }, () => {
    /** A database with two schemas that have the same table, and a pooler that lends out one session or two. */
    async function setUp(t: TestContext, sessions: number) {
      const direct = await freshDatabase(t, server);
      await execute(
        direct,
        `CREATE SCHEMA one; CREATE TABLE one.whose AS SELECT 'of one' AS name;
         CREATE SCHEMA two; CREATE TABLE two.whose AS SELECT 'of two' AS name`,
      );
      const dsn = await pooled(t, direct, sessions);
      return {
        direct,
        dsn,
        of: (schema: string) => {
          const url = new URL(dsn);
          url.search = `options=-c%20search_path%3D${schema}%20-c%20TimeZone=Asia/Kolkata`;
          return url.href;
        },
      };
    }

    for (const sessions of [1, 2]) {
      test(`jobs read their own schema in an exact form, and leave no setting: sessions lent out: ${sessions}`, async (t) => {
        const { dsn, of } = await setUp(t, sessions);
        const spoiler = new pg.Client(dsn);
        await spoiler.connect();
        closing(t, () => spoiler.end());
        const ALL = `SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) AS all FROM pg_settings
          WHERE name NOT IN ('client_encoding', 'application_name', 'transaction_read_only')`;
        // As other clients of such poolers do.
        for (let n = 0; n < sessions; n += 1) {
          await spoiler.query(
            "SET extra_float_digits = -3; SET bytea_output = 'escape'; SET DateStyle = 'German'; SET IntervalStyle = 'iso_8601'; SET search_path = pg_catalog",
          );
        }
        const settings = new Set<string>();
        for (let n = 0; n < 4; n += 1) settings.add((await spoiler.query(ALL)).rows[0]?.all);
        const jobs = await Promise.all(
          ['one', 'two'].map(async (schema) => ({ schema, source: await openSource(t, of(schema)) })),
        );
        for (let round = 0; round < 4; round += 1) {
          await Promise.all(
            jobs.flatMap(({ schema, source }) => [
              ...[1, 2].map(async () => {
                assert.deepEqual(await rowsOf(source, VALUES), expected(schema));
              }),
              ...[1, 2].map(async () => {
                const sql = 'SELECT name, 0.1::float4 AS f FROM whose';
                await using result = await source.query(sql, [], queryOptions(BINARY));
                const { data } = await chunksOf(result);
                assert.match(data.toString('latin1'), new RegExp(`of ${schema}`));
                assert.equal(data.readDoubleBE(data.length - 8), 0.1);
              }),
              source.prepare('SELECT * FROM whose', never()),
              source.ping(never()),
            ]),
          );
        }
        for (let n = 0; n < 4; n += 1) settings.add((await spoiler.query(ALL)).rows[0]?.all);
        const tidy = [...settings].map((each) => each.replaceAll(/ (config_file|data_directory)=\S+/g, ''));
        assert.equal(new Set(tidy).size, sessions === 1 ? 1 : tidy.length);
        assert.ok(tidy.length <= sessions, tidy.join('\n'));
      });
    }

    test('a query that nobody wants ends in the server', async (t) => {
      const { direct, dsn } = await setUp(t, 2);
      await execute(
        direct,
        `CREATE FUNCTION stubborn() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
           LOOP BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$`,
      );
      const source = await openSource(t, dsn);
      for (const sql of ['SELECT pg_sleep(1000)', 'SELECT stubborn()']) {
        const asker = owner('endless');
        const running = async () =>
          (
            await execute(
              direct,
              `SELECT 1 FROM pg_stat_activity WHERE application_name = '${marker(asker)}'`,
            )
          ).length > 0;
        const cancel = new AbortController();
        await using result = await source.query(
          sql,
          [],
          queryOptions(BINARY, { owner: asker, signal: cancel.signal }),
        );
        const reading = assert.rejects(async () => {
          for await (const _ of streamOf(result.body));
        }, /not wanted/);
        await until('it runs', running);
        cancel.abort(new Error('not wanted'));
        await reading;
        await until('it has ended', async () => !(await running()));
      }
    });

    test('a results backend is refused with the reason, or has a session of its own', async (t) => {
      const { direct, dsn } = await setUp(t, 3);
      const results = await openResults(t, dsn);
      for (const attempt of [
        () => results.ping(never()),
        async () => results.write(await numbersOf(t, dsn), writeOptions('job')),
      ]) {
        const error = await refusal(attempt());
        assert.equal(error.transient, false);
        assert.match(error.message, /results "reports": it is behind a connection pooler that gives each/);
        assert.match(error.message, /name the server itself, or a pool in session mode/);
      }
      assert.deepEqual(
        await execute(
          dsn,
          "SELECT name FROM pg_settings WHERE source = 'session' AND name <> 'application_name'",
        ),
        [],
      );
      const sessionMode = await openResults(t, await pooled(t, direct, 8, 'session'));
      await sessionMode.ping(never());
      const { rows } = await sessionMode.write(await numbersOf(t, direct), writeOptions('job'));
      assert.equal(rows, 3);
    });

    test('a pooler in statement mode is refused with the reason', async (t) => {
      const dsn = await pooled(t, await freshDatabase(t, server), 2, 'statement');
      const source = await openSource(t, dsn);
      const results = await openResults(t, dsn);
      for (const each of [source, results]) {
        const error = await refusal(each.ping(never()));
        assert.equal(error.transient, false);
        assert.match(error.message, /statement pooling mode: set the pooler's pool_mode/);
      }
    });
  });
}

async function numbersOf(t: TestContext, dsn: string) {
  const source = await openSource(t, dsn);
  return source.query('SELECT n FROM generate_series(1, 3) AS n', [], queryOptions(BINARY));
}
