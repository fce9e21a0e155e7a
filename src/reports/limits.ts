/** "No more than n reports at once on this database": the limits that jobs of one database share. */
import type { Limit, Store } from '../queue/store.ts';

/** The name under which the jobs of a database share a limit. */
export function limitOf(db: string): string {
  return `db:${db}`;
}

/**
 * Tells the store how many jobs each database takes at once (null: any number). What is told holds for all
 * processes on the store; `onChanged` hears of each database for which it had another figure.
 */
export async function setLimits(
  store: Pick<Store, 'limit' | 'limits'>,
  databases: ReadonlyMap<string, number | null>,
  onChanged: (db: string, before: number, now: number | null) => void,
): Promise<void> {
  const known = await store.limits([...databases.keys()].map(limitOf));
  for (const [index, [db, now]] of [...databases].entries()) {
    const before = known[index]?.concurrency ?? null;
    if (before === now) continue;
    await store.limit(limitOf(db), now);
    if (before !== null) onChanged(db, before, now);
  }
}

/** How much of a database is in use. */
export interface DatabaseLoad {
  readonly db: string;
  /** Null: no limit. */
  readonly concurrency: number | null;
  readonly running: number;
  readonly waiting: number;
}

/** In the order of the names. */
export async function loadOf(
  store: Pick<Store, 'limits'>,
  databases: readonly string[],
): Promise<readonly DatabaseLoad[]> {
  const limits = await store.limits(databases.map(limitOf));
  return databases.map((db, index) => {
    const { concurrency, running, waiting }: Omit<Limit, 'limit'> = limits[index] ?? UNUSED;
    return { db, concurrency, running, waiting };
  });
}

const UNUSED = { concurrency: null, running: 0, waiting: 0 };

/** Picks among databases by the room they have; what it has picked counts, so that a batch is spread too. */
export class Room {
  readonly #loads: ReadonlyMap<string, { -readonly [Key in keyof DatabaseLoad]: DatabaseLoad[Key] }>;
  readonly #random: () => number;

  /** A database of which no load is given has room. */
  constructor(loads: readonly DatabaseLoad[], random: () => number) {
    this.#loads = new Map(loads.map((load) => [load.db, { ...load }]));
    this.#random = random;
  }

  /** One of those with a free slot; if none has one, of those with the fewest jobs in line for each slot. */
  pick(databases: readonly string[]): string {
    const queues = databases.map((db) => this.#queueAt(db));
    const shortest = Math.min(...queues);
    const picked = pickOne(
      databases.filter((_, index) => queues[index] === shortest),
      this.#random,
    );
    const load = this.#loads.get(picked);
    if (load !== undefined) load.waiting += 1;
    return picked;
  }

  /** How many jobs stand in line for each slot of a database; 0 as long as it has a free one. */
  #queueAt(db: string): number {
    const { concurrency, running, waiting } = this.#loads.get(db) ?? UNUSED;
    if (concurrency === null || running + waiting < concurrency) return 0;
    return Math.max(waiting / concurrency, Number.MIN_VALUE);
  }
}

/** `random` gives numbers in [0, 1). */
export function pickOne(names: readonly string[], random: () => number): string {
  const picked = names[Math.floor(random() * names.length)];
  if (picked === undefined) throw new Error('there is nothing to pick from');
  return picked;
}
