/**
 * What the store does, one method each, on an open database. Runs in the store's thread, inside a
 * transaction that the caller begins and ends.
 */
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite';
import type { Json } from '../../../util/json.ts';
import {
  GroupActive,
  GroupFinished,
  InvalidCursor,
  InvalidJob,
  JobActive,
  JobFinished,
  UnknownGroup,
  UnknownJob,
} from '../../errors.ts';
import type {
  Claimed,
  ClaimedJob,
  ClaimRequest,
  Dependency,
  Group,
  Job,
  JobFilter,
  JobState,
  Lease,
  NewGroup,
  NewJob,
  OnFailure,
  Outcome,
  Page,
  QueueStats,
  Recovered,
  RecoverOptions,
  Renewal,
  Renewed,
} from '../../store.ts';
import { PHASE } from './schema.ts';
import { SQL } from './statements.ts';

/** How many jobs that have fallen due one claim looks at; the next claim goes on. */
const DUE_AT_ONCE = 5_000;
/** How many jobs one call of `recover` or one step of `prune` changes. */
const SWEPT_AT_ONCE = 500;

interface JobRow {
  readonly seq: number;
  readonly job_id: string;
  readonly task: string;
  readonly queue: string;
  readonly payload: string;
  readonly state: JobState;
  readonly phase: number;
  readonly priority: number;
  readonly eta: number | null;
  readonly retries: number;
  readonly attempt: number;
  readonly crashes: number;
  readonly fence: number | null;
  readonly group_seq: number | null;
  readonly group_id?: string | null;
  readonly after: string | null;
  readonly waiting: number;
  readonly worker: string | null;
  readonly error: string;
  readonly result: string | null;
  readonly progress: string | null;
  readonly cancel_requested: number;
  readonly created_at: number;
  readonly due_at: number;
  readonly started_at: number | null;
  readonly finished_at: number | null;
  readonly lease_expires_at: number | null;
}

interface GroupRow {
  readonly seq: number;
  readonly group_id: string;
  readonly concurrency: number | null;
  readonly created_at: number;
}

type Parameters = Record<string, SQLInputValue>;

/** What has happened that others may want to hear of. */
export interface Happened {
  ready: boolean;
  cancel: boolean;
  readonly finished: string[];
}

export class Operations {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  /** The store's time, ms since 1970: set by the caller before each call. */
  now = 0;
  happened: Happened = { ready: false, cancel: false, finished: [] };

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  storeId(): string {
    return this.#one<{ store_id: string }>(SQL.storeId)?.store_id ?? '';
  }

  enqueue(jobs: readonly NewJob[], group: NewGroup | undefined): Job[] {
    let group_seq: number | null = null;
    if (group !== undefined) {
      const earlier = this.#one<GroupRow>(SQL.newestGroup, { group_id: group.group_id });
      if (earlier !== undefined && this.#groupIsActive(earlier.seq)) throw GroupActive(group.group_id);
      group_seq = this.#insert(SQL.insertGroup, {
        group_id: group.group_id,
        concurrency: group.concurrency ?? null,
        now: this.now,
      });
    }
    const limited = group?.concurrency !== undefined;
    const inBatch = new Map<string, number>();
    const seqs: number[] = [];
    refuseCycles(jobs);
    for (const job of jobs) {
      if (inBatch.has(job.job_id)) throw JobActive(job.job_id);
      const earlier = this.#one<JobRow>(SQL.newestJob, { job_id: job.job_id });
      if (earlier !== undefined && earlier.finished_at === null) throw JobActive(job.job_id);
      inBatch.set(job.job_id, 0);
    }
    // Posted order decides FIFO, so seqs are given in it; parents may come later in the batch.
    for (const job of jobs) {
      const due_at = Math.max(job.eta ?? this.now, this.now);
      const seq = this.#insert(SQL.insertJob, {
        job_id: job.job_id,
        task: job.task,
        queue: job.queue,
        payload: JSON.stringify(job.payload),
        phase: job.after?.length
          ? PHASE.parents
          : due_at > this.now
            ? PHASE.delayed
            : limited
              ? PHASE.slot
              : PHASE.ready,
        priority: job.priority ?? 0,
        eta: job.eta ?? null,
        retries: job.retries ?? 0,
        group_seq,
        after: job.after?.length ? JSON.stringify(job.after) : null,
        waiting: 0,
        now: this.now,
        due_at,
      });
      inBatch.set(job.job_id, seq);
      seqs.push(seq);
    }
    for (const [index, job] of jobs.entries()) {
      const seq = seqs[index];
      if (seq !== undefined && job.after?.length) this.#linkParents(seq, job.after, inBatch);
    }
    if (limited && group_seq !== null) this.#fillSlots(group_seq);
    this.happened.ready = true;
    return seqs.map((seq) => this.#job(seq));
  }

  #linkParents(child_seq: number, after: readonly Dependency[], inBatch: ReadonlyMap<string, number>): void {
    let waiting = 0;
    let doomed: JobRow | undefined;
    for (const { job_id, on_failure = 'cancel' } of new Map(
      after.map((edge) => [edge.job_id, edge]),
    ).values()) {
      const seq = inBatch.get(job_id);
      const parent =
        seq === undefined
          ? this.#one<JobRow>(SQL.newestJob, { job_id })
          : this.#one<JobRow>(SQL.jobBySeq, { seq });
      if (parent === undefined) throw UnknownJob(job_id);
      if (parent.finished_at === null) {
        this.#run(SQL.insertDependency, { parent_seq: parent.seq, child_seq, on_failure });
        waiting++;
      } else if (parent.state !== 'SUCCESS' && on_failure === 'cancel') {
        doomed = parent;
      }
    }
    this.#run(SQL.setWaiting, { seq: child_seq, waiting });
    if (doomed !== undefined) this.#cancelChild(child_seq, doomed);
    else if (waiting === 0) this.#becomeRunnable(child_seq);
  }

  claim(request: ClaimRequest): Claimed {
    for (const { seq, group_seq } of this.#all<Pick<JobRow, 'seq' | 'group_seq'>>(SQL.becomeDue, {
      now: this.now,
      limit: DUE_AT_ONCE,
    })) {
      this.#makeReady(seq, group_seq);
    }
    const candidates: Pick<JobRow, 'seq' | 'priority' | 'due_at'>[] = [];
    let next_due_at: number | null = null;
    for (const { queue, limit } of request.queues) {
      if (this.#one(SQL.isPaused, { queue }) !== undefined) continue;
      const most = Math.min(limit, request.limit);
      if (most > 0) candidates.push(...this.#all<JobRow>(SQL.ready, { queue, limit: most }));
      const due = this.#one<{ due_at: number }>(SQL.nextDue, { queue })?.due_at;
      if (due !== undefined && (next_due_at === null || due < next_due_at)) next_due_at = due;
    }
    candidates.sort((a, b) => b.priority - a.priority || a.due_at - b.due_at || a.seq - b.seq);
    const jobs = candidates.slice(0, Math.max(0, request.limit)).map(({ seq }): ClaimedJob => {
      const fence = this.#one<{ fence: number }>(SQL.nextFence)?.fence;
      if (fence === undefined) throw new Error('the store has lost its fence counter');
      this.#run(SQL.claim, {
        seq,
        fence,
        worker: request.worker,
        now: this.now,
        lease_expires_at: this.now + request.lease_ms,
      });
      const job = this.#job(seq);
      return { ...job, lease: { job_id: job.job_id, attempt: job.attempt, fence } };
    });
    return { jobs, next_due_at };
  }

  renew(renewals: readonly Renewal[], lease_ms: number): Renewed {
    const lost: Lease[] = [];
    const cancelled: Lease[] = [];
    for (const { lease, progress } of renewals) {
      const job = this.#held(lease);
      if (job === undefined) {
        lost.push(lease);
        continue;
      }
      if (job.cancel_requested) cancelled.push(lease);
      const lease_expires_at = this.now + lease_ms;
      if (progress === undefined) this.#run(SQL.renew, { seq: job.seq, lease_expires_at });
      else {
        this.#run(SQL.renewWithProgress, {
          seq: job.seq,
          lease_expires_at,
          progress: JSON.stringify(progress),
        });
      }
    }
    return { lost, cancelled };
  }

  finish(ends: readonly { lease: Lease; outcome: Outcome }[]): (JobState | null)[] {
    return ends.map(({ lease, outcome }) => {
      const job = this.#held(lease);
      if (job === undefined) return null;
      if (outcome.state === 'FAILURE') {
        this.#end(job, 'FAILURE', outcome.error);
        return 'FAILURE';
      }
      if (outcome.state === 'CANCELLED' || job.cancel_requested) {
        this.#end(job, 'CANCELLED', (outcome.state === 'CANCELLED' && outcome.error) || 'cancelled');
        return 'CANCELLED';
      }
      if (outcome.state === 'RETRY') {
        const due_at = this.now + Math.max(0, Math.ceil(outcome.delay_ms));
        this.#run(SQL.retryLater, { seq: job.seq, error: outcome.error, due_at });
        this.#slotFreed(job);
        this.happened.ready = true;
        return 'RETRY';
      }
      this.#end(job, 'SUCCESS', '', outcome.result);
      return 'SUCCESS';
    });
  }

  release(leases: readonly Lease[]): void {
    for (const lease of leases) {
      const job = this.#held(lease);
      if (job === undefined) continue;
      if (job.cancel_requested) {
        this.#end(job, 'CANCELLED', 'cancelled');
        continue;
      }
      this.#run(SQL.release, { seq: job.seq });
      this.#makeReady(job.seq, job.group_seq);
      this.#slotFreed(job);
      this.happened.ready = true;
    }
  }

  cancel(job_id: string): Job {
    const job = this.#newest(job_id);
    if (job.finished_at !== null) throw JobFinished(job_id, job.state);
    this.#cancel(job);
    return this.#job(job.seq);
  }

  cancelGroup(group_id: string): Group {
    const group = this.#newestGroup(group_id);
    const active = this.#all<JobRow>(SQL.jobsOfGroup, { group_seq: group.seq }).filter(
      (job) => job.finished_at === null,
    );
    if (active.length === 0) throw GroupFinished(group_id);
    // Each as it is by then: cancelling a parent may have cancelled its children.
    for (const { seq } of active) {
      const job = this.#row(seq);
      if (job.finished_at === null) this.#cancel(job);
    }
    return this.#group(group);
  }

  purge(job_id: string): void {
    const runs = this.#all<{ seq: number }>(SQL.runsOfId, { job_id });
    if (runs.length === 0) throw UnknownJob(job_id);
    for (const { seq } of runs) this.#forget(this.#row(seq));
  }

  purgeGroup(group_id: string): void {
    const groups = this.#all<GroupRow>(SQL.groupsOfId, { group_id });
    if (groups.length === 0) throw UnknownGroup(group_id);
    for (const group of groups) {
      for (const { seq } of this.#all<JobRow>(SQL.jobsOfGroup, { group_seq: group.seq })) {
        this.#forget(this.#row(seq));
      }
      this.#run(SQL.deleteGroup, { seq: group.seq });
    }
  }

  retry(job_id: string): Job {
    const job = this.#newest(job_id);
    if (job.finished_at === null) throw JobActive(job_id);
    if (job.state === 'SUCCESS') throw JobFinished(job_id, job.state);
    this.#run(SQL.restart, { seq: job.seq, now: this.now });
    this.#makeReady(job.seq, job.group_seq);
    this.happened.ready = true;
    return this.#job(job.seq);
  }

  get(job_id: string): Job {
    return toJob(this.#newest(job_id));
  }

  group(group_id: string): Group {
    return this.#group(this.#newestGroup(group_id));
  }

  pending(queue: string, limit: number): Job[] {
    const jobs: JobRow[] = [];
    const more = (sql: string, phase?: number) => {
      if (jobs.length >= limit) return;
      jobs.push(
        ...this.#all<JobRow>(sql, {
          queue,
          limit: limit - jobs.length,
          ...(phase === undefined ? {} : { phase }),
        }),
      );
    };
    more(SQL.pending, PHASE.ready);
    more(SQL.pending, PHASE.slot);
    more(SQL.pendingDelayed);
    more(SQL.pending, PHASE.parents);
    return jobs.map(toJob);
  }

  list(filter: JobFilter, limit: number, cursor: string | undefined): Page<Job> {
    if (cursor !== undefined && !/^[1-9][0-9]{0,15}$/.test(cursor)) throw InvalidCursor();
    const rows = this.#all<JobRow>(SQL.list, {
      before: cursor === undefined ? Number.MAX_SAFE_INTEGER : Number(cursor),
      state: filter.state ?? null,
      task: filter.task ?? null,
      queue: filter.queue ?? null,
      group_id: filter.group_id ?? null,
      limit: limit + 1,
    });
    const items = rows.slice(0, limit).map(toJob);
    const last = items.at(-1);
    return { items, cursor: rows.length > limit && last !== undefined ? String(last.seq) : null };
  }

  stats(): QueueStats[] {
    const queues = new Map<string, { paused: boolean; counts: Record<JobState, number> }>();
    const entry = (queue: string) => {
      const known = queues.get(queue);
      if (known !== undefined) return known;
      const counts = { PENDING: 0, STARTED: 0, RETRY: 0, SUCCESS: 0, FAILURE: 0, CANCELLED: 0 };
      const fresh = { paused: false, counts };
      queues.set(queue, fresh);
      return fresh;
    };
    for (const row of this.#all<{ queue: string; state: JobState; count: number }>(SQL.stats)) {
      entry(row.queue).counts[row.state] = row.count;
    }
    for (const { queue } of this.#all<{ queue: string }>(SQL.pausedQueues)) entry(queue).paused = true;
    return [...queues].map(([queue, { paused, counts }]) => {
      const due_at = this.#one<{ due_at: number | null }>(SQL.oldestReady, { queue })?.due_at ?? null;
      return {
        queue,
        paused,
        counts,
        oldest_ready_ms: due_at === null ? null : Math.max(0, this.now - due_at),
      };
    });
  }

  pause(queue: string): void {
    this.#run(SQL.pause, { queue });
  }

  resume(queue: string): void {
    this.#run(SQL.resume, { queue });
    this.happened.ready = true;
  }

  leases(): Lease[] {
    return this.#all<Lease>(SQL.leases, { now: this.now }).map((lease) => ({ ...lease }));
  }

  recover({ max_crashes }: RecoverOptions): Recovered {
    const requeued: Lease[] = [];
    const poisoned: Lease[] = [];
    const cancelled: Lease[] = [];
    for (const job of this.#all<JobRow>(SQL.expired, { now: this.now, limit: SWEPT_AT_ONCE })) {
      const lease = { job_id: job.job_id, attempt: job.attempt, fence: job.fence ?? 0 };
      if (job.cancel_requested) {
        this.#end(job, 'CANCELLED', 'cancelled');
        cancelled.push(lease);
      } else if (job.crashes + 1 >= max_crashes) {
        this.#end(job, 'FAILURE', `its worker died ${job.crashes + 1} times in a row; not run again`);
        poisoned.push(lease);
      } else {
        this.#run(SQL.requeue, {
          seq: job.seq,
          error: `worker "${job.worker}" died in attempt ${job.attempt}`,
        });
        this.#makeReady(job.seq, job.group_seq);
        this.#slotFreed(job);
        this.happened.ready = true;
        requeued.push(lease);
      }
    }
    return { requeued, poisoned, cancelled };
  }

  /** One step; 0 when there is nothing left to forget. */
  prune(retention: { jobs_ms: number; groups_ms: number }): number {
    let forgotten = 0;
    for (const { seq } of this.#all<{ seq: number }>(SQL.prunableJobs, {
      before: this.now - retention.jobs_ms,
      limit: SWEPT_AT_ONCE,
    })) {
      this.#forget(this.#row(seq));
      forgotten++;
    }
    for (const { group_seq } of this.#all<{ group_seq: number }>(SQL.prunableGroups, {
      before: this.now - retention.groups_ms,
      limit: 10,
    })) {
      for (const { seq } of this.#all<JobRow>(SQL.jobsOfGroup, { group_seq })) {
        this.#forget(this.#row(seq));
        forgotten++;
      }
      this.#run(SQL.deleteGroup, { seq: group_seq });
    }
    return forgotten;
  }

  // --- steps that several of them share

  /** A job that may run but for its due time: parents are finished. */
  #becomeRunnable(seq: number): void {
    const job = this.#row(seq);
    if (job.due_at > this.now) this.#run(SQL.setPhase, { seq, phase: PHASE.delayed });
    else this.#makeReady(seq, job.group_seq);
    this.happened.ready = true;
  }

  /** A job that is due and waits for nothing but a slot of its group, if that has a limit. */
  #makeReady(seq: number, group_seq: number | null): void {
    const limited =
      group_seq !== null && this.#one<GroupRow>(SQL.groupBySeq, { seq: group_seq })?.concurrency != null;
    this.#run(SQL.setPhase, { seq, phase: limited ? PHASE.slot : PHASE.ready });
    if (limited && group_seq !== null) this.#fillSlots(group_seq);
  }

  #slotFreed(job: JobRow): void {
    if (job.group_seq !== null) this.#fillSlots(job.group_seq);
  }

  /** Hands the free slots of a group to the first of those that wait for one. */
  #fillSlots(group_seq: number): void {
    const group = this.#one<GroupRow>(SQL.groupBySeq, { seq: group_seq });
    if (group === undefined || group.concurrency === null) return;
    const used = this.#one<{ count: number }>(SQL.slotsInUse, { group_seq })?.count ?? 0;
    const free = group.concurrency - used;
    if (free > 0 && this.#run(SQL.fillSlots, { group_seq, free }) > 0) this.happened.ready = true;
  }

  #cancel(job: JobRow): void {
    if (job.state === 'STARTED') {
      this.#run(SQL.requestCancel, { seq: job.seq });
      this.happened.cancel = true;
    } else {
      this.#end(job, 'CANCELLED', 'cancelled');
    }
  }

  /** Finishes a job, whoever waits for it is told, its slot is free. */
  #end(job: JobRow, state: 'SUCCESS' | 'FAILURE' | 'CANCELLED', error: string, result: Json = null): void {
    this.#run(SQL.finish, {
      seq: job.seq,
      state,
      error,
      result: state === 'SUCCESS' ? JSON.stringify(result) : null,
      now: this.now,
    });
    this.#run(SQL.forgetEdgesTo, { seq: job.seq });
    this.#releaseChildren(job, state === 'SUCCESS');
    this.#slotFreed(job);
    this.happened.finished.push(job.job_id);
  }

  #releaseChildren(parent: JobRow, succeeded: boolean): void {
    const children = this.#all<{ child_seq: number; on_failure: OnFailure }>(SQL.children, {
      seq: parent.seq,
    });
    if (children.length === 0) return;
    this.#run(SQL.forgetEdgesOf, { seq: parent.seq });
    for (const { child_seq, on_failure } of children) {
      if (!succeeded && on_failure === 'cancel') {
        this.#cancelChild(child_seq, parent);
        continue;
      }
      const waiting = this.#one<{ waiting: number }>(SQL.parentDone, { seq: child_seq })?.waiting;
      if (waiting === 0) this.#becomeRunnable(child_seq);
    }
  }

  #cancelChild(child_seq: number, parent: JobRow): void {
    const child = this.#row(child_seq);
    // By an edge of its own it may have been cancelled in this very step.
    if (child.finished_at === null) {
      this.#end(child, 'CANCELLED', `job "${parent.job_id}", which it was to follow, did not succeed`);
    }
  }

  #forget(job: JobRow): void {
    this.#run(SQL.deleteJob, { seq: job.seq });
    this.#run(SQL.forgetEdgesTo, { seq: job.seq });
    this.#releaseChildren(job, false);
    if (job.finished_at === null) {
      this.#slotFreed(job);
      this.happened.finished.push(job.job_id);
      if (job.state === 'STARTED') this.happened.cancel = true;
    }
  }

  #held(lease: Lease): JobRow | undefined {
    const job = this.#one<JobRow>(SQL.held, { job_id: lease.job_id, fence: lease.fence });
    return job?.attempt === lease.attempt ? job : undefined;
  }

  #newest(job_id: string): JobRow {
    const job = this.#one<JobRow>(SQL.newestJob, { job_id });
    if (job === undefined) throw UnknownJob(job_id);
    return job;
  }

  #newestGroup(group_id: string): GroupRow {
    const group = this.#one<GroupRow>(SQL.newestGroup, { group_id });
    if (group === undefined) throw UnknownGroup(group_id);
    return group;
  }

  #group({ seq, group_id, concurrency, created_at }: GroupRow): Group {
    const jobs = this.#all<JobRow>(SQL.jobsOfGroup, { group_seq: seq }).map(toJob);
    return { group_id, concurrency, created_at, jobs };
  }

  #groupIsActive(group_seq: number): boolean {
    return this.#one(SQL.groupIsActive, { group_seq }) !== undefined;
  }

  #row(seq: number): JobRow {
    const row = this.#one<JobRow>(SQL.jobBySeq, { seq });
    if (row === undefined) throw new Error(`the store has lost job number ${seq}`);
    return row;
  }

  #job(seq: number): Job {
    return toJob(this.#row(seq));
  }

  #insert(sql: string, parameters: Parameters): number {
    const seq = this.#one<{ seq: number }>(sql, parameters)?.seq;
    if (seq === undefined) throw new Error('an insert returned no row');
    return seq;
  }

  #run(sql: string, parameters: Parameters = {}): number {
    return Number(this.#statement(sql).run(parameters).changes);
  }

  // The row types are those of the statements beside them; SQLite itself has no types to check them by.
  #one<Row>(sql: string, parameters: Parameters = {}): Row | undefined {
    return this.#statement(sql).get(parameters) as Row | undefined;
  }

  #all<Row>(sql: string, parameters: Parameters = {}): Row[] {
    return this.#statement(sql).all(parameters) as Row[];
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}

/** Throws `InvalidJob` if the dependencies within a batch form a cycle. */
function refuseCycles(jobs: readonly NewJob[]): void {
  if (jobs.every((job) => !job.after?.length)) return;
  const byId = new Map(jobs.map((job) => [job.job_id, job]));
  const waiting = new Map(
    jobs.map((job) => [
      job.job_id,
      new Set(job.after?.map((edge) => edge.job_id).filter((id) => byId.has(id))),
    ]),
  );
  const children = new Map<string, string[]>();
  for (const [child, parents] of waiting) {
    for (const parent of parents) children.set(parent, [...(children.get(parent) ?? []), child]);
  }
  const done = [...waiting].filter(([, parents]) => parents.size === 0).map(([id]) => id);
  for (const parent of done) {
    for (const child of children.get(parent) ?? []) {
      const parents = waiting.get(child);
      parents?.delete(parent);
      if (parents?.size === 0) done.push(child);
    }
  }
  if (done.length < waiting.size) {
    const inCycle = [...waiting].find(([, parents]) => parents.size > 0)?.[0];
    throw InvalidJob(`the dependencies of job "${inCycle}" form a cycle`);
  }
}

function toJob(row: JobRow): Job {
  return {
    seq: row.seq,
    job_id: row.job_id,
    task: row.task,
    queue: row.queue,
    payload: JSON.parse(row.payload),
    state: row.state,
    priority: row.priority,
    eta: row.eta,
    retries: row.retries,
    attempt: row.attempt,
    fence: row.fence,
    group_id: row.group_id ?? null,
    after: row.after === null ? [] : JSON.parse(row.after),
    worker: row.worker,
    error: row.error,
    result: row.result === null ? null : JSON.parse(row.result),
    progress: row.progress === null ? null : JSON.parse(row.progress),
    cancel_requested: row.cancel_requested === 1,
    created_at: row.created_at,
    due_at: row.due_at,
    started_at: row.started_at,
    finished_at: row.finished_at,
  };
}
