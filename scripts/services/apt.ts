/** Debian's apt-get, where this machine has it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';

export function isDebian(): boolean {
  return existsSync('/usr/bin/apt-get') && existsSync('/etc/debian_version');
}

/** Null, or what went wrong. */
export async function apt(args: readonly string[], signal: AbortSignal): Promise<string | null> {
  signal.throwIfAborted();
  const child = spawn('/usr/bin/apt-get', ['-qq', '-o', 'DPkg::Lock::Timeout=120', ...args], {
    env: { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
  }
  const [code] = await once(child, 'close');
  if (code === 0) return null;
  const errors = said.split('\n').filter((line) => line.startsWith('E: '));
  return errors.at(0)?.slice(3) ?? `apt-get ended with ${code}`;
}
