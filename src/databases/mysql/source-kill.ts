/** Ends what sessions of the server do, from outside of them. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Owner } from '../database.ts';
import type { ConnectOptions } from './connect.ts';
import { errorNumber } from './failure.ts';
import { quoteText } from './quote.ts';
import { isPredecessor, MARK } from './source-marker.ts';
import { type Member, openSession, type Pool } from './source-pool.ts';
import { DoneReader, TextReader } from './source-readers.ts';
import { COMMAND, textCommand, type Wire } from './source-wire.ts';

/** How often the processlist is looked at while a session ends, ms. */
const LOOK_MS = 10;
/** A session or a query that is not there any more. */
const NO_SUCH_THREAD = 1094;
const NO_SUCH_QUERY = 1957;
/** How often a server that is full of connections is asked again, ms. */
const FULL_MS = 50;
const TOO_MANY_CONNECTIONS: ReadonlySet<number> = new Set([1040, 1203, 1226]);
/** How long a predecessor's query may take to end before its connection is ended, ms. */
const PATIENCE_MS = 700;
/** How long it is waited for that to take effect, ms. */
const ENOUGH_MS = 10_000;

/**
 * Kills a session over a connection of its own that counts in no pool; on a server that takes no more, over one that
 * `spare` has idle. Resolves when the server no longer knows it; rejects when that cannot be brought about in
 * time, or is not known.
 *
 * The session is killed, not its statement alone: that would be forgotten if it came just before the statement
 * began, and would not wake a server that is blocked in sending. Told by its address too, since a server
 * that was restarted gives its numbers anew.
 */
export async function killSession(
  options: ConnectOptions,
  spare: Pool,
  { id, host }: Pick<Member, 'id' | 'host'>,
  deadline_ms: number,
): Promise<void> {
  const deadline = performance.now() + deadline_ms;
  const signal = AbortSignal.timeout(deadline_ms);
  const killer = await openSoon({ ...options, connect_timeout_ms: deadline_ms, signal }, spare);
  const { wire } = killer;
  const timer = setTimeout(() => wire.destroy(), deadline - performance.now());
  const look = `SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = ${id} AND HOST = ${quoteText(host)}`;
  try {
    while ((await ask(wire, look)).length > 0) {
      await done(wire, `KILL ${id}`);
      await delay(LOOK_MS);
    }
  } finally {
    clearTimeout(timer);
    if (wire.busy) wire.destroy();
    else if (!spare.release(killer)) wire.quit();
  }
}

/** A server that is full, perhaps of the very session that is to be killed, has no room but in those that are there. */
async function openSoon(options: ConnectOptions, spare: Pool): Promise<Member> {
  for (;;) {
    try {
      return await openSession(options);
    } catch (error) {
      if (!TOO_MANY_CONNECTIONS.has(errorNumber(error)) || options.signal?.aborted === true) throw error;
      const member = spare.takeIdle();
      if (member !== null) return member;
      await delay(FULL_MS);
    }
  }
}

/**
 * Ends the queries that earlier attempts of the same job, by the same user, have left running. Resolves when they are
 * gone, or when the server takes too long over it: they only read, and this attempt need not wait for them.
 */
export async function endPredecessors({ wire, mariadb }: Member, owner: Owner): Promise<void> {
  const query = mariadb ? 'QUERY_ID' : 'NULL';
  const running = `SELECT ID, ${query}, INFO FROM information_schema.PROCESSLIST
    WHERE USER = SUBSTRING_INDEX(USER(), '@', 1) AND LEFT(INFO, ${MARK.length}) = ${quoteText(MARK)}`;
  const begun = performance.now();
  for (;;) {
    const rows = await ask(wire, running);
    const found = rows.filter(([, , info]) => isPredecessor(info ?? '', owner));
    const waited = performance.now() - begun;
    if (found.length === 0 || waited > ENOUGH_MS) return;
    // MariaDB can be told which query is meant, so that a session's next one is safe.
    const patient = waited < PATIENCE_MS;
    for (const [id, query_id] of found) {
      if (!patient) await done(wire, `KILL ${Number(id)}`);
      else if (query_id === null) await done(wire, `KILL QUERY ${Number(id)}`);
      else await done(wire, `KILL QUERY ID ${Number(query_id)}`);
    }
    await delay(LOOK_MS);
  }
}

async function done(wire: Wire, sql: string): Promise<void> {
  const reader = new DoneReader();
  wire.send([textCommand(COMMAND.query, sql), reader]);
  try {
    await reader.answer;
  } catch (error) {
    const number = errorNumber(error);
    if (number !== NO_SUCH_THREAD && number !== NO_SUCH_QUERY) throw error;
  }
}

async function ask(wire: Wire, sql: string): Promise<(string | null)[][]> {
  const reader = new TextReader();
  wire.send([textCommand(COMMAND.query, sql), reader]);
  return reader.answer;
}
