import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { writeFor } from './accounts.ts';
import type { Engine, Place } from './engine.ts';
import { redis } from './redis-client.ts';

function dsn({ port, password }: Pick<Place, 'port' | 'password'>): string {
  return `redis://:${password}@127.0.0.1:${port}/0`;
}

export const REDIS: Engine = {
  name: 'redis',
  variable: 'TEST_REDIS_URL',
  package: 'redis-server',
  accounts: ['redis'],
  stop: 'SIGTERM',
  abandon: 'SIGKILL',
  dsn,
  find: () => (existsSync('/usr/bin/redis-server') ? '/usr/bin' : null),
  command(place) {
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
    return { program: join(place.programs, 'redis-server'), args: [config] };
  },
  async answer(place) {
    const info = await redis(dsn(place), ['INFO', 'server']);
    const version = /^redis_version:(\S+)/m.exec(String(info));
    if (version?.[1] === undefined) throw new Error('INFO has no redis_version');
    return version[1];
  },
};
