/** One-row results without a queue and HTTP: asked for and published, as a worker does it. */
import {
  openResultsBackend,
  openSource,
  type ResultsConfig,
  type SourceConfig,
} from '../../src/databases/open.ts';
import { repeat } from '../stats.ts';

const JOBS = 5_000;
const AT_ONCE = 10;

/** Gives how many a second; `source` has the table `one`. */
export async function benchResults(source: SourceConfig, results: ResultsConfig): Promise<number> {
  const from = await openSource(source);
  const to = await openResultsBackend(results);
  const first = Date.now();
  let n = 0;
  const report = async (): Promise<void> => {
    n += 1;
    const owner = {
      job_id: `alone_${n}`,
      task: 'one',
      attempt: 1,
      store_id: 'bench',
      fence: first + n,
      seq: n,
    };
    const limits = { max_rows: null, max_bytes: null, max_value_bytes: 64_000_000 };
    const common = { owner, limits, signal: new AbortController().signal, onProgress: () => {} };
    await using result = await from.query('SELECT * FROM one WHERE id = $1', ['1'], {
      ...common,
      accept: to.accepts,
      onColumns: (columns) => to.checkColumns(columns),
    });
    await to.write(result, { ...common, ttl_ms: 3_600_000, confirm: async () => {} });
  };
  try {
    await repeat(500, AT_ONCE, report); // warm up
    return (await repeat(JOBS, AT_ONCE, report)).per_second;
  } finally {
    await from.close();
    await to.close();
  }
}
