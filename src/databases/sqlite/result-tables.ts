/**
 * What is done to the tables of a results file. Every function is a step inside of a transaction that its
 * caller holds; none of them waits.
 */
import type { DatabaseSync } from 'node:sqlite';
import type { Owner, PublishedBy, ResultColumn, ResultTable } from '../database.ts';
import { DatabaseError } from '../errors.ts';
import { tableNames } from '../names.ts';
import { quoteName } from './quote.ts';
import { isReserved } from './results-file.ts';
import type { StagedRows } from './staging-file.ts';
import { FORGOTTEN_MS, stagingTable } from './staging-table.ts';
import type { Step } from './turns.ts';
import type { Publication, WriterOperations } from './writer-operations.ts';

/** SQLite has no limit to a name; this one keeps names usable elsewhere. */
const MOST_NAME_BYTES = 255;
/**
 * Dropping a table takes about 0.45 ms per MB and writes next to nothing; deleting its rows in steps takes
 * ten times as much in all, and writes every page to the log. So only what is too large to be dropped in one
 * go is emptied down to that size first. While a result is published less time is taken than afterwards.
 */
const DROPPED_ASIDE_BYTES = 64 * 1024 * 1024;
const DROPPED_IN_PUBLISHING_BYTES = 4 * 1024 * 1024;
/** Fences are remembered for a day: longer than any attempt sleeps and comes back. */
const REMEMBERED_MS = 24 * 3600 * 1000;

interface Published {
  readonly job_id: string;
  readonly table_name: string;
  readonly store_id: string;
  readonly fence: number;
  readonly rows: number;
  readonly bytes: number;
  readonly columns: string;
  readonly warnings: string;
  readonly expires_at: number | null;
}

/** Throws if the file can only be read, which BEGIN IMMEDIATE alone passes over. Writes nothing. */
export function checkWritable(db: DatabaseSync): void {
  db.exec('UPDATE dungbeetle_fences SET fence = fence WHERE 0');
}

/** Refuses an attempt that a newer one of the same store has overtaken. Another store takes over. */
export function checkFence(db: DatabaseSync, { job_id, store_id, fence }: Owner): void {
  const row = db
    .prepare(
      `SELECT max(fence) AS fence FROM (
         SELECT fence FROM dungbeetle_results WHERE job_id = ?1 AND store_id = ?2
         UNION ALL SELECT fence FROM dungbeetle_staging WHERE job_id = ?1 AND store_id = ?2 AND state = 'loading'
         UNION ALL SELECT fence FROM dungbeetle_fences WHERE job_id = ?1 AND store_id = ?2)`,
    )
    .get({ '?1': job_id, '?2': store_id });
  const newest = row?.['fence'] ?? null;
  if (newest !== null && Number(newest) > fence) throw fenced();
}

function fenced(): DatabaseError {
  return new DatabaseError('fenced', 'a newer attempt of the job writes the result table');
}

/** Makes a staging table and registers it. What older attempts of the job have begun becomes trash. */
export function beginStaging(
  db: DatabaseSync,
  owner: Owner,
  columns: readonly ResultColumn[],
  staged: StagedRows,
  table: string,
  now: number,
): void {
  checkFence(db, owner);
  const { job_id, store_id, fence } = owner;
  db.prepare(
    "UPDATE dungbeetle_staging SET state = 'trash' WHERE job_id = ? AND store_id = ? AND fence < ? AND state = 'loading'",
  ).run(job_id, store_id, fence);
  noteFence(db, job_id, store_id, fence, now);
  register(db, table, 'loading', owner, staged, now);
  db.exec(createTable(table, columns));
}

function register(
  db: DatabaseSync,
  table: string,
  state: 'loading' | 'trash',
  { job_id, store_id, fence }: Pick<Owner, 'job_id' | 'store_id' | 'fence'>,
  size: { readonly rows: number; readonly bytes: number } | null,
  now: number,
): void {
  db.prepare('INSERT INTO dungbeetle_staging VALUES (?, ?, ?, ?, ?, ?, ?, ?)').run(
    table,
    state,
    job_id,
    store_id,
    fence,
    size?.rows ?? null,
    size?.bytes ?? null,
    now,
  );
}

function noteFence(db: DatabaseSync, job_id: string, store_id: string, fence: number, now: number): void {
  db.prepare(
    `INSERT INTO dungbeetle_fences VALUES (?, ?, ?, ?) ON CONFLICT (job_id) DO UPDATE SET
       fence = CASE WHEN store_id = excluded.store_id THEN max(fence, excluded.fence) ELSE excluded.fence END,
       store_id = excluded.store_id, noted_at = excluded.noted_at`,
  ).run(job_id, store_id, fence, now);
}

function createTable(table: string, columns: readonly ResultColumn[]): string {
  const defined = columns.map(({ name, type }) =>
    type === '' ? quoteName(name) : `${quoteName(name)} ${type}`,
  );
  return `CREATE TABLE main.${quoteName(table)} (${defined.join(', ')})`;
}

/** Copies the rows of an attached staging file after `from` up to `to`; returns how many there were. */
export function copyRows(
  db: DatabaseSync,
  schema: string | null,
  table: string,
  width: number,
  from: number,
  to: number,
): number {
  if (schema === null) throw new Error('there is no staging file to copy from');
  const columns = Array.from({ length: width }, (_, index) => `c${index}`).join(', ');
  const { changes } = db
    .prepare(
      `INSERT INTO main.${quoteName(table)} SELECT ${columns} FROM ${quoteName(schema)}.rows WHERE rowid > ? AND rowid <= ?`,
    )
    .run(from, to);
  return Number(changes);
}

/** Throws `fenced` unless the staging table is registered as being loaded. */
export function checkLoading(db: DatabaseSync, table: string): void {
  const row = db
    .prepare("SELECT 1 FROM dungbeetle_staging WHERE table_name = ? AND state = 'loading'")
    .get(table);
  if (row === undefined) throw fenced();
}

/** Gives a staging table up; false if it is not registered (any more). */
export function discardStaging(db: DatabaseSync, table: string): boolean {
  return (
    db.prepare("UPDATE dungbeetle_staging SET state = 'trash' WHERE table_name = ?").run(table).changes > 0
  );
}

/**
 * Makes rows visible as the job's table, with its row in the catalog. `schema` is the attached staging file
 * when the rows are still there.
 */
export function publish(
  db: DatabaseSync,
  template: string,
  publication: Publication,
  schema: string | null,
  now: number,
): ResultTable {
  const { owner, columns, staged, staging, ttl_ms } = publication;
  checkFence(db, owner);
  const { table, replaced } = clearName(db, template, owner, now);
  const warnings = [...publication.warnings];
  if (replaced) warnings.push('1 table of that name, not in the catalog, was replaced');
  if (staging !== null) {
    checkLoading(db, staging);
    db.exec(`ALTER TABLE main.${quoteName(staging)} RENAME TO ${quoteName(table)}`);
    db.prepare('DELETE FROM dungbeetle_staging WHERE table_name = ?').run(staging);
  } else {
    db.exec(createTable(table, columns));
    const copied = copyRows(db, schema, table, columns.length, 0, staged.rows);
    checkCount(copied, staged.rows);
  }
  const expires_at = ttl_ms === null ? null : now + Math.ceil(ttl_ms);
  db.prepare(
    'INSERT OR REPLACE INTO dungbeetle_results VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)',
  ).run(
    owner.job_id,
    table,
    owner.task,
    owner.store_id,
    owner.fence,
    owner.attempt,
    staged.rows,
    staged.bytes,
    JSON.stringify(columns),
    JSON.stringify(warnings),
    now,
    expires_at,
    owner.seq,
  );
  db.prepare('DELETE FROM dungbeetle_fences WHERE job_id = ?').run(owner.job_id);
  return { table, columns, rows: staged.rows, bytes: staged.bytes, expires_at, warnings };
}

/** A staging file that holds other than what was promised is no complete result. */
export function checkCount(copied: number, promised: number): void {
  if (copied === promised) return;
  throw new DatabaseError(
    'query_failed',
    `the staged result has ${copied} rows where ${promised} were promised`,
    {
      transient: true,
    },
  );
}

/**
 * Finds the job's table a name and moves away what is there: the job's earlier table, or one that is not
 * in the catalog but in our namespace.
 */
function clearName(
  db: DatabaseSync,
  template: string,
  owner: Owner,
  now: number,
): { readonly table: string; readonly replaced: boolean } {
  const earlier = findPublished(db, owner.job_id);
  if (earlier !== undefined) {
    // Whoever knows the name finds the new rows under it.
    moveAway(db, earlier.table_name, earlier, owner, now);
    return { table: earlier.table_name, replaced: false };
  }
  for (const table of tableNames(template, owner.job_id, MOST_NAME_BYTES)) {
    if (isReserved(table)) continue;
    const taken = db.prepare('SELECT 1 FROM dungbeetle_results WHERE table_name = ?').get(table);
    if (taken !== undefined) continue;
    const there = findObject(db, table);
    if (there === undefined) return { table, replaced: false };
    if (there !== 'table' || template.replaceAll('%s', '') === '') {
      throw new DatabaseError(
        'table_conflict',
        `there is already a ${there} "${table}" in the results database, and it is not one of ours`,
      );
    }
    moveAway(db, table, null, owner, now);
    return { table, replaced: true };
  }
  throw new DatabaseError('table_conflict', `there is no free table name for job "${owner.job_id}"`);
}

/** What has a name: a table, a view, an index, or nothing. */
function findObject(db: DatabaseSync, name: string): string | undefined {
  // Looked up in SQLite's memory. In sqlite_schema it would be a search through thousands of tables.
  const known = db
    .prepare('SELECT 1 FROM pragma_table_info(?1) UNION ALL SELECT 1 FROM pragma_index_info(?1) LIMIT 1')
    .get({ '?1': name });
  if (known === undefined) return undefined;
  const row = db
    .prepare("SELECT type FROM main.sqlite_schema WHERE name = ? COLLATE NOCASE AND type <> 'trigger'")
    .get(name);
  return row === undefined ? undefined : String(row['type']);
}

function findPublished(db: DatabaseSync, job_id: string): Published | undefined {
  return db.prepare('SELECT * FROM dungbeetle_results WHERE job_id = ?').get(job_id) as unknown as
    | Published
    | undefined;
}

/** Frees a table's name: drops the table, or renames it to trash if it is large or nobody knows its size. */
function moveAway(
  db: DatabaseSync,
  table: string,
  size: { readonly rows: number; readonly bytes: number } | null,
  owner: Pick<Owner, 'job_id' | 'store_id' | 'fence'>,
  now: number,
): void {
  // What someone has put in the place of our table is not ours to remove.
  if (findObject(db, table) !== 'table') return;
  if (size !== null && size.bytes <= DROPPED_IN_PUBLISHING_BYTES) {
    db.exec(`DROP TABLE main.${quoteName(table)}`);
    return;
  }
  // Someone's trigger must not fire while the trash is emptied.
  const triggers = db
    .prepare("SELECT name FROM main.sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE")
    .all(table);
  for (const { name } of triggers as { name: string }[]) db.exec(`DROP TRIGGER main.${quoteName(name)}`);
  const trash = stagingTable();
  register(db, trash, 'trash', owner, size, now);
  db.exec(`ALTER TABLE main.${quoteName(table)} RENAME TO ${quoteName(trash)}`);
}

/** The job's table, if this attempt has published it. */
export function publishedBy(db: DatabaseSync, owner: Owner): ResultTable | null {
  const found = findPublished(db, owner.job_id);
  if (found === undefined || found.store_id !== owner.store_id || found.fence !== owner.fence) return null;
  return {
    table: found.table_name,
    columns: JSON.parse(found.columns) as ResultColumn[],
    rows: found.rows,
    bytes: found.bytes,
    expires_at: found.expires_at,
    warnings: JSON.parse(found.warnings) as string[],
  };
}

/** Takes the job's table and its catalog row away; remembers the fence, so that a zombie cannot bring it back. */
export function dropPublished(
  db: DatabaseSync,
  job_id: string,
  only: (published: Published) => boolean,
  now: number,
): boolean {
  const found = findPublished(db, job_id);
  if (found === undefined || !only(found)) return false;
  moveAway(db, found.table_name, found, found, now);
  db.prepare('DELETE FROM dungbeetle_results WHERE job_id = ?').run(job_id);
  noteFence(db, job_id, found.store_id, found.fence, now);
  return true;
}

/** Job ids of tables past their expiry. */
export function expiredJobs(db: DatabaseSync, now: number, most: number): readonly string[] {
  const rows = db
    .prepare('SELECT job_id FROM dungbeetle_results WHERE expires_at <= ? ORDER BY expires_at LIMIT ?')
    .all(now, most);
  return rows.map((row) => String(row['job_id']));
}

/** Marks a published table as wanted, if it is still that attempt's. */
export function settle(db: DatabaseSync, job_id: string, store_id: string, fence: number): void {
  db.prepare('UPDATE dungbeetle_results SET settled = 1 WHERE job_id = ? AND store_id = ? AND fence = ?').run(
    job_id,
    store_id,
    fence,
  );
}

/** What attempts of a store have begun or published, and nobody has judged yet. */
export function leftoversOf(db: DatabaseSync, store_id: string): WriterOperations['leftovers']['reply'] {
  const staging = db
    .prepare(
      `SELECT table_name AS "table", fence FROM dungbeetle_staging WHERE store_id = ? AND state = 'loading'`,
    )
    .all(store_id) as { table: string; fence: number }[];
  const unsettled = db
    .prepare('SELECT job_id, fence, seq FROM dungbeetle_results WHERE store_id = ? AND settled = 0')
    .all(store_id) as unknown as PublishedBy[];
  return { staging, unsettled };
}

/** Forgets old fences, and gives up what other stores began long ago; how many tables that were. */
export function forgetOld(db: DatabaseSync, store_id: string, now: number): number {
  db.prepare('DELETE FROM dungbeetle_fences WHERE noted_at < ?').run(now - REMEMBERED_MS);
  const { changes } = db
    .prepare(
      "UPDATE dungbeetle_staging SET state = 'trash' WHERE store_id <> ? AND state = 'loading' AND created_at < ?",
    )
    .run(store_id, now - FORGOTTEN_MS);
  return Number(changes);
}

export function trashTables(db: DatabaseSync): readonly string[] {
  const rows = db.prepare("SELECT table_name FROM dungbeetle_staging WHERE state = 'trash'").all();
  return rows.map((row) => String(row['table_name']));
}

/** Deletes some rows of a trash table, or drops it if that does not take long. */
export function emptySome(db: DatabaseSync, table: string, most: number): Step {
  const registered = db
    .prepare("SELECT rows, bytes FROM dungbeetle_staging WHERE table_name = ? AND state = 'trash'")
    .get(table) as { rows: number | null; bytes: number | null } | undefined;
  const gone: Step = { rows: 0, bytes: 0, last: true };
  if (registered === undefined) return gone;
  const rowid = rowidOf(db, table);
  if (rowid !== null && (registered.bytes === null || registered.bytes > DROPPED_ASIDE_BYTES)) {
    const name = quoteName(table);
    const { changes } = db
      .prepare(`DELETE FROM main.${name} WHERE ${rowid} < (SELECT min(${rowid}) FROM main.${name}) + ?`)
      .run(most);
    const rows = Number(changes);
    const bytes = rows * ((registered.bytes ?? 0) / Math.max(1, registered.rows ?? 1));
    db.prepare(
      'UPDATE dungbeetle_staging SET rows = max(0, rows - ?2), bytes = max(0, bytes - ?3) WHERE table_name = ?1',
    ).run({ '?1': table, '?2': rows, '?3': Math.round(bytes) });
    if (rows > 0) return { rows, bytes, last: false };
  }
  db.exec(`DROP TABLE IF EXISTS main.${quoteName(table)}`);
  db.prepare('DELETE FROM dungbeetle_staging WHERE table_name = ?').run(table);
  return gone;
}

/** The name under which a table's rowid can be reached; null: it has none, or columns took all of them. */
function rowidOf(db: DatabaseSync, table: string): string | null {
  const columns = db.prepare('SELECT name FROM pragma_table_info(?)').all(table);
  const taken = new Set(columns.map((column) => String(column['name']).toLowerCase()));
  const [shape] = db.prepare('SELECT type, wr FROM pragma_table_list(?)').all(table);
  if (shape === undefined || shape['type'] !== 'table' || shape['wr'] !== 0) return null;
  return ['rowid', '_rowid_', 'oid'].find((name) => !taken.has(name)) ?? null;
}
