/** Run-time parameters: of a transaction, or of a session that is ours alone. */
import { quoteLiteral, quoteName } from './quote.ts';

export type Settings = Readonly<Record<string, string>>;

/**
 * Values as they are, whatever the server, the database or the role have set: floats in their shortest exact form,
 * ISO dates (the order in which the server reads ambiguous ones stays), plain intervals, \x bytes.
 */
export const EXACT = {
  client_encoding: 'UTF8',
  extra_float_digits: '3',
  DateStyle: 'ISO',
  IntervalStyle: 'postgres',
  bytea_output: 'hex',
} satisfies Settings;

/** Where somebody else has set one of these too, the stricter holds. */
const LIMITS: ReadonlySet<string> = new Set([
  'statement_timeout',
  'lock_timeout',
  'idle_in_transaction_session_timeout',
]);

/** Of a session that is ours alone: sets `EXACT`, what the DSN asks for, and ours where the DSN does not say otherwise. */
export function settingSession(dsn: Settings, ours: Settings): string {
  const named = new Set(Object.keys(dsn).map((name) => name.toLowerCase()));
  const limits = Object.entries(ours).filter(([name]) => LIMITS.has(name));
  const others = Object.entries(ours).filter(([name]) => !LIMITS.has(name) && !named.has(name.toLowerCase()));
  return [
    ...[...Object.entries(EXACT), ...others, ...Object.entries(dsn)].map(
      ([name, value]) => `SET ${assignment(name, value)}`,
    ),
    ...limits.map(([name, value]) => settingLimit(name, value, false)),
  ].join('; ');
}

/** Sets a limit unless there is a stricter one. It gives no rows, so that it can stand in front of a query that does. */
function settingLimit(name: string, value: string, isLocal: boolean): string {
  const [parameter, limit] = [quoteLiteral(name), quoteLiteral(value)];
  const theirs = `pg_catalog.current_setting(${parameter})`;
  return `SELECT WHERE CASE WHEN ${theirs} = '0' OR ${theirs}::pg_catalog.interval > ${limit}::pg_catalog.interval
    THEN pg_catalog.set_config(${parameter}, ${limit}, ${isLocal}) END = ''`;
}

function assignment(name: string, value: string): string {
  const text = name.toLowerCase() === 'search_path' ? schemaList(value) : quoteLiteral(value);
  return `${name.split('.').map(quoteName).join('.')} = ${text}`;
}

/** A list stays a list: SET search_path = 'a, b' would be one schema of that name. */
function schemaList(value: string): string {
  return value
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map((part) => (/^".*"$/.test(part) ? part : quoteLiteral(part)))
    .join(', ');
}

/** The words of SQL for how a transaction sees others; a transaction takes no default once it has begun. */
const ISOLATION = /^(serializable|repeatable read|read committed|read uncommitted)$/i;

export interface Beginning {
  readonly application_name: string;
  /** The longest a statement may take, ms; null: as long as it likes. */
  readonly statement_timeout_ms: number | null;
  /** The session's own limit, 0: none; null: it is not known, as others may have set another. */
  readonly known_timeout_ms: number | null;
}

/** Begins a transaction that only reads and in which all that a query relies on is set. */
export function beginning(dsn: Settings, begin: Beginning): readonly string[] {
  const [, isolation = ''] =
    Object.entries(dsn).find(([name]) => name.toLowerCase() === 'default_transaction_isolation') ?? [];
  const level = ISOLATION.test(isolation) ? `ISOLATION LEVEL ${isolation}, ` : '';
  // As every report pays for them, statements that cost next to nothing; in which encoding text comes is said at the login.
  const { client_encoding: _, ...exact } = EXACT;
  const { application_name } = begin;
  return [
    `BEGIN TRANSACTION ${level}READ ONLY`,
    ...Object.entries({ ...exact, ...dsn, application_name }).map(
      ([name, value]) => `SET LOCAL ${assignment(name, value)}`,
    ),
    ...limiting(dsn, begin),
  ];
}

function limiting(dsn: Settings, { statement_timeout_ms: ours, known_timeout_ms: known }: Beginning) {
  if (ours === null) return [];
  const isNamed = Object.keys(dsn).some((name) => name.toLowerCase() === 'statement_timeout');
  if (known === null || isNamed) return [settingLimit('statement_timeout', `${ours}ms`, true)];
  return known > 0 && known <= ours ? [] : [`SET LOCAL statement_timeout = ${ours}`];
}
