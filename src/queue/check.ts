/** What a job may look like, whichever way it comes. Throws `InvalidJob`. */
import { InvalidJob } from './errors.ts';
import type { NewGroup, NewJob } from './store.ts';

/** The form of job and group ids. */
export const ID_FORM = /^[A-Za-z0-9_:-]{1,128}$/;
/** Longest name of a queue or task, UTF-16 units. */
const LONGEST_NAME = 256;
/** Fits every store's integer column. */
const PRIORITY = 2 ** 31 - 1;

export function checkJob(job: NewJob): void {
  const { job_id } = job;
  require(ID_FORM.test(
    job_id,
  ), `"${printable(job_id)}" is not a job id: it takes 1 to 128 of A-Z a-z 0-9 _ : -`);
  checkName(job_id, 'queue', job.queue);
  checkName(job_id, 'task', job.task);
  const { priority = 0, retries = 0, eta = null } = job;
  require(Number.isInteger(priority) &&
    Math.abs(priority) <=
      PRIORITY, `job "${job_id}": priority must be an integer between -${PRIORITY} and ${PRIORITY}`);
  require(Number.isSafeInteger(retries) &&
    retries >= 0, `job "${job_id}": retries must be an integer, 0 or more`);
  require(eta === null ||
    Number.isSafeInteger(eta), `job "${job_id}": eta must be whole milliseconds since 1970`);
}

export function checkGroup({ group_id, concurrency }: NewGroup): void {
  require(ID_FORM.test(
    group_id,
  ), `"${printable(group_id)}" is not a group id: it takes 1 to 128 of A-Z a-z 0-9 _ : -`);
  require(concurrency === undefined ||
    (Number.isSafeInteger(concurrency) &&
      concurrency > 0), `group "${group_id}": concurrency must be an integer, 1 or more`);
}

function checkName(job_id: string, field: string, name: string): void {
  require(name.length > 0 &&
    name.length <= LONGEST_NAME &&
    !/\p{Cc}/u.test(
      name,
    ), `job "${job_id}": ${field} must be 1 to ${LONGEST_NAME} characters, none of them a control character`);
}

function require(holds: boolean, message: string): asserts holds {
  if (!holds) throw InvalidJob(message);
}

function printable(text: string): string {
  return text.slice(0, 200).replaceAll(/\p{C}/gu, '�');
}
