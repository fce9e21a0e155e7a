/**
 * Names of staging files: from the name alone it can be told whose a file is, so that what a killed process
 * has left can be removed by another one.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, statSync } from 'node:fs';
import { readdir, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { digest } from '../../util/digest.ts';
import type { Owner } from '../database.ts';

/** A fresh name for an attempt's staging file. */
export function stagingFile(directory: string, owner: Pick<Owner, 'store_id' | 'fence'>): string {
  const unique = randomBytes(6).toString('hex');
  return join(directory, `${storeKey(owner.store_id)}.${owner.fence}.${unique}.staging`);
}

/** Makes the folder of staging files, but not the folders that it is in: those are not ours to make up. */
export function makeStagingFolder(file: string): void {
  try {
    mkdirSync(dirname(file), { mode: 0o700 });
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  }
}

/** A complete table `rows` in a file: see `sqlite-file` in the contract. */
export interface StagedRows {
  readonly file: string;
  readonly rows: number;
  readonly bytes: number;
}

export interface StagingFile {
  readonly path: string;
  /** Compare with `storeKey`. */
  readonly store: string;
  readonly fence: number;
  /** ms since 1970 */
  readonly modified_at: number;
}

/** A store's id as part of a file name: any id will do, and none is too long. */
export function storeKey(store_id: string): string {
  return digest(store_id, 24);
}

/** The staging files of a directory, with the journals and the like beside them. */
export async function listStagingFiles(directory: string): Promise<readonly StagingFile[]> {
  let names: readonly string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
  const files: StagingFile[] = [];
  for (const name of names) {
    const [, store, fence] = /^([0-9a-f]{24})\.(\d+)\.[0-9a-f]{12}\.staging(?:-\w+)?$/.exec(name) ?? [];
    if (store === undefined) continue;
    const path = join(directory, name);
    const stats = statSync(path, { throwIfNoEntry: false });
    if (stats !== undefined) files.push({ path, store, fence: Number(fence), modified_at: stats.mtimeMs });
  }
  return files;
}

/**
 * With the journal that SQLite may have left beside it. By `unlink`, not `rm`, whose `lstat` runs on the
 * event loop and there waits for whoever else uses the folder.
 */
export async function removeStagingFile(path: string): Promise<void> {
  await Promise.all(
    [path, `${path}-journal`].map(async (each) => {
      try {
        await unlink(each);
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
      }
    }),
  );
}
