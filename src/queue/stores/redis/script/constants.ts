/** The numbers that the script knows things by, and the one place that names them: `$NAME` in its text. */

/** States as the script numbers them. */
export const STATES = ['PENDING', 'STARTED', 'RETRY', 'SUCCESS', 'FAILURE', 'CANCELLED'] as const;

/** What the head of a job's record holds, in this order. */
export const HEAD = [
  'STATE',
  'HOLD', // why it is not claimed: see slots.ts
  'PRIORITY',
  'DUE',
  'PLACE',
  'TURN_AT', // its turn, as far as it is later than DUE and PLACE: where it stands in `ready`
  'TURN',
  'ATTEMPT',
  'FAILURES',
  'CRASHES', // leases in a row that ran out
  'FENCE', // 0: none yet
  'CANCEL', // 1: asked to cancel
  'CREATED',
  'STARTED_AT', // 0: never
  'FINISHED', // 0: not
  'WAITS', // parents that are not finished
  'PARENT', // 1: others may wait for it
  'PROGRESS', // 1: it has reported some
  'OUTSIDE', // 1: its payload is in `payloads`
  'GROUP', // seq of its group; 0: none
  'SLOTS', // 1: its group has a concurrency
  'ETA', // "": none
  'ID',
  'QUEUE',
  'LIMIT',
  'KEY',
  'KEY_CONCURRENCY', // 0: no limit
  'WORKER',
  'ERROR',
  'RESULT', // JSON; "" before SUCCESS
  'PARENTS', // seqs of its parents, each with "c" (cancel) or "r" (run) behind it
] as const;

const LISTS: readonly (readonly string[])[] = [
  HEAD,
  // Of a pool, a lane's front, a group.
  ['CONCURRENCY', 'TAKEN', 'UNFINISHED', 'SERVED_AT', 'SERVED'],
  ['FRONT_SEQ', 'FRONT_PRIORITY', 'FRONT_DUE', 'FRONT_PLACE', 'FRONT_HELD'],
  ['G_ID', 'G_CONCURRENCY', 'G_CREATED', 'G_UNFINISHED', 'G_FINISHED', 'G_JOBS', 'G_FORGOTTEN'],
];

const NUMBERS = new Map<string, number>([
  ...STATES.map((name, index) => [name, index] as const),
  // Of HOLD.
  ...['PLAY', 'SLOT', 'LANE', 'PARENT_HOLD', 'NONE'].map((name, index) => [name, index] as const),
  // Lua counts from 1.
  ...LISTS.flatMap((names) => names.map((name, index) => [name, index + 1] as const)),
  // How many seqs are counted together, so that a listing need not look where no jobs are left.
  ['CHUNK', 256],
  ['HIGHEST_PRIORITY', 2 ** 31 - 1],
  // How many jobs one claim may look at in vain before it answers with what it has, so that none takes long.
  ['LOOKS', 400],
  // How many fronts come back into play at once when many slots become free: each takes 50 µs.
  ['WOKEN', 100],
  // The most candidates a claim reads at once.
  ['CANDIDATES', 100],
  // How many jobs one step of a listing looks at, and one step of `prune` deletes: other calls come in between.
  ['WINDOW', 1_000],
  ['PRUNED', 500],
  // How many jobs of a group one step cancels or purges: each takes 20 to 40 µs.
  ['GROUP_STEP', 500],
  // More ends in one message than that are said to be "some".
  ['TOLD', 200],
]);

/** Writes the constants in as numbers: a function of Lua 5.1 has room for 200 locals, and they cost time. */
export function withNumbers(script: string): string {
  return script.replaceAll(/\$([A-Z_]+)/g, (_, name: string) => {
    const number = NUMBERS.get(name);
    if (number === undefined) throw new Error(`the script names an unknown constant ${name}`);
    return String(number);
  });
}
