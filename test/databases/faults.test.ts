/** What happens to the results file happens to reports: they fail as they should, and leave nothing. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { DatabaseError } from '../../src/databases/errors.ts';
import { tempFolder } from '../support/folder.ts';
import { mounted } from '../support/mount.ts';
import { until } from '../support/until.ts';
import {
  type Bench,
  closing,
  isRunning,
  never,
  numbers,
  openBench,
  openReader,
  openTestResults,
  openTestSource,
  queryOptions,
  report,
  stagingFiles,
  tablesIn,
} from './support.ts';

function unavailable(message: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof DatabaseError, String(error));
    assert.deepEqual([error.code, error.transient], ['unavailable', true], error.message);
    assert.match(error.message, message);
    return true;
  };
}

/** The one process that writes the results file. */
function writerOf({ results }: Pick<Bench, 'results'>): number {
  const [pid] = results.pids;
  assert.ok(pid !== undefined);
  return pid;
}

test('a writer killed while it loads: nothing can be seen, the next one works', async (t) => {
  const bench = await openBench(t);
  await report(bench, 'job', numbers(3));
  for (const encoding of ['sqlite-file', 'rows'] as const) {
    const pid = writerOf(bench);
    let killed = false;
    await assert.rejects(
      report(bench, 'job', numbers(200_000), {
        encoding,
        onProgress: ({ phase, rows }) => {
          if (phase !== 'load' || rows === 0 || killed) return;
          killed = true;
          process.kill(pid, 'SIGKILL');
        },
      }),
      unavailable(/ended by SIGKILL|no longer being written/),
    );
    assert.equal(isRunning(pid), false);
    const { table } = await report(bench, 'other', numbers(5));
    const reader = bench.reader();
    await until('the staging table is gone', () => tablesIn(reader).length === 2);
    assert.deepEqual(tablesIn(reader), ['results_job', table]);
    assert.equal(reader.prepare('SELECT count(*) AS n FROM results_job').get()?.['n'], 3);
    assert.deepEqual(stagingFiles(bench.folder), []);
  }
});

test('a writer killed before it publishes is replaced in time', async (t) => {
  const bench = await openBench(t);
  for (const rows of [3, 20_000]) {
    const { rows: published } = await report(bench, `job_${rows}`, numbers(rows), {
      confirm: async () => {
        const pid = writerOf(bench);
        process.kill(pid, 'SIGKILL');
        await until('it is gone', () => !isRunning(pid));
        await until('that is known', () => !bench.results.pids.includes(pid));
      },
    });
    assert.equal(published, rows);
  }
});

test('a file deleted or replaced under the writer', async (t) => {
  const bench = await openBench(t);
  const file = join(bench.folder, 'results.db');
  for (const change of ['deleted', 'replaced'] as const) {
    await report(bench, 'job', numbers(3));
    for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true });
    if (change === 'replaced') {
      const db = new DatabaseSync(file);
      db.exec('CREATE TABLE theirs(a)');
      db.close();
    }
    // The writer ends itself at its next turn: this report's, or one of its own that came before.
    await report(bench, 'next', numbers(3)).catch(unavailable(/ended by SIGKILL/));
    const { table } = await report(bench, 'next', numbers(4));
    const reader = openReader(t, file);
    assert.deepEqual(tablesIn(reader), change === 'replaced' ? [table, 'theirs'] : [table]);
    assert.equal(reader.prepare(`SELECT count(*) AS n FROM ${table}`).get()?.['n'], 4);
  }
});

test('a file deleted while a result is being loaded', async (t) => {
  const bench = await openBench(t);
  const file = join(bench.folder, 'results.db');
  await report(bench, 'job', numbers(3));
  const deleting = report(bench, 'job', numbers(20_000), {
    confirm: async () => {
      for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true });
    },
  });
  await assert.rejects(deleting, unavailable(/ended by SIGKILL/));
  assert.equal((await report(bench, 'job', numbers(4))).rows, 4);
});

test('a source in WAL mode where nothing can be made beside it says so', async (t) => {
  closing(t, () => {});
  const folder = mounted(t, 'size=4m');
  if (folder === null) return;
  const path = join(folder, 'ledger.db');
  const db = new DatabaseSync(path);
  db.exec('PRAGMA journal_mode = WAL; CREATE TABLE a (b); INSERT INTO a VALUES (1)');
  db.close();
  execFileSync('mount', ['-o', 'remount,ro', folder]);
  const source = await openTestSource(t, path);
  const refused = unavailable(
    /^db "ledger": its file is in WAL mode, so .*let this server write to the folder/,
  );
  await assert.rejects(source.prepare('SELECT b FROM a', never()), refused);
  await assert.rejects(source.query('SELECT b FROM a', [], queryOptions([{ encoding: 'rows' }])), refused);
  // Out of WAL mode it is read where it is.
  execFileSync('mount', ['-o', 'remount,rw', folder]);
  const again = new DatabaseSync(path);
  again.exec('PRAGMA journal_mode = DELETE');
  again.close();
  execFileSync('mount', ['-o', 'remount,ro', folder]);
  assert.equal((await source.prepare('SELECT b FROM a', never())).columns.length, 1);
});

test('a results file in UTF-16, or of a newer program, is refused with what to do', async (t) => {
  const folder = tempFolder(t);
  closing(t, () => {});
  const bench = await openBench(t);
  const cases = [
    ["PRAGMA encoding = 'UTF-16le'; CREATE TABLE a (b)", /results "reports": its file keeps texts in UTF-16/],
    [
      'CREATE TABLE dungbeetle_version (one INTEGER PRIMARY KEY, version); INSERT INTO dungbeetle_version VALUES (1, 2)',
      /results "reports": its catalog has version 2, this program knows version 1; upgrade/,
    ],
  ] as const;
  for (const [index, [sql, message]] of cases.entries()) {
    const file = join(folder, `results${index}.db`);
    const db = new DatabaseSync(file);
    db.exec(sql);
    db.close();
    const results = await openTestResults(t, file);
    const refused = { code: 'unavailable', transient: false, message };
    await assert.rejects(results.ping(never()), refused);
    await assert.rejects(report({ ...bench, results }, 'job', numbers(3)), refused);
  }
});

test('what is no database, or a damaged one, is no matter of waiting', async (t) => {
  const folder = tempFolder(t);
  const file = join(folder, 'results.db');
  writeFileSync(file, 'this is no database'.repeat(1_000));
  closing(t, () => {});
  const bench = { ...(await openBench(t)), results: await openTestResults(t, file) };
  const permanent = (error: unknown) => {
    assert.ok(error instanceof DatabaseError);
    assert.deepEqual([error.code, error.transient], ['query_failed', false]);
    assert.match(
      error.message,
      /results "reports": (file is not a database|database disk image is malformed)/,
    );
    return true;
  };
  await assert.rejects(bench.results.ping(never()), permanent);
  await assert.rejects(report(bench, 'job', numbers(3)), permanent);
  assert.equal(readFileSync(file, 'utf8').slice(0, 7), 'this is', 'it is not touched');
  // Once it is mended, it is used.
  rmSync(file);
  await report(bench, 'job', numbers(30_000));
  await bench.results.close();

  const { size } = statSync(file);
  writeFileSync(file, Buffer.concat([readFileSync(file).subarray(0, 4096), Buffer.alloc(size - 4096, 0x55)]));
  const damaged = { ...bench, results: await openTestResults(t, file) };
  await assert.rejects(report(damaged, 'job', numbers(3)), permanent);
  assert.deepEqual(stagingFiles(folder), []);
});

test('a folder that is not there, and comes', async (t) => {
  const bench = await openBench(t);
  const folder = join(bench.folder, 'not', 'yet');
  const results = await openTestResults(t, join(folder, 'results.db'));
  await assert.rejects(results.ping(never()), unavailable(/unable to open database file/));
  for (const encoding of ['sqlite-file', 'rows'] as const) {
    await assert.rejects(report({ ...bench, results }, 'job', numbers(3), { encoding }), unavailable(/./));
  }
  mkdirSync(folder, { recursive: true });
  await results.ping(never());
  assert.equal((await report({ ...bench, results }, 'job', numbers(3))).rows, 3);
});

test('a full disk fails the report, which runs once there is room', async (t) => {
  closing(t, () => {});
  const bench = await openBench(t);
  const folder = mounted(t, 'size=6m');
  if (folder === null) return;
  const results = await openTestResults(t, join(folder, 'results.db'));
  const here = { ...bench, results };
  await report(here, 'kept', numbers(1_000));
  const full = unavailable(/full|disk I\/O error/);
  for (const encoding of ['sqlite-file', 'rows'] as const) {
    // Fits neither as a staging file, nor the second time as a table.
    for (const rows of [300_000, 80_000]) {
      await assert.rejects(report(here, 'large', numbers(rows), { encoding }), full, `${encoding} ${rows}`);
      assert.deepEqual(stagingFiles(folder), []);
    }
  }
  const reader = openReader(t, join(folder, 'results.db'));
  assert.equal(reader.prepare('SELECT count(*) AS n FROM results_kept').get()?.['n'], 1_000);
  await until('it has recovered by itself', async () => {
    await results.sweep({
      store_id: 'store',
      liveFences: async () => new Set(),
      judge: async () => 'undecided',
    });
    return tablesIn(reader).length === 1;
  });
  assert.equal((await report(here, 'large', numbers(20_000))).rows, 20_000);

  // Not a byte left.
  const filler = join(folder, 'filler');
  let size = 8 * 1024 * 1024;
  while (size >= 1) {
    try {
      writeFileSync(filler, Buffer.alloc(size), { flag: 'a' });
    } catch {
      size = Math.floor(size / 2);
    }
  }
  for (const encoding of ['sqlite-file', 'rows'] as const) {
    await assert.rejects(report(here, 'tiny', numbers(2_000), { encoding }), unavailable(/./));
  }
  rmSync(filler);
  assert.equal((await report(here, 'tiny', numbers(2_000))).rows, 2_000);
  assert.equal(reader.prepare('SELECT count(*) AS n FROM results_kept').get()?.['n'], 1_000);
});

test('a file system that is read-only for a while', async (t) => {
  closing(t, () => {});
  const bench = await openBench(t);
  const folder = mounted(t, 'size=20m');
  if (folder === null) return;
  const here = { ...bench, results: await openTestResults(t, join(folder, 'results.db')) };
  await report(here, 'job', numbers(3));
  await here.results.close();
  execFileSync('mount', ['-o', 'remount,ro', folder]);
  const again = { ...bench, results: await openTestResults(t, join(folder, 'results.db')) };
  await assert.rejects(again.results.ping(never()), unavailable(/./));
  for (const encoding of ['sqlite-file', 'rows'] as const) {
    await assert.rejects(report(again, 'job', numbers(4), { encoding }), unavailable(/./));
  }
  execFileSync('mount', ['-o', 'remount,rw', folder]);
  assert.equal((await report(again, 'job', numbers(5))).rows, 5);
});

test('another process that sits on the file is waited for', async (t) => {
  const bench = await openBench(t);
  await report(bench, 'job', numbers(3));
  const stranger = new DatabaseSync(join(bench.folder, 'results.db'), { timeout: 30_000 });
  closing(t, () => stranger.close());
  stranger.exec('BEGIN IMMEDIATE');
  let done = false;
  const waiting = report(bench, 'job', numbers(4)).then(() => {
    done = true;
  });
  // It is in line: what is asked after it is not answered either.
  const ping = bench.results.ping(AbortSignal.timeout(1_000));
  await assert.rejects(ping, { name: 'TimeoutError' });
  assert.equal(done, false);
  stranger.exec('COMMIT');
  await waiting;
});

test('a cancel does not wait for a stranger that sits on the file', async (t) => {
  const bench = await openBench(t);
  await report(bench, 'job', numbers(3));
  const stranger = new DatabaseSync(join(bench.folder, 'results.db'), { timeout: 30_000 });
  closing(t, () => stranger.close());
  const reason = new Error('cancelled by a test');
  for (const rows of [3, 20_000]) {
    stranger.exec('BEGIN IMMEDIATE');
    const controller = new AbortController();
    const running = report(bench, 'job', numbers(rows), { signal: controller.signal });
    running.catch(() => {});
    // In line behind the stranger, as this one is.
    await assert.rejects(bench.results.ping(AbortSignal.timeout(500)), { name: 'TimeoutError' });
    const asked = performance.now();
    controller.abort(reason);
    await assert.rejects(running, (error) => error === reason);
    assert.ok(performance.now() - asked < 10_000);
    stranger.exec('COMMIT');
    const reader = bench.reader();
    await until(
      'nothing is left of it',
      () => tablesIn(reader).length === 1 && stagingFiles(bench.folder).length === 0,
    );
    assert.equal(reader.prepare('SELECT count(*) AS n FROM results_job').get()?.['n'], 3);
  }
});
