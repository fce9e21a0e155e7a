import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import type { TransferProgress, Value } from '../../src/databases/database.ts';
import { DatabaseError } from '../../src/databases/errors.ts';
import { openResultsBackend } from '../../src/databases/open.ts';
import { openSqliteResults } from '../../src/databases/sqlite/results.ts';
import { stagingFile } from '../../src/databases/sqlite/staging-file.ts';
import { until } from '../support/until.ts';
import {
  type Bench,
  closing,
  isRunning,
  NO_LIMITS,
  never,
  numbers,
  openBench,
  owner,
  report,
  rowsOf,
  stagingFiles,
  tablesIn,
  writeOptions,
} from './support.ts';

const SMALL = numbers(3);
const LARGE = numbers(20_000);
const ENCODINGS = ['sqlite-file', 'rows'] as const;

function count(reader: DatabaseSync, table: string): unknown {
  return reader.prepare(`SELECT count(*) AS n FROM "${table}"`).get()?.['n'];
}

function catalog(reader: DatabaseSync, job_id: string) {
  return reader.prepare('SELECT * FROM dungbeetle_results WHERE job_id = ?').get(job_id);
}

/** Nothing is left of anything but the tables given. */
async function assertOnly({ reader, folder }: Bench, tables: readonly string[]): Promise<void> {
  const db = reader();
  await until('the trash is gone', () => count(db, 'dungbeetle_staging') === 0);
  assert.deepEqual(tablesIn(db), tables.toSorted());
  assert.deepEqual(stagingFiles(folder), []);
}

test('publishes a table with its row in the catalog', async (t) => {
  const bench = await openBench(t);
  for (const encoding of ENCODINGS) {
    for (const [size, sql, rows] of [
      ['small', SMALL, 3],
      ['large', LARGE, 20_000],
    ] as const) {
      const job_id = `${size}_${encoding}`;
      const write = owner(job_id, { task: 'profits', attempt: 2 });
      const told: TransferProgress[] = [];
      const before = Date.now();
      const table = await report(bench, job_id, sql, {
        encoding,
        owner: write,
        ttl_ms: 60_000,
        onProgress: (progress) => told.push(progress),
      });
      assert.equal(table.table, `results_${job_id}`);
      assert.equal(table.rows, rows);
      assert.deepEqual(table.columns, [
        { name: 'x', type: 'BIGINT', source_type: '' },
        { name: 'note', type: 'TEXT', source_type: '' },
      ]);
      assert.ok(table.expires_at !== null && table.expires_at >= before + 60_000);
      assert.ok(table.expires_at <= Date.now() + 60_000);
      const reader = bench.reader();
      assert.deepEqual(
        { ...catalog(reader, job_id), created_at: 0 },
        {
          job_id,
          table_name: table.table,
          task: 'profits',
          store_id: 'store',
          fence: write.fence,
          attempt: 2,
          rows,
          bytes: table.bytes,
          columns: JSON.stringify(table.columns),
          warnings: '[]',
          created_at: 0,
          expires_at: table.expires_at,
          settled: 0,
          seq: 1,
        },
      );
      // In the query's order.
      assert.equal(
        reader
          .prepare(`SELECT count(*) AS n FROM "${table.table}" WHERE x <> rowid OR note NOT LIKE '%' || x`)
          .get()?.['n'],
        0,
      );
      assert.equal(count(reader, table.table), rows);
      const phases = [...new Set(told.map(({ phase }) => phase))];
      assert.deepEqual(
        phases,
        size === 'small' && encoding === 'sqlite-file' ? ['query', 'publish'] : phases,
      );
      assert.equal(phases.at(-1), 'publish');
      assert.deepEqual([told.at(-1)?.rows, told.at(-1)?.bytes], [rows, table.bytes]);
      if (size === 'large') assert.ok(told.filter(({ phase }) => phase === 'load').length >= 2);
    }
  }
  await assertOnly(
    bench,
    ENCODINGS.flatMap((encoding) => [`results_small_${encoding}`, `results_large_${encoding}`]),
  );
});

test('a rerun replaces the table, whatever the sizes', async (t) => {
  const bench = await openBench(t);
  let reader: DatabaseSync | undefined;
  for (const sql of [SMALL, LARGE, LARGE, SMALL, SMALL]) {
    const { table, rows } = await report(bench, 'job', sql);
    reader ??= bench.reader();
    assert.equal(count(reader, table), rows);
    assert.equal(catalog(reader, 'job')?.['rows'], rows);
    await assertOnly(bench, ['results_job']);
  }
});

test('a view over a result table outlives a rerun', async (t) => {
  const bench = await openBench(t);
  await report(bench, 'job', LARGE);
  const someone = new DatabaseSync(join(bench.folder, 'results.db'), { timeout: 30_000 });
  closing(t, () => someone.close());
  someone.exec(
    'CREATE VIEW totals AS SELECT count(*) AS n FROM results_job; CREATE VIEW broken AS SELECT * FROM missing',
  );
  someone.exec(
    'CREATE TABLE theirs(a); CREATE TRIGGER on_delete DELETE ON results_job BEGIN INSERT INTO theirs VALUES (1); END',
  );
  for (const rows of [5_000, 7, 9_000]) {
    await report(bench, 'job', numbers(rows));
    assert.equal(someone.prepare('SELECT n FROM totals').get()?.['n'], rows);
  }
  await assertOnly(bench, ['results_job', 'theirs']);
  assert.equal(count(someone, 'theirs'), 0, 'emptying the old table fires nothing');
});

test('a result without columns is refused with the reason', async (t) => {
  const { results } = await openBench(t);
  const refused = {
    code: 'query_failed',
    message: /^results "reports" cannot hold the result: it has no columns, a SQLite table has at least one$/,
  };
  assert.throws(() => results.checkColumns([]), refused);
  await assert.rejects(results.write(rowsOf([], [[], []]), writeOptions('job')), refused);
});

test('confirm is awaited before the table can be seen, and its refusal is final', async (t) => {
  const bench = await openBench(t);
  await report(bench, 'kept', SMALL);
  const reader = bench.reader();
  const refusal = new Error('the lease is lost');
  for (const encoding of ENCODINGS) {
    for (const sql of [numbers(5), LARGE]) {
      for (const job_id of ['kept', 'new']) {
        let asked = 0;
        const confirm = async () => {
          asked += 1;
          assert.equal(count(reader, 'results_kept'), 3);
          assert.equal(catalog(reader, 'new'), undefined);
          throw refusal;
        };
        await assert.rejects(report(bench, job_id, sql, { encoding, confirm }), (error) => error === refusal);
        assert.equal(asked, 1);
      }
    }
  }
  assert.equal(count(reader, 'results_kept'), 3);
  await assertOnly(bench, ['results_kept']);
});

test('limits hold for what arrives', async (t) => {
  const bench = await openBench(t);
  const rows: Value[][] = Array.from({ length: 5_000 }, (_, index) => [BigInt(index), 'x'.repeat(100)]);
  const limited = (max_rows: number | null, max_bytes: number | null) =>
    bench.results.write(
      rowsOf(['a', 'b'], rows),
      writeOptions('job', { limits: { ...NO_LIMITS, max_rows, max_bytes } }),
    );
  await assert.rejects(limited(4_999, null), { code: 'limit_reached', message: /max_rows \(4999\)/ });
  await assert.rejects(limited(null, 100_000), { code: 'limit_reached', message: /max_bytes \(100000\)/ });
  await limited(5_000, 1_000_000);
  await assertOnly(bench, ['results_job']);
});

test('a source that fails in mid-stream leaves nothing', async (t) => {
  const bench = await openBench(t);
  const failure = new Error('the source is gone');
  async function* failing(batches: number): AsyncGenerator<Value[][]> {
    for (let i = 0; i < batches; i++) yield Array.from({ length: 1_000 }, () => [1n]);
    throw failure;
  }
  for (const batches of [0, 1, 30]) {
    await assert.rejects(
      bench.results.write(rowsOf(['a'], failing(batches)), writeOptions('job')),
      (error) => error === failure,
    );
  }
  await bench.results.ping(never());
  await assertOnly(bench, []);
});

test('a cancel in any phase leaves nothing and rejects with its reason', async (t) => {
  const bench = await openBench(t);
  const reason = new Error('cancelled by a test');
  for (const encoding of ENCODINGS) {
    for (const phase of ['before', 'query', 'load', 'publish', 'confirm'] as const) {
      const controller = new AbortController();
      if (phase === 'before') controller.abort(reason);
      let asked = 0;
      const running = report(bench, 'job', numbers(300_000), {
        encoding,
        signal: controller.signal,
        onProgress: (progress) => {
          if (progress.phase !== phase || controller.signal.aborted) return;
          asked = performance.now();
          controller.abort(reason);
        },
        confirm: () => {
          if (phase !== 'confirm') return Promise.resolve();
          asked = performance.now();
          controller.abort(reason);
          // Whoever is asked may never answer.
          return new Promise(() => {});
        },
      });
      await assert.rejects(running, (error) => error === reason, `${encoding} ${phase}`);
      if (phase !== 'before')
        assert.ok(asked > 0 && performance.now() - asked < 10_000, `${encoding} ${phase}`);
    }
  }
  await bench.results.ping(never());
  await assertOnly(bench, []);
});

test('an attempt that was overtaken is refused', async (t) => {
  const bench = await openBench(t);
  const [old, current] = [owner('job'), owner('job')];
  const refused = (error: unknown) => {
    assert.ok(error instanceof DatabaseError);
    assert.deepEqual([error.code, error.transient], ['fenced', false]);
    return true;
  };
  await report(bench, 'job', SMALL, { owner: current });
  for (const sql of [numbers(5), LARGE])
    await assert.rejects(report(bench, 'job', sql, { owner: old }), refused);
  assert.equal(count(bench.reader(), 'results_job'), 3);
  // The same attempt may write again, a newer one too, and one of another store whatever its fence.
  await report(bench, 'job', numbers(4), { owner: current });
  await report(bench, 'job', numbers(5), { owner: owner('job') });
  await report(bench, 'job', numbers(6), { owner: { ...old, store_id: 'another' } });
  assert.equal(count(bench.reader(), 'results_job'), 6);
  // Dropped is no way around it.
  const last = owner('gone');
  await report(bench, 'gone', SMALL, { owner: last });
  assert.equal(await bench.results.drop('gone'), true);
  await assert.rejects(report(bench, 'gone', SMALL, { owner: { ...last, fence: last.fence - 1 } }), refused);
  await assertOnly(bench, ['results_job']);
});

test('an attempt is refused once a newer one has begun, and loses what it has staged', async (t) => {
  const bench = await openBench(t);
  const [old, current] = [owner('job'), owner('job')];
  const begun = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  // The old attempt has its rows staged and stops before it publishes.
  const zombie = report(bench, 'job', LARGE, {
    owner: old,
    confirm: () => {
      begun.resolve();
      return goOn.promise;
    },
  });
  zombie.catch(() => {});
  await begun.promise;
  const publishing = Promise.withResolvers<void>();
  const winner = report(bench, 'job', numbers(30_000), {
    owner: current,
    confirm: async () => {
      goOn.resolve();
      await assert.rejects(zombie, { code: 'fenced' });
      publishing.resolve();
    },
  });
  await publishing.promise;
  assert.equal((await winner).rows, 30_000);
  await assertOnly(bench, ['results_job']);
  // Begun counts even if it came to nothing.
  const [late, failed] = [owner('failed'), owner('failed')];
  await assert.rejects(
    report(bench, 'failed', LARGE, { owner: failed, confirm: () => Promise.reject(new Error('no')) }),
    /no/,
  );
  await assert.rejects(report(bench, 'failed', SMALL, { owner: late }), { code: 'fenced' });
  await assertOnly(bench, ['results_job']);
});

test('ids that differ by case do not share a table', async (t) => {
  const bench = await openBench(t);
  const names: string[] = [];
  for (const [job_id, rows] of [
    ['Job', 1],
    ['job', 2],
    ['JOB', 3],
    ['job', 4],
  ] as const) {
    names.push((await report(bench, job_id, numbers(rows))).table);
  }
  assert.equal(names[0], 'results_Job');
  assert.match(names[1] ?? '', /^results_job_[0-9a-f]{12}$/);
  assert.equal(names[3], names[1]);
  const reader = bench.reader();
  assert.deepEqual(
    names.map((name) => count(reader, name)),
    [1, 4, 3, 4],
  );
  await bench.results.drop('Job');
  assert.equal(count(reader, names[1] ?? ''), 4);
  // A job keeps its table's name while it has a table.
  assert.equal((await report(bench, 'job', SMALL)).table, names[1]);
});

test('a table that is not in the catalog is replaced in our namespace, and respected elsewhere', async (t) => {
  const bench = await openBench(t);
  const someone = new DatabaseSync(join(bench.folder, 'results.db'), { timeout: 30_000 });
  closing(t, () => someone.close());
  someone.exec(
    'CREATE TABLE Results_Job(old); INSERT INTO results_job VALUES (1); CREATE VIEW results_view AS SELECT 1',
  );
  const { table, warnings } = await report(bench, 'job', SMALL);
  assert.equal(table, 'results_job');
  assert.deepEqual(warnings, ['1 table of that name, not in the catalog, was replaced']);
  assert.equal(count(someone, 'results_job'), 3);
  assert.deepEqual((await report(bench, 'job', SMALL)).warnings, []);
  await assert.rejects(report(bench, 'view', SMALL), { code: 'table_conflict', transient: false });

  const bare = await openSqliteResults({
    name: 'bare',
    path: join(bench.folder, 'bare.db'),
    results_table: '%s',
  });
  closing(t, () => bare.close());
  await bare.ping(never());
  const theirs = new DatabaseSync(join(bench.folder, 'bare.db'), { timeout: 30_000 });
  closing(t, () => theirs.close());
  theirs.exec('CREATE TABLE accounts(a); INSERT INTO accounts VALUES (42); CREATE INDEX by_a ON accounts(a)');
  for (const sql of [SMALL, LARGE]) {
    for (const job_id of ['accounts', 'ACCOUNTS', 'by_a']) {
      await assert.rejects(report({ ...bench, results: bare }, job_id, sql), {
        code: 'table_conflict',
        transient: false,
      });
    }
  }
  assert.deepEqual({ ...theirs.prepare('SELECT * FROM accounts').get() }, { a: 42 });
  for (const job_id of ['dungbeetle_results', 'DUNGBEETLE_STAGING', 'dungbeetle_fences']) {
    const made = await report({ ...bench, results: bare }, job_id, SMALL);
    assert.match(made.table, /_[0-9a-f]{12}$/, 'not one of our own tables');
  }
  await assert.rejects(report({ ...bench, results: bare }, 'sqlite_x', SMALL), { code: 'table_conflict' });
});

test('table names are cut where they are too long', async (t) => {
  const template = `${'prefix_'.repeat(30)}%s`;
  const bench = await openBench(t, { results_table: template });
  const { table } = await report(bench, 'x'.repeat(128), SMALL);
  assert.ok(table.length <= 255);
  assert.equal(count(bench.reader(), table), 3);
  await assert.rejects(
    openSqliteResults({ name: 'x', path: 'x.db', results_table: 'results' }),
    /must hold %s/,
  );
});

test('drop', async (t) => {
  const bench = await openBench(t);
  assert.equal(await bench.results.drop('nobody'), false);
  for (const sql of [SMALL, numbers(200_000)]) {
    const attempt = owner('job');
    await report(bench, 'job', sql, { owner: attempt });
    assert.equal(await bench.results.drop('job', attempt.fence - 1), false);
    assert.equal(count(bench.reader(), 'results_job'), catalog(bench.reader(), 'job')?.['rows']);
    assert.equal(await bench.results.drop('job', attempt.fence), true);
    assert.equal(catalog(bench.reader(), 'job'), undefined);
    assert.equal(await bench.results.drop('job'), false);
    await assertOnly(bench, []);
  }
});

test('sweep drops expired tables, of any store', async (t) => {
  const bench = await openBench(t);
  await report(bench, 'gone', SMALL, { ttl_ms: 0 });
  await report(bench, 'large', numbers(100_000), {
    ttl_ms: 0.5,
    owner: owner('large', { store_id: 'other' }),
  });
  await report(bench, 'later', SMALL, { ttl_ms: 3_600_000 });
  await report(bench, 'kept', SMALL);
  const soon = catalog(bench.reader(), 'large')?.['expires_at'];
  await until('it is expired', () => Date.now() > Number(soon));
  const judged: string[] = [];
  const swept = await bench.results.sweep({
    store_id: 'store',
    liveFences: async () => new Set(),
    judge: async ({ job_id }) => {
      judged.push(job_id);
      return 'keep';
    },
  });
  assert.deepEqual(swept, { expired: 2, orphans: 0 });
  assert.deepEqual(judged.toSorted(), ['kept', 'later']);
  await assertOnly(bench, ['results_kept', 'results_later']);
  assert.deepEqual(
    await bench.results.sweep({
      store_id: 'store',
      liveFences: async () => new Set(),
      judge: () => assert.fail('judged once'),
    }),
    { expired: 0, orphans: 0 },
  );
});

test('sweep drops what dead attempts left, and only that', async (t) => {
  const bench = await openBench(t);
  const [live, dead, foreign, finished, failed, open] = [
    'live',
    'dead',
    'foreign',
    'finished',
    'failed',
    'open',
  ].map((job_id) => owner(job_id, job_id === 'foreign' ? { store_id: 'other' } : {}));
  assert.ok(live && dead && foreign && finished && failed && open);
  for (const attempt of [finished, failed, open])
    await report(bench, attempt.job_id, SMALL, { owner: attempt });
  // What servers that were killed leave: registered staging tables, staging files and their journals.
  const someone = new DatabaseSync(join(bench.folder, 'results.db'), { timeout: 30_000 });
  closing(t, () => someone.close());
  for (const [index, attempt] of [live, dead, foreign].entries()) {
    const table = `dungbeetle_staging_${String(index).padStart(16, '0')}`;
    someone.exec(`CREATE TABLE ${table}(a)`);
    someone
      .prepare("INSERT INTO dungbeetle_staging VALUES (?, 'loading', ?, ?, ?, NULL, NULL, ?)")
      .run(table, attempt.job_id, attempt.store_id, attempt.fence, Date.now());
    const [offer] = bench.results.accepts;
    assert.ok(offer?.encoding === 'sqlite-file');
    mkdirSync(offer.directory, { recursive: true });
    const file = stagingFile(offer.directory, attempt);
    writeFileSync(file, '');
    writeFileSync(`${file}-journal`, '');
    writeFileSync(join(offer.directory, 'unrelated.txt'), '');
  }
  let listed = false;
  const swept = await bench.results.sweep({
    store_id: 'store',
    liveFences: async () => {
      listed = true;
      // An attempt that publishes while the sweep is under way is not one of its leftovers.
      await report(bench, 'meanwhile', SMALL, {});
      return new Set([live.fence]);
    },
    judge: async ({ job_id, fence }) => {
      assert.ok(listed);
      assert.notEqual(job_id, 'meanwhile');
      if (fence === finished.fence) return 'keep';
      if (fence === failed.fence) return 'drop';
      assert.equal(fence, open.fence);
      return 'undecided';
    },
  });
  // The dead one's staging table, its file and journal, and the failed one's table.
  assert.deepEqual(swept, { expired: 0, orphans: 4 });
  assert.deepEqual(tablesIn(someone), [
    'dungbeetle_staging_0000000000000000',
    'dungbeetle_staging_0000000000000002',
    'results_finished',
    'results_meanwhile',
    'results_open',
  ]);
  assert.equal(stagingFiles(bench.folder).length, 4);
  // A long time later nobody can be writing the other store's table any more.
  someone.exec('UPDATE dungbeetle_staging SET created_at = created_at - 8 * 24 * 3600 * 1000');
  await bench.results.sweep({
    store_id: 'store',
    liveFences: async () => new Set([live.fence]),
    judge: async () => 'undecided',
  });
  assert.deepEqual(
    tablesIn(someone).filter((name) => name.startsWith('dungbeetle')),
    ['dungbeetle_staging_0000000000000000'],
  );
});

test('close leaves no process and no log', async (t) => {
  const bench = await openBench(t);
  await report(bench, 'job', LARGE);
  const pids = bench.results.pids;
  assert.equal(pids.length, 1);
  await bench.results.close();
  await bench.results.close();
  for (const pid of pids) assert.equal(isRunning(pid), false);
  await assert.rejects(bench.results.ping(never()), /is closed/);
  assert.equal(count(bench.reader(), 'results_job'), 20_000);
});

test('an engine is chosen by its type', async (t) => {
  const { folder } = await openBench(t);
  const results = await openResultsBackend({ type: 'sqlite', name: 'r', path: join(folder, 'r.db') });
  closing(t, () => results.close());
  assert.equal(results.engine, 'sqlite');
  await results.ping(never());
});
