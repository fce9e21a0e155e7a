/** Tasks together with the configuration: which databases they may use, and how their queues run. */
import { didYouMean } from '../util/suggest.ts';
import { quote, TaskError } from './errors.ts';
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
  /** Names of the databases and of the results backends in the configuration; at least one each. */
  readonly sources: readonly string[];
  readonly results: readonly string[];
  readonly default_queue: string;
  readonly default_concurrency: number;
  /** Of a task or a queue, as the queue takes them, in UTF-16 units. */
  readonly longest_name: number;
}

/** Throws a `TaskError` for unknown and overlong names, and for tasks of one queue that disagree on its concurrency. */
export function resolveTasks(tasks: readonly Task[], around: Surroundings): ResolvedTask[] {
  const faults: string[] = [];
  const sources = new Set(around.sources);
  const results = new Set(around.results);
  /** The first task that says the concurrency, by queue. */
  const said = new Map<string, Task>();
  for (const task of tasks) {
    const fault = (message: string) =>
      faults.push(`${task.file}:${task.line}: task ${quote(task.name)}: ${message}`);
    for (const message of overlong(task, around.longest_name)) fault(message);
    for (const message of unknown('database', task.db, sources)) fault(message);
    for (const message of unknown('results backend', task.results, results)) fault(message);
    if (task.concurrency === null) continue;
    const queue = task.queue ?? around.default_queue;
    const first = said.get(queue);
    if (first === undefined) {
      said.set(queue, task);
    } else if (first.concurrency !== task.concurrency) {
      fault(
        `it gives queue ${quote(queue)} a concurrency of ${task.concurrency}, but task ${quote(first.name)} ` +
          `(${first.file}:${first.line}) gives it ${first.concurrency}; it belongs to the queue, so say it once`,
      );
    }
  }
  if (faults.length > 0) throw new TaskError(faults);
  return tasks.map((task) => {
    const queue = task.queue ?? around.default_queue;
    return {
      ...task,
      db: task.db ?? [...sources],
      results: task.results ?? [...results],
      queue,
      concurrency: said.get(queue)?.concurrency ?? around.default_concurrency,
    };
  });
}

function overlong({ name, queue }: Task, longest: number): string[] {
  return [
    ['its name', name],
    ['the name of its queue', queue ?? ''],
  ].flatMap(([what = '', text = '']) =>
    text.length > longest ? [`${what} is longer than ${longest} characters`] : [],
  );
}

/** What is wrong with the names that a task gives, or with having none to choose from. */
function unknown(what: string, given: readonly string[] | null, known: ReadonlySet<string>): string[] {
  const list = [...known].map(quote).join(', ');
  if (known.size === 0) return [`there is no ${what} in the configuration`];
  return (given ?? [])
    .filter((name) => !known.has(name))
    .map((name) => {
      const meant = didYouMean(name, known);
      return `there is no ${what} ${quote(name)}${meant}${meant === '' ? ';' : ''} the configuration has ${list}`;
    });
}

/** The concurrency of each of the queues: what the tasks say, or else the fallback. */
export function queueConcurrency(
  tasks: readonly ResolvedTask[],
  queues: readonly string[],
  fallback: number,
): ReadonlyMap<string, number> {
  const said = new Map(tasks.map((task) => [task.queue, task.concurrency]));
  return new Map(queues.map((queue) => [queue, said.get(queue) ?? fallback]));
}
