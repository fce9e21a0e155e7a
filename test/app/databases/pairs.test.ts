/** Reports from every source to every results backend, asked for over HTTP. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { tempFolder } from '../../support/folder.ts';
import { execute, freshDatabase, type Service, servers } from '../../support/services.ts';
import type { Row } from '../../support/sql.ts';
import {
  at,
  BEFORE_GATE,
  closeGate,
  DIALECTS,
  launch,
  loading,
  onlyTables,
  type Results,
  resultsFile,
  resultsServer,
  SECRET,
  service,
  setup,
  skipOf,
} from './support.ts';

/** The same on every engine, in values that all of them print alike. */
const LEDGER: readonly Row[] = [
  ['1', '0.00', 'not asked for', '2024-01-01', '1'],
  ['2', '-12.50', 'tab\tline\nback\\slash \\N 漢字 😀', '1970-01-02', '0.1'],
  ['3', '99999999.99', '', '2024-02-29', '-1234.5'],
  ['9007199254740993', null, null, null, null],
  ['9223372036854775807', '0.01', '\\N', '2099-12-31', '0.30000000000000004'],
];

const LEDGERS = {
  postgres: {
    create:
      'CREATE TABLE ledger (id bigint, amount numeric(12,2), note text, day date, ratio double precision)',
    types: ['bigint', 'numeric(12,2)', 'text', 'date', 'double precision'],
    quote: (text: string) => `'${text}'`,
  },
  mysql: {
    create:
      'CREATE TABLE ledger (id bigint, amount decimal(12,2), note text CHARACTER SET utf8mb4, day date, ratio double)',
    types: ['bigint', 'decimal(12,2)', 'text', 'date', 'double'],
    quote: (text: string) => `'${text.replaceAll('\\', '\\\\')}'`,
  },
  clickhouse: {
    create: `CREATE TABLE ledger (id Int64, amount Nullable(Decimal(12,2)), note Nullable(String),
      day Nullable(Date), ratio Nullable(Float64)) ENGINE = Memory`,
    types: ['Int64', 'Nullable(Decimal(12, 2))', 'Nullable(String)', 'Nullable(Date)', 'Nullable(Float64)'],
    quote: (text: string) => `'${text.replaceAll('\\', '\\\\')}'`,
  },
} as const;

type SourceEngine = keyof typeof LEDGERS;

/** Of the result table's columns. */
const RESULT_TYPES = {
  postgres: ['BIGINT', 'NUMERIC', 'TEXT', 'DATE', 'DOUBLE PRECISION'],
  mysql: ['BIGINT', 'DECIMAL(12,2)', 'LONGTEXT', 'DATE', 'DOUBLE'],
  sqlite: ['BIGINT', 'TEXT', 'TEXT', 'DATE', 'DOUBLE'],
} as const;

async function ledgerIn(t: TestContext, server: Service): Promise<string> {
  const dsn = await freshDatabase(t, server);
  const { create, quote } = LEDGERS[engineOf(server)];
  await execute(dsn, create);
  const texts = [2, 3]; // numbers stand as they are
  const tuples = LEDGER.map((row) => {
    const values = row.map((value, index) =>
      value === null ? 'NULL' : texts.includes(index) ? quote(value) : value,
    );
    return `(${values.join(', ')})`;
  });
  await execute(dsn, `INSERT INTO ledger VALUES ${tuples.join(', ')}`);
  return dsn;
}

function engineOf({ engine }: Service): SourceEngine {
  assert.ok(engine !== 'redis');
  return engine;
}

const SOURCES = [service('postgres-18'), ...servers('mysql'), service('clickhouse')];
const BACKENDS = [
  ...[service('postgres-15'), ...servers('mysql')].map((server) => ({
    ...server,
    open: serverResults(server),
  })),
  {
    engine: 'sqlite' as const,
    name: 'sqlite',
    skip: false as const,
    open: async (t: TestContext) => resultsFile(join(tempFolder(t), 'results.db')),
  },
];

/** A test goes to all of them; those that are missing are told by the tests of each. */
const THERE = BACKENDS.filter(({ skip }) => skip === false);

function serverResults(server: Service): (t: TestContext) => Promise<Results> {
  return async (t) => resultsServer(await freshDatabase(t, server));
}

for (const source of SOURCES) {
  test(`${source.name} to every results backend`, { skip: skipOf(source) }, async (t) => {
    const engine = engineOf(source);
    const dsn = await ledgerIn(t, source);
    const backends = await Promise.all(
      THERE.map(async (backend) => ({ ...backend, results: await backend.open(t) })),
    );
    const { parameter } = DIALECTS[engine];
    const place = setup(t, {
      tasks: `-- name: entries
SELECT id, amount, note, day, ratio FROM ledger
WHERE id >= ${parameter(1)} AND (note IS NULL OR note <> ${parameter(2)}) ORDER BY id`,
      db: { app: at(dsn) },
      results: Object.fromEntries(backends.map(({ name, results }) => [name, results.settings])),
    });
    const server = await launch(t, place).started();
    for (const { name, engine: to, results } of backends) {
      const job_id = `from-${engine}-to-${name}`;
      const request = { job_id, args: ['2', SECRET], results: name };
      await server.post('entries', request);
      const job = await server.finished(job_id);
      assert.equal(job.state, 'SUCCESS', job.error);
      assert.equal(job.count, 4);
      assert.equal(job.result?.backend, name);
      assert.equal(job.result.table, `results_${job_id}`);
      assert.deepEqual(job.result.warnings, []);
      assert.deepEqual(
        job.result.columns,
        ['id', 'amount', 'note', 'day', 'ratio'].map((column, index) => ({
          name: column,
          type: RESULT_TYPES[to as keyof typeof RESULT_TYPES][index],
          source_type: LEDGERS[engine].types[index],
        })),
      );
      const found = await results.query(`SELECT * FROM ${quoted(to, `results_${job_id}`)}`);
      assert.deepEqual(found, LEDGER.slice(1), `${source.name} to ${name}`);
      await onlyTables(results, [`results_${job_id}`]);
    }
  });
}

for (const source of [service('postgres-18'), ...servers('mysql')]) {
  const name = `progress of a report that is under way from ${source.name}`;
  test(name, { skip: skipOf(source) }, async (t) => {
    const dsn = await freshDatabase(t, source);
    const open = await closeGate(t, dsn);
    const backends = await Promise.all(
      THERE.map(async (backend) => ({ ...backend, results: await backend.open(t) })),
    );
    const place = setup(t, {
      tasks: `-- name: gated\n${DIALECTS[source.engine === 'mysql' ? 'mysql' : 'postgres'].gated}`,
      db: { app: at(dsn) },
      results: Object.fromEntries(backends.map(({ name, results }) => [name, results.settings])),
    });
    const server = await launch(t, place).started();
    for (const { name } of backends) await server.post('gated', { job_id: name, results: name });
    for (const { name, results } of backends) {
      await loading(server, name);
      const { count, result, state } = await server.job(name);
      assert.deepEqual({ count, result, state }, { count: 0, result: null, state: 'STARTED' });
      assert.ok(!(await results.tables()).includes(`results_${name}`), 'nothing of it can be seen');
    }
    await open();
    for (const { name, engine, results } of backends) {
      const job = await server.finished(name);
      assert.equal(job.state, 'SUCCESS', job.error);
      assert.equal(job.count, BEFORE_GATE + 1);
      assert.equal(job.progress, null);
      const sum = ((BEFORE_GATE + 1) * (BEFORE_GATE + 2)) / 2;
      assert.deepEqual(
        await results.query(`SELECT count(*), sum(n) FROM ${quoted(engine, `results_${name}`)}`),
        [[String(BEFORE_GATE + 1), String(sum)]],
      );
      await onlyTables(results, [`results_${name}`]);
    }
  });
}

for (const backend of BACKENDS) {
  const source = service('postgres-18');
  const name = `readers of a table on ${backend.name} see it whole, whoever replaces it`;
  test(name, { skip: skipOf(source, backend) }, async (t) => {
    const results = await backend.open(t);
    const place = setup(t, {
      tasks:
        '-- name: numbers\nSELECT n, repeat(n::text, 5) AS label FROM generate_series(1, $1::int) AS numbers (n)',
      db: { app: at(await freshDatabase(t, source)) },
      results: { reports: results.settings },
    });
    const server = await launch(t, place).started();
    const report = async (size: number) => {
      await server.post('numbers', { job_id: 'again', args: [String(size)] });
      const job = await server.finished('again');
      assert.equal(job.state, 'SUCCESS', job.error);
      assert.equal(job.count, size);
    };
    // One that is held in memory until it is complete, one that is staged.
    const sizes = [10, 30_000];
    await report(10);
    let done = false;
    const seen: Row[] = [];
    const reading = (async () => {
      while (!done) {
        seen.push(...(await results.query('SELECT count(*), max(n) FROM results_again')));
        // A file is read without waiting for anything: others must get their turn.
        await setImmediate();
      }
    })();
    try {
      for (let round = 0; round < 4; round += 1) for (const size of sizes) await report(size);
    } finally {
      done = true;
    }
    await reading;
    const whole = sizes.map((size) => JSON.stringify([String(size), String(size)]));
    for (const row of seen) assert.ok(whole.includes(JSON.stringify(row)), `a reader saw ${row}`);
    assert.equal(new Set(seen.map((row) => JSON.stringify(row))).size, 2, 'it saw both');
    await onlyTables(results, ['results_again']);
  });
}

function quoted(engine: string, table: string): string {
  return engine === 'mysql' ? `\`${table}\`` : `"${table}"`;
}
