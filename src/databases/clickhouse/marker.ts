/** How an attempt's queries are marked in system.processes, by their query_id: people and later attempts find them. */
import { digest } from '../../util/digest.ts';
import type { Owner } from '../database.ts';

type Attempt = Pick<Owner, 'job_id' | 'store_id' | 'fence'>;

/**
 * `dungbeetle:<store>:<fence>.<request>:<job id>`. An attempt makes several requests, one after the other; each has
 * an id of its own, because a server may answer a request before it has forgotten its id.
 */
export function queryId(owner: Attempt, request: number): string {
  return `${markerPrefix(owner)}${owner.fence}.${request}:${owner.job_id}`;
}

/** What the query ids of a store's attempts begin with. */
export function markerPrefix({ store_id }: Pick<Owner, 'store_id'>): string {
  return `dungbeetle:${digest(store_id, 8)}:`;
}

/** Whether a query id is that of an earlier attempt of the same job. */
export function isPredecessor(query_id: string, owner: Attempt): boolean {
  const prefix = markerPrefix(owner);
  if (!query_id.startsWith(prefix)) return false;
  const [, fence, job_id] = /^(\d+)\.\d+:(.*)$/s.exec(query_id.slice(prefix.length)) ?? [];
  return job_id === owner.job_id && Number(fence) < owner.fence;
}
