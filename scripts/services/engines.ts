import { CLICKHOUSE } from './clickhouse.ts';
import type { Engine } from './engine.ts';
import { MARIADB } from './mariadb.ts';
import { POSTGRES_15, POSTGRES_18 } from './postgres.ts';
import { REDIS } from './redis.ts';

export const ENGINES: readonly Engine[] = [POSTGRES_15, POSTGRES_18, MARIADB, CLICKHOUSE, REDIS];
