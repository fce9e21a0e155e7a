/** npm run bench: reports over HTTP and copies between SQLite files, measured now on this machine, as one table. */
import { cpus } from 'node:os';
import { measureCopy } from './copy.ts';
import { benchHttp } from './http.ts';

const rows: { what: string; figure: string }[] = [];
const row = (what: string, figure: string) => rows.push({ what, figure });
const ms = (value: number) => `${value.toFixed(value < 10 ? 1 : 0)} ms`;
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
