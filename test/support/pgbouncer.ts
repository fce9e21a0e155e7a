/** A pooler of a test's own before a server. */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PGBOUNCER, startPgbouncer } from '../../scripts/services/pgbouncer.ts';
import { afterOthers, type Scope } from './scope.ts';
import { execute } from './sql.ts';
import { until } from './until.ts';

/** For node:test's `skip`: why there is no pooler here, or false. */
export function noPgbouncer(): string | false {
  if (PGBOUNCER.find() !== null) return false;
  return `missing: pgbouncer: ${process.env[PGBOUNCER.variable] ?? 'it is not on this machine'}`;
}

/** The server's DSN by way of a pooler with so many sessions, which is gone after the test. Resolves when it answers. */
export async function pooled(
  t: Scope,
  server: string,
  sessions: number,
  mode: Parameters<typeof startPgbouncer>[3] = 'transaction',
): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'dungbeetle-pgbouncer-'));
  // Whom it runs as has to get in.
  chmodSync(folder, 0o711);
  const pooler = await startPgbouncer(join(folder, 'pgbouncer'), server, sessions, mode);
  afterOthers(t, async () => {
    await pooler.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  await until('the pooler answers', () =>
    execute(pooler.dsn, 'SELECT 1').then(
      () => true,
      () => false,
    ),
  );
  return pooler.dsn;
}
