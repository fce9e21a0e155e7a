import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { writeFor } from './accounts.ts';
import type { Engine, Place } from './engine.ts';
import { redis } from './redis-client.ts';
import { findReleased, type Released } from './release.ts';

function dsn({ port, password }: Pick<Place, 'port' | 'password'>): string {
  return `redis://:${password}@127.0.0.1:${port}/0`;
}

/** Commands and their replies are the same in both. */
const PROTOCOL = {
  accounts: ['redis'],
  stop: 'SIGTERM',
  abandon: 'SIGKILL',
  dsn,
  async answer(place: Place) {
    const info = String(await redis(dsn(place), ['INFO', 'server']));
    const version = /^valkey_version:(\S+)/m.exec(info) ?? /^redis_version:(\S+)/m.exec(info);
    if (version?.[1] === undefined) throw new Error('INFO has no version');
    return version[1];
  },
} as const;

function command(name: 'redis-server' | 'valkey-server'): Engine['command'] {
  return (place) => {
    const settings = {
      port: place.port,
      bind: '127.0.0.1',
      dir: place.data,
      requirepass: place.password,
      databases: 1024, // one for a test
      save: '""',
      appendonly: 'no',
      maxclients: 1000,
      ...(place.certificates === undefined
        ? {}
        : {
            // Where it listens with TLS is for `settings` to say (tls-port).
            'tls-ca-cert-file': place.certificates.ca,
            'tls-cert-file': place.certificates.certificate,
            'tls-key-file': place.certificates.key,
            'tls-auth-clients': 'no',
          }),
      ...place.settings,
    };
    const config = join(place.folder, 'redis.conf');
    const lines = Object.entries(settings).map(([key, value]) => `${key} ${value}\n`);
    writeFor(place.as, config, lines.join(''));
    return { program: join(place.programs, name), args: [config] };
  };
}

export const REDIS: Engine = {
  ...PROTOCOL,
  name: 'redis',
  variable: 'TEST_REDIS_URL',
  package: 'redis-server',
  find: () => (existsSync('/usr/bin/redis-server') ? '/usr/bin' : null),
  command: command('redis-server'),
};

const RELEASED: Released = { release: 'sid', package: 'valkey-server', program: 'usr/bin/valkey-server' };

export const VALKEY: Engine = {
  ...PROTOCOL,
  name: 'valkey',
  isExtra: true,
  variable: 'TEST_VALKEY_URL',
  package: RELEASED,
  find: () => findReleased(RELEASED),
  command: command('valkey-server'),
};
