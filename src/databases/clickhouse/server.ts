/** What a server is and which settings it knows: an unknown one is an error, on some versions for the whole query. */
import { DatabaseError } from '../errors.ts';
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
}

/**
 * What must hold whatever the user's profile says: that the answer is complete, and in the form that is read here.
 * Sent where the server knows the setting and has it otherwise.
 */
export const PINNED: Readonly<Record<string, string>> = {
  extremes: '0',
  limit: '0',
  offset: '0',
  skip_unavailable_shards: '0',
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
/** `break` in one of these makes a server stop where a limit is reached and call the result whole. */
const OVERFLOW_MODE = /(?:^|_)overflow_mode(?:_leaf)?$/;

/** Asks the server. `wanted` are the settings of the DSN. */
export async function learnServer(
  http: Http,
  wanted: Readonly<Record<string, string>>,
  database: string,
  signal: AbortSignal,
): Promise<Server> {
  const answer = await http.ask(
    `SELECT '' AS name, version() AS value UNION ALL SELECT name, value FROM system.settings`,
    { signal },
  );
  const known = new Map(
    answer.split('\n').map((line) => {
      const [name = '', value = ''] = line.split('\t');
      return [name, value] as const;
    }),
  );
  const version =
    answer
      .split('\n')
      .find((line) => line.startsWith('\t'))
      ?.slice(1) ?? '';
  const [, major] = /^(\d+)\.\d+/.exec(version) ?? [];
  if (major === undefined || !known.has('readonly')) {
    throw new DatabaseError('unavailable', `${database}: what answers there is not ClickHouse`, {
      transient: false,
    });
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
  for (const [name, value] of known) {
    if (OVERFLOW_MODE.test(name) && value !== 'throw') settings[name] = 'throw';
  }
  const readonly = known.get('readonly');
  if (readonly === '1') {
    throw new DatabaseError(
      'query_failed',
      `${database}: the user's profile has readonly = 1, under which no setting can be sent with a query; readonly = 2 is as safe and works`,
    );
  }
  if (readonly !== '2') settings['readonly'] = '2';
  return {
    version,
    old: Number(major) < 21,
    settings,
    max_execution_time: Number(settings['max_execution_time'] ?? known.get('max_execution_time')),
  };
}
