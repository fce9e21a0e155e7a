/** Drops what nobody wants any more: expired tables, and what attempts that died have left. */
import type { PublishedBy, SweepOptions, Swept } from '../database.ts';
import { quoteName } from './quote.ts';
import { findTable, identityOf, type Published, type Registered, SQL, storeKey } from './results-catalog.ts';
import { discard, dropPublished, isInUse, type Patience } from './results-publish.ts';
import type { Session } from './results-session.ts';

/** Fences are remembered for a day: longer than any attempt sleeps and comes back. */
const REMEMBERED_MS = 24 * 3600 * 1000;
/** What other stores began, about which nobody here can be asked, is given up after a week. */
const FORGOTTEN_MS = 7 * 24 * 3600 * 1000;

export async function sweepTables(
  db: Session,
  { store_id, liveFences, judge }: SweepOptions,
  patience: Patience,
): Promise<Swept> {
  const expired = await dropExpired(db, patience);
  // Listed first: what an attempt makes after it was asked about is not in the list.
  const registered = await db.query<Registered & { age_ms: number }>(SQL.all_registered);
  const tables = await db.query<{ name: string }>(SQL.own_tables);
  const unsettled = await db.query<PublishedBy>(SQL.unsettled, [store_id]);
  const live = await liveFences();

  let orphans = 0;
  for (const each of registered) {
    const dead =
      each.state === 'dropping' ||
      (each.store_id === store_id ? !live.has(each.fence) : each.age_ms > FORGOTTEN_MS);
    if (!dead) continue;
    const done = await unlessInUse(async () => {
      await discard(db, each, patience);
      return true;
    });
    if (done && each.state !== 'dropping') orphans += 1;
  }
  orphans += await dropUnregistered(db, tables, store_id, live);
  for (const { job_id, fence, seq } of unsettled) {
    if (live.has(fence)) continue;
    const verdict = await judge({ job_id, fence, seq });
    if (verdict === 'keep') await db.run(SQL.settle, [job_id, store_id, fence]);
    else if (verdict === 'drop') {
      const ours = async (published: Published) =>
        published.fence === fence && published.store_id === store_id;
      if (await unlessInUse(() => dropPublished(db, job_id, ours, patience))) orphans += 1;
    }
  }
  await db.run(SQL.forget_fences, [REMEMBERED_MS]);
  return { expired, orphans };
}

async function dropExpired(db: Session, patience: Patience): Promise<number> {
  let dropped = 0;
  for (;;) {
    const jobs = await db.query<{ job_id: string }>(SQL.expired);
    let here = 0;
    for (const { job_id } of jobs) {
      const still = async () => (await db.query(SQL.is_expired, [job_id])).length > 0;
      if (await unlessInUse(() => dropPublished(db, job_id, still, patience))) here += 1;
    }
    dropped += here;
    // None of them: others are at it.
    if (here === 0) return dropped;
  }
}

/** Trash, and staging tables of which no registration tells; how many of the latter. */
async function dropUnregistered(
  db: Session,
  tables: readonly { readonly name: string }[],
  store_id: string,
  live: ReadonlySet<number>,
): Promise<number> {
  if (tables.length === 0) return 0;
  // Asked after the tables were listed: what is registered before it is made is known by now.
  const tokens = new Set((await db.query<{ token: string }>(SQL.tokens)).map(({ token }) => token));
  let orphans = 0;
  for (const { name } of tables) {
    const [, kind, token] = /^dungbeetle_(trash|staging)_([0-9a-f]{16})(?:_0)?$/.exec(name) ?? [];
    if (kind === undefined || token === undefined || tokens.has(token)) continue;
    if (kind === 'staging' && !(await isForsaken(db, name, store_id, live))) continue;
    const dropped = await unlessInUse(async () => {
      await db.runBriefly(`DROP TABLE IF EXISTS ${quoteName(name)}`);
      return true;
    });
    if (dropped && kind === 'staging') orphans += 1;
  }
  return orphans;
}

/**
 * A staging table without a registration was made by an attempt that had been overtaken, or for a drop that has
 * not been registered yet, and then it is only as old as a process can sleep.
 */
async function isForsaken(
  db: Session,
  name: string,
  store_id: string,
  live: ReadonlySet<number>,
): Promise<boolean> {
  const found = await findTable(db, name);
  if (found === null) return false;
  const identity = identityOf(found.comment);
  if (identity !== null && identity.store === storeKey(store_id)) return !live.has(identity.fence);
  const age = identity === null ? REMEMBERED_MS : FORGOTTEN_MS;
  const old = await db.query(SQL.made_before, [name, Math.ceil(age / 1000)]);
  return old.length > 0;
}

/** What the work says of itself; false if others hold its table: the next sweep tries again. */
async function unlessInUse(work: () => Promise<boolean>): Promise<boolean> {
  try {
    return await work();
  } catch (error) {
    if (!isInUse(error)) throw error;
    return false;
  }
}
