/** One statement to a ClickHouse server, over a connection of its own: what the test tools need, and no more. */
import { request } from 'node:http';

const DEADLINE = 60_000;

/**
 * What it answers, in TabSeparated unless the statement says otherwise. Rejects with the server's own words. The
 * connection is closed at once: while one is kept alive, an old ClickHouse that is told to stop waits for it.
 */
export function clickhouse(dsn: string, sql: string): Promise<string> {
  const url = new URL(dsn);
  const parameters = new URLSearchParams({ database: url.pathname.slice(1), default_format: 'TabSeparated' });
  return new Promise((resolve, reject) => {
    const options = {
      method: 'POST',
      agent: false,
      auth: `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`,
      signal: AbortSignal.timeout(DEADLINE),
    };
    const outgoing = request(`${url.origin}/?${parameters}`, options, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('error', reject);
      response.on('end', () => {
        if (response.statusCode === 200) resolve(text);
        else reject(new Error(text.trim()));
      });
    });
    outgoing.on('error', reject).end(sql);
  });
}
