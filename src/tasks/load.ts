/** Finds and reads the .sql files. */
import { isUtf8 } from 'node:buffer';
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { quote, TaskError } from './errors.ts';
import { parseTasks } from './parser.ts';
import type { Task } from './task.ts';

/**
 * The tasks of all `*.sql` files of the directories (not of directories in them), files in the order of their
 * names. Hidden files are passed over, as by a shell's `*.sql`; a directory given twice is read once. Throws
 * a `TaskError` with all faults of all files.
 */
export async function loadTasks(directories: readonly string[]): Promise<Task[]> {
  let faults: readonly string[] = [];
  const collect = async <T>(work: Promise<T[]>): Promise<T[]> => {
    try {
      return await work;
    } catch (error) {
      if (!(error instanceof TaskError)) throw error;
      faults = faults.concat(error.faults);
      return [];
    }
  };
  let tasks: Task[] = [];
  const read = new Set<string>();
  for (const directory of directories) {
    for (const file of await collect(sqlFiles(directory, read))) {
      tasks = tasks.concat(await collect(readTasks(file)));
    }
  }
  faults = faults.concat(duplicates(tasks));
  if (faults.length > 0) throw new TaskError(faults);
  return tasks;
}

/** None, if the directory has been read before under this or another name. */
async function sqlFiles(directory: string, read: Set<string>): Promise<string[]> {
  const name = `the SQL directory ${quote(directory)}`;
  let entries: string[];
  try {
    const real = await realpath(directory);
    if (read.has(real)) return [];
    read.add(real);
    entries = await readdir(directory);
  } catch (error) {
    throw new TaskError([`cannot read ${name}: ${reason(error)}`], { cause: error });
  }
  const files = entries.filter((entry) => entry.endsWith('.sql') && !entry.startsWith('.')).sort();
  if (files.length === 0) throw new TaskError([`there is no .sql file in ${name}`]);
  return files.map((file) => join(directory, file));
}

async function readTasks(file: string): Promise<Task[]> {
  const content = await readContent(file);
  if (!isUtf8(content)) throw new TaskError([`${file}:${firstBadLine(content)}: ${encoding(content)}`]);
  return parseTasks(content.toString('utf8'), file);
}

async function readContent(file: string): Promise<Buffer> {
  try {
    // A named pipe would be waited for without end.
    if ((await stat(file)).isFile()) return await readFile(file);
  } catch (error) {
    throw new TaskError([`${file}: cannot be read: ${reason(error)}`], { cause: error });
  }
  throw new TaskError([`${file}: cannot be read: it is not a file`]);
}

function encoding(content: Buffer): string {
  const mark = content.subarray(0, 2).toString('hex');
  const utf16 = mark === 'fffe' || mark === 'feff';
  return `this is ${utf16 ? 'UTF-16' : 'not UTF-8'}; save the file as UTF-8`;
}

function firstBadLine(content: Buffer): number {
  for (let from = 0, line = 1; ; line++) {
    // No byte of a longer UTF-8 sequence is a line feed, so that a line can be judged by itself.
    const feed = content.indexOf('\n', from);
    if (feed === -1 || !isUtf8(content.subarray(from, feed))) return line;
    from = feed + 1;
  }
}

/** Names that several files have; those within one file are the parser's to find. */
function duplicates(tasks: readonly Task[]): string[] {
  const faults: string[] = [];
  const byName = new Map<string, Task>();
  for (const task of tasks) {
    const earlier = byName.get(task.name);
    if (earlier === undefined) {
      byName.set(task.name, task);
    } else {
      const place = `${earlier.file}:${earlier.line}`;
      faults.push(`${task.file}:${task.line}: there is already a task ${quote(task.name)}, in ${place}`);
    }
  }
  return faults;
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'it does not exist',
  ENOTDIR: 'it is not a directory',
  EACCES: 'this user may not read it',
  ELOOP: 'it is a link that leads to itself',
};

function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return ('code' in error && REASONS[String(error.code)]) || error.message;
}
