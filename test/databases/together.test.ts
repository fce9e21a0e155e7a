/** Several reports, several servers and several readers at once on one results file. */
import assert from 'node:assert/strict';
import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { until } from '../support/until.ts';
import {
  closing,
  isRunning,
  numbers,
  openBench,
  openReader,
  owner,
  report,
  stagingFiles,
  tablesIn,
} from './support.ts';

function script(name: string): string {
  return new URL(name, import.meta.url).pathname;
}

test('readers in another process never see a table missing or half-filled', async (t) => {
  const bench = await openBench(t);
  const run = (index: number, rows: number) =>
    report(bench, 'job', `SELECT x, note, ${index} AS run FROM (${numbers(rows)})`);
  const sizes = [5_000, 3, 4_000, 5, 6_000, 7];
  await run(-1, 5_000);
  const reader = fork(script('results-reader.ts'), [join(bench.folder, 'results.db'), 'results_job'], {
    execArgv: ['--disable-warning=ExperimentalWarning'],
  });
  closing(t, () => void reader.kill('SIGKILL'));
  await once(reader, 'message');
  for (let index = 0; index < 30; index++) await run(index, sizes[index % sizes.length] ?? 1);
  reader.send('stop');
  const [seen] = (await once(reader, 'message')) as [Record<string, number>];
  const whole = new Set(sizes.map((rows) => `${rows} rows of 1 runs`));
  assert.deepEqual(
    Object.keys(seen).filter((what) => !whole.has(what)),
    [],
  );
  assert.ok(Object.keys(seen).length >= 4, `saw ${JSON.stringify(seen)}`);
});

test('a small report is published between two steps of a large one', async (t) => {
  const bench = await openBench(t);
  await report(bench, 'warm', numbers(1));
  let large_done = false;
  let largest_step = 0;
  let last = 0;
  const loading = Promise.withResolvers<void>();
  const large = report(bench, 'large', numbers(1_000_000), {
    onProgress: ({ phase, rows }) => {
      if (phase !== 'load') return;
      largest_step = Math.max(largest_step, rows - last);
      last = rows;
      loading.resolve();
    },
  }).then(() => {
    large_done = true;
  });
  await loading.promise;
  let between = 0;
  while (!large_done && between < 5) {
    await report(bench, `small_${between}`, numbers(1));
    if (!large_done) between += 1;
  }
  assert.equal(between, 5, 'small reports while the large one was loading');
  await large;
  assert.ok(largest_step < 500_000, `${largest_step} rows in one step`);
});

test('many loads at once, more than SQLite can attach', async (t) => {
  const bench = await openBench(t, { max_active: 6 });
  const done = await Promise.all(
    Array.from({ length: 24 }, (_, index) => {
      const rows = index % 3 === 0 ? 8_000 + index : 1 + index;
      return report(bench, `job_${index}`, numbers(rows), {
        encoding: index % 2 ? 'rows' : 'sqlite-file',
      }).then((table) => [table.rows, rows]);
    }),
  );
  for (const [got, expected] of done) assert.equal(got, expected);
  assert.deepEqual(stagingFiles(bench.folder), []);
});

test('one that fails in a shared transaction does not harm the others', async (t) => {
  const bench = await openBench(t);
  const fenced = owner('job_3');
  await report(bench, 'job_3', numbers(1));
  const outcomes = await Promise.allSettled(
    Array.from({ length: 8 }, (_, index) =>
      report(bench, `job_${index}`, numbers(2), index === 3 ? { owner: fenced } : {}),
    ),
  );
  assert.deepEqual(
    outcomes.map((outcome) => (outcome.status === 'fulfilled' ? outcome.value.rows : outcome.reason.code)),
    [2, 2, 2, 'fenced', 2, 2, 2, 2],
  );
});

test('several servers write to one file, and none fails', async (t) => {
  const bench = await openBench(t);
  await report(bench, 'first', numbers(1));
  const servers = [
    ['large', '150000', '2'],
    ['middle', '20000', '10'],
    ['small', '1', '60'],
  ].map((args) =>
    spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', script('results-writer.ts'), bench.folder, ...args],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    ),
  );
  for (const server of servers) closing(t, () => void server.kill('SIGKILL'));
  const ends = await Promise.all(
    servers.map(async (server) => {
      let out = '';
      let err = '';
      server.stdout.setEncoding('utf8').on('data', (text: string) => {
        out += text;
      });
      server.stderr.setEncoding('utf8').on('data', (text: string) => {
        err += text;
      });
      const [code] = await once(server, 'close');
      return { code, err, published: out.match(/published/g)?.length };
    }),
  );
  assert.deepEqual(ends, [
    { code: 0, err: '', published: 2 },
    { code: 0, err: '', published: 10 },
    { code: 0, err: '', published: 60 },
  ]);
  const reader = bench.reader();
  await until('the trash is gone', async () => {
    await bench.results.sweep({
      store_id: 'store',
      liveFences: async () => new Set(),
      judge: async () => 'undecided',
    });
    return tablesIn(reader).length === 4;
  });
  assert.equal(reader.prepare('SELECT count(*) AS n FROM results_large').get()?.['n'], 150_000);
});

test('a server killed while it loads: its children die, and a sweep removes what it left', async (t) => {
  const bench = await openBench(t);
  await report(bench, 'first', numbers(1));
  const server = spawn(
    process.execPath,
    [
      '--disable-warning=ExperimentalWarning',
      script('results-writer.ts'),
      bench.folder,
      'large',
      '400000',
      'forever',
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  closing(t, () => void server.kill('SIGKILL'));
  const [line] = (await once(createInterface({ input: server.stdout }), 'line')) as [string];
  const children = JSON.parse(line) as number[];
  assert.ok(children.length >= 2);
  const reader = openReader(t, join(bench.folder, 'results.db'));
  const staging = () => reader.prepare("SELECT * FROM dungbeetle_staging WHERE state = 'loading'").get();
  await until('it has begun to load', () => staging() !== undefined && stagingFiles(bench.folder).length > 0);
  server.kill('SIGKILL');
  await once(server, 'close');
  await until('its children are gone', () => !children.some(isRunning));
  await until('all it left is gone', async () => {
    await bench.results.sweep({
      store_id: 'large',
      liveFences: async () => new Set(),
      judge: async () => 'undecided',
    });
    return stagingFiles(bench.folder).length === 0 && staging() === undefined;
  });
  await until('the trash is gone', () => tablesIn(reader).every((name) => !name.startsWith('dungbeetle')));
  // And the file is as good as before.
  assert.equal((await report(bench, 'large', numbers(10))).rows, 10);
});
