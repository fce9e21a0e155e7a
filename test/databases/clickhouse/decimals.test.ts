/** Long decimals in the first column, which carries the mark of the end in old versions: many rows, every digit. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { openClickhouseSource } from '../../../src/databases/clickhouse/source.ts';
import { freshDatabase, servers } from '../../support/services.ts';
import { closing } from '../support.ts';
import { queryOptions } from './source-support.ts';

for (const server of servers('clickhouse')) {
  suite(server.name, { skip: server.skip }, () => {
    test('long decimals come first and arrive whole', async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openClickhouseSource({
        name: 'app',
        dsn,
        max_active: 1,
        max_idle: 1,
        connect_timeout_ms: 5_000,
      });
      closing(t, () => source.close());
      const digits = `toDecimal128('99999999999999999999999999.${'1'.repeat(9)}', 9)`;
      await using result = await source.query(
        `SELECT ${digits} - number AS d, '' AS empty, number AS n FROM numbers(50000)`,
        [],
        queryOptions([{ encoding: 'rows' }]),
      );
      if (result.body.encoding !== 'rows') throw new Error('rows were asked for');
      let n = 0n;
      for await (const batch of result.body.batches) {
        for (const row of batch) {
          assert.deepEqual(row, [`${99999999999999999999999999n - n}.111111111`, '', String(n)]);
          n += 1n;
        }
      }
      assert.equal(n, 50_000n);
    });
  });
}
