/** Makes the sessions of a results backend, and asks the server about them. */
import { type Connection, createConnection } from 'mysql2';
import { type IsAlive, isLost, Session } from './results-session.ts';

export type Connector = (signal: AbortSignal) => Promise<Session>;

export function connector(dsn: string, connect_timeout_ms: number, database: string): Connector {
  const isAlive: IsAlive = async (id) => {
    try {
      const asking = await Session.of(await connect(dsn, connect_timeout_ms), database, async () => true);
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
  return async (signal) => {
    signal.throwIfAborted();
    return Session.of(await connect(dsn, connect_timeout_ms), database, isAlive);
  };
}

async function connect(dsn: string, connect_timeout_ms: number): Promise<Connection> {
  const url = new URL(dsn);
  const connection = createConnection({
    host: url.hostname,
    port: Number(url.port),
    user: decodeURIComponent(url.username),
    password: decodeURIComponent(url.password),
    database: url.pathname.slice(1),
    connectTimeout: connect_timeout_ms,
    charset: 'utf8mb4',
  });
  await new Promise<void>((resolve, reject) => {
    connection.connect((error) => (error === null ? resolve() : reject(error)));
  });
  return connection;
}
