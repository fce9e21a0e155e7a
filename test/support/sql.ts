/** One statement to a test server, by DSN, values as the text that the server gives. */
import { createConnection } from 'mysql2/promise';
import pg from 'pg';
import { redis } from '../../scripts/services/redis-client.ts';

export type Row = (string | null)[];

/** Runs it over a connection of its own; its rows, no rows where it has none. For Redis: a command's words. */
export async function execute(dsn: string, sql: string | readonly string[]): Promise<Row[]> {
  const { protocol } = new URL(dsn);
  if (typeof sql !== 'string' || protocol === 'redis:') {
    const reply = await redis(dsn, typeof sql === 'string' ? sql.split(' ') : sql);
    return [Array.isArray(reply) ? reply.map(String) : [reply === null ? null : String(reply)]];
  }
  if (protocol === 'mysql:') return mysql(dsn, sql);
  if (protocol === 'http:' || protocol === 'https:') return clickhouse(dsn, sql);
  return postgres(dsn, sql);
}

export function quoteName(dsn: string, name: string): string {
  return new URL(dsn).protocol.startsWith('postgres')
    ? `"${name.replaceAll('"', '""')}"`
    : `\`${name.replaceAll('`', '``')}\``;
}

/** Several statements in `sql` are one transaction; the rows are the last one's. */
async function postgres(dsn: string, sql: string): Promise<Row[]> {
  const client = new pg.Client({
    connectionString: dsn,
    application_name: TOOL,
    connectionTimeoutMillis: 10_000,
  });
  client.on('error', () => {}); // while a query runs, that query rejects
  try {
    await client.connect();
    const asText = { getTypeParser: () => (text: string) => text };
    const result: pg.QueryArrayResult<Row> | pg.QueryArrayResult<Row>[] = await client.query<Row>({
      text: sql,
      rowMode: 'array',
      types: asText,
    });
    return Array.isArray(result) ? (result.at(-1)?.rows ?? []) : result.rows;
  } finally {
    await client.end();
  }
}

async function mysql(dsn: string, sql: string): Promise<Row[]> {
  const connection = await createConnection({
    uri: dsn,
    rowsAsArray: true,
    connectTimeout: 10_000,
    typeCast: (field) => field.string(),
  });
  try {
    const [rows] = await connection.query(sql);
    return Array.isArray(rows) ? (rows as Row[]) : [];
  } finally {
    connection.destroy();
  }
}

const ESCAPES: Readonly<Record<string, string>> = { t: '\t', n: '\n', r: '\r', b: '\b', f: '\f', '0': '\0' };

async function clickhouse(dsn: string, sql: string): Promise<Row[]> {
  const url = new URL(dsn);
  const credentials = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  const response = await fetch(
    `${url.origin}/?database=${url.pathname.slice(1)}&default_format=TabSeparated`,
    {
      method: 'POST',
      headers: { authorization: `Basic ${btoa(credentials)}` },
      body: sql,
      signal: AbortSignal.timeout(30_000),
    },
  );
  const text = await response.text();
  if (!response.ok) throw new Error(text.trim());
  if (text === '') return [];
  const value = (field: string) =>
    field === '\\N' ? null : field.replace(/\\(.)/gs, (_, one: string) => ESCAPES[one] ?? one);
  return text
    .replace(/\n$/, '')
    .split('\n')
    .map((line) => line.split('\t').map(value));
}

/** How our own sessions call themselves. */
const TOOL = 'dungbeetle-test-tool';

export interface RunningQuery {
  /** Of the session; on ClickHouse of the query. */
  readonly id: string;
  readonly query: string;
}

const RUNNING: Readonly<Record<string, string>> = {
  postgres: `SELECT pid, query FROM pg_stat_activity
    WHERE datname = current_database() AND state <> 'idle' AND backend_type = 'client backend'
      AND application_name <> '${TOOL}' ORDER BY query_start`,
  mysql: `SELECT id, info FROM information_schema.processlist
    WHERE db = database() AND command <> 'Sleep' AND id <> connection_id() ORDER BY id`,
  clickhouse: `SELECT query_id, query FROM system.processes
    WHERE query NOT LIKE '%system.processes%' ORDER BY elapsed DESC`,
};

/**
 * What runs in the DSN's database at the moment (on ClickHouse: in the whole server, whose old versions do not
 * say where), transactions that are open without a statement included, our own question not.
 */
export async function runningQueries(dsn: string): Promise<RunningQuery[]> {
  const { protocol } = new URL(dsn);
  const engine = protocol.startsWith('http') ? 'clickhouse' : protocol.replace(/(ql)?:$/, '$1');
  const sql = RUNNING[engine === 'postgresql' ? 'postgres' : engine];
  if (sql === undefined) throw new Error(`${protocol} has no queries that run`);
  return (await execute(dsn, sql)).map(([id, query]) => ({ id: id ?? '', query: query ?? '' }));
}

/** For the end of a test: rejects when a query whose text has `marker` is still running in the server. */
export async function leftQueries(dsn: string, marker = ''): Promise<string[]> {
  return (await runningQueries(dsn)).map(({ query }) => query).filter((query) => query.includes(marker));
}
