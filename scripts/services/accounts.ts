/** Whom servers run as: PostgreSQL and MariaDB refuse to be root. */
import { chownSync, readFileSync, writeFileSync } from 'node:fs';

export interface Account {
  readonly uid: number;
  readonly gid: number;
}

/** The first of these accounts that this machine has; null where we are not root and run all as ourselves. */
export function account(names: readonly string[]): Account | null {
  if (process.getuid?.() !== 0) return null;
  const lines = readFileSync('/etc/passwd', 'utf8').split('\n');
  for (const name of [...names, 'nobody']) {
    const [, , uid, gid] = lines.find((line) => line.startsWith(`${name}:`))?.split(':') ?? [];
    if (uid !== undefined && gid !== undefined) return { uid: Number(uid), gid: Number(gid) };
  }
  throw new Error(`/etc/passwd has none of ${names.join(', ')}, nobody`);
}

/** Writes a file that only the account may read, and we; whatever our umask is. */
export function writeFor(as: Account | null, path: string, text: string): void {
  writeFileSync(path, text, { mode: 0o600 });
  if (as !== null) chownSync(path, as.uid, as.gid);
}
