/** What must be true when all is over, asked of the databases themselves. */
import { setTimeout as delay } from 'node:timers/promises';
import { execute } from '../support/sql.ts';
import type { Accepted, Clients } from './clients.ts';
import type { Journal } from './journal.ts';
import type { World } from './world.ts';

/** How long no job at all may end while some are not finished and nothing is hurt any more; and the sweeps after them, ms. */
const CALM_MS = 60_000;
const SWEPT_MS = 60_000;
const ASKED_AT_ONCE = 16;

/** Reads every table that is there: its rows, their sum, and whose they say they are. */
const TABLES = `
  CREATE OR REPLACE FUNCTION chaos_tables() RETURNS TABLE (name text, amount bigint, total bigint, whose text) LANGUAGE plpgsql AS $$
  BEGIN
    FOR name IN SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
      AND relname NOT IN ('dungbeetle_results', 'dungbeetle_fences', 'dungbeetle_unlogged', 'dungbeetle_version') LOOP
      BEGIN
        RETURN QUERY EXECUTE format(
          'SELECT %L::text, count(*), coalesce(sum(n), 0)::bigint, coalesce(string_agg(DISTINCT job, '',''), '''') FROM %I', name, name);
      EXCEPTION WHEN undefined_table THEN NULL; -- dropped meanwhile
      END;
    END LOOP;
  END $$`;

export interface Verdict {
  readonly states: Readonly<Record<string, number>>;
  readonly tables: number;
  readonly begun: number;
  readonly wrong: readonly string[];
}

export async function judge(world: World, clients: Clients, journal: Journal): Promise<Verdict> {
  const wrong: string[] = [...clients.figures.wrong];
  const states = new Map<string, string>();
  let deadline = performance.now() + CALM_MS;
  let open = [...clients.accepted.values()];
  while (open.length > 0) {
    const next: Accepted[] = [];
    const queue = open.values();
    await Promise.all(
      Array.from({ length: ASKED_AT_ONCE }, async () => {
        for (const job of queue) {
          const state = (await clients.get(job.job_id))?.state ?? 'lost';
          if (/^(?:PENDING|STARTED|RETRY)$/.test(state)) next.push(job);
          else states.set(job.job_id, state);
        }
      }),
    );
    if (next.length < open.length) deadline = performance.now() + CALM_MS;
    open = next;
    if (open.length === 0 || performance.now() > deadline) break;
    await delay(500);
  }
  for (const { job_id } of open) wrong.push(`${job_id} is still not finished`);

  const counts: Record<string, number> = {};
  for (const job of clients.accepted.values()) {
    const state = states.get(job.job_id) ?? 'not finished';
    counts[state] = (counts[state] ?? 0) + 1;
    const mayBe = job.cancel_heard ? ['CANCELLED'] : job.cancelled ? ['CANCELLED', job.ends] : [job.ends];
    if (!mayBe.includes(state)) wrong.push(`${job.job_id} ended as ${state}, not as ${mayBe.join(' or ')}`);
    const successes = journal.successes.get(job.job_id) ?? 0;
    if (successes > 1 && !job.posted_again) wrong.push(`${job.job_id} succeeded ${successes} times`);
  }

  const wanted = new Map<string, Accepted>();
  for (const job of clients.accepted.values()) {
    if (states.get(job.job_id) === 'SUCCESS') wanted.set(`results_${job.job_id}`, job);
  }
  const { tables, faults } = await tablesOf(world, wanted);
  wrong.push(...faults);

  const log = world.databases.log;
  for (const [, job_id] of log.matchAll(/chaos overlap (\S+)/g)) wrong.push(`${job_id} ran twice at once`);
  const begun = [...log.matchAll(/LOG: {2}chaos begin /g)].length;
  const left = await execute(
    world.databases.dsn,
    "SELECT query FROM pg_stat_activity WHERE datname = 'source' AND state <> 'idle'",
  );
  for (const [query] of left) wrong.push(`a query is left running: ${String(query).slice(0, 80)}`);
  for (const kept of [...world.servers, ...world.workers]) wrong.push(...kept.crashes);
  return { states: counts, tables, begun, wrong };
}

/** The tables that are there against those that should be. What dead attempts left may take a sweep to go. */
async function tablesOf(
  world: World,
  wanted: ReadonlyMap<string, Accepted>,
): Promise<{ readonly tables: number; readonly faults: readonly string[] }> {
  await execute(world.results, TABLES);
  const deadline = performance.now() + SWEPT_MS;
  for (;;) {
    const found = await execute(world.results, 'SELECT * FROM chaos_tables()');
    const names = new Set(found.map(([name]) => String(name)));
    const extra = [...names].filter((name) => !wanted.has(name));
    if (extra.length > 0 && performance.now() < deadline) {
      await delay(1_000);
      continue;
    }
    const faults = extra.map((name) => `${name} should not be there`);
    for (const name of wanted.keys()) if (!names.has(name)) faults.push(`${name} is missing`);
    for (const [name, amount, total, whose] of found) {
      const job = wanted.get(String(name));
      if (job === undefined) continue;
      const { rows, job_id } = job;
      if (Number(amount) === rows && Number(total) === (rows * (rows + 1)) / 2 && whose === job_id) continue;
      faults.push(`${name} has ${amount} rows (sum ${total}) of ${whose}, not ${rows}`);
    }
    return { tables: found.length, faults };
  }
}
