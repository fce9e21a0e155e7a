/** A user's profile may cut answers short, or be odd in other ways: a result is whole, or an error with the reason. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clientConfig } from '../../../src/databases/clickhouse/dsn.ts';
import { Http, type RequestOptions } from '../../../src/databases/clickhouse/http.ts';
import { learnServer } from '../../../src/databases/clickhouse/server.ts';
import { noPrivate, startPrivate } from '../../support/private-server.ts';
import { execute, freshDatabase, servers } from '../../support/services.ts';
import { never } from '../support.ts';
import { openSource, rowsOf } from './source-support.ts';

/** As a user whose profile has readonly = 1. */
class ReadonlyHttp extends Http {
  override ask(sql: string, { parameters, signal }: RequestOptions): Promise<string> {
    return super.ask(sql, { parameters: { readonly: '1', ...parameters }, signal });
  }
}

const ROWS = 300_000;
const SKIP = noPrivate('clickhouse');

/** Each limit is reached by a query beside it, which the profile would have cut short. */
const CUT: readonly (readonly [string, RegExp])[] = [
  ['SELECT a FROM m', /code (158|396)/],
  ['SELECT count() FROM m', /code (158|396)/],
  ['SELECT count() FROM (SELECT number AS n FROM numbers(100000) GROUP BY n)', /GROUP BY exceeded.*code 158/],
  ['SELECT count() FROM (SELECT DISTINCT number FROM numbers(1000))', /DISTINCT exceeded.*code 191/],
  ['SELECT count() FROM numbers(1000) WHERE number IN (SELECT number FROM numbers(500))', /IN-set exceeded/],
  [
    'SELECT count() FROM numbers(9) ANY LEFT JOIN (SELECT number, 1 AS x FROM numbers(500)) USING number',
    /JOIN exceeded/,
  ],
];

test('a profile under which limits cut results short makes them errors', { skip: SKIP }, async (t) => {
  const limits = ['rows_to_read', 'rows_to_group_by', 'rows_in_distinct', 'rows_in_set', 'rows_in_join'];
  const modes = ['read', 'distinct', 'set', 'join', 'result', 'timeout', 'sort', 'transfer'];
  const server = await startPrivate(t, 'clickhouse', {
    settings: {
      ...Object.fromEntries(limits.map((name) => [`max_${name}`, '100'])),
      ...Object.fromEntries(modes.map((name) => [`${name}_overflow_mode`, 'break'])),
      group_by_overflow_mode: 'any',
      // Too small for the names of all settings: they are asked for without it.
      max_result_bytes: '1000',
    },
  });
  await execute(server.dsn, 'CREATE TABLE m (a UInt32) ENGINE = MergeTree ORDER BY a');
  await execute(server.dsn, `INSERT INTO m SELECT number FROM numbers(${ROWS})`);
  const source = await openSource(t, server.dsn);
  assert.deepEqual(await rowsOf(source, 'SELECT sum(number) FROM numbers(10)'), [['45']]);
  for (const [sql, message] of CUT) {
    await assert.rejects(rowsOf(source, sql), { code: 'query_failed', message }, sql);
  }
  // What one query may ask for is still its own affair.
  assert.deepEqual(await rowsOf(source, 'SELECT count() FROM m SETTINGS max_rows_to_read = 0'), [
    [String(ROWS)],
  ]);
});

test('outer joins that give NULL are the query’s own', { skip: SKIP }, async (t) => {
  const server = await startPrivate(t, 'clickhouse', { settings: { join_use_nulls: '1' } });
  const source = await openSource(t, server.dsn);
  const joined = "SELECT a, x FROM (SELECT 1 AS a) ANY LEFT JOIN (SELECT 2 AS a, 'x' AS x) USING a";
  assert.deepEqual(await rowsOf(source, joined), [[1n, null]]);
  assert.deepEqual(await rowsOf(source, 'SELECT a FROM (SELECT 1 AS a) WHERE a = ?', [1]), [[1n]]);
  assert.deepEqual(await rowsOf(source, `${joined} SETTINGS join_use_nulls = 0`), [[1n, '']]);
});

for (const server of servers('clickhouse')) {
  test(`outer joins that give NULL by the DSN or the query, on ${server.name}`, {
    skip: server.skip,
  }, async (t) => {
    const dsn = await freshDatabase(t, server);
    const joined = "SELECT a, x FROM (SELECT 1 AS a) ANY LEFT JOIN (SELECT 2 AS a, 'x' AS x) USING a";
    assert.deepEqual(await rowsOf(await openSource(t, `${dsn}?join_use_nulls=1`), joined), [[1n, null]]);
    const source = await openSource(t, dsn);
    assert.deepEqual(await rowsOf(source, joined), [[1n, '']]);
    assert.deepEqual(await rowsOf(source, `${joined} SETTINGS join_use_nulls = 1`), [[1n, null]]);
  });

  test(`what another library says on ${server.name} is told`, { skip: server.skip }, async (t) => {
    const source = await openSource(t, await freshDatabase(t, server));
    await assert.rejects(rowsOf(source, "SELECT * FROM url('http://127.0.0.1:1/', 'TSV', 'a UInt8')"), {
      code: 'unavailable',
      transient: true,
      message: /^db "app": Connection refused.*\(code 1000\)$/,
    });
  });

  test(`readonly = 1 on ${server.name} is refused with what to use instead`, {
    skip: server.skip,
  }, async (t) => {
    const config = clientConfig(await freshDatabase(t, server));
    const http = new ReadonlyHttp({ config, connect_timeout_ms: 5_000, max_idle: 1 });
    t.after(() => http.close());
    await assert.rejects(learnServer(http, {}, 'db "app"', never()), {
      code: 'query_failed',
      message: /^db "app": the user's profile has readonly = 1.*readonly = 2 is as safe/,
    });
  });
}
