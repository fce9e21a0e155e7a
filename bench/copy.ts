/**
 * One million rows from SQLite to SQLite: through a source and a results backend, beside one
 * `INSERT INTO … SELECT` over an attached file, by the sqlite3 command where there is one.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { Accept } from '../src/databases/database.ts';
import { openSqliteResults } from '../src/databases/sqlite/results.ts';
import { openSqliteSource } from '../src/databases/sqlite/source.ts';

export interface CopyMeasured {
  readonly rows: number;
  /** Medians, ms. `query` and `load` are the parts of `sqlite_file`. */
  readonly ms: {
    readonly reference_wal: number;
    readonly reference_rollback: number;
    readonly sqlite_file: number;
    readonly query: number;
    readonly load: number;
    readonly rows: number;
  };
  /** Time of the reference in WAL mode over ours: 1 is as fast, less is slower. */
  readonly ratio: number;
  /** Most resident memory above idle, MB: of this process and of each kind of child. */
  readonly rss_mb: { readonly server: number; readonly source: number; readonly writer: number };
}

const SELECT = 'SELECT * FROM entries';

/** Each is run `runs` times, in turn, so that all see the same machine. */
export async function measureCopy(rows = 1_000_000, runs = 3): Promise<CopyMeasured> {
  const folder = mkdtempSync(join(tmpdir(), 'dungbeetle-bench-'));
  try {
    return await measureIn(folder, rows, runs);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function measureIn(folder: string, rows: number, runs: number): Promise<CopyMeasured> {
  const ledger = join(folder, 'ledger.db');
  makeLedger(ledger, rows);
  const source = await openSqliteSource({ name: 'ledger', path: ledger });
  const results = await openSqliteResults({ name: 'results', path: join(folder, 'results.db') });
  const idle = { server: 0, source: 0, writer: 0 };
  const peak = { server: 0, source: 0, writer: 0 };
  const sample = (into: typeof peak) => {
    into.server = Math.max(into.server, rssOf(process.pid));
    for (const pid of source.pids) into.source = Math.max(into.source, rssOf(pid));
    for (const pid of results.pids) into.writer = Math.max(into.writer, rssOf(pid));
  };
  const sampler = setInterval(() => sample(peak), 20);

  let fence = 0;
  const copy = async (encoding: Accept['encoding'], sql = SELECT) => {
    fence += 1;
    const owner = { job_id: `copy_${encoding}`, task: 'copy', attempt: 1, store_id: 'bench', fence, seq: 1 };
    const common = {
      owner,
      limits: { max_rows: null, max_bytes: null, max_value_bytes: 64_000_000 },
      signal: new AbortController().signal,
      onProgress: () => {},
    };
    const begun = performance.now();
    const accept = results.accepts.filter((offer) => offer.encoding === encoding);
    await using result = await source.query(sql, [], { ...common, accept, onColumns: () => {} });
    const queried = performance.now();
    const table = await results.write(result, { ...common, ttl_ms: null, confirm: async () => {} });
    const loaded = performance.now();
    if (sql === SELECT && table.rows !== rows) throw new Error(`${table.rows} rows arrived`);
    // The next one begins with an empty database again.
    await results.drop(owner.job_id);
    await results.sweep({
      store_id: 'bench',
      liveFences: async () => new Set(),
      judge: async () => 'undecided',
    });
    return { all: loaded - begun, query: queried - begun, load: loaded - queried };
  };
  const times = { wal: [], rollback: [], all: [], query: [], load: [], rows: [] } as Record<string, number[]>;
  const note = (name: string, ms: number) => times[name]?.push(ms);
  try {
    await copy('sqlite-file', 'SELECT 1'); // processes started, file made
    sample(idle);
    for (let run = 0; run < runs; run++) {
      note('wal', reference(folder, ledger, 'wal'));
      note('rollback', reference(folder, ledger, 'delete'));
      const { all, query, load } = await copy('sqlite-file');
      note('all', all);
      note('query', query);
      note('load', load);
      note('rows', (await copy('rows')).all);
    }
  } finally {
    clearInterval(sampler);
    await source.close();
    await results.close();
  }
  const median = (name: string) => times[name]?.toSorted((a, b) => a - b)[Math.floor(runs / 2)] ?? Number.NaN;
  return {
    rows,
    ms: {
      reference_wal: median('wal'),
      reference_rollback: median('rollback'),
      sqlite_file: median('all'),
      query: median('query'),
      load: median('load'),
      rows: median('rows'),
    },
    ratio: median('wal') / median('all'),
    rss_mb: {
      server: peak.server - idle.server,
      source: peak.source - idle.source,
      writer: peak.writer - idle.writer,
    },
  };
}

function makeLedger(path: string, rows: number): void {
  const db = new DatabaseSync(path);
  db.exec(`
    CREATE TABLE entries(
      id INTEGER PRIMARY KEY, user_id VARCHAR(20), amount DECIMAL(12,2), quantity INT, rate REAL,
      day DATE, at TIMESTAMP, note TEXT, settled BOOLEAN);
    INSERT INTO entries
      WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows})
      SELECT i, 'user' || (i % 10000), (i % 100000) / 100.0, i % 1000, i / 7.0,
        date('2024-01-01', '+' || (i % 365) || ' days'), datetime('2024-01-01', '+' || i || ' seconds'),
        CASE WHEN i % 5 THEN 'order of ' || i END, i % 2 FROM n`);
  db.close();
}

/** The time of the statement alone, as sqlite3 tells it, or node:sqlite in a process of its own. */
function reference(folder: string, ledger: string, journal: 'wal' | 'delete'): number {
  const target = join(folder, 'reference.db');
  for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(target + suffix, { force: true });
  const statements = `ATTACH '${ledger}' AS source; PRAGMA journal_mode = ${journal}; CREATE TABLE copy(
    id BIGINT, user_id TEXT, amount DECIMAL, quantity BIGINT, rate DOUBLE, day DATE, at TIMESTAMP, note TEXT, settled BOOLEAN);`;
  const copy = 'INSERT INTO copy SELECT * FROM source.entries';
  if (spawnSync('sqlite3', ['--version']).status === 0) {
    const told = execFileSync('sqlite3', [target], {
      input: `${statements}\n.timer on\n${copy};\n`,
      encoding: 'utf8',
    });
    return Number(/real ([\d.]+)/.exec(told)?.[1]) * 1000;
  }
  const script = `
    const db = new (require('node:sqlite').DatabaseSync)(process.argv[1]);
    db.exec(process.argv[2]);
    const begun = performance.now();
    db.exec(process.argv[3]);
    console.log(performance.now() - begun);`;
  return Number(
    execFileSync(process.execPath, ['-e', script, target, statements, copy], { encoding: 'utf8' }),
  );
}

/** Resident memory of a process, MB; 0 when it is gone or cannot be asked. */
function rssOf(pid: number): number {
  try {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1000;
  } catch {
    return 0;
  }
}

if (import.meta.main) {
  const { rows, ms, ratio, rss_mb } = await measureCopy(Number(process.argv[2] ?? 1_000_000));
  const whole = (value: number) => Math.round(value).toLocaleString('en').padStart(8);
  console.log(`${rows.toLocaleString('en')} rows of nine columns, SQLite to SQLite\n`);
  console.log(`INSERT … SELECT, WAL              ${whole(ms.reference_wal)} ms`);
  console.log(`INSERT … SELECT, rollback journal ${whole(ms.reference_rollback)} ms`);
  console.log(
    `source and results backend        ${whole(ms.sqlite_file)} ms (query ${Math.round(ms.query)}, load ${Math.round(ms.load)})`,
  );
  console.log(`the same by rows in JavaScript    ${whole(ms.rows)} ms`);
  console.log(`ratio to INSERT … SELECT, WAL     ${ratio.toFixed(2).padStart(8)}`);
  console.log(
    `RSS above idle: server ${Math.round(rss_mb.server)} MB, source ${Math.round(rss_mb.source)} MB, writer ${Math.round(rss_mb.writer)} MB`,
  );
}
