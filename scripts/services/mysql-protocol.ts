/** What MySQL and MariaDB have in common. */
import { join } from 'node:path';
import { createConnection } from 'mysql2/promise';
import { writeFor } from './accounts.ts';
import { DATABASE, type Engine, type Place, USER } from './engine.ts';

function dsn({ port, password }: Pick<Place, 'port' | 'password'>): string {
  return `mysql://${USER}:${password}@127.0.0.1:${port}/${DATABASE}`;
}

/** The settings of both. Writes the file that makes our user. */
function settings(place: Place): Record<string, string> {
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
  return {
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
    // A test kills processes, not machines; each table that is made or dropped would wait for the disk several times.
    'innodb-flush-log-at-trx-commit': '2',
    ...(certificates === undefined
      ? {}
      : { 'ssl-ca': certificates.ca, 'ssl-cert': certificates.certificate, 'ssl-key': certificates.key }),
  };
}

/** Arguments of the server's program: what both have, what one has (`own`), and what the test wants. */
export function mysqlArguments(place: Place, own: Readonly<Record<string, string>>): string[] {
  const all = { ...settings(place), ...own, ...place.settings };
  return ['--no-defaults', ...Object.entries(all).map(([key, value]) => `--${key}=${value}`)];
}

export const MYSQL_PROTOCOL = {
  accounts: ['mysql'],
  stop: 'SIGTERM',
  abandon: 'SIGKILL',
  dsn,
  async answer(place) {
    const connection = await createConnection({ uri: dsn(place), connectTimeout: 5_000 });
    try {
      const [rows] = await connection.query('SELECT version() AS version');
      return String((rows as { version: string }[])[0]?.version).split('-')[0] ?? '';
    } finally {
      connection.destroy();
    }
  },
} as const satisfies Partial<Engine>;
