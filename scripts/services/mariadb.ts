import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createConnection } from 'mysql2/promise';
import { writeFor } from './accounts.ts';
import { DATABASE, type Engine, type Place, USER } from './engine.ts';
import { run } from './processes.ts';

const INSTALL = '/usr/bin/mariadb-install-db';

function dsn({ port, password }: Pick<Place, 'port' | 'password'>): string {
  return `mysql://${USER}:${password}@127.0.0.1:${port}/${DATABASE}`;
}

export const MARIADB: Engine = {
  name: 'mariadb',
  variable: 'TEST_MARIADB_DSN',
  package: 'mariadb-server',
  accounts: ['mysql'],
  stop: 'SIGTERM',
  abandon: 'SIGKILL',
  dsn,
  find: () => (existsSync('/usr/sbin/mariadbd') && existsSync(INSTALL) ? '/usr/sbin' : null),
  async prepare(place) {
    await run(
      INSTALL,
      ['--no-defaults', `--datadir=${place.data}`, '--skip-test-db', '--innodb-log-file-size=32M'],
      place,
    );
  },
  command(place) {
    // The server's own root takes nobody from the network. Ours is there before the first connection can be.
    const init = join(place.folder, 'init.sql');
    const identity = `'${USER}'@'%'`;
    writeFor(
      place.as,
      init,
      `CREATE USER IF NOT EXISTS ${identity} IDENTIFIED BY '${place.password}';
       GRANT ALL PRIVILEGES ON *.* TO ${identity} WITH GRANT OPTION;
       CREATE DATABASE IF NOT EXISTS ${DATABASE};\n`,
    );
    const { certificates } = place;
    const settings = {
      datadir: place.data,
      port: String(place.port),
      'bind-address': '127.0.0.1',
      socket: join(place.folder, 'socket'),
      tmpdir: place.folder,
      'pid-file': join(place.folder, 'pid'),
      'init-file': init,
      'skip-name-resolve': 'ON',
      'character-set-server': 'utf8mb4',
      'default-time-zone': '+00:00',
      'local-infile': 'ON',
      'max-allowed-packet': '256M',
      'max-connections': '400',
      'innodb-log-file-size': '32M',
      // A test kills processes, not machines; each table that is made or dropped would wait for the disk several times.
      'innodb-flush-log-at-trx-commit': '2',
      'innodb-flush-method': 'nosync',
      'debug-no-sync': 'ON',
      ...(certificates === undefined
        ? {}
        : { 'ssl-ca': certificates.ca, 'ssl-cert': certificates.certificate, 'ssl-key': certificates.key }),
      ...place.settings,
    };
    return {
      program: join(place.programs, 'mariadbd'),
      args: ['--no-defaults', ...Object.entries(settings).map(([key, value]) => `--${key}=${value}`)],
    };
  },
  async answer(place) {
    const connection = await createConnection({ uri: dsn(place), connectTimeout: 5_000 });
    try {
      const [rows] = await connection.query('SELECT version() AS version');
      return String((rows as { version: string }[])[0]?.version).split('-')[0] ?? '';
    } finally {
      connection.destroy();
    }
  },
};
