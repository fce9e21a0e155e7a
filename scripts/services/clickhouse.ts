import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { writeFor } from './accounts.ts';
import { clickhouse } from './clickhouse-client.ts';
import { DATABASE, type Engine, type Place, USER } from './engine.ts';

function dsn({ port, password }: Pick<Place, 'port' | 'password'>): string {
  return `http://${USER}:${password}@127.0.0.1:${port}/${DATABASE}`;
}

export const CLICKHOUSE: Engine = {
  name: 'clickhouse',
  variable: 'TEST_CLICKHOUSE_DSN',
  package: 'clickhouse-server',
  accounts: ['clickhouse'],
  stop: 'SIGTERM',
  abandon: 'SIGKILL',
  dsn,
  find: () => ['/usr/sbin', '/usr/bin'].find((bin) => existsSync(join(bin, 'clickhouse-server'))) ?? null,
  command(place) {
    const config = join(place.folder, 'config.xml');
    writeFor(
      place.as,
      config,
      `<yandex>
  <logger><level>warning</level><console>true</console></logger>
  <listen_host>127.0.0.1</listen_host>
  <http_port>${place.port}</http_port>
  <path>${place.data}/</path>
  <tmp_path>${place.data}/tmp/</tmp_path>
  <user_files_path>${place.data}/user_files/</user_files_path>
  <format_schema_path>${place.data}/format_schemas/</format_schema_path>
  <users_config>users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <timezone>UTC</timezone>
  <mark_cache_size>67108864</mark_cache_size>
  <max_connections>400</max_connections>
  <max_concurrent_queries>400</max_concurrent_queries>
  <core_dump><size_limit>0</size_limit></core_dump>
</yandex>\n`,
    );
    const settings = Object.entries(place.settings).map(([key, value]) => `<${key}>${value}</${key}>`);
    writeFor(
      place.as,
      join(place.folder, 'users.xml'),
      `<yandex>
  <profiles><default>${settings.join('')}</default></profiles>
  <quotas><default></default></quotas>
  <users><${USER}>
    <password>${place.password}</password>
    <networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
  </${USER}></users>
</yandex>\n`,
    );
    return { program: join(place.programs, 'clickhouse-server'), args: [`--config-file=${config}`] };
  },
  async answer(place) {
    const url = new URL(dsn(place));
    url.pathname = '/default';
    await clickhouse(url.href, `CREATE DATABASE IF NOT EXISTS ${DATABASE}`);
    return (await clickhouse(url.href, 'SELECT version()')).trim();
  },
};
