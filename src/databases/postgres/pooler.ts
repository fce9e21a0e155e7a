/** Poolers: programs between us and the server that lend its sessions to their clients. */
import type pg from 'pg';

/** How often a session is looked for that has changed hands. */
const ROUNDS = 5;

/**
 * Whether a pooler gives each transaction another of the server's sessions. `first` and `second` are two connections to
 * it: where sessions are their own, both are open at once and so never have the same one, nor another one later.
 */
export async function sharesSessions(first: pg.Client, second: pg.Client): Promise<boolean> {
  for (let round = 0; round < ROUNDS; round += 1) {
    const own = await processOf(first);
    await second.query('BEGIN');
    try {
      // Not asked of the first again before this is known: where there is one session in all, it would wait for it.
      if ((await processOf(second)) === own) return true;
      if ((await processOf(first)) !== own) return true;
    } finally {
      await second.query('ROLLBACK');
    }
  }
  return false;
}

async function processOf(client: pg.Client): Promise<number | undefined> {
  const { rows } = await client.query<{ pid: number }>('SELECT pg_catalog.pg_backend_pid() AS pid');
  return rows[0]?.pid;
}
