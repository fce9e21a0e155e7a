/** The processes of a chaos run: a store, a source, a results backend, job servers and workers. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type PrivateServer, startPrivate } from '../support/private-server.ts';
import { proxy, type TcpProxy } from '../support/proxy.ts';
import { afterOthers, type Scope } from '../support/scope.ts';
import { TestServer } from '../support/server.ts';
import { execute } from '../support/sql.ts';

export const STORES = ['sqlite', 'postgres', 'redis'] as const;
export type StoreType = (typeof STORES)[number];

/**
 * What every query does first: it says in the server's own log that it runs, and whether it runs alone. The lock goes
 * with its transaction, in whatever way that ends.
 */
const RUN = `CREATE FUNCTION chaos_run(job text, milliseconds integer) RETURNS integer LANGUAGE plpgsql AS $$
  BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended(job, 0)) THEN RAISE LOG 'chaos overlap %', job; END IF;
    RAISE LOG 'chaos begin %', job;
    PERFORM pg_sleep(milliseconds / 1000.0);
    RETURN 1 / (CASE WHEN job LIKE 'fail%' THEN 0 ELSE 1 END);
  END $$`;

const TASKS = `-- name: report
-- Arguments: the job's id, how long it takes (ms), how many rows it gives.
WITH run AS MATERIALIZED (SELECT chaos_run($1, $2::integer) AS ok)
SELECT n, $1::text AS job, 'row ' || n AS label FROM run, generate_series(1, $3::integer) AS n;
`;

/** The store of a run, and how to be hard on it. */
export interface ChaosStore {
  /** Lines of [job_queue.state]. */
  readonly config: string;
  /** What stands before it; null: it is a file. */
  readonly proxy: TcpProxy | null;
  readonly server: PrivateServer | null;
  /** The file of a SQLite store. */
  readonly file: string | null;
}

/** A process that is started again whenever it ends. */
export class Kept {
  readonly name: string;
  /** How often it ended without having been killed once it had started. */
  readonly crashes: string[] = [];
  starts = 0;
  #server: TestServer | null = null;
  #stopping = false;
  #killed = false;
  readonly #launch: () => TestServer;
  #running: Promise<void> = Promise.resolve();

  constructor(name: string, launch: () => TestServer) {
    this.name = name;
    this.#launch = launch;
  }

  /** Its address; empty while it is starting. */
  get url(): string {
    return this.#server?.url ?? '';
  }

  get pid(): number | undefined {
    return this.#server?.child.pid;
  }

  /** Resolves when it has started for the first time; rejects with what it says if it cannot. */
  start(): Promise<void> {
    const first = Promise.withResolvers<void>();
    this.#running = this.#keep(first);
    return first.promise;
  }

  /** Kills it with SIGKILL; it is started again at once. */
  kill(): void {
    this.#killed = true;
    this.#server?.child.kill('SIGKILL');
  }

  /** Ends it in order: with what. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#server?.child.kill('SIGTERM');
    await this.#running;
  }

  async #keep(first: PromiseWithResolvers<void>): Promise<void> {
    while (!this.#stopping) {
      const server = this.#launch();
      this.#server = server;
      this.#killed = false;
      this.starts += 1;
      const isUp = await server.started().then(
        () => {
          first.resolve();
          return true;
        },
        // The store may be away while it starts: it says so and ends, and whoever keeps it tries again.
        (error: unknown) => {
          first.reject(error);
          return false;
        },
      );
      const code = await server.exited();
      if (this.#stopping) return;
      if (isUp && !this.#killed)
        this.crashes.push(`${this.name} ended with ${code}: ${server.stderr.slice(-500)}`);
      // A tenth of a second, as a supervisor would: not a busy loop while its store is away.
      if (!isUp) await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

export interface World {
  readonly folder: string;
  readonly store: ChaosStore;
  /** The server of source and results. */
  readonly databases: PrivateServer;
  readonly results: string;
  readonly servers: readonly Kept[];
  readonly workers: readonly Kept[];
}

export interface WorldOptions {
  readonly store: StoreType;
  readonly servers: number;
  readonly workers: number;
  readonly onLog: (process: string, entry: Record<string, unknown>) => void;
}

export async function openWorld(t: Scope, options: WorldOptions): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), 'dungbeetle-chaos-'));
  afterOthers(t, () => rmSync(folder, { recursive: true, force: true, maxRetries: 20 }));
  const databases = await startPrivate(t, 'postgres-18', {
    settings: { log_line_prefix: '%m ', log_min_messages: 'log', max_connections: '400' },
  });
  for (const name of ['source', 'results']) await execute(databases.dsn, `CREATE DATABASE ${name}`);
  const [source, results] = ['source', 'results'].map(
    (name) => Object.assign(new URL(databases.dsn), { pathname: `/${name}` }).href,
  );
  if (source === undefined || results === undefined) throw new Error('there are two');
  await execute(source, RUN);

  const store = await openStore(t, options.store, folder);
  mkdirSync(join(folder, 'sql'));
  writeFileSync(join(folder, 'sql', 'tasks.sql'), TASKS);
  writeFileSync(
    join(folder, 'config.toml'),
    `[app]
# A job whose workers are killed is not to blame here.
max_crashes = 1000
results_sweep = "2s"
[job_queue.state]
${store.config}
[db.source]
type = "postgres"
dsn = "${source}"
max_idle = 10
[results.reports]
type = "postgres"
dsn = "${results}"
max_idle = 10
`,
  );
  const starts: Promise<void>[] = [];
  const keep = (name: string, args: readonly string[]) => {
    const kept = new Kept(name, () => {
      const onLog = (entry: Record<string, unknown>) => options.onLog(name, entry);
      return new TestServer(['--worker-name', name, ...args], { cwd: folder, onLog });
    });
    t.after(() => kept.stop());
    starts.push(kept.start());
    return kept;
  };
  const servers = Array.from({ length: options.servers }, (_, n) =>
    // They listen on a queue that nobody posts to: work is the workers'.
    keep(`server-${n + 1}`, ['--server', '127.0.0.1:0', '--queue', 'none']),
  );
  const workers = Array.from({ length: options.workers }, (_, n) =>
    keep(`worker-${n + 1}`, ['--worker-only']),
  );
  await Promise.all(starts);
  return { folder, store, databases, results, servers, workers };
}

async function openStore(t: Scope, type: StoreType, folder: string): Promise<ChaosStore> {
  if (type === 'sqlite') {
    const file = join(folder, 'queue.db');
    return { config: 'type = "sqlite"\npath = "queue.db"', proxy: null, server: null, file };
  }
  if (type === 'postgres') {
    const server = await startPrivate(t, 'postgres-18', { settings: { max_connections: '400' } });
    const before = await proxy(t, { port: server.port });
    const config = `type = "postgres"\ndsn = "${before.through(server.dsn)}"`;
    return { config, proxy: before, server, file: null };
  }
  const server = await startPrivate(t, 'redis', { settings: { appendonly: 'yes', appendfsync: 'everysec' } });
  const before = await proxy(t, { port: server.port });
  const { password } = new URL(server.dsn);
  const config = `type = "redis"\naddresses = ["127.0.0.1:${before.port}"]\npassword = "${password}"\ndb = 0`;
  return { config, proxy: before, server, file: null };
}
