/**
 * npm run chaos -- --minutes 10 --store postgres|redis|sqlite
 *
 * Three job servers and four workers share a store. Workers are killed with SIGKILL every three seconds; the store is
 * restarted, killed, cut off and made half-open; clients post and post again. Afterwards every job that was accepted must
 * have ended once, with one complete table or none, and no job's query must ever have run twice at once, by the
 * word of the queries themselves. Exits with 1 if anything is otherwise.
 */
import { flagsOf } from '../../scripts/arguments.ts';
import { whenEnded } from '../../scripts/services/signals.ts';
import type { Scope } from '../support/scope.ts';
import { Clients, type Planned } from './clients.ts';
import { Faults } from './faults.ts';
import { Journal } from './journal.ts';
import { judge } from './verdict.ts';
import { openWorld, STORES, type StoreType } from './world.ts';

const values = flagsOf('chaos', {
  minutes: '10',
  store: 'sqlite',
  jobs: '20000',
  servers: '3',
  workers: '4',
});
const begun = performance.now();

function say(line: string): void {
  const seconds = (performance.now() - begun) / 1000;
  console.log(`${seconds.toFixed(1).padStart(7)} s  ${line}`);
}

/** Mostly quick ones, some of seconds; a few fail, a few are cancelled. */
function plan(count: number): readonly Planned[] {
  return Array.from({ length: count }, (_, n): Planned => {
    const kind = Math.random();
    const length =
      kind < 0.85
        ? Math.random() * 30
        : kind < 0.97
          ? 100 + Math.random() * 700
          : 1_000 + Math.random() * 4_000;
    const fails = Math.random() < 0.01;
    return {
      job_id: `${fails ? 'fail' : 'job'}_${n}`,
      milliseconds: Math.round(length),
      rows: Math.random() < 0.02 ? 20_000 : 1 + Math.floor(Math.random() * 200),
      ends: fails ? 'FAILURE' : 'SUCCESS',
      cancelled: Math.random() < (length > 1_000 ? 0.2 : 0.005),
    };
  });
}

async function main(store: StoreType, ends: (() => void | Promise<void>)[]): Promise<boolean> {
  const scope: Scope = { after: (end) => void ends.push(end) };
  const journal = new Journal();
  const world = await openWorld(scope, {
    store,
    servers: Number(values.servers),
    workers: Number(values.workers),
    onLog: (name, entry) => journal.note(name, entry),
  });
  say(
    `${values.servers} servers and ${values.workers} workers on ${store}, ${values.jobs} jobs in ${values.minutes} minutes`,
  );
  const clients = new Clients(world.servers);
  const faults = new Faults(world, say, (worker) => journal.killed(worker));
  faults.start();
  const reporting = setInterval(() => {
    const finished = journal.successes.size;
    say(`accepted ${clients.accepted.size}, succeeded ${finished}, workers killed ${faults.kills}`);
  }, 30_000);
  try {
    await clients.post(plan(Number(values.jobs)), Number(values.minutes) * 60_000);
  } finally {
    clearInterval(reporting);
    await faults.stop();
  }
  say('nothing is hurt any more; the rest is waited for');
  const verdict = await judge(world, clients, journal);

  // A store that is away keeps everybody from going on: what counts is the time since it was back.
  const waited = journal.recoveries.map(({ died_at, resumed_at }) => {
    const { outages } = faults;
    const back = Math.max(
      died_at,
      ...outages.filter(({ from, to }) => from < resumed_at && to > died_at).map(({ to }) => to),
    );
    return Math.max(0, Math.min(resumed_at - died_at, resumed_at - back)) / 1000;
  });
  waited.sort((one, other) => one - other);
  const raw =
    Math.max(0, ...journal.recoveries.map(({ died_at, resumed_at }) => resumed_at - died_at)) / 1000;
  const { tries, unavailable, unanswered, longest_silence_ms } = clients.figures;
  console.table({
    'jobs accepted': clients.accepted.size,
    ...Object.fromEntries(
      Object.entries(verdict.states).map(([state, count]) => [`ended as ${state}`, count]),
    ),
    'complete tables': verdict.tables,
    'queries begun': verdict.begun,
    'workers killed': faults.kills,
    'store outages': faults.outages.length,
    'attempts that died and ran again': waited.length,
    'recovery, median (s)': Number((waited[waited.length >> 1] ?? 0).toFixed(1)),
    'recovery, longest (s), store outages left out': Number((waited.at(-1) ?? 0).toFixed(1)),
    'recovery, longest (s), store outages counted': Number(raw.toFixed(1)),
    requests: tries,
    'answered 503': unavailable,
    'not answered': unanswered,
    'posted again though not known lost': [...clients.accepted.values()].filter((job) => job.posted_again)
      .length,
    'longest time without a job accepted (s)': Number((longest_silence_ms / 1000).toFixed(1)),
  });
  for (const line of verdict.wrong.slice(0, 50)) console.log(`WRONG  ${line}`);
  console.log(
    verdict.wrong.length === 0 ? 'All as it must be.' : `${verdict.wrong.length} things are wrong.`,
  );
  return verdict.wrong.length === 0;
}

const store = STORES.find((name) => name === values.store);
if (store === undefined) {
  console.error(`--store must be one of ${STORES.join(', ')}`);
  process.exit(2);
}
const ended = whenEnded();
const ends: (() => void | Promise<void>)[] = [];
const stop = async () => {
  for (let next = ends.shift(); next !== undefined; next = ends.shift()) await next();
};
ended.signal.addEventListener('abort', () => void stop().finally(() => process.exit(ended.code() || 1)));
try {
  process.exitCode = (await main(store, ends)) ? 0 : 1;
} finally {
  await stop();
}
