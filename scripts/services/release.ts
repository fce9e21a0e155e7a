/**
 * Programs of other releases of Debian than the machine's own: apt-get fetches the package and the libraries that it
 * needs, down to the C library, and dpkg-deb unpacks them into a folder. Nothing is installed and no script of a
 * package runs, so no rights are needed and the machine stays as it is.
 */
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { apt, isDebian } from './apt.ts';
import { makeOnce } from './once.ts';
import { run } from './processes.ts';

/** Debian's archive signs its releases, the coming ones too, with keys that each release brings. */
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** What no server reads. */
const UNREAD = ['doc', 'info', 'lintian', 'locale', 'man', 'perl', 'perl5'];

/** A package of a release, for the sake of one program. */
export interface Released {
  /** `sid` moves: what it has today, and whether it can be had today, is for Debian to say. */
  readonly release: 'trixie' | 'sid';
  readonly package: string;
  /** The path of the program below /. */
  readonly program: string;
}

/** Where unpacked releases are kept from run to run. */
function cache(): string {
  const { TEST_CACHE_FOLDER: named, XDG_CACHE_HOME: users = join(homedir(), '.cache') } = process.env;
  // The servers' accounts cannot enter root's home.
  return named || join(process.getuid?.() === 0 ? '/var/cache' : users, 'dungbeetle');
}

function rootOf({ release, package: name }: Released): string {
  return join(cache(), `${release}-${name}`);
}

/** The folder of its programs, where it was unpacked already. */
export function findReleased(released: Released): string | null {
  const program = join(rootOf(released), released.program);
  return existsSync(program) ? dirname(program) : null;
}

export interface CannotBeHad {
  readonly reason: string;
  /** The mirror does not give it, or not today; otherwise this machine cannot take it. */
  readonly isOfMirror: boolean;
}

/** Unpacks it. Null, or why it cannot be had. */
export async function unpack(released: Released, signal: AbortSignal): Promise<CannotBeHad | null> {
  if (!isDebian()) return { reason: 'this is not Debian or Ubuntu', isOfMirror: false };
  if (!existsSync(KEYRING)) {
    return { reason: `there is no ${KEYRING} (package debian-archive-keyring)`, isOfMirror: false };
  }
  mkdirSync(cache(), { recursive: true, mode: 0o755 });
  try {
    await makeOnce(rootOf(released), (fresh) => fetchInto(fresh, released, signal));
    return null;
  } catch (error) {
    if (error instanceof NotGiven) return { reason: error.message, isOfMirror: true };
    throw error;
  }
}

/** A release that a mirror does not have, or a package that cannot be had of it. */
class NotGiven extends Error {}

async function fetchInto(root: string, released: Released, signal: AbortSignal): Promise<void> {
  mkdirSync(root);
  chmodSync(root, 0o755);
  const work = join(root, 'apt');
  const config = await configure(work);
  await update(work, config, released.release, signal);
  const failure = await apt(
    [...config, 'install', '--yes', '--download-only', '--no-install-recommends', released.package],
    signal,
  );
  if (failure !== null) throw new NotGiven(failure);
  const archives = join(work, 'cache/archives');
  for (const name of readdirSync(archives).filter((name) => name.endsWith('.deb'))) {
    signal.throwIfAborted();
    await run('dpkg-deb', ['--extract', join(archives, name), root]);
  }
  rmSync(work, { recursive: true });
  for (const name of UNREAD) rmSync(join(root, 'usr/share', name), { recursive: true, force: true });
  bindToLibraries(root, released.program);
  await run(join(root, released.program), ['--version']);
}

/** The options by which apt-get has a state of its own: no package is installed in it, and no source but ours is known. */
async function configure(work: string): Promise<string[]> {
  for (const folder of ['state/lists/partial', 'cache/archives/partial']) {
    mkdirSync(join(work, folder), { recursive: true });
  }
  const architecture = (await run('dpkg', ['--print-architecture'])).trim();
  writeFileSync(join(work, 'status'), '');
  writeFileSync(
    join(work, 'apt.conf'),
    `#clear APT::Architectures;
     #clear APT::Update;
     APT::Architecture "${architecture}";
     APT::Architectures { "${architecture}"; };
     Acquire::Languages "none";
     Dir::Etc::sourcelist "${work}/sources.list";
     Dir::Etc::sourceparts "/dev/null";
     Dir::Etc::preferences "/dev/null";
     Dir::Etc::preferencesparts "/dev/null";
     Dir::State "${work}/state";
     Dir::State::status "${work}/status";
     Dir::Cache "${work}/cache";\n`,
  );
  return ['-c', join(work, 'apt.conf')];
}

/** Reads what the release has, from the first of this machine's mirrors that gives it. */
async function update(
  work: string,
  config: readonly string[],
  release: string,
  signal: AbortSignal,
): Promise<void> {
  const failures: string[] = [];
  for (const mirror of await mirrors()) {
    writeFileSync(join(work, 'sources.list'), `deb [signed-by=${KEYRING}] ${mirror} ${release} main\n`);
    const failure = await apt([...config, 'update', '--error-on=any'], signal);
    if (failure === null) return;
    failures.push(failure);
  }
  throw new NotGiven(failures[0] ?? 'apt-get has no mirror of Debian among its sources');
}

/** Whence this machine has its own release: mirrors of Debian have the others, too. */
async function mirrors(): Promise<string[]> {
  const lines = await run('apt-get', ['indextargets', '--format', '$(COMPONENT) $(RELEASE) $(REPO_URI)']);
  const found = lines.split('\n').flatMap((line) => /^main [a-z]+ (\S+)$/.exec(line)?.[1] ?? []);
  return [...new Set(found)];
}

/**
 * Has the program run with the libraries that came with it instead of the machine's, wherever `root` may be: a
 * script in its place begins it by their loader, in the same process.
 */
function bindToLibraries(root: string, program: string): void {
  const folders = readdirSync(join(root, 'usr/lib')).map((name) => join('usr/lib', name));
  for (const folder of folders.filter((folder) => folder.endsWith('-linux-gnu'))) {
    const loader = readdirSync(join(root, folder)).find((name) => /^ld-linux.*\.so\.\d$/.test(name));
    if (loader === undefined) continue;
    const path = join(root, program);
    const up = `\${0%/*}${'/..'.repeat(program.split('/').length - 1)}`;
    renameSync(path, `${path}.bound`);
    writeFileSync(
      path,
      `#!/bin/sh
root="${up}"
exec "$root/${folder}/${loader}" --library-path "$root/${folder}" --argv0 "$0" "$0.bound" "$@"\n`,
    );
    chmodSync(path, 0o755);
    return;
  }
  throw new Error(`no package of ${root} has brought a loader of programs`);
}
