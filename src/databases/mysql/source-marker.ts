/** How an attempt's query is marked in the processlist: so that people and later attempts find it. */
import { digest } from '../../util/digest.ts';
import type { Owner } from '../database.ts';

type Attempt = Pick<Owner, 'job_id' | 'store_id' | 'fence'>;

/** What every marker begins with. */
export const MARK = '/* dungbeetle job=';

/** A comment that stands before the statement, on its first line: error messages count lines. */
export function marker(owner: Attempt): string {
  return `${MARK}${nameOf(owner.job_id)} store=${digest(owner.store_id, 8)} fence=${owner.fence} */ `;
}

/** Whether a statement is that of an earlier attempt of the same job. */
export function isPredecessor(statement: string, owner: Attempt): boolean {
  const fence = Number(/^.{0,400}? fence=(\d{1,16}) \*\/ /.exec(statement)?.[1] ?? Number.NaN);
  return fence < owner.fence && statement.startsWith(marker({ ...owner, fence }));
}

/** An id that could end the comment is none of ours; it gets a name all the same. */
function nameOf(job_id: string): string {
  return /^[\w:-]{1,128}$/.test(job_id) ? job_id : `~${digest(job_id, 32)}`;
}
