/** What MySQL and MariaDB alone have, through the whole server and into every kind of results backend. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { freshDatabase, servers } from '../../support/services.ts';
import { at, launch, service, setup, skipOf } from './support.ts';

const postgres = service('postgres-18');
const mariadb = service('mariadb');

suite('MySQL and MariaDB as sources', { concurrency: 2 }, () => {
  for (const source of servers('mysql')) {
    test(source.name, { skip: skipOf(source, postgres, mariadb) }, async (t) => {
      const backends = ['to_postgres', 'to_mariadb', 'to_sqlite'];
      const tasks = `
-- name: cut
SELECT GROUP_CONCAT(REPEAT('x', 10)) AS list FROM (SELECT 1 UNION SELECT 2) two
-- name: allowed
-- allow_cut: 1
SELECT GROUP_CONCAT(REPEAT('x', 10)) AS list FROM (SELECT 1 UNION SELECT 2) two
-- name: divided
SELECT 1 / 0 AS a, 1 AS b`;
      const app = new URL(await freshDatabase(t, source));
      app.searchParams.set('group_concat_max_len', '15');
      const place = setup(t, {
        tasks,
        db: { app: at(app.href) },
        results: {
          to_postgres: at(await freshDatabase(t, postgres)),
          to_mariadb: at(await freshDatabase(t, mariadb)),
          to_sqlite: { type: 'sqlite', dsn: 'results.db' },
        },
      });
      const server = await launch(t, place).started();
      for (const results of backends) {
        const run = async (task: string) => {
          const job_id = await server.post(task, { results, job_id: `${task}-${results}` });
          return server.finished(job_id);
        };
        const cut = await run('cut');
        assert.equal(cut.state, 'FAILURE');
        assert.match(cut.error, /was cut by GROUP_CONCAT\(\) \(warning 1260\)/i);
        const allowed = await run('allowed');
        assert.equal(allowed.state, 'SUCCESS', allowed.error);
        assert.match(
          allowed.result?.warnings.join('\n') ?? '',
          /^the server warned once: .*\(warning 1260\)$/,
        );
        const divided = await run('divided');
        assert.equal(divided.state, 'SUCCESS', divided.error);
        assert.match(
          divided.result?.warnings.join('\n') ?? '',
          /^the server warned once: .*\(warning 1365\)$/,
        );
      }
    });
  }
});
