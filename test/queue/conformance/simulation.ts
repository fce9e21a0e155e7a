/** The contract of a store as the smallest thing that could do it: an array of runs, searched from end to end. */
import type { JobState, Lease, NewGroup, NewJob, OnFailure, Outcome } from '../../../src/queue/store.ts';

export interface Run {
  readonly job_id: string;
  readonly queue: string;
  readonly priority: number;
  readonly group: SimulatedGroup | null;
  readonly limit: string | null;
  readonly key: string | null;
  readonly key_concurrency: number | null;
  readonly parents: readonly { readonly run: Run; readonly on_failure: OnFailure }[];
  state: JobState;
  due_at: number;
  place: number;
  attempt: number;
  failures: number;
  crashes: number;
  cancel_requested: boolean;
  lease: { readonly fence: number; expires_at: number } | null;
  ended_at: number | null;
  /** Parents that it still waits for. */
  waits: Set<Run>;
}

export interface SimulatedGroup {
  readonly group_id: string;
  readonly concurrency: number | null;
  /** When the last of its unfinished jobs ended or was purged. */
  ended_at: number | null;
}

/** What is known of a key as long as one of its jobs is not finished. */
interface SimulatedKey {
  concurrency: number | null;
  /** When one of its jobs was last handed out; those of the same time in order. */
  served_at: number;
  served: number;
}

export class Simulation {
  /** In the order posted; those forgotten are taken out. */
  runs: Run[] = [];
  groups: SimulatedGroup[] = [];
  readonly paused = new Set<string>();
  /** Those that were set. */
  readonly limits = new Map<string, number>();
  readonly #keys = new Map<string, SimulatedKey>();
  now = 0;
  #places = 0;

  newest(job_id: string): Run | undefined {
    return this.runs.findLast((run) => run.job_id === job_id);
  }

  newestGroup(group_id: string): SimulatedGroup | undefined {
    return this.groups.findLast((group) => group.group_id === group_id);
  }

  members(group: SimulatedGroup): Run[] {
    return this.runs.filter((run) => run.group === group);
  }

  /** The codes of the errors that a store may refuse it with; none: it must accept. */
  refusals(jobs: readonly NewJob[], group: NewGroup | undefined): string[] {
    const codes: string[] = [];
    const ids = jobs.map(({ job_id }) => job_id);
    if (new Set(ids).size < ids.length || ids.some((id) => this.newest(id)?.ended_at === null)) {
      codes.push('job_active');
    }
    const known = (id: string) => ids.includes(id) || this.newest(id) !== undefined;
    if (jobs.some((job) => job.after?.some(({ job_id }) => !known(job_id)))) codes.push('unknown_job');
    const newest = group === undefined ? undefined : this.newestGroup(group.group_id);
    if (newest !== undefined && this.members(newest).some(({ ended_at }) => ended_at === null)) {
      codes.push('group_active');
    }
    return codes;
  }

  /** Parents are jobs that came before in the batch, or runs that are known. */
  enqueue(jobs: readonly NewJob[], posted: NewGroup | undefined): void {
    const group: SimulatedGroup | null =
      posted === undefined
        ? null
        : { group_id: posted.group_id, concurrency: posted.concurrency ?? null, ended_at: null };
    if (group !== null) this.groups.push(group);
    for (const job of jobs) {
      const edges = new Map<Run, OnFailure>();
      for (const { job_id, on_failure = 'cancel' } of job.after ?? []) {
        const run = this.newest(job_id);
        if (run === undefined) throw new Error(`the simulation knows no parent "${job_id}"`);
        if (edges.get(run) !== 'cancel') edges.set(run, on_failure);
      }
      const parents = [...edges].map(([run, on_failure]) => ({ run, on_failure }));
      const run: Run = {
        job_id: job.job_id,
        queue: job.queue,
        priority: job.priority ?? 0,
        group,
        limit: job.limit ?? null,
        key: job.key ?? null,
        key_concurrency: job.key_concurrency ?? null,
        parents,
        state: 'PENDING',
        due_at: Math.max(job.eta ?? 0, this.now),
        place: this.#nextPlace(),
        attempt: 0,
        failures: 0,
        crashes: 0,
        cancel_requested: false,
        lease: null,
        ended_at: null,
        waits: new Set(parents.filter(({ run }) => run.ended_at === null).map(({ run }) => run)),
      };
      this.runs.push(run);
      this.#limitKey(run);
      if (parents.some((parent) => dooms(parent.run, parent.on_failure))) this.#end(run, 'CANCELLED');
    }
  }

  /** What a claim must hand out, in order. */
  claim(queues: readonly string[], limit: number): Run[] {
    const taken: Run[] = [];
    while (taken.length < limit) {
      const ready = this.ready().filter((run) => queues.includes(run.queue) && this.#hasSlots(run));
      const [run] = ready.sort((one, other) => this.#inTurn(one, other));
      if (run === undefined) break;
      run.state = 'STARTED';
      run.attempt += 1;
      taken.push(run);
      const key = this.#keyOf(run);
      if (key !== undefined) Object.assign(key, { served_at: this.now, served: this.#nextPlace() });
    }
    return taken;
  }

  /** Due, with no parent to wait for, in a queue that is not paused; in order. */
  ready(): Run[] {
    return this.runs
      .filter((run) => isWaiting(run) && run.due_at <= this.now && run.waits.size === 0)
      .filter(({ queue }) => !this.paused.has(queue))
      .sort(inOrder);
  }

  #hasSlots(run: Run): boolean {
    const { group, limit, key } = run;
    const started = this.runs.filter(({ state }) => state === 'STARTED');
    const isFree = (concurrency: number | null | undefined, isOf: (other: Run) => boolean) =>
      typeof concurrency !== 'number' || started.filter(isOf).length < concurrency;
    return (
      isFree(group?.concurrency, (other) => other.group === group) &&
      isFree(limit === null ? null : this.limits.get(limit), (other) => other.limit === limit) &&
      isFree(this.#keyOf(run)?.concurrency, (other) => other.key === key)
    );
  }

  #inTurn(one: Run, other: Run): number {
    const [oneAt, onePlace] = this.#turn(one);
    const [otherAt, otherPlace] = this.#turn(other);
    return other.priority - one.priority || oneAt - otherAt || onePlace - otherPlace || inOrder(one, other);
  }

  #turn(run: Run): readonly [at: number, place: number] {
    const key = this.#keyOf(run);
    const isServedLater =
      key !== undefined &&
      (key.served_at > run.due_at || (key.served_at === run.due_at && key.served > run.place));
    return isServedLater ? [key.served_at, key.served] : [run.due_at, run.place];
  }

  #keyOf({ key }: Run): SimulatedKey | undefined {
    return key === null ? undefined : this.#keys.get(key);
  }

  #limitKey({ key, key_concurrency: concurrency }: Run): void {
    if (key === null) return;
    const known = this.#keys.get(key);
    if (known === undefined) this.#keys.set(key, { concurrency, served_at: 0, served: 0 });
    else known.concurrency = concurrency;
  }

  /** How many jobs of a limit run, and how many wait. */
  usage(limit: string): { readonly running: number; readonly waiting: number } {
    const active = this.runs.filter((run) => run.limit === limit && run.ended_at === null);
    const running = active.filter(({ state }) => state === 'STARTED').length;
    return { running, waiting: active.length - running };
  }

  held({ job_id, attempt, fence }: Lease): Run | undefined {
    return this.runs.find(
      (run) => run.lease?.fence === fence && run.job_id === job_id && run.attempt === attempt,
    );
  }

  finish(lease: Lease, outcome: Outcome): JobState | null {
    const run = this.held(lease);
    if (run === undefined) return null;
    if (outcome.state === 'FAILURE') return this.#end(run, 'FAILURE');
    if (outcome.state === 'CANCELLED' || run.cancel_requested) return this.#end(run, 'CANCELLED');
    if (outcome.state === 'SUCCESS') return this.#end(run, 'SUCCESS');
    run.failures += 1;
    run.due_at = this.now + outcome.delay_ms;
    return this.#putBack(run, 'RETRY');
  }

  release(lease: Lease, delay_ms = 0): void {
    const run = this.held(lease);
    if (run === undefined) return;
    if (run.cancel_requested) {
      this.#end(run, 'CANCELLED');
      return;
    }
    run.attempt -= 1;
    if (delay_ms > 0) run.due_at = this.now + delay_ms;
    this.#putBack(run, 'PENDING');
  }

  recover(max_crashes: number): void {
    for (const run of this.runs) {
      if (run.lease === null || run.lease.expires_at > this.now) continue;
      if (run.cancel_requested) this.#end(run, 'CANCELLED');
      else if (run.crashes + 1 >= max_crashes) this.#end(run, 'FAILURE');
      else {
        const crashes = run.crashes + 1;
        this.#putBack(run, 'PENDING');
        run.crashes = crashes;
      }
    }
  }

  cancel(run: Run): void {
    if (run.ended_at !== null) return;
    if (run.state === 'STARTED') run.cancel_requested = true;
    else this.#end(run, 'CANCELLED');
  }

  purge(run: Run): void {
    if (run.ended_at === null) this.#end(run, 'CANCELLED');
    this.runs = this.runs.filter((other) => other !== run);
  }

  retry(run: Run): void {
    run.waits = new Set(
      run.parents.filter(({ run }) => this.runs.includes(run) && run.ended_at === null).map(({ run }) => run),
    );
    Object.assign(run, {
      state: 'PENDING',
      attempt: 0,
      failures: 0,
      crashes: 0,
      cancel_requested: false,
      ended_at: null,
    });
    run.due_at = this.now;
    run.place = this.#nextPlace();
    this.#limitKey(run);
  }

  prune(older_than_ms: number): number {
    const isOld = (run: Run) => run.ended_at !== null && run.ended_at < this.now - older_than_ms;
    const forgotten = new Set(
      this.groups.filter(
        (group) =>
          this.members(group).every(({ ended_at }) => ended_at !== null) &&
          group.ended_at !== null &&
          group.ended_at < this.now - older_than_ms,
      ),
    );
    const before = this.runs.length;
    this.runs = this.runs.filter((run) => (run.group === null ? !isOld(run) : !forgotten.has(run.group)));
    this.groups = this.groups.filter((group) => !forgotten.has(group));
    return before - this.runs.length;
  }

  #putBack(run: Run, state: 'PENDING' | 'RETRY'): JobState {
    run.state = state;
    run.crashes = 0;
    run.lease = null;
    return state;
  }

  #end(run: Run, state: JobState): JobState {
    run.state = state;
    run.ended_at = this.now;
    if (run.group !== null && this.members(run.group).every(({ ended_at }) => ended_at !== null)) {
      run.group.ended_at = this.now;
    }
    run.crashes = 0;
    run.lease = null;
    run.waits.clear();
    const { key } = run;
    if (key !== null && this.runs.every((other) => other.key !== key || other.ended_at !== null)) {
      this.#keys.delete(key);
    }
    for (const child of this.runs.filter(({ waits }) => waits.has(run))) {
      // It may have been cancelled by a sibling in the meantime.
      if (!child.waits.delete(run)) continue;
      const edge = child.parents.find((parent) => parent.run === run);
      if (edge !== undefined && dooms(run, edge.on_failure)) this.#end(child, 'CANCELLED');
    }
    return state;
  }

  #nextPlace(): number {
    this.#places += 1;
    return this.#places;
  }
}

function dooms(parent: Run, on_failure: OnFailure): boolean {
  return parent.ended_at !== null && parent.state !== 'SUCCESS' && on_failure === 'cancel';
}

export function isWaiting({ state }: Run): boolean {
  return state === 'PENDING' || state === 'RETRY';
}

export function inOrder(one: Run, other: Run): number {
  return other.priority - one.priority || one.due_at - other.due_at || one.place - other.place;
}
