/** A process that copies once and tells what it took: `node copy.ts '{"source": …, "backend": …, "query": …}'`. */
import {
  openResultsBackend,
  openSource,
  type ResultsConfig,
  type SourceConfig,
} from '../../src/databases/open.ts';
import { QUERY } from './data.ts';

export interface CopyRequest {
  readonly source: SourceConfig;
  readonly backend: ResultsConfig;
}

export interface CopyFigures {
  readonly rows: number;
  /** From asking the source to the published table, ms. */
  readonly ms: number;
  readonly megabytes: number;
  /** Of this process, ms. SQLite's own processes are not in it. */
  readonly cpu_ms: number;
  /** Above what it had before, MB. */
  readonly rss_mb: number;
}

const { source: sourceConfig, backend: backendConfig } = JSON.parse(process.argv[2] ?? '') as CopyRequest;
const source = await openSource(sourceConfig);
const backend = await openResultsBackend(backendConfig);

let fence = Date.now();
async function copy(sql: string, job_id: string) {
  const owner = { job_id, task: 'copy', attempt: 1, store_id: 'bench', fence: fence++, seq: 1 };
  const limits = { max_rows: null, max_bytes: null, max_value_bytes: 64_000_000 };
  const common = { owner, limits, signal: new AbortController().signal, onProgress: () => {} };
  await using result = await source.query(sql, [], {
    ...common,
    accept: backend.accepts,
    onColumns: (columns) => backend.checkColumns(columns),
  });
  return await backend.write(result, { ...common, ttl_ms: null, confirm: async () => {} });
}

// Connections are made and code is loaded before the clock runs, as in a server that has run for a minute.
await copy(`${QUERY} WHERE id <= 2000`, 'warm');
await backend.drop('warm');
const idle = process.memoryUsage.rss();
let peak = idle;
const sampler = setInterval(() => {
  peak = Math.max(peak, process.memoryUsage.rss());
}, 10);
const cpu = process.cpuUsage();
const begun = performance.now();
const { rows, bytes } = await copy(QUERY, 'copied');
const ms = performance.now() - begun;
const { user, system } = process.cpuUsage(cpu);
clearInterval(sampler);
const figures: CopyFigures = {
  rows,
  ms,
  megabytes: bytes / 1e6,
  cpu_ms: (user + system) / 1000,
  rss_mb: (Math.max(peak, process.memoryUsage.rss()) - idle) / 1e6,
};
console.log(JSON.stringify(figures));
await backend.drop('copied');
await source.close();
await backend.close();
