/** A Postgres that fails over to its standby, with nothing in between: DSNs name both. */
import assert from 'node:assert/strict';
import { appendFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { run } from '../../../scripts/services/processes.ts';
import { execute, noPrivate, type PrivateServer, startPrivate } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { launch, setup } from './support.ts';

/** The second follows the first by streaming replication. */
async function pair(t: TestContext): Promise<readonly [PrivateServer, PrivateServer]> {
  const [primary, standby] = await Promise.all([
    startPrivate(t, 'postgres-18'),
    startPrivate(t, 'postgres-18'),
  ]);
  await execute(primary.dsn, 'CREATE TABLE words (word TEXT)');
  await execute(primary.dsn, "INSERT INTO words VALUES ('one')");
  await Promise.all([primary.stop(), standby.stop()]);
  for (const name of readdirSync(standby.data)) {
    rmSync(join(standby.data, name), { recursive: true });
  }
  await run('cp', ['-R', '-p', `${primary.data}/.`, standby.data]);
  writeFileSync(join(standby.data, 'standby.signal'), '');
  const { username, password, port } = new URL(primary.dsn);
  appendFileSync(
    join(standby.data, 'postgresql.auto.conf'),
    `primary_conninfo = 'host=127.0.0.1 port=${port} user=${username} password=${password}'\n`,
  );
  await primary.start();
  await standby.start();
  return [primary, standby];
}

/** One DSN for both, the standby first. */
function both([primary, standby]: readonly [PrivateServer, PrivateServer], parameters: string): string {
  const url = new URL(primary.dsn);
  return `postgres://${url.username}:${url.password}@127.0.0.1:${standby.port},127.0.0.1:${primary.port}${url.pathname}?${parameters}`;
}

const skip = noPrivate('postgres-18');

test('store, results and source go on where the standby is promoted', { skip }, async (t) => {
  const servers = await pair(t);
  const [primary, standby] = servers;
  const place = setup(t, {
    tasks: '-- name: where\nSELECT pg_is_in_recovery() AS standby, word FROM words',
    db: { words: { type: 'postgres', dsn: both(servers, 'target_session_attrs=prefer-standby') } },
    // What is written wants the server that takes writes, without being told.
    results: { reports: { type: 'postgres', dsn: both(servers, 'sslmode=prefer'), connect_timeout: '2s' } },
    store: { type: 'postgres', dsn: both(servers, 'target_session_attrs=primary') },
  });
  const server = await launch(t, place).started();
  const first = await server.finished(await server.post('where', { job_id: 'first' }));
  assert.equal(first.state, 'SUCCESS', first.error);
  assert.deepEqual(await execute(primary.dsn, 'SELECT standby, word FROM results_first'), [['t', 'one']]);

  const [[lsn] = []] = await execute(primary.dsn, 'SELECT pg_current_wal_lsn()');
  await until('the standby has all of it', async () => {
    const [[has] = []] = await execute(standby.dsn, `SELECT pg_last_wal_replay_lsn() >= '${lsn}'::pg_lsn`);
    return has === 't';
  });
  await primary.kill();
  await execute(standby.dsn, 'SELECT pg_promote()');

  const posted = await until('the store takes jobs again', async () => {
    const answer = await server.request<{ job_id: string }>('POST', '/tasks/where/jobs', {
      job_id: 'second',
      retries: 3,
    });
    return [200, 409].includes(answer.http);
  });
  assert.ok(posted);
  const second = await server.finished('second');
  assert.equal(second.state, 'SUCCESS', second.error);
  assert.deepEqual(await execute(standby.dsn, 'SELECT standby, word FROM results_second'), [['f', 'one']]);
  assert.deepEqual(await execute(standby.dsn, 'SELECT count(*) FROM results_first'), [['1']]);
});
