/** Brings the tables of a store up to what this version knows. */
import { StoreUnavailable } from '../../errors.ts';
import type { Connection } from './connection.ts';
import { sqlState } from './failure.ts';
import { MIGRATIONS } from './schema.ts';

/** Schemas of all names share the key: making one is rare and short. */
const LOCK = 'SELECT pg_advisory_xact_lock(7959390373621105509)';

/** The store's id. Throws `StoreUnavailable` for a schema that this version does not understand. */
export async function migrate(connection: Connection, schema: string): Promise<string> {
  if ((await version(connection, schema)) < MIGRATIONS.length) await apply(connection, schema);
  const [row] = await connection.query<[store_id: string]>(
    `SELECT store_id FROM ${quoteName(schema)}.store`,
    [],
  );
  if (row === undefined) throw StoreUnavailable(`schema "${schema}" has lost its own row`);
  return row[0];
}

/** 0: there is none yet. */
async function version(connection: Connection, schema: string): Promise<number> {
  try {
    const [row] = await connection.query<[version: number | null]>(
      `SELECT max(version) FROM ${quoteName(schema)}.migrations`,
      [],
    );
    const applied = row?.[0] ?? 0;
    if (applied <= MIGRATIONS.length) return applied;
    throw StoreUnavailable(
      `schema "${schema}" is of a newer version (${applied}, this one knows ${MIGRATIONS.length}): update this program`,
    );
  } catch (error) {
    const state = sqlState(error);
    if (state === '42P01' || state === '3F000') return 0;
    throw error;
  }
}

async function apply(connection: Connection, schema: string): Promise<void> {
  while (await applyNext(connection, schema));
}

/** Gives whether there is another one. */
async function applyNext(connection: Connection, schema: string): Promise<boolean> {
  const name = quoteName(schema);
  await connection.script('BEGIN');
  try {
    await connection.script(
      `SET LOCAL statement_timeout = 0; SET LOCAL client_min_messages = warning; ${LOCK}`,
    );
    const [there] = await connection.query('SELECT 1 FROM pg_namespace WHERE nspname = $1', [schema]);
    // A role that may not make schemas can use one that was made for it.
    if (there === undefined) await connection.script(`CREATE SCHEMA ${name}`);
    await connection.script(
      `SET LOCAL search_path = ${name}, pg_temp;
       CREATE TABLE IF NOT EXISTS ${name}.migrations (version integer PRIMARY KEY, applied_at timestamptz NOT NULL)`,
    );
    // Somebody else may have been at it while we waited.
    const next = (await version(connection, schema)) + 1;
    const migration = MIGRATIONS[next - 1];
    if (migration !== undefined) {
      await connection.script(migration);
      await connection.query('INSERT INTO migrations VALUES ($1, now())', [next]);
    }
    await connection.script('COMMIT');
    return next < MIGRATIONS.length;
  } catch (error) {
    if (!connection.isLost) await connection.script('ROLLBACK').catch(() => connection.destroy());
    throw error;
  }
}

/** An identifier, quoted. */
export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Throws `StoreUnavailable` for a name that Postgres cannot hold. */
export function checkSchema(schema: string): void {
  const bytes = Buffer.byteLength(schema);
  if (bytes >= 1 && bytes <= 63 && !schema.includes('\0') && !schema.startsWith('pg_')) return;
  throw StoreUnavailable('its schema must have a name of 1 to 63 bytes that does not begin with pg_');
}
