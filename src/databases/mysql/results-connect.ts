/** Makes the sessions of a results backend, and asks the server about them. */
import { connect } from './connect.ts';
import { connectionOptions } from './dsn.ts';
import { type IsAlive, isLost, Session, StatementError } from './results-session.ts';

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
    return await Session.of(connection, database, isAlive);
  };
  const isAlive: IsAlive = async (id) => {
    try {
      const asking = await open(async () => true);
      try {
        const found = await asking.query('SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = ?', [id]);
        return found.length > 0;
      } finally {
        asking.destroy();
      }
    } catch (error) {
      if (isLost(error)) return false;
      throw error;
    }
  };
  return (signal) => open(isAlive, signal);
}
