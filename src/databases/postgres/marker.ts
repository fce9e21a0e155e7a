/** How an attempt's query is marked in pg_stat_activity: so that people and later attempts find it. */
import { digest } from '../../util/digest.ts';
import type { Owner } from '../database.ts';

/** The application_name of what is no job's. */
export const DESK = 'dungbeetle';

/** Postgres cuts an application_name here (NAMEDATALEN - 1). */
const MOST_BYTES = 63;

/** `dungbeetle:<store>:<fence>:<job id>`; a long job id is cut and ends with a hash of the whole. */
export function marker(owner: Pick<Owner, 'job_id' | 'store_id' | 'fence'>): string {
  const head = `${markerPrefix(owner)}${owner.fence}:`;
  const room = MOST_BYTES - head.length;
  const { job_id } = owner;
  if (job_id.length <= room) return head + job_id;
  const hash = digest(job_id, 16);
  return `${head}${job_id.slice(0, room - hash.length - 1)}~${hash}`;
}

/** What the markers of a store's queries begin with. */
export function markerPrefix({ store_id }: Pick<Owner, 'store_id'>): string {
  return `dungbeetle:${digest(store_id, 8)}:`;
}

/** Whether a marker is that of an earlier attempt of the same job. */
export function isPredecessor(found: string, owner: Pick<Owner, 'job_id' | 'store_id' | 'fence'>): boolean {
  const prefix = markerPrefix(owner);
  if (!found.startsWith(prefix)) return false;
  const fence = Number(found.slice(prefix.length).split(':', 1)[0]);
  return fence < owner.fence && found === marker({ ...owner, fence });
}
