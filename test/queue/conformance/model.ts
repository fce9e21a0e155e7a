/**
 * Random commands, done to a store and to the simulation; after each of them both must look the same. Time
 * moves in units so large that how long the test itself takes makes no difference, and by a millisecond with
 * each command, so that no two commands happen at the same time.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { QueueError } from '../../../src/queue/errors.ts';
import type { Job, Lease, NewGroup, NewJob, Outcome, Store } from '../../../src/queue/store.ts';
import { inOrder, isWaiting, type Run, Simulation } from './simulation.ts';
import { ids, type Opened, type StoreHarness } from './subject.ts';

const UNIT_MS = 1_000_000;
const LEASE_MS = 2.5 * UNIT_MS;
const KEPT_MS = 5.5 * UNIT_MS;
const MAX_CRASHES = 2;
const IDS = ['a', 'b', 'c', 'd', 'e'];
const GROUPS = ['g', 'h'];
const QUEUES = ['p', 'q'];
const LIMITS = ['l', 'm'];
const SECONDS = 12;

class Real {
  readonly store: Store;
  /** Every lease that was given out in this run of the test, the stale ones too. */
  readonly leases: Lease[] = [];
  readonly #advance: (ms: number) => void;
  #offset: number;

  constructor(store: Store, advance: (ms: number) => void, offset: number) {
    this.store = store;
    this.#advance = advance;
    this.#offset = offset;
  }

  get offset(): number {
    return this.#offset;
  }

  get now(): number {
    return Date.now() + this.#offset;
  }

  advance(ms: number): void {
    this.#offset += ms;
    this.#advance(ms);
  }
}

class Command implements fc.AsyncCommand<Simulation, Real> {
  readonly #text: string;
  readonly #act: (model: Simulation, real: Real) => Promise<void>;

  constructor(text: string, act: (model: Simulation, real: Real) => Promise<void>) {
    this.#text = text;
    this.#act = act;
  }

  check(): boolean {
    return true;
  }

  async run(model: Simulation, real: Real): Promise<void> {
    real.advance(1);
    model.now = real.now;
    await this.#act(model, real);
    await compare(model, real.store);
  }

  toString(): string {
    return this.#text;
  }
}

function command<T>(
  name: string,
  input: fc.Arbitrary<T>,
  act: (model: Simulation, real: Real, input: T) => Promise<void>,
): fc.Arbitrary<Command> {
  return input.map(
    (value) => new Command(`${name}(${JSON.stringify(value)})`, (model, real) => act(model, real, value)),
  );
}

const id = fc.constantFrom(...IDS);
const group_id = fc.constantFrom(...GROUPS);
const queue = fc.constantFrom(...QUEUES);
const nothing = fc.constant(null);

const posted = fc.record({
  job_id: id,
  queue,
  priority: fc.constantFrom(0, 0, 0, 1, 2),
  delay: fc.constantFrom(null, null, null, null, 0.5),
  limit: fc.constantFrom(null, null, ...LIMITS),
  key: fc.constantFrom(
    { key: null },
    { key: null },
    { key: 'x', key_concurrency: 1 },
    { key: 'y', key_concurrency: 2 },
    { key: 'x', key_concurrency: null },
  ),
  after: fc.array(fc.record({ job_id: id, on_failure: fc.constantFrom('run' as const, 'cancel' as const) }), {
    maxLength: 2,
  }),
});

const commands = [
  command(
    'post',
    fc.record({
      jobs: fc.array(posted, { minLength: 1, maxLength: 4 }),
      group: fc.option(fc.record({ group_id, concurrency: fc.constantFrom(undefined, 1, 1, 2) })),
    }),
    async (model, real, input) => {
      const jobs = input.jobs.map(({ delay, after, key, ...job }, index): NewJob => {
        // Only what came before: cycles are refused, and have a test of their own.
        const later = new Set(input.jobs.slice(index).map(({ job_id }) => job_id));
        const eta = delay === null ? null : model.now + delay * UNIT_MS;
        return {
          ...job,
          ...key,
          task: 't',
          payload: null,
          eta,
          after: after.filter(({ job_id }) => !later.has(job_id)),
        };
      });
      const group = input.group === null ? undefined : withoutUndefined(input.group);
      const refusals = model.refusals(jobs, group);
      const stored = await attempt(real.store.enqueue(jobs, group), refusals);
      if (stored === undefined) return;
      model.enqueue(jobs, group);
      assert.deepEqual(ids(stored), ids(jobs.map(({ job_id }) => ({ job_id }) as Job)));
    },
  ),
  command(
    'claim',
    fc.record({ queues: fc.uniqueArray(queue, { minLength: 1 }), limit: fc.integer({ min: 1, max: 4 }) }),
    async (model, real, { queues, limit }) => {
      const request = queues.map((queue) => ({ queue, limit }));
      const { jobs, next_due_at } = await real.store.claim({
        worker: 'w',
        queues: request,
        limit,
        lease_ms: LEASE_MS,
      });
      const runs = model.claim(queues, limit);
      assert.deepEqual(
        ids(jobs),
        runs.map(({ job_id }) => job_id),
      );
      for (const [index, { lease }] of jobs.entries()) {
        const run = runs[index];
        assert.ok(run);
        assert.ok(real.leases.every(({ fence }) => fence < lease.fence));
        run.lease = { fence: lease.fence, expires_at: model.now + LEASE_MS };
        real.leases.push(lease);
      }
      const later = model.runs.filter(
        (run) => isWaiting(run) && run.due_at > model.now && run.waits.size === 0,
      );
      const open = later.filter(({ queue }) => queues.includes(queue) && !model.paused.has(queue));
      assert.equal(next_due_at === null, open.length === 0, `next_due_at is ${next_due_at}`);
    },
  ),
  command(
    'finish',
    fc.array(
      fc.record({
        which: fc.nat(),
        outcome: fc.constantFrom<Outcome>(
          { state: 'SUCCESS', result: 1 },
          { state: 'SUCCESS', result: 1 },
          { state: 'FAILURE', error: 'e' },
          { state: 'RETRY', error: 'e', delay_ms: 0.5 * UNIT_MS },
          { state: 'RETRY', error: 'e', delay_ms: 0 },
          { state: 'CANCELLED' },
        ),
      }),
      { minLength: 1, maxLength: 3 },
    ),
    async (model, real, input) => {
      const ends = input.flatMap(({ which, outcome }) => {
        const lease = pick(real.leases, which);
        return lease === undefined ? [] : [{ lease, outcome }];
      });
      const states = await real.store.finish(ends);
      assert.deepEqual(
        states,
        ends.map(({ lease, outcome }) => model.finish(lease, outcome)),
      );
    },
  ),
  command('renew', nothing, async (model, real) => {
    const { lost, cancelled } = await real.store.renew(
      real.leases.map((lease) => ({ lease })),
      LEASE_MS,
    );
    const held = real.leases.map((lease) => ({ lease, run: model.held(lease) }));
    assert.deepEqual(
      lost,
      held.filter(({ run }) => run === undefined).map(({ lease }) => lease),
    );
    assert.deepEqual(
      cancelled,
      held.filter(({ run }) => run?.cancel_requested).map(({ lease }) => lease),
    );
    for (const { run } of held) if (run?.lease) run.lease.expires_at = model.now + LEASE_MS;
  }),
  command('release', fc.nat(), async (model, real, which) => {
    const lease = pick(real.leases, which);
    if (lease === undefined) return;
    const delay_ms = which % 3 === 0 ? 0.5 * UNIT_MS : 0;
    await real.store.release([lease], delay_ms);
    model.release(lease, delay_ms);
  }),
  command('cancel', id, async (model, real, job_id) => {
    const run = model.newest(job_id);
    const refusals = run === undefined ? ['unknown_job'] : run.ended_at === null ? [] : ['job_finished'];
    await attempt(real.store.cancel(job_id), refusals);
    if (run !== undefined) model.cancel(run);
  }),
  command('cancelGroup', group_id, async (model, real, group_id) => {
    const group = model.newestGroup(group_id);
    const members = group === undefined ? [] : model.members(group);
    const isOver = members.every(({ ended_at }) => ended_at !== null);
    await attempt(
      real.store.cancelGroup(group_id),
      group === undefined ? ['unknown_group'] : isOver ? ['group_finished'] : [],
    );
    for (const run of members) model.cancel(run);
  }),
  command('purge', id, async (model, real, job_id) => {
    const runs = model.runs.filter((run) => run.job_id === job_id);
    await attempt(real.store.purge(job_id), runs.length === 0 ? ['unknown_job'] : []);
    for (const run of runs) model.purge(run);
  }),
  command('purgeGroup', group_id, async (model, real, group_id) => {
    const groups = model.groups.filter((group) => group.group_id === group_id);
    await attempt(real.store.purgeGroup(group_id), groups.length === 0 ? ['unknown_group'] : []);
    for (const group of groups) for (const run of model.members(group)) model.purge(run);
    model.groups = model.groups.filter((group) => group.group_id !== group_id);
  }),
  command('retry', id, async (model, real, job_id) => {
    const run = model.newest(job_id);
    const refusals =
      run === undefined
        ? ['unknown_job']
        : run.ended_at === null
          ? ['job_active']
          : run.state === 'SUCCESS'
            ? ['job_finished']
            : [];
    const job = await attempt(real.store.retry(job_id), refusals);
    if (job !== undefined && run !== undefined) model.retry(run);
  }),
  command('recover', nothing, async (model, real) => {
    await real.store.recover({ max_crashes: MAX_CRASHES });
    model.recover(MAX_CRASHES);
  }),
  // Workers die: rarely enough do the two happen one after the other by themselves.
  command('expire', nothing, async (model, real) => {
    real.advance(3 * UNIT_MS);
    model.now = real.now;
    await real.store.recover({ max_crashes: MAX_CRASHES });
    model.recover(MAX_CRASHES);
  }),
  command('advance', fc.integer({ min: 1, max: 3 }), async (model, real, units) => {
    real.advance(units * UNIT_MS);
    model.now = real.now;
  }),
  command('pause', queue, async (model, real, queue) => {
    await real.store.pause(queue);
    model.paused.add(queue);
  }),
  command('resume', queue, async (model, real, queue) => {
    await real.store.resume(queue);
    model.paused.delete(queue);
  }),
  command(
    'limit',
    fc.record({ limit: fc.constantFrom(...LIMITS), concurrency: fc.constantFrom(null, 1, 1, 2) }),
    async (model, real, { limit, concurrency }) => {
      await real.store.limit(limit, concurrency);
      if (concurrency === null) model.limits.delete(limit);
      else model.limits.set(limit, concurrency);
    },
  ),
  command('prune', nothing, async (model, real) => {
    const forgotten = await real.store.prune({ jobs_ms: KEPT_MS, groups_ms: KEPT_MS });
    assert.equal(forgotten, model.prune(KEPT_MS));
  }),
];
const [post, claim, finish] = commands;
assert.ok(post && claim && finish);
/** Most of what happens is work. */
const weighted = [...commands, post, post, post, claim, claim, claim, claim, finish, finish];

async function compare(model: Simulation, store: Store): Promise<void> {
  const { items } = await store.list({}, 1_000);
  const jobs = items.toReversed();
  assert.deepEqual(
    jobs.map((job) => [
      job.job_id,
      job.state,
      job.attempt,
      job.failures,
      job.cancel_requested,
      job.group_id,
      job.finished_at !== null,
      job.fence,
    ]),
    model.runs.map((run, index) => [
      run.job_id,
      run.state,
      run.attempt,
      run.failures,
      run.cancel_requested,
      run.group?.group_id ?? null,
      run.ended_at !== null,
      // The last token stays to be seen when the attempt is over.
      run.lease?.fence ?? jobs[index]?.fence,
    ]),
  );
  const live = model.runs.filter(({ lease }) => lease !== null && lease.expires_at > model.now);
  const fences = (await store.leases()).map(({ fence }) => fence);
  assert.deepEqual(fences.sort(), live.map(({ lease }) => lease?.fence).sort());
  for (const { queue, counts, paused } of await store.stats()) {
    assert.equal(paused, model.paused.has(queue));
    for (const [state, count] of Object.entries(counts)) {
      const runs = model.runs.filter((run) => run.queue === queue && run.state === state);
      assert.equal(count, runs.length, `${queue} ${state}`);
    }
  }
  assert.deepEqual(
    await store.limits(LIMITS),
    LIMITS.map((limit) => ({ limit, concurrency: model.limits.get(limit) ?? null, ...model.usage(limit) })),
  );
  for (const queue of QUEUES) {
    assert.deepEqual(
      ids(await store.pending(queue, 100)),
      pendingOf(model, queue).map(({ job_id }) => job_id),
    );
  }
}

/** Due first, in order; then by when it is due; last what waits for parents. */
function pendingOf(model: Simulation, queue: string): Run[] {
  const waiting = model.runs.filter((run) => isWaiting(run) && run.queue === queue);
  const free = waiting.filter(({ waits }) => waits.size === 0);
  const later = free.filter(({ due_at }) => due_at > model.now);
  return [
    ...free.filter(({ due_at }) => due_at <= model.now).sort(inOrder),
    ...later.sort((one, other) => one.due_at - other.due_at || inOrder(one, other)),
    ...waiting.filter(({ waits }) => waits.size > 0).sort(inOrder),
  ];
}

/** What it resolves with; undefined if it was refused with one of the codes, as it must be if there are any. */
async function attempt<T>(promise: Promise<T>, refusals: readonly string[]): Promise<T | undefined> {
  try {
    const value = await promise;
    assert.deepEqual(refusals, [], 'it was to be refused');
    return value;
  } catch (error) {
    if (!(error instanceof QueueError)) throw error;
    assert.ok(refusals.includes(error.code), `refused with ${error.code}, not with one of [${refusals}]`);
    return undefined;
  }
}

function pick<T>(items: readonly T[], which: number): T | undefined {
  return items[items.length - 1 - (which % Math.min(items.length, 8))];
}

function withoutUndefined({
  group_id,
  concurrency,
}: {
  group_id: string;
  concurrency: number | undefined;
}): NewGroup {
  return concurrency === undefined ? { group_id } : { group_id, concurrency };
}

async function empty(store: Store): Promise<void> {
  for (const group_id of GROUPS) await store.purgeGroup(group_id).catch(ignoreUnknown);
  for (const job_id of IDS) await store.purge(job_id).catch(ignoreUnknown);
  for (const queue of QUEUES) await store.resume(queue);
  for (const limit of LIMITS) await store.limit(limit, null);
}

function ignoreUnknown(error: unknown): void {
  if (!(error instanceof QueueError) || !error.code.startsWith('unknown_')) throw error;
}

export function model(harness: StoreHarness): void {
  test('random commands leave it as they leave the simulation', async (t) => {
    const { store, advance }: Opened = await harness.open(t);
    let offset = 0;
    const property = fc.asyncProperty(
      fc.commands(weighted, { maxCommands: 60, size: 'max' }),
      async (steps) => {
        await empty(store);
        const real = new Real(store, advance, offset);
        try {
          await fc.asyncModelRun(() => ({ model: new Simulation(), real }), steps);
        } finally {
          offset = real.offset;
        }
      },
    );
    // A failure prints its seed and path. At least a few runs, however slow the machine.
    const parameters = {
      numRuns: 500,
      interruptAfterTimeLimit: SECONDS * 1_000,
      markInterruptAsFailure: false,
    };
    await fc.assert(property, parameters);
  });
}
