/** npm run bench: reports over HTTP, the queue on SQLite, copies between SQLite files, measured now on this machine. */
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { flagsOf } from '../scripts/arguments.ts';
import { measureCopy } from './copy.ts';
import { benchHttp } from './http.ts';
import { claimCost } from './queue/claim.ts';
import { play } from './queue/round.ts';

flagsOf('bench', {});
const rows: { what: string; figure: string }[] = [];
const row = (what: string, figure: string) => rows.push({ what, figure });
const ms = (value: number) => `${value.toFixed(value < 1 ? 2 : value < 10 ? 1 : 0)} ms`;
const per_s = (value: number) => `${Math.round(value).toLocaleString('en')} /s`;

console.error('one-row reports over HTTP …');
const http = await benchHttp();
for (const { at_once, jobs_per_s, p50, p99 } of http.reports) {
  row(
    `one-row reports over HTTP, ${at_once} at once`,
    `${per_s(jobs_per_s)}, p50 ${ms(p50)}, p99 ${ms(p99)}`,
  );
}
row('enqueue → started, idle server', `p50 ${ms(http.idle.p50)}, p99 ${ms(http.idle.p99)}`);

console.error('the queue alone …');
const folder = mkdtempSync(join(tmpdir(), 'dungbeetle-bench-'));
try {
  const queue = await play({
    name: 'sqlite',
    address: join(folder, 'queue.db'),
    concurrency: 100,
    jobs: 20_000,
    server: null,
  });
  row('queue alone: no-op jobs, 100 at once', per_s(queue.noop.per_s));
  row('  enqueued in calls of 1,000', per_s(queue.bulk.per_s));
  row('  enqueued one a call, 50 callers', per_s(queue.single_50.per_s));
  row('  enqueue → start, idle', `p50 ${ms(queue.p50)}, p99 ${ms(queue.p99)}`);
  const claims = await claimCost('sqlite', join(folder, 'claims.db'), [1_000, 1_000_000], async () => {});
  for (const { pending, p50, p99 } of claims) {
    row(`  a claim of 10 jobs, ${pending.toLocaleString('en')} pending`, `p50 ${ms(p50)}, p99 ${ms(p99)}`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}

console.error('copying a million rows …');
const copy = await measureCopy();
row(`copy of ${copy.rows.toLocaleString('en')} rows, SQLite → SQLite`, ms(copy.ms.sqlite_file));
row('  of that, the query', ms(copy.ms.query));
row('  and loading and publishing', ms(copy.ms.load));
row('  INSERT INTO … SELECT in sqlite3, WAL', `${ms(copy.ms.reference_wal)}, ratio ${copy.ratio.toFixed(2)}`);
row('  the same, rollback journal', ms(copy.ms.reference_rollback));
row('  the copy as rows through JavaScript', ms(copy.ms.rows));
const { server, source, writer } = copy.rss_mb;
row(
  '  peak RSS',
  `server +${server.toFixed(0)} MB, query ${source.toFixed(0)} MB, writer ${writer.toFixed(0)} MB`,
);

console.log(`Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown processor'}`);
console.table(Object.fromEntries(rows.map(({ what, figure }) => [what, { figure }])));
