/** Files that hold secrets or arguments, and that others than their owner may read. */
import { readFileSync, statSync } from 'node:fs';
import type { Config } from './config.ts';
import { MEMORY } from './sqlite.ts';

/** A password in a DSN or in a key of its own, in a line that is no comment. */
const PASSWORD = /^[ \t]*[^#\s].*(?::[^\s:@"'/]+@|password[ \t]*=[ \t]*["']?[^"'\s])/m;

export interface Readable {
  readonly file: string;
  readonly holds: string;
}

/** The configuration, if there are passwords in it, and the file of the queue: results are for others to read. */
export function readableByOthers({ file, store }: Pick<Config, 'file' | 'store'>): readonly Readable[] {
  const readable: Readable[] = [];
  if (file !== null && isReadable(file) && PASSWORD.test(readFileSync(file, 'utf8'))) {
    readable.push({ file, holds: 'passwords' });
  }
  if (store.type === 'sqlite' && store.path !== MEMORY && isReadable(store.path)) {
    readable.push({ file: store.path, holds: 'the arguments of jobs' });
  }
  return readable;
}

function isReadable(file: string): boolean {
  const stats = statSync(file, { throwIfNoEntry: false });
  // Windows has other rights than these.
  return stats !== undefined && process.platform !== 'win32' && (stats.mode & 0o044) !== 0;
}
