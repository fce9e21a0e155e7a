/** What a failure of Postgres means for the store. */
import { connectionText } from '../../../util/tls.ts';
import { StoreUnavailable } from '../../errors.ts';

/** The SQLSTATE of an error that the server sent, or null: the connection failed. */
export function sqlState(error: unknown): string | null {
  if (!(error instanceof Error) || !('severity' in error) || !('code' in error)) return null;
  return typeof error.code === 'string' ? error.code : null;
}

/** Nothing has happened, and the same call may do at once: deadlock, serialization failure, another's same new id. */
export function mayRetry(error: unknown): boolean {
  const state = sqlState(error);
  return state === '40001' || state === '40P01' || state === '23505';
}

/** The server is not, or no longer, the one to write to: none of its connections is of use. */
export function isWrongServer(error: unknown): boolean {
  const state = sqlState(error);
  return state === '25006' || state === '57P01' || state === '57P02' || state === '57P03';
}

const SAID: Readonly<Record<string, string>> = {
  '25006': 'Postgres is read-only (a standby, or failing over)',
  '23505': 'calls met each other time and again',
  '28000': 'Postgres refuses the login',
  '28P01': 'Postgres refuses the login',
  '3D000': 'its database does not exist',
  '3F000': 'its schema is gone',
  '42P01': 'a table of it is gone',
  '42883': 'a function of it is gone',
  '42501': 'its role may not make its schema, or not use the tables in it',
  '53100': 'the disk of Postgres is full',
  '53300': 'Postgres has too many connections',
  '55P03': 'it is busy: a lock could not be had in time',
  '57014': 'a statement took too long',
  '57P01': 'Postgres shuts down',
  '57P02': 'Postgres has crashed',
  '57P03': 'Postgres is starting or shutting down',
};
/** Classes of SQLSTATE that tell of the server, not of the statement. */
const OF_SERVER = new Set(['08', '25', '26', '28', '3D', '40', '53', '55', '57', '58', 'F0', 'XX']);

/** As the store's callers are to see it: `StoreUnavailable`, or the error itself if it is one of ours. */
export function toUnavailable(error: unknown): unknown {
  const state = sqlState(error);
  if (state === null) {
    // Node's and pg's own: a socket that broke, a name that is not known. Their messages hold no secrets.
    return error instanceof Error
      ? StoreUnavailable(`no connection to Postgres (${oneLine(error)})`, error)
      : error;
  }
  const said = SAID[state];
  if (said !== undefined) return StoreUnavailable(`${said} [${state}]`, error);
  return OF_SERVER.has(state.slice(0, 2)) ? StoreUnavailable(`Postgres fails [${state}]`, error) : error;
}

function oneLine(error: Error): string {
  // Of several addresses that were tried the error of each; their own is empty.
  const first = error instanceof AggregateError ? (error.errors[0] ?? error) : error;
  const text = connectionText(first) || 'no reason given';
  return text.replaceAll(/\s+/g, ' ').slice(0, 200);
}
