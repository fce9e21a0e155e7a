/** Ends what sessions of the server do, from outside of them. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Owner } from '../database.ts';
import type { ConnectOptions } from './connect.ts';
import { errorNumber } from './failure.ts';
import { quoteText } from './quote.ts';
import { isPredecessor, MARK } from './source-marker.ts';
import { type Member, openSession } from './source-pool.ts';
import { DoneReader, TextReader } from './source-readers.ts';
import { COMMAND, textCommand, type Wire } from './source-wire.ts';

/** How often the processlist is looked at while a session ends, ms. */
const LOOK_MS = 10;
/** So often in a row a session must be found without the statement. */
const IDLE_LOOKS = 3;
/** A session or a query that is not there any more. */
const NO_SUCH_THREAD = 1094;
const NO_SUCH_QUERY = 1957;
/** How often a server that is full of connections is asked again, ms. */
const FULL_MS = 50;
const TOO_MANY_CONNECTIONS: ReadonlySet<number> = new Set([1040, 1203, 1226]);
/** How long a predecessor's query may take to end before its connection is ended, ms. */
const PATIENCE_MS = 700;

/** A statement that is to end. */
export interface Target {
  /** The session's number. */
  readonly id: number;
  /** What the statement begins with; nobody else's does. */
  readonly mark: string;
  /** Whether an answer to it is still to come; false also when the connection was lost. */
  pending(): boolean;
}

/**
 * Kills a session over a connection of its own that counts in no pool, provided that the statement that is meant runs in
 * it: a server that was restarted gives its numbers anew. Resolves when the server no longer works on the
 * statement; rejects when that cannot be brought about in time, or is not known.
 *
 * The session is killed, not its statement alone, which would not wake a server that is blocked in sending.
 */
export async function kill(options: ConnectOptions, target: Target, deadline_ms: number): Promise<void> {
  const deadline = performance.now() + deadline_ms;
  const signal = AbortSignal.timeout(deadline_ms);
  const { wire } = await openSoon({ ...options, connect_timeout_ms: deadline_ms, signal });
  const timer = setTimeout(() => wire.destroy(), deadline - performance.now());
  const look = `SELECT LEFT(INFO, ${target.mark.length}) = ${quoteText(target.mark)}
    FROM information_schema.PROCESSLIST WHERE ID = ${target.id}`;
  try {
    let idle_looks = 0;
    while (idle_looks < IDLE_LOOKS) {
      const [row] = await ask(wire, look);
      if (row === undefined) break;
      if (row[0] === '1') {
        await done(wire, `KILL ${target.id}`);
      } else if (!target.pending()) {
        // What was sent last may only be about to begin.
        idle_looks += 1;
      }
      await delay(LOOK_MS);
    }
    wire.quit();
  } finally {
    clearTimeout(timer);
    wire.destroy();
  }
}

/** The server may be full because of the very sessions that are to be killed: others may leave meanwhile. */
async function openSoon(options: ConnectOptions): Promise<Member> {
  for (;;) {
    try {
      return await openSession(options);
    } catch (error) {
      if (!TOO_MANY_CONNECTIONS.has(errorNumber(error)) || options.signal?.aborted === true) throw error;
      await delay(FULL_MS);
    }
  }
}

/**
 * Ends the queries that earlier attempts of the same job have left running. Sees those of the same user, and of
 * others where the server lets it, but kills only the former.
 */
export async function endPredecessors({ wire, mariadb }: Member, owner: Owner): Promise<void> {
  const query = mariadb ? 'QUERY_ID' : 'NULL';
  const running = `SELECT ID, ${query}, INFO FROM information_schema.PROCESSLIST
    WHERE USER = SUBSTRING_INDEX(USER(), '@', 1) AND LEFT(INFO, ${MARK.length}) = ${quoteText(MARK)}`;
  const begun = performance.now();
  for (;;) {
    const rows = await ask(wire, running);
    const found = rows.filter(([, , info]) => isPredecessor(info ?? '', owner));
    if (found.length === 0) return;
    // MariaDB can be told which query is meant, so that a session's next one is safe.
    const patient = performance.now() - begun < PATIENCE_MS;
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
