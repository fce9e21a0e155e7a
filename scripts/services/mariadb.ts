import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeFor } from './accounts.ts';
import type { Engine, Place } from './engine.ts';
import { MYSQL_PROTOCOL, mysqlArguments } from './mysql-protocol.ts';
import { run } from './processes.ts';
import { findReleased, type Released } from './release.ts';

const TRIXIE: Released = { release: 'trixie', package: 'mariadb-server-core', program: 'usr/sbin/mariadbd' };

/** The scripts that make the database `mysql`, in their order. */
const SCRIPTS = ['system_tables', 'performance_tables', 'system_tables_data', 'sys_schema'];

/** `name` begins the names of its scripts, and is the folder below `share` that has them. */
function mariadb(engine: Pick<Engine, 'name' | 'variable' | 'package' | 'find'>, name: string): Engine {
  const share = ({ programs }: Pick<Place, 'programs'>) => join(programs, '../share', name);
  const layout = (place: Pick<Place, 'programs'>): Record<string, string> => ({
    basedir: join(place.programs, '..'),
    'lc-messages-dir': share(place),
    'plugin-dir': join(place.programs, '../lib/mysql/plugin'),
    'innodb-log-file-size': '32M',
    'innodb-flush-method': 'nosync',
    'debug-no-sync': 'ON',
  });
  return {
    ...MYSQL_PROTOCOL,
    ...engine,
    // What mariadb-install-db does, which looks for the server where Debian installs it.
    async prepare(place) {
      const scripts = SCRIPTS.map((script) =>
        readFileSync(join(share(place), `${name}_${script}.sql`), 'utf8'),
      );
      const all = ['CREATE DATABASE mysql;', 'USE mysql;', 'SET @auth_root_socket = NULL;', ...scripts].join(
        '\n',
      );
      writeFor(place.as, join(place.folder, 'bootstrap.sql'), all);
      const settings = Object.entries({ ...layout(place), datadir: place.data, 'max-allowed-packet': '8M' });
      await run(
        '/bin/sh',
        [
          ...['-c', 'exec "$0" "$@" < bootstrap.sql', join(place.programs, 'mariadbd')],
          ...['--no-defaults', '--bootstrap', ...settings.map(([key, value]) => `--${key}=${value}`)],
        ],
        place,
      );
    },
    command: (place) => ({
      program: join(place.programs, 'mariadbd'),
      args: mysqlArguments(place, layout(place)),
    }),
  };
}

export const MARIADB = mariadb(
  {
    name: 'mariadb',
    variable: 'TEST_MARIADB_DSN',
    package: 'mariadb-server',
    find: () => (existsSync('/usr/sbin/mariadbd') ? '/usr/sbin' : null),
  },
  'mysql',
);
export const MARIADB_11: Engine = {
  ...mariadb(
    {
      name: 'mariadb-11',
      variable: 'TEST_MARIADB_11_DSN',
      package: TRIXIE,
      find: () => findReleased(TRIXIE),
    },
    'mariadb',
  ),
  isExtra: true,
};
