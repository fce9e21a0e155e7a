/** Tasks together with the configuration: which databases they may use, and how their queues run. */
import { didYouMean } from '../util/suggest.ts';
import { TaskError } from './errors.ts';
import type { Task } from './task.ts';

/** A task whose tags have been filled in. */
export interface ResolvedTask extends Task {
  /** At least one. */
  readonly db: readonly string[];
  readonly results: readonly string[];
  readonly queue: string;
  /** Of its queue, per process. */
  readonly concurrency: number;
}

export interface Surroundings {
  readonly sources: readonly string[];
  readonly results: readonly string[];
  readonly default_queue: string;
  readonly default_concurrency: number;
}

/** Throws a `TaskError` for unknown names, and for tasks of one queue that disagree on its concurrency. */
export function resolveTasks(tasks: readonly Task[], around: Surroundings): ResolvedTask[] {
  const faults: string[] = [];
  const known = (task: Task, what: string, given: readonly string[] | null, names: readonly string[]) => {
    for (const name of given ?? []) {
      if (!names.includes(name)) {
        faults.push(
          `${task.file}:${task.line}: task "${task.name}": there is no ${what} "${name}"${didYouMean(name, names)}; ` +
            `the configuration has ${names.map((other) => `"${other}"`).join(', ')}`,
        );
      }
    }
    return given ?? names;
  };
  const queues = new Map<string, Task>();
  for (const task of tasks) {
    if (task.concurrency === null) continue;
    const queue = task.queue ?? around.default_queue;
    const first = queues.get(queue);
    if (first === undefined) queues.set(queue, task);
    else if (first.concurrency !== task.concurrency) {
      faults.push(
        `${task.file}:${task.line}: task "${task.name}" says that queue "${queue}" has a concurrency of ` +
          `${task.concurrency}, but "${first.name}" (${first.file}:${first.line}) says ${first.concurrency}`,
      );
    }
  }
  const resolved = tasks.map((task): ResolvedTask => {
    const queue = task.queue ?? around.default_queue;
    return {
      ...task,
      db: known(task, 'database', task.db, around.sources),
      results: known(task, 'results backend', task.results, around.results),
      queue,
      concurrency: queues.get(queue)?.concurrency ?? around.default_concurrency,
    };
  });
  if (faults.length > 0) throw new TaskError(faults);
  return resolved;
}

/** The concurrency of each queue that a task names, and of those asked for besides. */
export function queueConcurrency(
  tasks: readonly ResolvedTask[],
  queues: readonly string[],
  fallback: number,
): ReadonlyMap<string, number> {
  const named = new Map(tasks.map((task) => [task.queue, task.concurrency]));
  return new Map(queues.map((queue) => [queue, named.get(queue) ?? fallback]));
}
