/** One statement to a test server, by DSN, values as the text that the server gives. */
import { createConnection } from 'mysql2/promise';
import pg from 'pg';
import { clickhouse } from '../../scripts/services/clickhouse-client.ts';
import { redis } from '../../scripts/services/redis-client.ts';

export type Row = (string | null)[];

type Protocol = 'postgres' | 'mysql' | 'clickhouse' | 'redis';

const PROTOCOLS: Readonly<Record<string, Protocol>> = {
  'postgres:': 'postgres',
  'postgresql:': 'postgres',
  'mysql:': 'mysql',
  'http:': 'clickhouse',
  'redis:': 'redis',
};

function protocolOf(dsn: string): Protocol {
  const scheme = new URL(dsn).protocol;
  const protocol = PROTOCOLS[scheme];
  if (protocol === undefined) throw new Error(`no test server speaks ${scheme}`);
  return protocol;
}

/**
 * Runs it over a connection of its own; its rows, none where it has none. For Redis the words of a command, or
 * the command with a space between two words; its reply is one row.
 */
export async function execute(dsn: string, statement: string | readonly string[]): Promise<Row[]> {
  const sql = typeof statement === 'string' ? statement : statement.join(' ');
  switch (protocolOf(dsn)) {
    case 'postgres':
      return postgres(dsn, sql);
    case 'mysql':
      return mysql(dsn, sql);
    case 'clickhouse':
      return parseTabSeparated(await clickhouse(dsn, sql));
    case 'redis': {
      const reply = await redis(dsn, typeof statement === 'string' ? statement.split(' ') : statement);
      return [
        (Array.isArray(reply) ? reply : [reply]).map((value) => (value === null ? null : String(value))),
      ];
    }
  }
}

export function quoteName(dsn: string, name: string): string {
  return protocolOf(dsn) === 'postgres'
    ? `"${name.replaceAll('"', '""')}"`
    : `\`${name.replaceAll('`', '``')}\``;
}

/** Several statements in `sql` are one transaction; the rows are the last one's. */
async function postgres(dsn: string, sql: string): Promise<Row[]> {
  const client = new pg.Client({
    connectionString: dsn,
    application_name: 'test tool',
    connectionTimeoutMillis: 60_000,
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
    connectTimeout: 60_000,
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

function parseTabSeparated(text: string): Row[] {
  if (text === '') return [];
  const value = (field: string) =>
    field === '\\N' ? null : field.replace(/\\(.)/gs, (_, one: string) => ESCAPES[one] ?? one);
  return text
    .replace(/\n$/, '')
    .split('\n')
    .map((line) => line.split('\t').map(value));
}

export interface RunningQuery {
  /** Of the session; on ClickHouse of the query. */
  readonly id: string;
  /** Where the client says who it is: Postgres' application_name; empty elsewhere. */
  readonly application: string;
  readonly query: string;
}

const RUNNING: Readonly<Record<Exclude<Protocol, 'redis'>, string>> = {
  postgres: `SELECT pid, application_name, query FROM pg_stat_activity
    WHERE datname = current_database() AND state <> 'idle' AND backend_type = 'client backend'
      AND pid <> pg_backend_pid() ORDER BY query_start`,
  mysql: `SELECT id, '', info FROM information_schema.processlist
    WHERE db = database() AND command <> 'Sleep' AND id <> connection_id() ORDER BY id`,
  clickhouse: `SELECT query_id, '', query FROM system.processes
    WHERE query NOT LIKE '%FROM system.processes%' ORDER BY elapsed DESC`,
};

/**
 * What runs in the DSN's database at the moment, our own question excepted. On Postgres that includes
 * transactions that are open with no statement; on ClickHouse it is the whole server, whose old versions do not
 * tell the database, and which keeps no comment that ends a query: mark it by its query_id.
 */
export async function runningQueries(dsn: string): Promise<RunningQuery[]> {
  const protocol = protocolOf(dsn);
  if (protocol === 'redis') return [];
  const rows = await execute(dsn, RUNNING[protocol]);
  return rows.map(([id, application, query]) => ({
    id: id ?? '',
    application: application ?? '',
    query: query ?? '',
  }));
}

/** For the end of a test, which expects []: the running queries that have `marker` in their text, id or application. */
export async function leftQueries(dsn: string, marker = ''): Promise<RunningQuery[]> {
  const running = await runningQueries(dsn);
  return running.filter((query) => Object.values(query).some((text) => text.includes(marker)));
}

/** Ends all sessions that are in `database`, which is not the DSN's own. */
export async function endSessions(dsn: string, database: string): Promise<void> {
  if (protocolOf(dsn) !== 'mysql') return; // the others do so when they drop it
  const sessions = await execute(
    dsn,
    `SELECT id FROM information_schema.processlist WHERE db = '${database}'`,
  );
  for (const [id] of sessions) {
    await execute(dsn, `KILL ${id}`).catch((error: { errno?: number }) => {
      if (error.errno !== NO_SUCH_THREAD) throw error; // it has ended by itself
    });
  }
}

const NO_SUCH_THREAD = 1094;
