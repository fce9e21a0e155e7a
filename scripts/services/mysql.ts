import { join } from 'node:path';
import type { Engine, Place } from './engine.ts';
import { MYSQL_PROTOCOL, mysqlArguments } from './mysql-protocol.ts';
import { run } from './processes.ts';
import { findReleased, type Released } from './release.ts';

/** No release of Debian has MySQL's own server, but the one that is made all the time. */
const RELEASED: Released = { release: 'sid', package: 'mysql-server-core', program: 'usr/sbin/mysqld' };

/** Where its messages and plugins are, and how much room it takes: each server of a test copies a data folder. */
function layout({ programs }: Pick<Place, 'programs'>): Record<string, string> {
  return {
    basedir: join(programs, '..'),
    'lc-messages-dir': join(programs, '../share/mysql'),
    'plugin-dir': join(programs, '../lib/mysql/plugin'),
    'innodb-redo-log-capacity': '8M',
    'innodb-flush-method': 'nosync',
    'innodb-doublewrite': 'OFF',
    'innodb-autoextend-increment': '1',
  };
}

export const MYSQL: Engine = {
  ...MYSQL_PROTOCOL,
  name: 'mysql',
  variable: 'TEST_MYSQL_DSN',
  package: RELEASED,
  find: () => findReleased(RELEASED),
  async prepare(place) {
    const settings = Object.entries({ ...layout(place), datadir: place.data });
    await run(
      join(place.programs, 'mysqld'),
      ['--no-defaults', '--initialize-insecure', ...settings.map(([key, value]) => `--${key}=${value}`)],
      place,
    );
  },
  command: (place) => ({
    program: join(place.programs, 'mysqld'),
    args: mysqlArguments(place, {
      ...layout(place),
      'disable-log-bin': 'ON',
      mysqlx: 'OFF',
      'secure-file-priv': 'NULL',
      'innodb-redo-log-capacity': '32M',
    }),
  }),
};
