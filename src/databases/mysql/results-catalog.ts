/** The tables in which the results backend keeps account of its own, and what is asked of them. */

import { setTimeout as delay } from 'node:timers/promises';
import { digest } from '../../util/digest.ts';
import type { Owner, ResultColumn, ResultTable } from '../database.ts';
import { DatabaseError } from '../errors.ts';
import { ER, errorNumber, isLost, type Session } from './results-session.ts';

/** A newer one is refused: its protocol is not ours. */
export const SCHEMA_VERSION = 1;

const TABLE = 'ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC';
/** Names that differ by case alone are one name, as they are to some servers. */
const TABLE_NAME = 'VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci';

/**
 * The catalog holds one row per published table; it is made last, so whoever finds it finds the others. What is
 * being loaded, published or dropped is registered in dungbeetle_staging before the first table is touched: see
 * results-publish.ts. A fence is remembered when an attempt begins or its table is dropped; its row is also
 * the lock of its job.
 */
const SCHEMA = [
  `CREATE TABLE IF NOT EXISTS dungbeetle_fences (
    job_id VARCHAR(255) NOT NULL PRIMARY KEY,
    store_id VARCHAR(255) NOT NULL,
    fence BIGINT NOT NULL,
    noted_at BIGINT NOT NULL,
    KEY noted (noted_at)
  ) ${TABLE}`,
  `CREATE TABLE IF NOT EXISTS dungbeetle_staging (
    token CHAR(16) NOT NULL PRIMARY KEY,
    state VARCHAR(16) NOT NULL,
    job_id VARCHAR(255) NOT NULL,
    store_id VARCHAR(255) NOT NULL,
    fence BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    target ${TABLE_NAME} NULL,
    publication LONGTEXT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE KEY target (target),
    KEY job (job_id)
  ) ${TABLE}`,
  `CREATE TABLE IF NOT EXISTS dungbeetle_results (
    job_id VARCHAR(255) NOT NULL PRIMARY KEY,
    table_name ${TABLE_NAME} NOT NULL,
    task TEXT NOT NULL,
    store_id VARCHAR(255) NOT NULL,
    fence BIGINT NOT NULL,
    attempt INT NOT NULL,
    \`rows\` BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    columns LONGTEXT NOT NULL,
    warnings LONGTEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NULL,
    settled TINYINT NOT NULL DEFAULT 0,
    seq BIGINT NOT NULL,
    UNIQUE KEY table_name (table_name),
    KEY expiry (expires_at),
    KEY unsettled (settled, store_id)
  ) ${TABLE} COMMENT = 'dungbeetle schema ${SCHEMA_VERSION}'`,
];

/** Makes the tables where they are missing. Throws if a newer version of the program made them. */
export async function prepareSchema(db: Session): Promise<void> {
  try {
    // Waits for others that are making it, which looking it up would not.
    await db.run(SQL.is_there);
  } catch (error) {
    if (errorNumber(error) !== ER.NO_SUCH_TABLE) throw error;
    for (const statement of SCHEMA) await db.run(statement);
    return;
  }
  const found = await findTable(db, 'dungbeetle_results');
  const version = Number(/^dungbeetle schema (\d+)$/.exec(found?.comment ?? '')?.[1]);
  if (version === SCHEMA_VERSION) return;
  throw new DatabaseError(
    'unavailable',
    version > SCHEMA_VERSION
      ? `${db.database}: its tables have version ${version}, this program knows ${SCHEMA_VERSION}: it must be updated`
      : `${db.database}: it has a table dungbeetle_results that is not ours`,
    { transient: false },
  );
}

/** The server's clock, ms since 1970. */
export const NOW = 'CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)';

/** What can be told of a table without opening it. */
export interface Found {
  readonly name: string;
  /** "BASE TABLE", "VIEW", … */
  readonly type: string;
  readonly comment: string;
}

export async function findTable(db: Session, name: string): Promise<Found | null> {
  const [found] = await db.query<{ [K in keyof Found]: string | null }>(
    'SELECT TABLE_NAME AS name, TABLE_TYPE AS type, TABLE_COMMENT AS comment FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?',
    [name],
  );
  if (found === undefined) return null;
  // MariaDB leaves out what it could not read, of a table that is being altered say; nothing follows from that.
  if (found.type === null || found.comment === null) {
    throw new DatabaseError('unavailable', `${db.database}: table "${name}" cannot be looked at just now`);
  }
  return { name, type: found.type, comment: found.comment };
}

/** What is under way, or was when its process died. */
export interface Registered {
  readonly token: string;
  readonly state: 'loading' | 'publishing' | 'dropping';
  readonly job_id: string;
  readonly store_id: string;
  readonly fence: number;
  readonly seq: number;
  /** The name that the staging table gets, or that the table has which is dropped. */
  readonly target: string | null;
  /** JSON: `Publication`. */
  readonly publication: string | null;
}

/** All that the catalog says of a table and its registration does not. */
export interface Publication {
  readonly task: string;
  readonly attempt: number;
  readonly rows: number;
  readonly bytes: number;
  readonly columns: readonly ResultColumn[];
  readonly warnings: readonly string[];
  readonly ttl_ms: number | null;
}

export interface Published {
  readonly job_id: string;
  readonly table_name: string;
  readonly store_id: string;
  readonly fence: number;
  readonly seq: number;
  readonly rows: number;
  readonly bytes: number;
  readonly columns: string;
  readonly warnings: string;
  readonly expires_at: number | null;
}

const REGISTERED = 'token, state, job_id, store_id, fence, seq, target, publication';

export const SQL = {
  is_there: 'SELECT 1 FROM dungbeetle_results LIMIT 0',
  note_fence: `INSERT INTO dungbeetle_fences (job_id, store_id, fence, noted_at) VALUES (?, ?, ?, ${NOW})
    ON DUPLICATE KEY UPDATE fence = IF(store_id = VALUES(store_id), GREATEST(fence, VALUES(fence)), VALUES(fence)),
      store_id = VALUES(store_id), noted_at = VALUES(noted_at)`,
  lock_job: `INSERT INTO dungbeetle_fences (job_id, store_id, fence, noted_at) VALUES (?, ?, ?, ${NOW})
    ON DUPLICATE KEY UPDATE noted_at = VALUES(noted_at)`,
  newest_fence: `SELECT GREATEST(
      COALESCE((SELECT fence FROM dungbeetle_fences WHERE job_id = ? AND store_id = ?), 0),
      COALESCE((SELECT fence FROM dungbeetle_results WHERE job_id = ? AND store_id = ?), 0)) AS fence`,
  register: `INSERT INTO dungbeetle_staging (token, state, job_id, store_id, fence, seq, target, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ${NOW})`,
  unregister: 'DELETE FROM dungbeetle_staging WHERE token = ?',
  publishing:
    "UPDATE dungbeetle_staging SET state = 'publishing', target = ?, publication = ? WHERE token = ?",
  registered: `SELECT ${REGISTERED} FROM dungbeetle_staging WHERE token = ?`,
  registered_of_job: `SELECT ${REGISTERED} FROM dungbeetle_staging WHERE job_id = ?`,
  registered_for: `SELECT ${REGISTERED} FROM dungbeetle_staging WHERE target = ?`,
  all_registered: `SELECT ${REGISTERED}, ${NOW} - created_at AS age_ms FROM dungbeetle_staging`,
  tokens: 'SELECT token FROM dungbeetle_staging',
  published: 'SELECT * FROM dungbeetle_results WHERE job_id = ?',
  published_as: 'SELECT job_id FROM dungbeetle_results WHERE table_name = ? AND job_id <> ?',
  publish: `REPLACE INTO dungbeetle_results (job_id, table_name, task, store_id, fence, attempt, \`rows\`, bytes, columns,
      warnings, created_at, expires_at, settled, seq)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ${NOW}, ${NOW} + ?, 0, ?)`,
  unpublish: 'DELETE FROM dungbeetle_results WHERE job_id = ?',
  settle: 'UPDATE dungbeetle_results SET settled = 1 WHERE job_id = ? AND store_id = ? AND fence = ?',
  unsettled: 'SELECT job_id, fence, seq FROM dungbeetle_results WHERE settled = 0 AND store_id = ?',
  expired: `SELECT job_id FROM dungbeetle_results WHERE expires_at <= ${NOW} ORDER BY expires_at LIMIT 100`,
  is_expired: `SELECT 1 FROM dungbeetle_results WHERE job_id = ? AND expires_at <= ${NOW}`,
  forget_fences: `DELETE FROM dungbeetle_fences WHERE noted_at < ${NOW} - ? AND job_id NOT IN
    (SELECT job_id FROM dungbeetle_staging)`,
  made_before: `SELECT 1 FROM information_schema.TABLES
    WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND CREATE_TIME < NOW() - INTERVAL ? SECOND`,
  own_tables: `SELECT TABLE_NAME AS name FROM information_schema.TABLES
    WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE 'dungbeetle\\_%'`,
} as const;

export function tableOf(published: Published): ResultTable {
  return {
    table: published.table_name,
    columns: JSON.parse(published.columns) as ResultColumn[],
    rows: published.rows,
    bytes: published.bytes,
    expires_at: published.expires_at,
    warnings: JSON.parse(published.warnings) as string[],
  };
}

export function isOwners(
  published: Published | undefined,
  owner: Pick<Owner, 'store_id' | 'fence'>,
): boolean {
  return published?.store_id === owner.store_id && published.fence === owner.fence;
}

/** How often a transaction is begun anew after a deadlock, or a lock that another sat on for five seconds. */
const MOST_TRIES = 8;

/**
 * Runs a short transaction of what is read and written of one job, whose lock comes first: what is read after it
 * is as the last one left it. On failure it is rolled back, and tried again if it only met another.
 */
export async function transact<T>(db: Session, work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      await db.begin();
      const result = await work();
      await db.commit();
      return result;
    } catch (error) {
      if (isLost(error) || !db.usable) throw error;
      await db.rollback();
      const number = errorNumber(error);
      if ((number !== ER.DEADLOCK && number !== ER.LOCK_WAIT_TIMEOUT) || tries === MOST_TRIES) throw error;
      // Those that met should not meet again.
      await delay(Math.random() * 10 * tries);
    }
  }
}

/** What a staging table's comment says, and keeps saying when it has become the result table. */
export interface Identity {
  readonly token: string;
  readonly store: string;
  readonly fence: number;
  readonly job_id: string;
}

export function identityComment(
  token: string,
  { job_id, store_id, fence }: Omit<Identity, 'token' | 'store'> & { readonly store_id: string },
): string {
  return `dungbeetle ${token} ${storeKey(store_id)} ${fence} ${job_id}`;
}

export function identityOf(comment: string): Identity | null {
  const [, token, store, fence, job_id] =
    /^dungbeetle ([0-9a-f]{16}) ([0-9a-f]{12}) (\d+) (.*)$/s.exec(comment) ?? [];
  if (token === undefined || store === undefined || job_id === undefined) return null;
  return { token, store, fence: Number(fence), job_id };
}

/** A short stand-in for a store's id. */
export function storeKey(store_id: string): string {
  return digest(store_id, 12);
}
