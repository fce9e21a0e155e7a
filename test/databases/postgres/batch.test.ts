/** Batches of statements and their rows, on a connection that has something else to do. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { Batch } from '../../../src/databases/postgres/batch.ts';
import { connect, destroy } from '../../../src/databases/postgres/connect.ts';
import { clientConfig } from '../../../src/util/postgres/dsn.ts';
import { freshDatabase, servers } from '../../support/services.ts';
import { closing } from '../support.ts';
import { rejection } from './results-support.ts';

for (const server of servers('postgres')) {
  suite(`batches on ${server.name}`, { skip: server.skip }, () => {
    test('rows go behind their COPY, also where the answer before is not complete', async (t) => {
      const config = clientConfig(await freshDatabase(t, server));
      const client = await connect({ config, connect_timeout_ms: 5_000 });
      closing(t, () => destroy(client));
      await client.query('CREATE TABLE t (x int)');
      const error = rejection(client.query('SELECT 1 / 0'));
      const batch = new Batch(
        client,
        'COPY t FROM STDIN; COPY t FROM STDIN; SELECT sum(x) FROM t',
        ['1\n2\n', '4\n'].map((lines) => Buffer.from(lines)),
      );
      assert.match(String(await error), /division by zero/);
      const answers = await batch.done;
      assert.deepEqual(
        answers.map(({ tag }) => tag),
        ['COPY 2', 'COPY 1', 'SELECT 1'],
      );
      assert.deepEqual(answers.at(-1)?.rows, [['7']]);
    });
  });
}
