/** Every source with every results backend: each value arrives as the source prints it, or the job says why not. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { ColumnType } from '../../../src/databases/database.ts';
import { DatabaseError } from '../../../src/databases/errors.ts';
import { queryOptions, writeOptions } from '../support.ts';
import type { Case } from './cases.ts';
import { BACKENDS, type BackendSide, SOURCES, type SourceSide } from './engines.ts';

/** Cases under way at once. */
const AT_ONCE = 8;

for (const from of SOURCES) {
  suite(`from ${from.name}`, { concurrency: true }, () => {
    for (const to of BACKENDS) {
      test(`to ${to.name}`, { skip: from.skip || to.skip }, async (t) => {
        const source = await from.open(t);
        const backend = await to.open(t);
        const wrong: string[] = [];
        const left = [...from.cases.entries()];
        await Promise.all(
          Array.from({ length: AT_ONCE }, async () => {
            for (let next = left.shift(); next !== undefined; next = left.shift()) {
              const [index, each] = next;
              const outcome = await moved(source, backend, `case_${index}`, each);
              const otherwise = to.kinds.map((kind) => each[kind]).find((one) => one !== undefined);
              const expected = otherwise ?? (await arrival(source, each, outcome.type));
              if (outcome.what !== expected)
                wrong.push(`${each.sql}: ${outcome.what} where ${expected} was due`);
            }
          }),
        );
        assert.deepEqual(wrong, []);
        assert.ok(from.cases.length > 20);
      });
    }
  });
}

interface Outcome {
  /** "refused", "warned", or "<value>" as it arrived. */
  readonly what: string;
  readonly type: ColumnType;
}

async function moved(
  { source }: SourceSide,
  { backend, read }: BackendSide,
  job_id: string,
  { sql }: Case,
): Promise<Outcome> {
  const write = writeOptions(job_id);
  let type: ColumnType = 'ANY';
  try {
    await using result = await source.query(
      `SELECT ${sql} AS c`,
      [],
      queryOptions(backend.accepts, {
        owner: write.owner,
        onColumns: (columns) => {
          type = columns[0]?.type ?? 'ANY';
          backend.checkColumns(columns);
        },
      }),
    );
    const { table, rows, warnings } = await backend.write(result, write);
    assert.equal(rows, 1);
    const value = await read(table, type);
    if (warnings.length > 0) return { what: 'warned', type };
    return { what: shown(value, type), type };
  } catch (error) {
    // What failed for another reason than the value is no answer.
    if (!(error instanceof DatabaseError) || error.transient) return { what: String(error), type };
    const named = /column "?c"?[ ,:]/.test(error.message);
    return { what: named ? 'refused' : `refused without its column: ${error.message}`, type };
  }
}

async function arrival({ print }: SourceSide, { sql }: Case, type: ColumnType): Promise<string> {
  return shown(await print(sql), type);
}

/** A value in one form, whoever printed it. */
function shown(value: string | null, type: ColumnType): string {
  return value === null ? 'NULL' : `<${plain(value, type)}>`;
}

function plain(value: string, type: ColumnType): string {
  switch (type) {
    case 'DECIMAL':
      // A wider column shows more zeros.
      return /\.\d*$/.test(value) ? value.replace(/\.?0*$/, '') : value;
    case 'DOUBLE': {
      const number = Number(value.replace(/^(-?)inf(inity)?$/i, '$1Infinity'));
      return Object.is(number, -0) ? '-0' : String(number);
    }
    case 'BOOLEAN':
      return /^(t|true|1)$/.test(value) ? '1' : '0';
    case 'TIMESTAMP':
    case 'TIMESTAMPTZ':
      return value
        .replace('+00', '')
        .replace(/(\.\d*?)0+$/, '$1')
        .replace(/\.$/, '');
    default:
      return value;
  }
}
