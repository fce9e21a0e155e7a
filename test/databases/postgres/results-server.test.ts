/** Result tables on a server that is killed, restarted, turned read-only and full. */
import assert from 'node:assert/strict';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { mounted } from '../../support/mount.ts';
import { noPrivate, setReadOnly, startPrivate } from '../../support/private-server.ts';
import { execute } from '../../support/services.ts';
import { until } from '../../support/until.ts';
import { never } from '../support.ts';
import {
  catalogued,
  count,
  Gate,
  MANY,
  numbers,
  openResults,
  options,
  reader,
  rejection,
  tables,
} from './results-support.ts';

const SWEEP = {
  store_id: 'store',
  liveFences: async () => new Set<number>(),
  judge: async () => 'keep' as const,
};

function unavailable(error: unknown): void {
  assert.ok(error instanceof DatabaseError, String(error));
  assert.deepEqual([error.code, error.transient], ['unavailable', true], error.message);
}

for (const name of ['postgres-15', 'postgres-18'] as const) {
  suite(`the results server itself, ${name}`, { skip: noPrivate(name) }, () => {
    test('a job that is given up does not wait for a standby that is not there', async (t) => {
      const server = await startPrivate(t, name);
      const results = await openResults(t, server.dsn, { patience_ms: 60_000 });
      const look = await reader(t, server.dsn);
      await results.write(numbers(3), options('before'));
      await execute(server.dsn, "ALTER SYSTEM SET synchronous_standby_names = 'absent'");
      await execute(server.dsn, 'SELECT pg_reload_conf()');
      await until('it is in force', async () => {
        const { rows } = await look.query('SHOW synchronous_standby_names');
        return rows[0]?.synchronous_standby_names === 'absent';
      });
      for (const [job, rows, owner] of [
        ['together', 3, {}],
        ['alone', 3, { attempt: 2 }],
        ['staged', MANY, {}],
      ] as const) {
        const cancel = new AbortController();
        const written = results.write(numbers(rows), options(job, { signal: cancel.signal }, owner));
        await until('the commit waits', async () => {
          const { rows: waiting } = await look.query(
            "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
          );
          return waiting.length > 0;
        });
        cancel.abort(new Error('not wanted any more'));
        const table = await written;
        assert.equal(table.warnings.length, 1);
        assert.match(table.warnings[0] ?? '', /not confirmed by a synchronous standby/);
        assert.equal(await count(look, table.table), rows);
        // Nor does whoever tidies up.
        assert.equal(await results.drop(job), true);
      }
      assert.deepEqual(await results.sweep(SWEEP), { expired: 0, orphans: 0 });
    });

    test('killed, restarted and read-only', async (t) => {
      const server = await startPrivate(t, name);
      const results = await openResults(t, server.dsn, { unlogged: true, doubt_ms: 1_000 });
      await results.write(numbers(3), options('small'));
      await results.write(numbers(MANY), options('large'));

      // Killed while one report loads and another is about to be published.
      const gates = [new Gate(), new Gate()];
      const loading = results.write(
        numbers(MANY, { before: (sent) => (sent === MANY ? gates[0]?.pass() : undefined) }),
        options('loading'),
      );
      const confirming = results.write(
        numbers(MANY),
        options('confirming', { confirm: async () => gates[1]?.pass() }),
      );
      const failed = Promise.all([rejection(loading), rejection(confirming)]);
      await Promise.all(gates.map((gate) => gate.reached.promise));
      await server.kill();
      for (const gate of gates) gate.open();
      for (const error of await failed) unavailable(error);
      unavailable(await rejection(results.write(numbers(3), options('small'))));
      unavailable(await rejection(results.ping(never())));

      await server.start();
      await results.ping(never());
      const client = await reader(t, server.dsn);
      assert.deepEqual(await tables(client), ['results_large', 'results_small']);
      assert.equal(await count(client, 'results_small'), 3);
      // The crash has emptied it: half a result is none.
      assert.equal(await count(client, 'results_large'), 0);
      assert.deepEqual(await results.sweep(SWEEP), { expired: 0, orphans: 1 });
      assert.deepEqual(await tables(client), ['results_small']);
      assert.deepEqual(await catalogued(client), ['results_small']);
      for (const job of ['loading', 'confirming', 'large']) {
        assert.equal((await results.write(numbers(MANY), options(job))).rows, MANY);
      }
      assert.deepEqual(await results.sweep(SWEEP), { expired: 0, orphans: 0 });

      // Restarted in order: connections that were idle are gone, tables are not.
      await server.restart();
      assert.equal((await results.write(numbers(4), options('small'))).rows, 4);
      const again = await reader(t, server.dsn);
      assert.equal(await count(again, 'results_large'), MANY);
      assert.deepEqual(await results.sweep(SWEEP), { expired: 0, orphans: 0 });

      await setReadOnly(server, true);
      unavailable(await rejection(results.write(numbers(5), options('small'))));
      unavailable(await rejection(results.ping(never())));
      await setReadOnly(server, false);
      await until('it is heard', async () => (await results.ping(never()).catch(() => 'no')) !== 'no');
      assert.equal((await results.write(numbers(5), options('small'))).rows, 5);
    });

    test('a full disk', async (t) => {
      const folder = mounted(t, 'size=110m');
      if (folder === null) return;
      chmodSync(folder, 0o777);
      const server = await startPrivate(t, name, { dataFolder: join(folder, 'data') });
      // Unlogged: a log that fills first ends the server, which is another test's.
      const results = await openResults(t, server.dsn, { unlogged: true });
      await results.write(numbers(3), options('a'));
      const error = await rejection(results.write(numbers(3_000_000), options('a')), 60_000);
      unavailable(error);
      assert.match(String(error), /No space left/);
      // The room is free again, and what was there is there.
      await until('the server is well', async () => (await results.ping(never()).catch(() => 'no')) !== 'no');
      assert.deepEqual(await tables(await reader(t, server.dsn)), ['results_a']);
      assert.deepEqual(await execute(server.dsn, 'SELECT count(*) FROM results_a'), [['3']]);
      assert.equal((await results.write(numbers(MANY), options('a'))).rows, MANY);
    });
  });
}
