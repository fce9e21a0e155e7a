/** What a server is and which settings it knows: an unknown one is an error, on some versions for the whole query. */
import { DatabaseError } from '../errors.ts';
import { harmless, isCutting } from './cutting.ts';
import { CODE, ServerFailure } from './failure.ts';
import type { Http } from './http.ts';

/** What a query must know of its server. */
export interface Server {
  readonly version: string;
  /** Before 21.1: see `wrapper.ts`. */
  readonly old: boolean;
  /** Settings for a query that only reads, by name. */
  readonly settings: Readonly<Record<string, string>>;
  /** The user's own limit, or the DSN's, s; 0: none. */
  readonly max_execution_time: number;
  /** Whether outer joins give NULL, which is for the task's own joins alone: see `wrapper.ts`. */
  readonly join_use_nulls: boolean;
}

/**
 * What must hold whatever the user's profile says: that the answer is in the form that is read here. Sent where the server knows the setting and has it otherwise.
 */
export const PINNED: Readonly<Record<string, string>> = {
  date_time_output_format: 'simple',
  format_tsv_null_representation: '\\N',
  output_format_tsv_crlf_end_of_line: '0',
  output_format_decimal_trailing_zeros: '1',
  output_format_float_precision: '0',
  output_format_trim_fixed_string: '0',
  http_write_exception_in_output_format: '0',
  // DESCRIBE prints tuples on several lines otherwise.
  print_pretty_type_names: '0',
  // So that a query ends even if the request that kills it does not get through.
  cancel_http_readonly_queries_on_client_close: '1',
};
/** The least that these must be: a wide query's text is long, and a results backend may pause for minutes. */
const AT_LEAST: Readonly<Record<string, number>> = {
  max_query_size: 16 * 1024 * 1024,
  http_send_timeout: 1800,
};
/** Asks the server. `wanted` are the settings of the DSN. */
export async function learnServer(
  http: Http,
  wanted: Readonly<Record<string, string>>,
  database: string,
  signal: AbortSignal,
): Promise<Server> {
  const answer = await askSettings(http, database, signal);
  const known = new Map(
    answer.split('\n').flatMap((line) => {
      const [name = '', value = ''] = line.split('\t');
      return name === '' ? [] : [[name, value] as const];
    }),
  );
  const [, count, version = '', major] = /^\t(\d+) ((\d+)\.\d+.*)$/m.exec(answer) ?? [];
  if (major === undefined) {
    throw new DatabaseError('unavailable', `${database}: what answers there is not ClickHouse`, {
      transient: false,
    });
  }
  if (Number(count) !== known.size) {
    throw new DatabaseError(
      'query_failed',
      `${database}: the user's profile has a limit or an offset that cuts every answer short; lift it for this user`,
    );
  }
  const settings: Record<string, string> = {};
  for (const [name, value] of Object.entries(wanted)) {
    if (!known.has(name)) {
      throw new DatabaseError(
        'query_failed',
        `${database}: the server (ClickHouse ${version}) has no setting "${name}", which the DSN names`,
      );
    }
    settings[name] = value;
  }
  for (const [name, value] of Object.entries(PINNED)) {
    if (name in wanted) continue;
    // In its own output, a backslash is escaped.
    if (known.has(name) && known.get(name) !== value.replaceAll('\\', '\\\\')) settings[name] = value;
  }
  for (const [name, least] of Object.entries(AT_LEAST)) {
    if (known.has(name) && !(Number(known.get(name)) >= least)) settings[name] = String(least);
  }
  // Whatever they are now: a profile may be changed while we run.
  for (const name of known.keys()) if (isCutting(name)) settings[name] = harmless(name);
  const readonly = known.get('readonly');
  if (readonly === '1') throw readonlyProfile(database);
  if (readonly !== '2') settings['readonly'] = '2';
  return {
    version,
    old: Number(major) < 21,
    settings,
    join_use_nulls: (settings['join_use_nulls'] ?? known.get('join_use_nulls')) === '1',
    max_execution_time: Number(settings['max_execution_time'] ?? known.get('max_execution_time')),
  };
}

/**
 * Nothing of it may be missing, so it is asked for without limits. The first of these settings are known to every
 * version; `limit` and `offset` cut any answer where they are known.
 */
async function askSettings(http: Http, database: string, signal: AbortSignal): Promise<string> {
  const sql =
    "SELECT '' AS name, concat(toString((SELECT count() FROM system.settings)), ' ', version()) AS value UNION ALL SELECT name, value FROM system.settings";
  const unlimited = {
    max_result_rows: '0',
    max_result_bytes: '0',
    max_rows_to_read: '0',
    max_bytes_to_read: '0',
    max_columns_to_read: '0',
    max_temporary_columns: '0',
    max_ast_elements: '50000',
    max_query_size: '262144',
    max_execution_time: '0',
    force_primary_key: '0',
    force_index_by_date: '0',
    extremes: '0',
  };
  try {
    return await http.ask(sql, { signal, parameters: { ...unlimited, limit: '0', offset: '0' } });
  } catch (error) {
    if (error instanceof ServerFailure && error.code === CODE.UNKNOWN_SETTING) {
      return http.ask(sql, { signal, parameters: unlimited });
    }
    if (!(error instanceof ServerFailure && error.code === CODE.READONLY)) throw error;
    throw readonlyProfile(database);
  }
}

function readonlyProfile(database: string): DatabaseError {
  return new DatabaseError(
    'query_failed',
    `${database}: the user's profile has readonly = 1, under which no setting can be sent with a query; readonly = 2 is as safe and works`,
  );
}
