import { existsSync, renameSync, rmSync } from 'node:fs';
import { removeAtEnd } from './processes.ts';

/** What this process is making. */
const making = new Map<string, Promise<string>>();

/**
 * Makes the folder `path` if it is not there, or lets another process be first. It is never half made: `make` gets
 * the path of a fresh one, which takes its place when it is done and is removed when it fails or we are killed.
 */
export async function makeOnce(path: string, make: (fresh: string) => Promise<unknown>): Promise<string> {
  if (existsSync(path)) return path;
  const made = making.get(path) ?? makeFirst(path, make).finally(() => making.delete(path));
  making.set(path, made);
  return made;
}

async function makeFirst(path: string, make: (fresh: string) => Promise<unknown>): Promise<string> {
  const fresh = `${path}.${process.pid}`;
  removeAtEnd(fresh);
  rmSync(fresh, { recursive: true, force: true });
  try {
    await make(fresh);
    renameSync(fresh, path);
  } catch (error) {
    rmSync(fresh, { recursive: true, force: true });
    if (!existsSync(path)) throw error;
  }
  return path;
}
