/** Finds and reads the .sql files. */
import { isUtf8 } from 'node:buffer';
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { quote, TaskError } from './errors.ts';
import { parseTasks } from './parser.ts';
import type { Task } from './task.ts';

/**
 * The tasks of all `*.sql` files of the directories (not of directories in them), files in the order of their
 * names. Hidden files are passed over, as a shell's `*.sql` does. A directory given twice is read once.
 * Throws a `TaskError` with all faults of all files.
 */
export async function loadTasks(directories: readonly string[]): Promise<Task[]> {
  const faults: string[] = [];
  const tasks: Task[] = [];
  const known = new Set<string>();
  for (const directory of directories) {
    try {
      const path = await realpath(directory);
      if (known.has(path)) continue;
      known.add(path);
      for (const file of await sqlFiles(directory)) {
        try {
          tasks.push(...parseTasks(await readText(file), file));
        } catch (error) {
          faults.push(...faultsOf(error));
        }
      }
    } catch (error) {
      if (!isSystemError(error)) throw error;
      faults.push(`cannot read the SQL directory ${quote(directory)}: ${reason(error)}`);
    }
  }
  const byName = new Map<string, Task>();
  for (const task of tasks) {
    const earlier = byName.get(task.name);
    if (earlier === undefined) byName.set(task.name, task);
    else {
      faults.push(
        `${task.file}:${task.line}: there is already a task ${quote(task.name)}, in ${earlier.file}:${earlier.line}`,
      );
    }
  }
  if (faults.length > 0) throw new TaskError(faults);
  return tasks;
}
