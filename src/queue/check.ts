/** What may be posted: every store asks this before it accepts anything. */
import type { Json } from '../util/json.ts';
import { InvalidJob, JobActive } from './errors.ts';
import type { NewGroup, NewJob, OnFailure } from './store.ts';

/** The form of job and group ids. */
export const ID_FORM = /^[A-Za-z0-9_:-]{1,128}$/;
/** Longest name of a queue, a task, a limit or a key, in UTF-16 units. */
export const LONGEST_NAME = 128;
/**
 * The most parents that the jobs of one batch name in all: a store takes the batch in one step, during which it does
 * nothing else, and on Redis some 5 µs for each.
 */
export const MOST_EDGES = 20_000;
/** Fits every store's integer column. */
const PRIORITY = 2 ** 31 - 1;
/** The last time a Date can have, ms since 1970. */
const LAST_TIME = 8.64e15;

/** A job with nothing left to choose. */
export interface CheckedJob {
  readonly job_id: string;
  readonly task: string;
  readonly queue: string;
  /** JSON. */
  readonly payload: string;
  readonly priority: number;
  readonly eta: number | null;
  readonly retries: number;
  readonly limit: string | null;
  readonly key: string | null;
  readonly key_concurrency: number | null;
  /** Each parent once; of several edges to one the strictest. */
  readonly after: readonly { readonly job_id: string; readonly on_failure: OnFailure }[];
}

export interface CheckedBatch {
  /** In the order posted. */
  readonly jobs: readonly CheckedJob[];
  /** Indexes of the jobs, parents before children; null if no job of the batch waits for another. */
  readonly order: readonly number[] | null;
}

/** Throws `InvalidJob`, or `JobActive` for an id that is in the batch twice. */
export function checkBatch(posted: readonly NewJob[], group?: NewGroup): CheckedBatch {
  if (group !== undefined) {
    checkGroup(group);
    if (posted.length === 0) throw InvalidJob(`group "${group.group_id}" has no jobs`);
  }
  const edges = posted.reduce((sum, { after = [] }) => sum + after.length, 0);
  if (edges > MOST_EDGES) {
    throw InvalidJob(`the jobs name ${edges} parents in all; one post takes at most ${MOST_EDGES}`);
  }
  const jobs = posted.map(checkJob);
  const ids = new Set<string>();
  for (const { job_id } of jobs) {
    if (ids.has(job_id)) throw JobActive(job_id);
    ids.add(job_id);
  }
  return { jobs, order: parentsFirst(jobs) };
}

function checkJob(job: NewJob): CheckedJob {
  const { job_id, task, queue, priority = 0, retries = 0, eta = null, after = [] } = job;
  const { limit = null, key = null, key_concurrency = null } = job;
  checkId('job', job_id);
  const what = `job "${job_id}"`;
  checkName(`${what}: queue`, queue);
  checkName(`${what}: task`, task);
  if (limit !== null) checkName(`${what}: limit`, limit);
  if (key !== null) checkName(`${what}: key`, key);
  checkConcurrency(`${what}: key_concurrency`, key_concurrency);
  if (key === null && key_concurrency !== null) {
    throw InvalidJob(`${what}: key_concurrency goes with a key`);
  }
  if (!Number.isInteger(priority) || Math.abs(priority) > PRIORITY) {
    throw InvalidJob(`job "${job_id}": priority must be an integer between -${PRIORITY} and ${PRIORITY}`);
  }
  if (!Number.isSafeInteger(retries) || retries < 0) {
    throw InvalidJob(`job "${job_id}": retries must be an integer, 0 or more`);
  }
  if (eta !== null && (!Number.isSafeInteger(eta) || Math.abs(eta) > LAST_TIME)) {
    throw InvalidJob(`job "${job_id}": eta must be whole milliseconds since 1970`);
  }
  const payload = toJson(job.payload);
  if (payload === undefined) throw InvalidJob(`job "${job_id}": the payload must be JSON`);
  const parents = new Map<string, OnFailure>();
  for (const { job_id: parent, on_failure = 'cancel' } of after) {
    checkId('job', parent);
    if (parents.get(parent) !== 'cancel') parents.set(parent, on_failure);
  }
  return {
    job_id,
    task,
    queue,
    payload,
    priority,
    eta,
    retries,
    limit,
    key,
    key_concurrency,
    after: [...parents].map(([job_id, on_failure]) => ({ job_id, on_failure })),
  };
}

function checkGroup({ group_id, concurrency }: NewGroup): void {
  checkId('group', group_id);
  checkConcurrency(`group "${group_id}": concurrency`, concurrency ?? null);
}

/** Throws `InvalidJob` for a name that no queue has. */
export function checkQueue(queue: string): void {
  checkName('the name of a queue', queue);
}

/** Throws `InvalidJob` for a limit's name or concurrency that cannot be. */
export function checkLimit(limit: string, concurrency: number | null): void {
  checkName('the name of a limit', limit);
  checkConcurrency(`limit "${limit}": concurrency`, concurrency);
}

function checkConcurrency(what: string, concurrency: number | null): void {
  if (concurrency === null || (Number.isSafeInteger(concurrency) && concurrency >= 1)) return;
  throw InvalidJob(`${what} must be an integer, 1 or more`);
}

function checkId(kind: 'job' | 'group', id: string): void {
  if (ID_FORM.test(id)) return;
  throw InvalidJob(`"${printable(id)}" is not a ${kind} id: it takes 1 to 128 of A-Z a-z 0-9 _ : -`);
}

function checkName(what: string, name: string): void {
  if (name.length > 0 && name.length <= LONGEST_NAME && !/\p{Cc}/u.test(name)) return;
  throw InvalidJob(`${what} must be 1 to ${LONGEST_NAME} characters, none of them a control character`);
}

function printable(text: string): string {
  return text.slice(0, 200).replaceAll(/\p{C}/gu, '�');
}

declare global {
  interface JSON {
    /** Of every Node that we run on; TypeScript's libraries do not know it yet. */
    rawJSON(text: string): unknown;
  }
}

/** JSON.stringify writes -0 as 0, JSON.parse knows them apart. */
function keepNegativeZero(_key: string, value: unknown): unknown {
  return Object.is(value, -0) ? JSON.rawJSON('-0.0') : value;
}

/** Undefined where there is no JSON for it, whatever its type says. */
function toJson(value: Json): string | undefined {
  try {
    return JSON.stringify(value, keepNegativeZero);
  } catch (error) {
    // A cycle or a bigint.
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

/** Throws `InvalidJob` if the dependencies within a batch form a cycle. */
function parentsFirst(jobs: readonly CheckedJob[]): readonly number[] | null {
  if (jobs.every(({ after }) => after.length === 0)) return null;
  const indexes = new Map(jobs.map(({ job_id }, index) => [job_id, index]));
  const children = new Map<number, number[]>();
  const waits = jobs.map(() => 0);
  for (const [index, { after }] of jobs.entries()) {
    for (const { job_id } of after) {
      const parent = indexes.get(job_id);
      if (parent === undefined) continue;
      const siblings = children.get(parent);
      if (siblings === undefined) children.set(parent, [index]);
      else siblings.push(index);
      waits[index] = (waits[index] ?? 0) + 1;
    }
  }
  if (children.size === 0) return null;
  const order = [...waits.keys()].filter((index) => waits[index] === 0);
  for (const parent of order) {
    for (const child of children.get(parent) ?? []) {
      const left = (waits[child] ?? 0) - 1;
      waits[child] = left;
      if (left === 0) order.push(child);
    }
  }
  if (order.length < jobs.length) {
    const inCycle = jobs[waits.findIndex((left) => left > 0)]?.job_id;
    throw InvalidJob(`the dependencies of job "${inCycle}" form a cycle`);
  }
  return order;
}
