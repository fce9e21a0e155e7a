/** Run-time parameters as one statement: of a transaction, or of a session that is ours alone. */
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

export type Reach = 'session' | 'transaction';

/**
 * Sets `EXACT`, what the DSN asks for, and ours where the DSN does not say otherwise. It gives no rows, so that it can
 * stand in front of a query that does.
 */
export function setting(dsn: Settings, ours: Settings, reach: Reach): string {
  const named = new Set(Object.keys(dsn).map((name) => name.toLowerCase()));
  const limits = Object.entries(ours).filter(([name]) => LIMITS.has(name));
  const others = Object.entries(ours).filter(([name]) => !LIMITS.has(name) && !named.has(name.toLowerCase()));
  const all = [
    ...[...Object.entries(EXACT), ...others, ...Object.entries(dsn)].map(([name, value]) =>
      settingOne(name, value, reach),
    ),
    ...limits.map(([name, value]) => settingLimit(name, value, reach)),
  ];
  return `SELECT WHERE pg_catalog.concat(${all.join(', ')}) IS NULL`;
}

function settingOne(name: string, value: string, reach: Reach): string {
  const text = name.toLowerCase() === 'search_path' ? schemaList(value) : value;
  return `pg_catalog.set_config(${quoteLiteral(name)}, ${quoteLiteral(text)}, ${reach === 'transaction'})`;
}

function settingLimit(name: string, value: string, reach: Reach): string {
  const theirs = `pg_catalog.current_setting(${quoteLiteral(name)})`;
  return `CASE WHEN ${theirs} = '0' OR ${theirs}::pg_catalog.interval > ${quoteLiteral(value)}::pg_catalog.interval
    THEN ${settingOne(name, value, reach)} END`;
}

/** Names in a DSN are as they are written, capitals too. */
function schemaList(value: string): string {
  return value
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
    .map((part) => (/^".*"$|^[a-z_][a-z0-9_]*$/.test(part) ? part : quoteName(part)))
    .join(', ');
}

/** The words of SQL for how a transaction sees others; a transaction takes no default once it has begun. */
const ISOLATION = /^(serializable|repeatable read|read committed|read uncommitted)$/i;

/** Begins a transaction that only reads and in which all that a query relies on is set. */
export function beginning(dsn: Settings, ours: Settings): readonly string[] {
  const [, isolation = ''] =
    Object.entries(dsn).find(([name]) => name.toLowerCase() === 'default_transaction_isolation') ?? [];
  const level = ISOLATION.test(isolation) ? `ISOLATION LEVEL ${isolation}, ` : '';
  return [`BEGIN TRANSACTION ${level}READ ONLY`, setting(dsn, ours, 'transaction')];
}
