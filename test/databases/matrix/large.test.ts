/** Every source with every results backend: large values arrive whole up to the bound, and not at all past it. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { Limits } from '../../../src/databases/database.ts';
import { NO_LIMITS, queryOptions, writeOptions } from '../support.ts';
import { BACKENDS, type BackendSide, SOURCES, type SourceSide } from './engines.ts';

/** Ten bytes, half of which are escaped somewhere or are no ASCII. */
const PATTERN = "xy\t\n\\'äö";
const BOUND = 100_000;

for (const from of SOURCES) {
  suite(`from ${from.name}`, { concurrency: true }, () => {
    for (const to of BACKENDS) {
      test(`large values to ${to.name}`, { skip: from.skip || to.skip }, async (t) => {
        const source = await from.open(t);
        const backend = await to.open(t);
        const text = (times: number) => from.repeat(PATTERN, times);
        // Of an expression, SQLite's values have no type, and MySQL takes texts for those.
        const asBytes = from.name === 'sqlite' && to.kinds.includes('mysql') ? null : from.asBytes;
        const limited = { ...NO_LIMITS, max_value_bytes: BOUND };
        const fails = (columns: readonly string[], limits: Limits, message: RegExp) =>
          assert.rejects(moved(source, backend, 'over', columns, limits), {
            code: 'limit_reached',
            transient: false,
            message,
          });

        for (const [times, limits] of [
          [7_001, limited],
          [BOUND / 10, limited],
          [120_000, NO_LIMITS],
        ] as const) {
          const arrived = await moved(source, backend, `text_${times}`, [text(times)], limits);
          assert.ok(arrived === PATTERN.repeat(times), `${times} times`);
          if (asBytes === null) continue;
          const bytes = await moved(
            source,
            backend,
            `bytes_${times}`,
            [asBytes(text(times))],
            limits,
            'BYTES',
          );
          assert.ok(bytes === `\\x${Buffer.from(PATTERN).toString('hex').repeat(times)}`, `${times} times`);
        }

        const over = text(BOUND / 10 + 1);
        const told =
          /^db "app": column "c"(, row 1)?: a value has more bytes than max_value_bytes \(100000\); let /;
        await fails([over], limited, told);
        await fails([text(BOUND)], limited, told);
        if (asBytes !== null) await fails([asBytes(over)], limited, told);
        const half = text(8_000);
        await fails(
          [half, half, half],
          limited,
          /^db "app": (row 1|a row): its values have more bytes than a row may have, 2 times max_value_bytes \(100000\); let /,
        );
        await fails(
          [over],
          { ...limited, max_bytes: BOUND / 2 },
          /^the result has more bytes than max_bytes \(50000\)$/,
        );
      });
    }
  });
}

/** The value of the column `c`, the first, as the backend prints it. */
async function moved(
  { source }: SourceSide,
  { backend, read }: BackendSide,
  job_id: string,
  columns: readonly string[],
  limits: Limits,
  type: 'TEXT' | 'BYTES' = 'TEXT',
): Promise<string | null> {
  const write = writeOptions(job_id, { limits });
  const names = columns.map((sql, index) => `${sql} AS c${index === 0 ? '' : index}`);
  await using result = await source.query(
    `SELECT 1 AS n, ${names.join(', ')}`,
    [],
    queryOptions(backend.accepts, { owner: write.owner, limits }),
  );
  const { table } = await backend.write(result, write);
  return read(table, type);
}
