/** Limits of results, and the end of their tables, between real databases. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { freshDatabase, runningQueries, servers } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { at, DIALECTS, launch, onlyTables, PAIRS, resultsServer, service, setup, skipOf } from './support.ts';

/** A query with so many columns. */
function wide(columns: number): string {
  return `SELECT ${Array.from({ length: columns }, (_, index) => `${index} AS c${index}`).join(', ')}`;
}

suite('limits and lifetimes', { concurrency: 2 }, () => {
  for (const [source, backend] of PAIRS) {
    const pair = `${source.name} to ${backend.name}`;
    test(`max_rows, max_bytes and columns, ${pair}`, { skip: skipOf(source, backend) }, async (t) => {
      assert.ok(source.engine !== 'redis');
      const { flood } = DIALECTS[source.engine];
      const dsn = await freshDatabase(t, source);
      const results = resultsServer(await freshDatabase(t, backend));
      const most = backend.engine === 'mysql' ? 1017 : 1600;
      const place = setup(t, {
        tasks: `
-- name: many_rows
-- max_rows: 60_000
${flood}
-- name: many_bytes
-- max_bytes: 2MB
${flood}
-- name: as_many_rows
-- max_rows: 3
SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3
-- name: wide
-- raw: 1
${wide(most + 1)}`,
        db: { app: at(dsn) },
        results: { reports: results.settings },
      });
      const server = await launch(t, place).started();
      const cases: readonly (readonly [string, RegExp])[] = [
        ['many_rows', /max_rows \(60000\)/],
        ['many_bytes', /max_bytes \(2000000\)/],
        ['wide', new RegExp(`\\b${most + 1}\\b.*\\b${most}\\b|\\b${most}\\b.*\\b${most + 1}\\b`)],
      ];
      for (const [task, message] of cases) {
        const job_id = `${source.name}-${task}`;
        await server.post(task, { job_id, retries: 3 });
        const job = await server.finished(job_id);
        assert.equal(job.state, 'FAILURE');
        assert.equal(job.attempt, 1, 'a retry would end in the same way');
        assert.match(job.error, message);
        await until('its query is gone in the source', async () =>
          (await runningQueries(dsn)).every(
            (query) => source.engine === 'clickhouse' && !query.id.includes(job_id),
          ),
        );
      }
      const exact = await server.finished(await server.post('as_many_rows', { job_id: 'exact' }));
      assert.equal(exact.state, 'SUCCESS', exact.error);
      await onlyTables(results, ['results_exact']);
    });
  }

  for (const backend of [service('postgres-15'), ...servers('mysql')]) {
    const source = service('postgres-18');
    const name = `tables on ${backend.name} expire, and go when their job is purged`;
    test(name, { skip: skipOf(source, backend) }, async (t) => {
      const results = resultsServer(await freshDatabase(t, backend));
      const place = setup(t, {
        tasks: `
-- name: one
SELECT 1 AS n
-- name: fleeting
-- ttl: 1
SELECT 1 AS n`,
        db: { app: at(await freshDatabase(t, source)) },
        results: { reports: { ...results.settings, results_ttl: '1h' } },
      });
      const server = await launch(t, place).started();
      const report = async (task: string, job_id: string, body: Record<string, unknown> = {}) => {
        await server.post(task, { job_id, ...body });
        const job = await server.finished(job_id);
        assert.equal(job.state, 'SUCCESS', job.error);
        const lifetime = Date.parse(job.result?.expires_at ?? '') - Date.now();
        assert.ok(Number.isFinite(lifetime), 'it says when it expires');
        return lifetime;
      };
      assert.ok((await report('one', 'kept')) > 3_000_000, 'as the backend says');
      assert.ok((await report('one', 'asked', { ttl: 1 })) <= 1_000, 'as the request says');
      assert.ok((await report('fleeting', 'tagged')) <= 1_000, 'as the task says');
      await report('one', 'purged');
      await onlyTables(results, ['results_kept', 'results_purged']);
      await until('the log tells of it', () => {
        const swept = server.log.filter((entry) => entry['event'] === 'swept');
        return swept.reduce((sum, entry) => sum + Number(entry['expired']), 0) === 2;
      });
      assert.equal((await server.request('DELETE', '/jobs/purged?purge=true')).http, 200);
      assert.equal((await server.request('GET', '/jobs/purged')).http, 404);
      await onlyTables(results, ['results_kept']);
    });
  }
});
