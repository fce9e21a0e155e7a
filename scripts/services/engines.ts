import { CLICKHOUSE } from './clickhouse.ts';
import type { Engine } from './engine.ts';
import { MARIADB, MARIADB_11 } from './mariadb.ts';
import { MYSQL } from './mysql.ts';
import { POSTGRES_15, POSTGRES_18 } from './postgres.ts';
import { REDIS, VALKEY } from './redis.ts';

export const ENGINES: readonly Engine[] = [
  POSTGRES_15,
  POSTGRES_18,
  MYSQL,
  MARIADB,
  MARIADB_11,
  CLICKHOUSE,
  REDIS,
  VALKEY,
];

/** Those of every run; with `all` those of a run that asks for every generation, too. */
export function enginesOfRun(all: boolean): readonly Engine[] {
  return ENGINES.filter(({ isExtra, variable }) => all || isExtra !== true || process.env[variable]);
}
