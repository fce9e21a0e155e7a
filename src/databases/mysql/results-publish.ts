/**
 * How a staging table becomes a result table, and a result table goes, on servers where each statement that
 * changes a table commits by itself.
 *
 * Each of these takes has a token, 16 random hexadecimal digits, and with it a table that only this one take can use
 * up: the staging table itself, or when a result is dropped an empty table made for it. A result table changes
 * only by one RENAME TABLE that also renames the token's table:
 *
 *   publish   RENAME TABLE <table> TO dungbeetle_trash_<token>, dungbeetle_staging_<token> TO <table>
 *   drop      RENAME TABLE <table> TO dungbeetle_trash_<token>, dungbeetle_staging_<token> TO dungbeetle_trash_<token>_0
 *
 * It happens at once and for all readers, and at most once: whoever comes second finds no such table. So a newer
 * attempt shuts out an older one, however long that was asleep, by dropping its staging table, and a process
 * that finds another's drop half done may finish it. Tokens are never used again, and a staging table's comment
 * keeps its token when it has become the result table: whether a RENAME whose answer was lost has happened is
 * seen in the tables themselves.
 *
 * The states of a token in dungbeetle_staging. Transactions that change the state of one job begin with a
 * lock on its row in dungbeetle_fences.
 *
 *   step                                       | a crash after it leaves            | who cleans up, and how
 *   -------------------------------------------|------------------------------------|---------------------------------
 *   publish                                    |                                    | the next attempt of the job as it
 *   1 fence noted, token `loading`             | a row                              | begins; the sweep when the fence
 *   2 CREATE TABLE staging, load               | a row, a staging table             | is no longer live: both drop the
 *   3 confirm; fence checked, `publishing`     | the same, and a name reserved      | staging table, then the row
 *   4 RENAME                                   | the new table under its name, the  | the same two: no staging table,
 *                                              | old row (or none) in the catalog,  | and the token in the comment of
 *                                              | perhaps trash                      | the table: they do step 5
 *   5 catalog row written, token deleted       | trash                              | the sweep drops trash whose token
 *   6 DROP TABLE trash                         |                                    | is not registered
 *
 *   drop                                       |                                    |
 *   1 CREATE TABLE of the token                | an empty table                     | the sweep, after a day
 *   2 catalog row deleted, token `dropping`    | the same, a row, the result table  | whoever publishes under the name,
 *   3 RENAME                                   | a row, trash                       | and the sweep: do steps 3 to 5
 *   4 token deleted                            | trash                              | the sweep
 *   5 DROP TABLE trash                         |                                    |
 *
 * An attempt that is overtaken before its step 3 is refused there; after it, by the loss of its staging table.
 * A staging table made by an attempt that slept between steps 1 and 2 and was overtaken meanwhile has no row: the
 * sweep knows it by its comment. Servers that did not rename several tables at once when they crashed (MySQL
 * before 8.0, MariaDB before 10.6) may be left with the old table in the trash, none under the name, and the
 * staging table still there: then the old one is put back first.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Owner, ResultTable } from '../database.ts';
import { DatabaseError } from '../errors.ts';
import { quoteName } from './quote.ts';
import {
  findTable,
  identityComment,
  identityOf,
  isOwners,
  type Publication,
  type Published,
  type Registered,
  SQL,
  tableOf,
  transact,
} from './results-catalog.ts';
import { columnDefinition, keyDefinition, type PlannedColumn } from './results-columns.ts';
import { resultTableNames } from './results-names.ts';
import { referenceTo } from './results-references.ts';
import { ER, errorNumber, type Session } from './results-session.ts';

/** How long something may be waited for that others hold. */
export interface Patience {
  readonly signal: AbortSignal;
  /** By performance.now(). */
  readonly until: number;
}

/** Between two attempts to get at a table that is being read, ms: meanwhile its readers go on. */
const PAUSE_MS = 300;
/** How often names may change under our hands before something is wrong. */
const MOST_ROUNDS = 20;

export function newToken(): string {
  return randomBytes(8).toString('hex');
}

export function stagingName(token: string): string {
  return `dungbeetle_staging_${token}`;
}

export function trashNames(token: string): readonly [string, string] {
  return [`dungbeetle_trash_${token}`, `dungbeetle_trash_${token}_0`];
}

/** Step 1. What earlier attempts of the job have begun is ended, or completed if it was published already. */
export async function begin(db: Session, token: string, owner: Owner, patience: Patience): Promise<void> {
  const { job_id, store_id, fence, seq } = owner;
  const others = await transact(db, async () => {
    await db.run(SQL.note_fence, [job_id, store_id, fence]);
    await checkFence(db, owner);
    const registered = await db.query<Registered>(SQL.registered_of_job, [job_id]);
    await db.run(SQL.register, [token, 'loading', job_id, store_id, fence, seq, null]);
    return registered;
  });
  for (const other of others) await discard(db, other, patience);
}

/** Refuses an attempt that a newer one of the same store has overtaken. Another store takes over. */
async function checkFence(db: Session, { job_id, store_id, fence }: Owner): Promise<void> {
  const [newest] = await db.query<{ fence: number }>(SQL.newest_fence, [job_id, store_id, job_id, store_id]);
  if (Number(newest?.fence) > fence) throw fenced(db.database);
}

export function fenced(database: string): DatabaseError {
  return new DatabaseError('fenced', `${database}: a newer attempt of the job writes the result table`);
}

/**
 * Step 2, but for the rows. Without a primary key InnoDB numbers rows as they come and keeps them in that order, so
 * that a plain SELECT gives them back in the query's; where the server demands a key, ours does the same. SQL promises
 * no such thing: who depends on it sorts.
 */
export async function createStaging(
  db: Session,
  token: string,
  owner: Owner,
  columns: readonly PlannedColumn[],
): Promise<void> {
  const defined = columns.map(({ name, type }) => `${quoteName(name)} ${columnDefinition(type, db.flavor)}`);
  if (db.flavor.keyed) defined.push(keyDefinition(columns));
  await db.run(
    `CREATE TABLE ${quoteName(stagingName(token))} (${defined.join(', ')}) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE ${db.flavor.collation} COMMENT = ${comment(identityComment(token, owner))}`,
  );
}

/** A comment as SQL text: of characters that need no escape and fit. */
function comment(text: string): string {
  return `'${text.replace(/[^\w .:@/-]/g, '?').slice(0, 500)}'`;
}

/**
 * Steps 3 to 5. May be called again, on another connection, when the connection was lost: it goes on from
 * where it was. Throws `fenced` if a newer attempt has begun, the signal's reason if it aborts while the old
 * table is in use.
 */
export async function publish(
  db: Session,
  token: string,
  owner: Owner,
  publication: Publication,
  template: string,
  patience: Patience,
): Promise<Publishing> {
  for (let round = 0; round < MOST_ROUNDS; round += 1) {
    patience.signal.throwIfAborted();
    const plan = await transact(db, () => planPublication(db, token, owner, publication, template));
    if (plan.kind === 'published') return { table: plan.table, trash: true };
    if (plan.kind === 'in_the_way') {
      await discard(db, plan.registered, patience);
      continue;
    }
    const { registered, target, replaces } = plan;
    if (plan.kind === 'rename') {
      const [trash] = trashNames(token);
      const renames = [
        ...(replaces ? [[target, trash] as const] : []),
        [stagingName(token), target] as const,
      ];
      const renamed = await rename(db, renames, patience);
      // Gone, or come: the next round sees which.
      if (!renamed) continue;
    }
    const table = await settle(db, registered);
    if (table !== null) return { table, trash: replaces };
  }
  throw new DatabaseError(
    'unavailable',
    `${db.database}: the result table was renamed or dropped by others again and again`,
  );
}

export interface Publishing {
  readonly table: ResultTable;
  /** Whether there may be an old table, now trash. */
  readonly trash: boolean;
}

type Plan =
  | { readonly kind: 'published'; readonly table: ResultTable }
  /** Another take on the same name is to be ended first. */
  | { readonly kind: 'in_the_way'; readonly registered: Registered }
  /** `renamed`: step 4 was done before the connection was lost. */
  | {
      readonly kind: 'rename' | 'renamed';
      readonly registered: Registered;
      readonly target: string;
      readonly replaces: boolean;
    };

/** Reserves the name and says what is to be renamed. Inside of a transaction. */
async function planPublication(
  db: Session,
  token: string,
  owner: Owner,
  publication: Publication,
  template: string,
): Promise<Plan> {
  const { job_id, store_id, fence } = owner;
  await db.run(SQL.lock_job, [job_id, store_id, fence]);
  const [registered] = await db.query<Registered>(SQL.registered, [token]);
  const [earlier] = await db.query<Published>(SQL.published, [job_id]);
  if (registered === undefined) {
    // Somebody has completed it for us, or discarded it.
    if (earlier !== undefined && isOwners(earlier, owner))
      return { kind: 'published', table: tableOf(earlier) };
    throw fenced(db.database);
  }
  if (registered.target !== null && (await findTable(db, stagingName(token))) === null) {
    const found = await findTable(db, registered.target);
    if (found === null || identityOf(found.comment)?.token !== token) throw fenced(db.database);
    return { kind: 'renamed', registered, target: registered.target, replaces: true };
  }
  await checkFence(db, owner);
  // Whoever knows the name finds the new rows under it.
  const names = earlier === undefined ? resultTableNames(template, job_id) : [earlier.table_name];
  for (const target of names) {
    const holder = await reserve(db, token, target, publication);
    if (holder !== null) {
      if (holder.job_id === job_id) return { kind: 'in_the_way', registered: holder };
      continue;
    }
    const [taken] = await db.query(SQL.published_as, [target, job_id]);
    if (taken !== undefined) continue;
    const found = await findTable(db, target);
    const ours =
      found === null ||
      earlier !== undefined ||
      identityOf(found.comment)?.job_id === identityOf(identityComment(token, owner))?.job_id;
    if (found !== null && (found.type !== 'BASE TABLE' || (!ours && template.replaceAll('%s', '') === ''))) {
      throw new DatabaseError(
        'table_conflict',
        `${db.database}: there is already a ${found.type === 'BASE TABLE' ? 'table' : found.type.toLowerCase()} "${target}" in the results database, and it is not one of ours`,
      );
    }
    const reference = found === null ? null : await referenceTo(db, target);
    if (reference !== null) {
      throw new DatabaseError(
        'table_conflict',
        `${db.database}: a foreign key of table ${reference} refers to the table "${target}", and would go on referring to its old rows: drop that key`,
      );
    }
    const warnings = ours
      ? publication.warnings
      : [...publication.warnings, '1 table of that name, not in the catalog, was replaced'];
    const text = JSON.stringify({ ...publication, warnings });
    if (!ours) await db.run(SQL.publishing, [target, text, token]);
    return {
      kind: 'rename',
      registered: { ...registered, state: 'publishing', target, publication: text },
      target,
      replaces: found !== null,
    };
  }
  throw new DatabaseError(
    'table_conflict',
    `${db.database}: there is no free table name for job "${job_id}"`,
  );
}

/** Who holds the name if we cannot have it. */
async function reserve(
  db: Session,
  token: string,
  target: string,
  publication: Publication,
): Promise<Registered | null> {
  try {
    await db.run(SQL.publishing, [target, JSON.stringify(publication), token]);
    return null;
  } catch (error) {
    if (errorNumber(error) !== ER.DUP_ENTRY) throw error;
    const [holder] = await db.query<Registered>(SQL.registered_for, [target]);
    if (holder === undefined) throw error;
    return holder;
  }
}

/** Whether it has happened; false if a table was not there, or one was where none should be. */
async function rename(
  db: Session,
  renames: readonly (readonly [string, string])[],
  patience: Patience,
): Promise<boolean> {
  const list = renames.map(([from, to]) => `${quoteName(from)} TO ${quoteName(to)}`);
  try {
    await patiently(patience, () => db.runBriefly(`RENAME TABLE ${list.join(', ')}`));
    return true;
  } catch (error) {
    const number = errorNumber(error);
    // MySQL 5.7 misses the file.
    if (number === ER.NO_SUCH_TABLE || number === ER.FILE_NOT_FOUND || number === ER.TABLE_EXISTS)
      return false;
    throw error;
  }
}

/** Others hold what is to be dropped. */
class InUse extends DatabaseError {}

/** Whether an error says that others hold a table or its name for now, if by a foreign key that refers to it. */
export function isInUse(error: unknown): boolean {
  return error instanceof InUse || HELD.has(errorNumber(error));
}

const HELD: ReadonlySet<number> = new Set([
  ER.LOCK_WAIT_TIMEOUT,
  ER.ROW_IS_REFERENCED,
  ER.TABLE_IS_REFERENCED,
]);

/** Does something again while others hold a lock on its table. */
async function patiently<T>({ signal, until }: Patience, work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (errorNumber(error) !== ER.LOCK_WAIT_TIMEOUT || performance.now() > until) throw error;
      await delay(PAUSE_MS, null, { signal }).catch(() => signal.throwIfAborted());
    }
  }
}

/** Step 5. Null: somebody else has done it, or undone the take. */
async function settle(db: Session, registered: Registered): Promise<ResultTable | null> {
  const { token, job_id, store_id, fence, seq, target, publication: text } = registered;
  if (target === null || text === null) throw new Error(`staging ${token} was never published`);
  const publication = JSON.parse(text) as Publication;
  const { task, attempt, rows, bytes, columns, warnings, ttl_ms } = publication;
  return await transact(db, async () => {
    if ((await db.run(SQL.unregister, [token])).rows === 0) return null;
    await db.run(SQL.publish, [
      job_id,
      target,
      task,
      store_id,
      fence,
      attempt,
      rows,
      bytes,
      JSON.stringify(columns),
      JSON.stringify(warnings),
      ttl_ms === null ? null : Math.ceil(ttl_ms),
      seq,
    ]);
    if (ttl_ms === null) return { table: target, columns, rows, bytes, expires_at: null, warnings };
    const [published] = await db.query<Published>(SQL.published, [job_id]);
    return published === undefined ? null : tableOf(published);
  });
}

/**
 * Ends a take for good, whoever's it is: finishes a drop, completes what was published already, and takes
 * everything else back. Gives the table if it was published.
 */
export async function discard(
  db: Session,
  registered: Registered,
  patience: Patience,
): Promise<ResultTable | null> {
  const { token, state, target } = registered;
  if (state === 'dropping') {
    await finishDrop(db, registered, patience);
    return null;
  }
  const staging = stagingName(token);
  if (state === 'publishing' && target !== null) await putBack(db, token, target);
  const dropped = await dropStaging(db, staging, patience);
  if (!dropped) {
    // It may have been published after the registration was read.
    const [now] = await db.query<Registered>(SQL.registered, [token]);
    if (now?.state === 'publishing' && now.target !== null) {
      const found = await findTable(db, now.target);
      if (found !== null && identityOf(found.comment)?.token === token) {
        const table = await settle(db, now);
        await db.runBriefly(`DROP TABLE IF EXISTS ${quoteName(trashNames(token)[0])}`);
        return table;
      }
    }
  }
  await db.run(SQL.unregister, [token]);
  return null;
}

/** After a crash of an old server between the two renames of one statement. */
async function putBack(db: Session, token: string, target: string): Promise<void> {
  const [trash] = trashNames(token);
  if ((await findTable(db, trash)) === null) return;
  if ((await findTable(db, stagingName(token))) === null || (await findTable(db, target)) !== null) return;
  await db.runBriefly(`RENAME TABLE ${quoteName(trash)} TO ${quoteName(target)}`);
}

/** Drops a staging table; false if there is none. What still loads it is ended. */
async function dropStaging(db: Session, staging: string, patience: Patience): Promise<boolean> {
  try {
    await patiently(patience, async () => {
      try {
        await db.runBriefly(`DROP TABLE ${quoteName(staging)}`);
      } catch (error) {
        if (errorNumber(error) === ER.LOCK_WAIT_TIMEOUT) await killLoads(db, staging);
        throw error;
      }
    });
    return true;
  } catch (error) {
    if (errorNumber(error) !== ER.BAD_TABLE && errorNumber(error) !== ER.NO_SUCH_TABLE) throw error;
    return false;
  }
}

/** The name is in no other statement: no session of anybody else's is hit. */
async function killLoads(db: Session, staging: string): Promise<void> {
  const loading = await db.query<{ id: number }>(
    "SELECT ID AS id FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND (INFO LIKE CONCAT('LOAD DATA%', ?, '%') OR INFO LIKE CONCAT('INSERT INTO%', ?, '%'))",
    [staging, staging],
  );
  for (const { id } of loading) {
    try {
      await db.run(`KILL ${Number(id)}`);
    } catch (error) {
      if (errorNumber(error) !== ER.NO_SUCH_THREAD) throw error;
    }
  }
}

/** Takes a job's table and its catalog row away, if `only` says so of what is published now. */
export async function dropPublished(
  db: Session,
  job_id: string,
  only: (published: Published) => Promise<boolean>,
  patience: Patience,
): Promise<boolean> {
  const [seen] = await db.query<Published>(SQL.published, [job_id]);
  if (seen === undefined || !(await only(seen))) return false;
  const found = await findTable(db, seen.table_name);
  // What someone has put in the place of our table is not ours to remove.
  const exists = found?.type === 'BASE TABLE';
  const token = newToken();
  if (exists) {
    await db.run(
      `CREATE TABLE ${quoteName(stagingName(token))} (unused TINYINT NOT NULL PRIMARY KEY) ENGINE = InnoDB COMMENT = ${comment(`dungbeetle drop ${job_id}`)}`,
    );
  }
  for (;;) {
    const outcome = await transact(db, async (): Promise<'moot' | 'done' | Registered> => {
      await db.run(SQL.note_fence, [job_id, seen.store_id, seen.fence]);
      const [published] = await db.query<Published>(SQL.published, [job_id]);
      if (published === undefined || !isOwners(published, seen)) return 'moot';
      if (exists) {
        const { store_id, fence, seq, table_name } = published;
        try {
          await db.run(SQL.register, [token, 'dropping', job_id, store_id, fence, seq, table_name]);
        } catch (error) {
          if (errorNumber(error) !== ER.DUP_ENTRY) throw error;
          const [holder] = await db.query<Registered>(SQL.registered_for, [table_name]);
          if (holder !== undefined) return holder;
          throw error;
        }
      }
      await db.run(SQL.unpublish, [job_id]);
      return 'done';
    });
    if (outcome === 'moot') {
      if (exists) await db.runBriefly(`DROP TABLE IF EXISTS ${quoteName(stagingName(token))}`);
      return false;
    }
    if (outcome === 'done') {
      if (!exists) return true;
      const { store_id, fence, seq, table_name: target } = seen;
      const registered = {
        token,
        state: 'dropping',
        job_id,
        store_id,
        fence,
        seq,
        target,
        publication: null,
      } as const;
      try {
        await finishDrop(db, registered, patience);
      } catch (error) {
        // Somebody reads the table. It is in the catalog no more, and the next sweep goes on.
        if (!isInUse(error)) throw error;
      }
      return true;
    }
    if (performance.now() > patience.until) {
      await db.runBriefly(`DROP TABLE IF EXISTS ${quoteName(stagingName(token))}`);
      throw new InUse('unavailable', `${db.database}: an attempt of the job is publishing its table`);
    }
    // An attempt is about to publish: that takes milliseconds, unless readers keep it waiting.
    await delay(PAUSE_MS, null, { signal: patience.signal });
  }
}

/** Steps 3 to 5 of a drop; any process may do them, and the token's table lets one of them. */
async function finishDrop(db: Session, { token, target }: Registered, patience: Patience): Promise<void> {
  if (target === null) throw new Error(`token ${token} drops nothing`);
  const staging = stagingName(token);
  const [trash, spent] = trashNames(token);
  for (let round = 0; round < MOST_ROUNDS; round += 1) {
    if ((await findTable(db, staging)) === null) break;
    const found = await findTable(db, target);
    const there = found?.type === 'BASE TABLE' ? [[target, trash] as const] : [];
    if (await rename(db, [...there, [staging, spent]], patience)) break;
  }
  await db.run(SQL.unregister, [token]);
  await db.runBriefly(`DROP TABLE IF EXISTS ${quoteName(trash)}, ${quoteName(spent)}`);
}
