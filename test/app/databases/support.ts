/** Servers of ours between real databases: their folders, queries that wait, looks at what is left. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createConnection } from 'mysql2/promise';
import pg from 'pg';
import { tempFolder } from '../../support/folder.ts';
import { type Answer, type JobView, TestServer } from '../../support/server.ts';
import { execute, SERVERS, type Service, servers } from '../../support/services.ts';
import type { Row } from '../../support/sql.ts';
import { until } from '../../support/until.ts';

/** An argument that must be seen nowhere but in the job's own `args`. */
export const SECRET = 'secret-argument-4711';

export function service(name: Service['name']): Service {
  const found = SERVERS.find((server) => server.name === name);
  assert.ok(found !== undefined, `${name} is not one of the test servers`);
  return found;
}

/** Sources with backends: each MySQL with a Postgres, both ways, and ClickHouse. */
export const PAIRS: readonly (readonly [Service, Service])[] = [
  ...servers('mysql').flatMap((server) => [
    [service('postgres-18'), server] as const,
    [server, service('postgres-15')] as const,
  ]),
  [service('clickhouse'), service('postgres-15')],
];

/** One reason to skip a test that needs all of these, or false. */
export function skipOf(...needed: readonly { readonly skip: string | false }[]): string | false {
  return needed.find(({ skip }) => skip !== false)?.skip ?? false;
}

export type Settings = Readonly<Record<string, string | number | boolean | readonly string[]>>;

export interface PlaceOptions {
  readonly tasks: string;
  /** Settings by name: `type`, `dsn` and what else a test wants. */
  readonly db: Readonly<Record<string, Settings>>;
  readonly results: Readonly<Record<string, Settings>>;
  readonly app?: Settings;
  /** Of [job_queue.state]; absent: a SQLite file in the folder. */
  readonly store?: Settings;
}

/** A folder with a configuration, tasks and room for a queue. */
export interface Place {
  readonly folder: string;
  readonly secrets: readonly string[];
}

/** `type` and `dsn` of a configuration's section. */
export function at(dsn: string): { readonly type: string; readonly dsn: string } {
  const scheme = new URL(dsn).protocol.slice(0, -1);
  const types: Readonly<Record<string, string>> = { http: 'clickhouse' };
  return { type: types[scheme] ?? scheme, dsn };
}

export function setup(t: TestContext, { tasks, db, results, app = {}, store }: PlaceOptions): Place {
  const folder = tempFolder(t);
  mkdirSync(join(folder, 'sql'));
  writeFileSync(join(folder, 'sql', 'tasks.sql'), tasks);
  const ready = ['store', 'db', 'results'];
  const quick = { log_level: 'info', heartbeat: '100ms', sweep: '100ms', results_sweep: '200ms', ready };
  const sections: [string, Settings][] = [
    ['app', { ...quick, ...app }],
    ...Object.entries(db).map(([name, settings]): [string, Settings] => [`db.${name}`, settings]),
    ...Object.entries(results).map(([name, settings]): [string, Settings] => [`results.${name}`, settings]),
    ...(store === undefined ? [] : [['job_queue.state', store] satisfies [string, Settings]]),
  ];
  writeFileSync(
    join(folder, 'config.toml'),
    sections
      .map(([name, settings]) => {
        const lines = Object.entries(settings).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
        return [`[${name}]`, ...lines, ''].join('\n');
      })
      .join('\n'),
  );
  const passwords = [...Object.values(db), ...Object.values(results), store ?? {}].flatMap(
    ({ dsn, password }) => [
      ...(typeof password === 'string' ? [password] : []),
      ...(typeof dsn === 'string' && URL.canParse(dsn) ? [decodeURIComponent(new URL(dsn).password)] : []),
    ],
  );
  return { folder, secrets: [SECRET, ...passwords.filter((password) => password !== '')] };
}

export interface ReportView extends JobView {
  readonly retries: number;
  readonly result:
    | (JobView['result'] & {
        readonly columns: readonly {
          readonly name: string;
          readonly type: string;
          readonly source_type: string;
        }[];
        readonly bytes: number;
        readonly expires_at: string | null;
        readonly warnings: readonly string[];
      })
    | null;
}

/** A server of which no answer and no line of output may hold a secret: the test fails if one does. */
export class WatchedServer extends TestServer {
  readonly #secrets: readonly string[];

  constructor(place: Place, args: readonly string[], env: Record<string, string>) {
    super(['--server', '127.0.0.1:0', ...args], { cwd: place.folder, env });
    this.#secrets = place.secrets;
  }

  override async request<T = unknown>(method: string, path: string, body?: unknown): Promise<Answer<T>> {
    const answer = await super.request<T>(method, path, body);
    this.#check(withoutArgs(answer), `${method} ${path}`);
    return answer;
  }

  override async finished(job_id: string): Promise<ReportView> {
    return (await super.finished(job_id)) as ReportView;
  }

  override async job(job_id: string): Promise<ReportView> {
    return (await super.job(job_id)) as ReportView;
  }

  checkOutput(): void {
    this.#check(this.stderr, 'standard error');
    for (const line of this.log) this.#check(line, 'the log');
  }

  #check(value: unknown, where: string): void {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    for (const secret of this.#secrets) {
      assert.ok(!text.includes(secret), `a secret is in ${where}: ${text.replaceAll(secret, '<secret>')}`);
    }
  }
}

/** An answer without the one place where arguments are shown. */
function withoutArgs(answer: Answer): unknown {
  const { data } = answer;
  if (typeof data !== 'object' || data === null || !('args' in data)) return answer;
  return { ...answer, data: { ...data, args: null } };
}

/** Not yet started; killed after the test, which fails if a secret was printed. */
export function launch(
  t: TestContext,
  place: Place,
  args: readonly string[] = [],
  env: Record<string, string> = {},
): WatchedServer {
  const server = new WatchedServer(place, args, env);
  t.after(async () => {
    await server.stop('SIGKILL');
    server.checkOutput();
  });
  return server;
}

/** Settings for a server that is to be killed: its jobs are taken over soon. */
export const DOOMED = { DUNGBEETLE_APP__LEASE: '4s' };

/** How many rows a gated query gives before it waits. They are more than any results backend holds in memory. */
export const BEFORE_GATE = 40_000;

/** How each engine says what the tests need. */
export interface Dialect {
  /** The n-th placeholder. */
  parameter(n: number): string;
  /** Runs until it is ended, and gives no row. */
  readonly hang: string;
  /** Gives rows until it is ended. */
  readonly flood: string;
  /** Gives BEFORE_GATE rows `(n, note, gate)`, waits until the gate is opened, gives one more. */
  readonly gated: string;
}

export const DIALECTS: Readonly<Record<'postgres' | 'mysql', Dialect>> & {
  readonly clickhouse: Omit<Dialect, 'gated'>;
} = {
  postgres: {
    parameter: (n) => `$${n}`,
    hang: 'SELECT pg_sleep(600)::text AS hang',
    flood: "SELECT generate_series(1, 1000000000) AS n, repeat('x', 200) AS note",
    gated: `SELECT n, 'note ' || n AS note,
      CASE WHEN n > ${BEFORE_GATE} THEN pg_advisory_xact_lock_shared(1)::text END AS gate
      FROM (SELECT generate_series(1, ${BEFORE_GATE + 1}) AS n) AS numbers`,
  },
  mysql: {
    parameter: () => '?',
    hang: 'SELECT SLEEP(600) AS hang',
    flood: `SELECT a.n * 30000 + b.n AS n, REPEAT('x', 200) AS note
      FROM ${numbers(30_000)} AS a, ${numbers(30_000)} AS b`,
    gated: `SELECT n, CONCAT('note ', n) AS note,
      IF(n > ${BEFORE_GATE}, GET_LOCK(DATABASE(), 600) + RELEASE_LOCK(DATABASE()), NULL) AS gate
      FROM ${numbers(BEFORE_GATE + 1)} AS numbers`,
  },
  clickhouse: {
    parameter: () => '?',
    hang: 'SELECT count() AS n FROM (SELECT number FROM system.numbers LIMIT 1000000000000) WHERE sleepEachRow(0.00001) = 1',
    flood: `SELECT number AS n, '${'x'.repeat(200)}' AS note FROM system.numbers`,
  },
};

/** A table of the numbers from 1 on, as MySQL and MariaDB have it alike: without sequences, and without recursion. */
function numbers(count: number): string {
  return `JSON_TABLE(CONCAT('[0', REPEAT(',0', ${count - 1}), ']'), '$[*]' COLUMNS (n FOR ORDINALITY))`;
}

/** Closes the gate of a source's gated queries; the answer opens it. It opens after the test, too. */
export async function closeGate(t: TestContext, dsn: string): Promise<() => Promise<void>> {
  if (new URL(dsn).protocol === 'mysql:') {
    const connection = await createConnection({ uri: dsn });
    connection.on('error', () => {}); // a server that the test ends
    t.after(() => connection.destroy());
    await connection.query('DO GET_LOCK(DATABASE(), 0)');
    return async () => connection.end();
  }
  const client = new pg.Client(dsn);
  let open = false;
  const end = async () => {
    if (open) return;
    open = true;
    await client.end();
  };
  client.on('error', () => {}); // a server that the test ends
  await client.connect();
  t.after(end);
  await client.query('SELECT pg_advisory_lock(1)');
  return end;
}

/** Resolves when the job has rows of its result on the way to the table. */
export async function loading(server: WatchedServer, job_id: string): Promise<void> {
  await until('it loads', async () => {
    const { progress, state, error } = await server.job(job_id);
    assert.ok(!['SUCCESS', 'FAILURE', 'CANCELLED'].includes(state), `${state} ${error}`);
    return progress?.phase === 'load' && progress.rows > 1_000;
  });
}

/** A results database, whatever its engine. */
export interface Results {
  readonly settings: Settings;
  /** Values as text, NULL as null. */
  query(sql: string): Promise<Row[]>;
  /** Names of all tables in it, whosever they are, in order. */
  tables(): Promise<string[]>;
}

export function resultsServer(dsn: string): Results {
  const query = (sql: string) => execute(dsn, sql);
  const schema = new URL(dsn).protocol === 'mysql:' ? 'DATABASE()' : 'current_schema()';
  return {
    settings: at(dsn),
    query,
    tables: async () => {
      const sql = `SELECT table_name FROM information_schema.tables WHERE table_schema = ${schema}`;
      return (await query(sql)).map(([name]) => name ?? '').toSorted();
    },
  };
}

export function resultsFile(path: string): Results {
  const query = async (sql: string) => {
    await nextTurn(); // SQLite answers at once: whoever asks again and again would keep everything else waiting
    const database = new DatabaseSync(path, { readOnly: true, timeout: 30_000 });
    try {
      const statement = database.prepare(sql);
      statement.setReadBigInts(true);
      return statement
        .all()
        .map((row) => Object.values(row).map((value) => (value === null ? null : String(value))));
    } finally {
      database.close();
    }
  };
  return {
    settings: { type: 'sqlite', dsn: path },
    query,
    tables: async () => {
      const found = await query("SELECT name FROM sqlite_master WHERE type = 'table'");
      return found
        .map(([name]) => name ?? '')
        .filter((name) => !name.startsWith('sqlite_'))
        .toSorted();
    },
  };
}

/** The tables in which a backend keeps books. `dungbeetle_staging_<token>` is none of them. */
const BOOKS = /^dungbeetle_(results|fences|staging|unlogged|version)$/;

/**
 * Resolves when the database holds these result tables, the catalog the same ones, and there is nothing else:
 * no staging table, no orphan. They are given time, as what the dead leave is swept.
 */
export async function onlyTables(results: Results, names: readonly string[]): Promise<void> {
  let seen = '';
  const wanted = JSON.stringify([names.toSorted(), names.toSorted(), []]);
  await until('the tables are those', async () => {
    const all = await results.tables();
    const catalog = await results.query('SELECT table_name FROM dungbeetle_results ORDER BY 1');
    const staged = all.includes('dungbeetle_staging')
      ? await results.query('SELECT * FROM dungbeetle_staging')
      : [];
    const tables = all.filter((name) => !BOOKS.test(name));
    seen = JSON.stringify([tables, catalog.map(([name]) => name ?? '').toSorted(), staged]);
    return seen === wanted;
  }).catch((error: unknown) => {
    throw new Error(`tables, catalog and staging are ${seen}, not ${wanted}`, { cause: error });
  });
}

/** What the log says of a job's attempts: the names of its events, in order. */
export function eventsOf(server: WatchedServer, job_id: string): unknown[] {
  return server.log
    .filter((entry) => entry['job_id'] === job_id && typeof entry['event'] === 'string')
    .map((entry) => entry['event']);
}
