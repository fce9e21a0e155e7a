/**
 * In which order a results file's writer does what it is asked. What is quick (a small result, a
 * publication, a drop) goes first, several in one transaction and so with one fsync. What is long (copying
 * a result, emptying trash) goes in steps of a few milliseconds, in turn, one after each round of the quick.
 */
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import { DatabaseError } from '../errors.ts';
import type { Checkpoints } from './checkpoints.ts';
import { fileUri, quoteName } from './quote.ts';
import type { ResultsFile } from './results-file.ts';

/** What a step may take, ms, and how many rows the first one of a task gets. */
const STEP_MS = 15;
const FIRST_ROWS = 2_000;
/** How many share a transaction: each may attach a file, and SQLite attaches ten at most. */
const MOST_TOGETHER = 8;
/** What a quick one adds to the log at least: a page of the table, of the catalog, of the schema. */
const LEAST_LOGGED_BYTES = 16 * 1024;
/**
 * A pause in long work lets other processes at the file: they look every millisecond, and SQLite hands its
 * lock to whoever asks first.
 */
const PAUSE_EVERY_MS = 50;
const PAUSE_MS = 2;
/** After how long without work the log is moved into the database, ms. */
const IDLE_MS = 200;

export interface Quick<T> {
  /** By which it can be withdrawn. */
  readonly ticket?: number;
  /** A staging file that it needs to have attached, and how large that is. */
  readonly file?: string;
  readonly bytes?: number;
  /** Runs inside of a transaction. */
  work(file: ResultsFile, schema: string | null): T;
}

export interface Step {
  readonly rows: number;
  /** About how much was written. */
  readonly bytes: number;
  /** There is nothing left. */
  readonly last: boolean;
}

/** What is done in steps, each in a transaction of its own. */
export interface Long {
  /** A staging file that it needs to have attached. */
  readonly file?: string;
  /** Does so many rows at most. Runs inside of a transaction, and again if that could not be committed. */
  step(file: ResultsFile, schema: string | null, rows: number): Step;
  committed?(step: Step): void;
}

interface QuickTask {
  readonly quick: Quick<unknown>;
  /** `begun`: its transaction has the file's lock, and is committed or undone before anyone is heard. */
  state: 'waiting' | 'begun' | 'withdrawn';
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

interface LongTask {
  readonly long: Long;
  rows: number;
  resolve(): void;
  reject(error: unknown): void;
}

type Outcome = { readonly value: unknown } | { readonly error: unknown };

export interface Opened {
  readonly file: ResultsFile;
  readonly checkpoints: Checkpoints;
}

export class Turns {
  readonly #open: () => Promise<Opened>;
  readonly #quick: QuickTask[] = [];
  readonly #long: LongTask[] = [];
  /** The quick ones under way. */
  #together: readonly QuickTask[] = [];
  #running: Promise<void> | null = null;
  #stopped = false;
  #idle: NodeJS.Timeout | undefined;

  /** `open` is called before each transaction: it opens the file when that is needed, or fails. */
  constructor(open: () => Promise<Opened>) {
    this.#open = open;
  }

  soon<T>(quick: Quick<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#quick.push({ quick, state: 'waiting', resolve: (value) => resolve(value as T), reject });
    this.#wake();
    return promise;
  }

  inSteps(long: Long): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#long.push({ long, rows: FIRST_ROWS, resolve, reject });
    this.#wake();
    return promise;
  }

  /** False if its transaction has begun. One that only waits for the file's lock can still be withdrawn. */
  withdraw(ticket: number): boolean {
    const task = [...this.#quick, ...this.#together].find(({ quick }) => quick.ticket === ticket);
    if (task?.state !== 'waiting') return false;
    task.state = 'withdrawn';
    task.reject(new DatabaseError('query_failed', 'withdrawn'));
    return true;
  }

  /** Refuses all that is not under way, now and from now on; resolves when that is done. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#idle);
    await this.#running;
    this.#refuseAll();
  }

  #wake(): void {
    clearTimeout(this.#idle);
    if (this.#stopped) this.#refuseAll();
    else
      this.#running ??= this.#run().finally(() => {
        this.#running = null;
        if (!this.#stopped) this.#idle = setTimeout(() => this.#rest(), IDLE_MS).unref();
      });
  }

  #refuseAll(): void {
    for (const task of [...this.#quick.splice(0), ...this.#long.splice(0)]) {
      task.reject(new DatabaseError('unavailable', 'the results file is being closed'));
    }
  }

  async #run(): Promise<void> {
    let paused_at = performance.now();
    while (!this.#stopped && (this.#quick.length > 0 || this.#long.length > 0)) {
      // Calls that have arrived meanwhile come in here.
      await nextTurn();
      if (this.#quick.length > 0) await this.#runTogether(this.#quick.splice(0, MOST_TOGETHER));
      const task = this.#long.shift();
      if (task === undefined) continue;
      await this.#runStep(task);
      if (performance.now() - paused_at > PAUSE_EVERY_MS) {
        await delay(PAUSE_MS);
        paused_at = performance.now();
      }
    }
  }

  /** Nothing has been asked for a while: the log gives back its room. */
  #rest(): void {
    this.#open().then(
      ({ checkpoints }) => checkpoints.rest(),
      () => {}, // there is no file, and so no log
    );
  }

  async #runStep(task: LongTask): Promise<void> {
    try {
      const { file, checkpoints } = await this.#open();
      const { long } = task;
      const step = await attached(file, [long.file ?? null], async ([schema = null]) => {
        let begun = 0;
        const step = await file.transact('NORMAL', () => {
          begun = performance.now();
          return long.step(file, schema, task.rows);
        });
        // Towards what a step may take, by a factor of two at most.
        const fits = STEP_MS / Math.max(0.1, performance.now() - begun);
        task.rows = Math.max(1, Math.round(task.rows * Math.min(2, Math.max(0.5, fits))));
        return step;
      });
      long.committed?.(step);
      if (step.last) task.resolve();
      else this.#long.push(task);
      await checkpoints.wrote(step.bytes, true);
    } catch (error) {
      task.reject(error);
    }
  }

  async #runTogether(asked: readonly QuickTask[]): Promise<void> {
    const tasks = asked.filter(({ state }) => state !== 'withdrawn');
    if (tasks.length === 0) return;
    this.#together = tasks;
    let outcomes: readonly Outcome[];
    try {
      outcomes = await this.#transact(tasks);
    } catch (error) {
      for (const task of tasks) if (task.state === 'begun') task.state = 'waiting';
      if (tasks.length > 1) {
        // The transaction itself has failed: one of them may be the cause, the others need not suffer.
        for (const task of tasks) await this.#runTogether([task]);
        return;
      }
      outcomes = [{ error }];
    }
    let written = 0;
    tasks.forEach((task, index) => {
      const outcome = outcomes[index];
      if (outcome === undefined) task.reject(new Error('a task has no outcome'));
      else if ('error' in outcome) task.reject(outcome.error);
      else task.resolve(outcome.value);
      written += Math.max(LEAST_LOGGED_BYTES, task.quick.bytes ?? 0);
    });
    // If the file cannot be opened, they have all been told so.
    await this.#open().then(
      ({ checkpoints }) => checkpoints.wrote(written, this.#long.length > 0),
      () => {},
    );
  }

  async #transact(tasks: readonly QuickTask[]): Promise<readonly Outcome[]> {
    const { file } = await this.#open();
    const files = tasks.map(({ quick }) => quick.file ?? null);
    const outcomes = await attached(file, files, (schemas) =>
      file.transact('FULL', () =>
        tasks.map((task, index): Outcome => {
          if (task.state === 'withdrawn') return { value: null };
          task.state = 'begun';
          const work = () => task.quick.work(file, schemas[index] ?? null);
          if (tasks.length === 1) return { value: work() };
          try {
            return { value: file.nested(work) };
          } catch (error) {
            // What ended the transaction as a whole has undone the others too.
            if (!file.db.isTransaction) throw error;
            return { error };
          }
        }),
      ),
    );
    // Once more: what was committed to a file that nobody can see any more is not there.
    await this.#open();
    return outcomes;
  }
}

/** Attaches files while `work` runs; each one's schema name stands where the file did. */
async function attached<T>(
  { db }: ResultsFile,
  files: readonly (string | null)[],
  work: (schemas: readonly (string | null)[]) => Promise<T>,
): Promise<T> {
  const done: string[] = [];
  try {
    const schemas = files.map((file, index) => {
      if (file === null) return null;
      const schema = `staged_${index}`;
      // Nobody writes to it any more, so it needs no locks.
      db.prepare(`ATTACH ? AS ${quoteName(schema)}`).run(fileUri(file, { mode: 'ro', immutable: '1' }));
      done.push(schema);
      return schema;
    });
    return await work(schemas);
  } finally {
    for (const schema of done) db.exec(`DETACH ${quoteName(schema)}`);
  }
}
