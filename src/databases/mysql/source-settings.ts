/** What a source's session is set to, and what it says of itself. */
import type { MysqlConfig } from './dsn.ts';
import { assignments } from './dsn-settings.ts';
import { quoteName } from './quote.ts';

/**
 * How long the server waits for a result to be taken, s: a results backend may be slow for longer than the minute
 * that is usual. A client that is gone ends the connection sooner.
 */
const NET_WRITE_TIMEOUT_S = 3_600;

/** None: a server's own would cut every result without a word. */
const SELECT_LIMIT = 'sql_select_limit = 18446744073709551615';

/** As many warnings as MySQL keeps; there it is not everybody's to set, and MariaDB keeps 64. */
const WARNINGS = '/*M! max_error_count = GREATEST(@@SESSION.max_error_count, 1024), */';

/**
 * Statements that make a session what it must be, after a login and after a reset. `account_limit` is the seconds that
 * MariaDB gives the account's statements (MAX_STATEMENT_TIME): it sets them at a login alone, and a reset lifts them.
 */
export function settings(
  { collation, settings }: MysqlConfig,
  account_limit: string | null,
): readonly string[] {
  const names = `NAMES utf8mb4${collation === null ? '' : ` COLLATE ${quoteName(collation)}`}`;
  const limit = account_limit === null ? [] : [`max_statement_time = ${Number(account_limit)}`];
  return [
    `SET ${WARNINGS} ${[names, ...limit, `net_write_timeout = ${NET_WRITE_TIMEOUT_S}`, SELECT_LIMIT, ...assignments(settings)].join(', ')}`,
    'SET SESSION TRANSACTION READ ONLY',
  ];
}

/** Ends a statement on the server that outlives its time; null if none is given. */
export function limitOf(timeout_ms: number | null | undefined, mariadb: boolean): string | null {
  if (timeout_ms === null || timeout_ms === undefined) return null;
  const name = mariadb ? '@@SESSION.max_statement_time' : '@@SESSION.max_execution_time';
  // The server's own limit comes a little after ours, whose error says what was asked for; one that is set stays.
  const milliseconds = Math.min(Math.ceil(timeout_ms) + 1_000, 31_536_000_000);
  const limit = mariadb ? milliseconds / 1000 : Math.min(milliseconds, 2 ** 32 - 1);
  const stricter = `IF(${name} = 0, ${limit}, LEAST(${name}, ${limit}))`;
  // MySQL makes a decimal of it, and takes none for this variable.
  return `SET ${name} = ${mariadb ? stricter : `CAST(${stricter} AS UNSIGNED)`}`;
}

/** What is asked of a session with each query. */
export const ZONES = 'SELECT @@SESSION.time_zone, @@GLOBAL.system_time_zone';

/**
 * How many minutes a session's clock is ahead of UTC, or null: it is set to a place whose clocks change, and
 * then a TIMESTAMP's text does not say which point in time it is.
 */
export function offsetOf(time_zone: string, system_time_zone: string): number | null {
  const zone = time_zone === 'SYSTEM' ? system_time_zone : time_zone;
  // Abbreviations of other zones mean several places.
  if (/^(?:Etc\/)?UTC$/i.test(zone)) return 0;
  const found = time_zone === 'SYSTEM' ? null : /^([+-])(\d{1,2}):(\d{2})$/.exec(zone);
  if (found === null) return null;
  const [, sign, hours, minutes] = found;
  return (sign === '-' ? -1 : 1) * (Number(hours) * 60 + Number(minutes));
}
