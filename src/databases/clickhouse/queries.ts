/** Finds and ends queries in the server, by their ids. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Owner } from '../database.ts';
import { ConnectionFailure, ServerFailure } from './failure.ts';
import type { Http } from './http.ts';
import { isPredecessor, markerPrefix } from './marker.ts';
import { quoteLiteral } from './quote.ts';

/** How often a query that is to end is looked at, ms. */
const POLL_MS = 30;

/**
 * Ends a query. Resolves to null once the server no longer runs it, or to why that is not known: it is not reached, the
 * user may not kill, or it takes its time: a server of 2018 looks for a kill only between blocks, and not at all while
 * it makes the set of an `IN (SELECT …)`.
 */
export async function endQuery(http: Http, query_id: string, deadline_ms: number): Promise<string | null> {
  const signal = AbortSignal.timeout(deadline_ms);
  const sql = `KILL QUERY WHERE query_id = ${quoteLiteral(query_id)} ASYNC FORMAT TabSeparated`;
  // Asked twice in vain before it is believed: the request may have been on its way when it was given up.
  let absent = 0;
  try {
    while (absent < 2) {
      absent = (await http.ask(sql, { signal })) === '' ? absent + 1 : 0;
      if (absent < 2) await delay(POLL_MS, undefined, { signal });
    }
    return null;
  } catch (error) {
    if (signal.aborted) return 'it did not end when it was killed';
    if (error instanceof ConnectionFailure) return 'the server is not reached';
    if (error instanceof ServerFailure) return `the server refuses to end it (code ${error.code})`;
    throw error;
  }
}

/** The queries that earlier attempts of the same job left running. */
export async function predecessors(
  http: Http,
  owner: Owner,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const answer = await http.ask(
    `SELECT query_id FROM system.processes WHERE position(query_id, ${quoteLiteral(markerPrefix(owner))}) = 1`,
    { signal },
  );
  return answer
    .split('\n')
    .map((line) => line.replace(/\\(.)/g, '$1'))
    .filter((query_id) => isPredecessor(query_id, owner));
}
