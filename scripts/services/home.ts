/** The folder of a run: programs, templates of data folders, and each server's own folder. */
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { account } from './accounts.ts';
import type { Engine } from './engine.ts';
import { makeOnce } from './once.ts';
import { removeAtEnd, run } from './processes.ts';

export interface Home {
  readonly folder: string;
  /** Of every server of the run. */
  readonly password: string;
}

/** A new one, removed when this process ends, however it ends. */
export function createHome(): Home {
  const folder = mkdtempSync(join(tmpdir(), 'dungbeetle-servers-'));
  removeAtEnd(folder);
  chmodSync(folder, 0o711); // the servers' accounts pass through it to their own
  const password = randomBytes(12).toString('hex');
  writeFileSync(join(folder, 'password'), password, { mode: 0o600 });
  return { folder, password };
}

/** The one that another process of this run has made. */
export function openHome(folder: string): Home {
  return { folder, password: readFileSync(join(folder, 'password'), 'utf8') };
}

export function removeHome(home: Home): void {
  rmSync(home.folder, { recursive: true, force: true, maxRetries: 20 });
}

/** A folder that belongs to whom the engine runs as. */
export function ownFolder(engine: Engine, path: string): string {
  mkdirSync(path, { mode: 0o700, recursive: true });
  const as = account(engine.accounts);
  if (as !== null) chownSync(path, as.uid, as.gid);
  return path;
}

/** A folder that the servers' accounts may pass through to their own. */
function enterable(path: string): string {
  mkdirSync(path, { recursive: true });
  chmodSync(path, 0o711);
  return path;
}

/** The engine's programs where its account can run them: node_modules may be in a folder that only we may enter. */
export async function programs(home: Home, engine: Engine): Promise<string> {
  const copy = join(home.folder, 'programs', engine.name);
  if (existsSync(copy)) return join(copy, 'bin');
  const found = engine.find();
  if (found === null) throw new Error(`${engine.name} is not installed`);
  const as = account(engine.accounts);
  if (as === null || engine.package !== null) return found;
  const canEnter = await run('/bin/sh', ['-c', 'test -x "$0"', found], { as }).then(
    () => true,
    () => false,
  );
  if (canEnter) return found;
  enterable(dirname(copy));
  const made = await makeOnce(copy, async (fresh) => {
    await run('cp', ['-R', '-p', join(found, '..'), fresh]);
    chmodSync(fresh, 0o755);
  });
  return join(made, 'bin');
}

/** Makes the engine's template of a data folder, once for a run: a server of its own begins with a copy. */
export async function prepareTemplate(home: Home, engine: Engine): Promise<string | null> {
  const prepare = engine.prepare?.bind(engine);
  if (prepare === undefined) return null;
  const templates = enterable(join(home.folder, 'templates'));
  const folder = await makeOnce(join(templates, engine.name), async (fresh) => {
    ownFolder(engine, fresh);
    await prepare({
      programs: await programs(home, engine),
      folder: fresh,
      data: ownFolder(engine, join(fresh, 'data')),
      password: home.password,
      as: account(engine.accounts),
    });
  });
  return join(folder, 'data');
}
