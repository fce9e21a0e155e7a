/** Makes the sessions of a results backend, and asks the server about them. */
import { connect, destroy } from './connect.ts';
import { connectionOptions } from './dsn.ts';
import { type IsAlive, isLost, Session, StatementError } from './results-session.ts';

/** How long a server may take to say whether it knows a session, ms. */
const ANSWER_MS = 5_000;

export type Connector = (signal: AbortSignal) => Promise<Session>;

/** Throws if the DSN is not one. What the connector throws is a `StatementError`, or the signal's reason. */
export function connector(dsn: string, connect_timeout_ms: number, database: string): Connector {
  const config = connectionOptions(dsn);
  const open = async (isAlive: IsAlive, signal?: AbortSignal): Promise<Session> => {
    const abortable = signal === undefined ? {} : { signal };
    let connection: Awaited<ReturnType<typeof connect>>;
    try {
      connection = await connect({ config, connect_timeout_ms, local_files: true, ...abortable });
    } catch (error) {
      signal?.throwIfAborted();
      throw error instanceof Error ? new StatementError(error) : error;
    }
    const abort = () => destroy(connection);
    signal?.addEventListener('abort', abort, { once: true });
    try {
      return await Session.of(connection, database, isAlive, config.settings);
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  };
  const isAlive: IsAlive = async (id) => {
    let asking: Session | undefined;
    // Connecting has its own time, the questions have this.
    const clock = new AbortController();
    const timer = setTimeout(() => {
      clock.abort();
      asking?.destroy();
    }, connect_timeout_ms + ANSWER_MS);
    try {
      asking = await open(async () => true, clock.signal);
      const found = await asking.query('SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = ?', [id]);
      return found.length > 0;
    } catch (error) {
      if (isLost(error) || clock.signal.aborted) return false;
      throw error;
    } finally {
      clearTimeout(timer);
      asking?.destroy();
    }
  };
  return (signal) => open(isAlive, signal);
}
