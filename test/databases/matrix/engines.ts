/** Sources and backends of the matrix: how each is opened, asked and read. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { TestContext } from 'node:test';
import type { ColumnType, ResultsBackend, Source } from '../../../src/databases/database.ts';
import { realText } from '../../../src/databases/encodings/real-text.ts';
import { openResultsBackend, openSource } from '../../../src/databases/open.ts';
import { tempFolder } from '../../support/folder.ts';
import { execute, freshDatabase, type Service, servers } from '../../support/services.ts';
import { closing } from '../support.ts';
import { type Case, CLICKHOUSE, MARIADB_ALONE, MYSQL, MYSQL_ALONE, POSTGRES, SQLITE } from './cases.ts';

// A machine that runs all tests at once may take long to connect.
const POOL = { max_active: 10, max_idle: 10, connect_timeout_ms: 60_000 };

export interface SourceSide {
  readonly source: Source;
  /** What the source itself prints for an expression, null for NULL. */
  print(sql: string): Promise<string | null>;
}

export interface BackendSide {
  readonly backend: ResultsBackend;
  /** The one value in a result table, as the backend prints it. */
  read(table: string, type: ColumnType): Promise<string | null>;
  /** Column c of a result table, in the order of its column n. */
  list(table: string, type: ColumnType): Promise<readonly (string | null)[]>;
}

export interface SourceEngine {
  readonly name: string;
  readonly skip: string | false;
  readonly cases: readonly Case[];
  /** An expression for a text so many times. */
  repeat(text: string, times: number): string;
  /** Makes a BYTES of a text; null: there are none. */
  readonly asBytes: ((text: string) => string) | null;
  open(t: TestContext): Promise<SourceSide>;
}

export interface BackendEngine {
  readonly name: string;
  readonly skip: string | false;
  /** Under which names cases tell what happens here: the first that one has. */
  readonly kinds: readonly ('postgres' | 'mysql' | 'mariadb' | 'sqlite')[];
  open(t: TestContext): Promise<BackendSide>;
}

export const SOURCES: readonly SourceEngine[] = [
  ...servers('postgres').map(
    (server): SourceEngine => ({
      ...sourceOf(server, 'postgres', POSTGRES, postgresPrint),
      repeat: (text, times) => `repeat(E'${escaped(text)}', ${times})`,
      asBytes: (text) => `convert_to(${text}, 'UTF8')`,
    }),
  ),
  ...servers('mysql').map((server) => ({
    ...sourceOf(
      server,
      'mysql',
      [...MYSQL, ...(server.name === 'mysql' ? MYSQL_ALONE : MARIADB_ALONE)],
      mysqlPrint,
    ),
    repeat: (text: string, times: number) => `REPEAT('${escaped(text)}', ${times})`,
    asBytes: (text: string) => `CAST(${text} AS BINARY)`,
  })),
  ...servers('clickhouse').map((server) => ({
    ...sourceOf(server, 'clickhouse', CLICKHOUSE, clickhousePrint),
    repeat: (text: string, times: number) =>
      `arrayStringConcat(arrayMap(x -> '${escaped(text)}', range(${times})))`,
    asBytes: null,
  })),
  {
    name: 'sqlite',
    skip: false,
    cases: SQLITE,
    repeat: (text, times) => `replace(hex(zeroblob(${times})), '00', '${text.replaceAll("'", "''")}')`,
    asBytes: (text) => `CAST(${text} AS BLOB)`,
    open: openSqliteSide,
  },
];

export const BACKENDS: readonly BackendEngine[] = [
  ...servers('postgres').map(postgresBackend),
  ...servers('mysql').map(mysqlBackend),
  { name: 'sqlite', skip: false, kinds: ['sqlite'], open: openSqliteBackend },
];

function sourceOf(
  server: Service,
  type: 'postgres' | 'mysql' | 'clickhouse',
  cases: readonly Case[],
  print: (dsn: string, sql: string) => Promise<string | null>,
): Pick<SourceEngine, 'name' | 'skip' | 'cases' | 'open'> {
  return {
    name: server.name,
    skip: server.skip,
    cases,
    open: async (t) => {
      const dsn = await freshDatabase(t, server);
      const source = await openSource({ type, name: 'app', dsn, ...POOL });
      closing(t, () => source.close());
      return { source, print: (sql) => print(dsn, sql) };
    },
  };
}

/** For strings in which a backslash escapes. */
function escaped(text: string): string {
  return text.replace(/[\\']/g, '\\$&');
}

async function one(dsn: string, sql: string): Promise<string | null> {
  const values = await all(dsn, sql);
  assert.equal(values.length, 1, sql);
  return values[0] ?? null;
}

async function all(dsn: string, sql: string): Promise<readonly (string | null)[]> {
  return (await execute(dsn, sql)).map(([value]) => value ?? null);
}

function postgresPrint(dsn: string, sql: string): Promise<string | null> {
  return one(inUtc(dsn), `SELECT (${sql})::text`);
}

function mysqlPrint(dsn: string, sql: string): Promise<string | null> {
  return one(
    dsn,
    /BINARY|^X'/.test(sql) ? `SELECT CONCAT('\\\\x', LOWER(HEX(${sql})))` : `SELECT CAST(${sql} AS CHAR)`,
  );
}

function clickhousePrint(dsn: string, sql: string): Promise<string | null> {
  if (sql === 'NULL' || sql.startsWith('CAST(NULL')) return Promise.resolve(null);
  if (sql.startsWith('toDateTime(')) return one(dsn, `SELECT toString(${sql}, 'UTC')`);
  // Of long decimals toString of old servers makes something else.
  return one(dsn, `SELECT ${sql.startsWith('toDecimal') ? sql : `toString(${sql})`}`);
}

function inUtc(dsn: string): string {
  return `${dsn}${dsn.includes('?') ? '&' : '?'}TimeZone=UTC`;
}

function postgresBackend(server: Service): BackendEngine {
  return {
    name: server.name,
    skip: server.skip,
    kinds: ['postgres'],
    open: async (t) => {
      const dsn = await freshDatabase(t, server);
      const backend = await openResultsBackend({
        type: 'postgres',
        name: 'reports',
        dsn,
        results_table: 'results_%s',
        column_types: 'standard',
        unlogged: true,
        ...POOL,
      });
      closing(t, () => backend.close());
      return {
        backend,
        read: (table) => one(inUtc(dsn), `SELECT c::text FROM "${table}"`),
        list: (table) => all(inUtc(dsn), `SELECT c::text FROM "${table}" ORDER BY n`),
      };
    },
  };
}

function mysqlBackend(server: Service): BackendEngine {
  return {
    name: server.name,
    skip: server.skip,
    kinds: server.name === 'mysql' ? ['mysql'] : ['mariadb', 'mysql'],
    open: async (t) => {
      const dsn = await freshDatabase(t, server);
      const backend = await openResultsBackend({
        type: 'mysql',
        name: 'reports',
        dsn,
        results_table: 'results_%s',
        column_types: 'standard',
        ...POOL,
      });
      closing(t, () => backend.close());
      const text = (type: ColumnType) =>
        type === 'BYTES' ? "CONCAT('\\\\x', LOWER(HEX(c)))" : 'CAST(c AS CHAR)';
      return {
        backend,
        read: (table, type) => one(dsn, `SELECT ${text(type)} FROM \`${table}\``),
        list: (table, type) => all(dsn, `SELECT ${text(type)} FROM \`${table}\` ORDER BY n`),
      };
    },
  };
}

async function openSqliteSide(t: TestContext): Promise<SourceSide> {
  closing(t, () => {}); // before the folder's own hook: they run in order
  const path = join(tempFolder(t), 'app.db');
  const database = new DatabaseSync(path);
  closing(t, () => database.close());
  database.exec('CREATE TABLE something (a)');
  const source = await openSource({ type: 'sqlite', name: 'app', path });
  closing(t, () => source.close());
  return { source, print: async (sql) => sqliteValues(database, `SELECT ${sql} AS c`)[0] ?? null };
}

async function openSqliteBackend(t: TestContext): Promise<BackendSide> {
  closing(t, () => {});
  const path = join(tempFolder(t), 'results.db');
  const backend = await openResultsBackend({ type: 'sqlite', name: 'reports', path });
  closing(t, () => backend.close());
  const list = async (table: string) => {
    const database = new DatabaseSync(path, { readOnly: true, timeout: 30_000 });
    try {
      return sqliteValues(database, `SELECT c FROM "${table}" ORDER BY rowid`);
    } finally {
      database.close();
    }
  };
  return { backend, list, read: async (table) => (await list(table))[0] ?? null };
}

/** SQLite's values as the others print theirs. */
function sqliteValues(database: DatabaseSync, sql: string): readonly (string | null)[] {
  const statement = database.prepare(sql);
  statement.setReadBigInts(true);
  return statement.all().map(({ c: value = null }) => {
    if (value === null) return null;
    if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString('hex')}`;
    return typeof value === 'number' ? realText(value) : String(value);
  });
}
