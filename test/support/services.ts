/**
 * The servers that tests use. `npm test` starts them (scripts/test.ts); for one file by itself,
 * `npm run services` in another terminal prints the variables that name them.
 */
import { randomBytes } from 'node:crypto';
import { type ServerName, skipVariable } from '../../scripts/services/engine.ts';
import { ENGINES } from '../../scripts/services/engines.ts';
import { withoutServer } from '../../scripts/services/skipped.ts';
import { afterOthers, type Scope } from './scope.ts';
import { endSessions, execute, quoteName } from './sql.ts';

export { noPrivate, type PrivateServer, setReadOnly, startPrivate } from './private-server.ts';
export { proxy } from './proxy.ts';
export { execute, leftQueries, type RunningQuery, runningQueries } from './sql.ts';

export interface Service {
  readonly name: ServerName;
  /** What it speaks: suites are written for that. */
  readonly engine: 'postgres' | 'mysql' | 'clickhouse' | 'redis';
  /** Of an administrator; null exactly when there is a reason to skip. */
  readonly dsn: string | null;
  /** For node:test's `skip`: why there is no such server. */
  readonly skip: string | false;
}

function service(name: Service['name'], engine: Service['engine'], variable: string): Service {
  const dsn = process.env[variable];
  if (dsn !== undefined && dsn !== '') return { name, engine, dsn, skip: false };
  const reason = process.env[skipVariable(variable)] ?? `no ${variable}: run it by npm test`;
  return { name, engine, dsn: null, skip: withoutServer(name, reason) };
}

const SPEAKS = {
  'postgres-15': 'postgres',
  'postgres-18': 'postgres',
  mysql: 'mysql',
  mariadb: 'mysql',
  'mariadb-11': 'mysql',
  clickhouse: 'clickhouse',
  redis: 'redis',
  valkey: 'redis',
} as const satisfies Record<ServerName, Service['engine']>;

/** The engines of this run: those of every run, and what this one has besides. */
const OF_RUN = ENGINES.filter(
  ({ isExtra, variable }) => isExtra !== true || process.env[variable] || process.env[skipVariable(variable)],
);

export const SERVERS: readonly Service[] = OF_RUN.map(({ name, variable }) =>
  service(name, SPEAKS[name], variable),
);

/** Names for `startPrivate`: the servers of this run that speak as `engine`. */
export function privateNames(engine: Service['engine']): readonly ServerName[] {
  return OF_RUN.map(({ name }) => name).filter((name) => SPEAKS[name] === engine);
}

/** Those a suite for `engine` runs on, each with its reason to be skipped. */
export function servers(engine: Service['engine']): readonly Service[] {
  return SERVERS.filter((server) => server.engine === engine);
}

/**
 * The DSN of a new, empty database, dropped after the test with whatever is in it; sessions that are still
 * connected are ended. On Redis one of its numbered databases.
 */
export async function freshDatabase(t: Scope, server: Service): Promise<string> {
  if (server.dsn === null) throw new Error(`there is no ${server.name}: the test should have been skipped`);
  const admin = server.dsn;
  if (server.engine === 'redis') return freshNumber(t, admin);
  const name = `test_${randomBytes(6).toString('hex')}`;
  await execute(admin, `CREATE DATABASE ${quoteName(admin, name)}`);
  afterOthers(t, async () => {
    await endSessions(admin, name);
    const force = server.engine === 'postgres' ? ' WITH (FORCE)' : '';
    await execute(admin, `DROP DATABASE IF EXISTS ${quoteName(admin, name)}${force}`);
  });
  return databaseOf(admin, name);
}

/** `dsn` with another database. */
export function databaseOf(dsn: string, name: string): string {
  const url = new URL(dsn);
  url.pathname = `/${name}`;
  return url.href;
}

/** Number 0 keeps which of the others are taken. */
async function freshNumber(t: Scope, admin: string): Promise<string> {
  const [[, databases = '0'] = []] = await execute(admin, 'CONFIG GET databases');
  for (let number = 1; number < Number(databases); number += 1) {
    const taken = `taken by a test: ${number}`;
    const [[set] = []] = await execute(databaseOf(admin, '0'), ['SET', taken, String(process.pid), 'NX']);
    if (set !== 'OK') continue;
    const dsn = databaseOf(admin, String(number));
    afterOthers(t, async () => {
      await execute(dsn, 'FLUSHDB');
      await execute(databaseOf(admin, '0'), ['DEL', taken]);
    });
    return dsn;
  }
  throw new Error(`all ${databases} databases of this Redis are taken by tests`);
}
