/** Arguments and passwords stay out of errors, answers and the log. Every server of these tests is watched for that. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { freshDatabase } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { at, eventsOf, launch, onlyTables, PAIRS, resultsServer, SECRET, setup, skipOf } from './support.ts';

/** Queries that fail because of the argument's value, in ways in which servers quote it. */
const FAILING: Readonly<Record<string, readonly string[]>> = {
  postgres: [
    'SELECT $1::int AS n',
    'SELECT 1 AS n WHERE now() > $1::timestamptz',
    'SELECT $1::text::numeric AS n',
    "SELECT ('{' || $1::text)::json AS n",
    'SELECT n FROM (SELECT 1 AS n) AS one WHERE $1::text ~ ($1::text || $2::text)',
    "SELECT set_config('work_mem', $1::text, false) AS n",
    "SELECT to_date($1::text, 'YYYY-MM-DD') AS day",
    'SELECT $1::text::regclass AS n',
  ],
  mysql: [
    'SELECT JSON_VALUE(?, ?) AS n, CAST(COLUMN_GET(?, 1 AS int) AS int) AS m',
    'SELECT (SELECT 1 UNION SELECT 2 WHERE ? <> 1) AS n',
    'SELECT 1 AS n WHERE ? REGEXP ?',
    "SELECT EXTRACTVALUE('<a/>', ?) AS n",
  ],
  clickhouse: [
    'SELECT toInt64(?) AS n',
    'SELECT toDateTime(?) AS n',
    'SELECT 1 AS n WHERE match(?, ?)',
    'SELECT toFixedString(?, 2) AS n',
    "SELECT throwIf(toString(?) > '') AS n",
  ],
};
const ARGUMENTS: Readonly<Record<string, readonly string[]>> = {
  'SELECT n FROM (SELECT 1 AS n) AS one WHERE $1::text ~ ($1::text || $2::text)': [SECRET, '('],
  'SELECT 1 AS n WHERE ? REGEXP ?': [SECRET, `${SECRET}(`],
  // Without parentheses it is a path that is not there, which MySQL takes.
  "SELECT EXTRACTVALUE('<a/>', ?) AS n": [`((${SECRET}`],
  'SELECT 1 AS n WHERE match(?, ?)': [SECRET, `${SECRET}(`],
};

suite('secrets', { concurrency: 2 }, () => {
  for (const [source, backend] of PAIRS) {
    test(`in failures of ${source.name}`, { skip: skipOf(source, backend) }, async (t) => {
      const dsn = await freshDatabase(t, source);
      const results = resultsServer(await freshDatabase(t, backend));
      const queries = FAILING[source.engine] ?? [];
      const word = source.engine === 'postgres' ? '$1::text' : '?';
      const place = setup(t, {
        tasks: [
          `-- name: word\nSELECT ${word} AS word\n`,
          ...queries.map((sql, index) => `-- name: failing_${index}\n-- raw: 1\n${sql}\n`),
        ].join(''),
        db: { app: at(dsn) },
        results: { reports: results.settings },
      });
      const server = await launch(t, place).started();
      // The answers, errors and lines of the log are looked through by the server's class.
      for (const [index, sql] of queries.entries()) {
        const most = Math.max(sql.split('?').length - 1, sql.includes('$2') ? 2 : 1);
        const args = ARGUMENTS[sql] ?? Array.from({ length: most }, () => SECRET);
        const job = await server.finished(await server.post(`failing_${index}`, { args }));
        assert.equal(job.state, 'FAILURE', `${sql} gives ${job.count} rows`);
        assert.match(job.error, /^db "app": ./);
        await until('the log tells of it', () => eventsOf(server, job.job_id).includes('failed'));
      }
      for (const args of [[], [SECRET, SECRET]]) {
        const job = await server.finished(await server.post('word', { args, retries: 5 }));
        assert.equal(job.state, 'FAILURE');
        assert.equal(job.attempt, 1);
        assert.match(job.error, /\b1\b.*argument|argument.*\b1\b/);
      }
      assert.equal((await server.request('POST', '/tasks/word/jobs', { args: [[SECRET]] })).http, 400);
      await onlyTables(results, []);
      assert.equal(await server.stop(), 0);
    });
  }
});
