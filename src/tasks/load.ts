/** Finds and reads the .sql files. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TaskError } from './errors.ts';
import { parseTasks } from './parser.ts';
import type { Task } from './task.ts';

/**
 * The tasks of all `*.sql` files of the directories (not of theirs), files in order of their names. Throws a
 * `TaskError` with all faults of all files.
 */
export async function loadTasks(directories: readonly string[]): Promise<Task[]> {
  const faults: string[] = [];
  const tasks: Task[] = [];
  for (const directory of directories) {
    const files = await sqlFiles(directory).catch((error: unknown) => {
      faults.push(`cannot read the SQL directory "${directory}": ${reason(error)}`);
      return [];
    });
    for (const file of files) {
      try {
        tasks.push(...parseTasks(await readText(file), file));
      } catch (error) {
        if (!(error instanceof TaskError)) throw error;
        faults.push(error.message);
      }
    }
  }
  const byName = new Map<string, Task>();
  for (const task of tasks) {
    const earlier = byName.get(task.name);
    if (earlier === undefined) byName.set(task.name, task);
    else {
      faults.push(
        `${task.file}:${task.line}: there is already a task "${task.name}" in ${earlier.file}:${earlier.line}`,
      );
    }
  }
  if (faults.length > 0) throw new TaskError(faults);
  return tasks;
}

async function sqlFiles(directory: string): Promise<string[]> {
  const names = (await readdir(directory)).filter((name) => name.endsWith('.sql')).sort();
  if (names.length === 0) throw new TaskError(['there is no .sql file in it']);
  return names.map((name) => join(directory, name));
}

async function readText(file: string): Promise<string> {
  let content: Buffer;
  try {
    content = await readFile(file);
  } catch (error) {
    throw new TaskError([`${file}: cannot be read: ${reason(error)}`]);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new TaskError([`${file}:${firstBadLine(content)}: this is not UTF-8`]);
  }
}

function firstBadLine(content: Buffer): number {
  let line = 1;
  for (let from = 0; from < content.length; line++) {
    const end = content.indexOf('\n', from);
    const bytes = content.subarray(from, end === -1 ? content.length : end);
    // What does not survive decoding and encoding is not UTF-8.
    if (!Buffer.from(bytes.toString('utf8'), 'utf8').equals(bytes)) return line;
    if (end === -1) break;
    from = end + 1;
  }
  return line;
}

function reason(error: unknown): string {
  if (error instanceof TaskError) return error.message;
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return 'it does not exist';
  return error instanceof Error ? error.message : String(error);
}
