/** Opens databases by the type that the configuration names. An engine's code is loaded on first use. */

import type { ClickhouseSourceOptions } from './clickhouse/source.ts';
import type { ResultsBackend, Source } from './database.ts';
import type { MysqlResultsOptions } from './mysql/results.ts';
import type { MysqlSourceOptions } from './mysql/source.ts';
import type { PostgresResultsOptions } from './postgres/results.ts';
import type { PostgresSourceOptions } from './postgres/source.ts';
import type { SqliteResultsOptions } from './sqlite/results.ts';
import type { SqliteSourceOptions } from './sqlite/source.ts';

/** One kind per engine, told apart by `type`. */
export type SourceConfig =
  | ({ readonly type: 'sqlite' } & SqliteSourceOptions)
  | ({ readonly type: 'postgres' } & PostgresSourceOptions)
  | ({ readonly type: 'mysql' } & MysqlSourceOptions)
  | ({ readonly type: 'clickhouse' } & ClickhouseSourceOptions);
export type ResultsConfig =
  | ({ readonly type: 'sqlite' } & SqliteResultsOptions)
  | ({ readonly type: 'postgres' } & PostgresResultsOptions)
  | ({ readonly type: 'mysql' } & MysqlResultsOptions);

export async function openSource(config: SourceConfig): Promise<Source> {
  switch (config.type) {
    case 'sqlite':
      return (await import('./sqlite/source.ts')).openSqliteSource(config);
    case 'postgres':
      return (await import('./postgres/source.ts')).openPostgresSource(config);
    case 'mysql':
      return (await import('./mysql/source.ts')).openMysqlSource(config);
    case 'clickhouse':
      return (await import('./clickhouse/source.ts')).openClickhouseSource(config);
  }
}

export async function openResultsBackend(config: ResultsConfig): Promise<ResultsBackend> {
  switch (config.type) {
    case 'sqlite':
      return (await import('./sqlite/results.ts')).openSqliteResults(config);
    case 'postgres':
      return (await import('./postgres/results.ts')).openPostgresResults(config);
    case 'mysql':
      return (await import('./mysql/results.ts')).openMysqlResults(config);
  }
}
