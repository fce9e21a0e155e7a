/** Opens databases by the type that the configuration names. An engine's code is loaded on first use. */
import type { ResultsBackend, Source } from './database.ts';
import type { SqliteResultsOptions } from './sqlite/results.ts';
import type { SqliteSourceOptions } from './sqlite/source.ts';

/** One kind per engine, told apart by `type`. */
export type SourceConfig = { readonly type: 'sqlite' } & SqliteSourceOptions;
export type ResultsConfig = { readonly type: 'sqlite' } & SqliteResultsOptions;

export async function openSource(config: SourceConfig): Promise<Source> {
  switch (config.type) {
    case 'sqlite':
      return (await import('./sqlite/source.ts')).openSqliteSource(config);
  }
}

export async function openResultsBackend(config: ResultsConfig): Promise<ResultsBackend> {
  switch (config.type) {
    case 'sqlite':
      return (await import('./sqlite/results.ts')).openSqliteResults(config);
  }
}
