/**
 * The sources and results backends of a process, and what it knows of each. All are checked at start: what is refused
 * keeps the server from starting, and all of it is told at once. A database that cannot be reached does not: it is
 * awaited, and checked when it comes; until then its jobs stay in their queues.
 */
import type { ResultsBackend, Source } from '../databases/database.ts';
import { DatabaseError } from '../databases/errors.ts';
import { positionIn } from '../databases/position.ts';
import type { Early } from '../queue/handler.ts';
import type { ClaimedJob } from '../queue/store.ts';
import { TaskError } from '../tasks/errors.ts';
import type { ResolvedTask } from '../tasks/registry.ts';
import { withDeadline } from '../util/abort.ts';
import { payloadOf } from './payload.ts';
import { placeInFile } from './place.ts';
import type { ReportPayload } from './report.ts';
import type { Health } from './service.ts';

export type DatabaseEvent =
  /** It cannot be reached; the start goes on, and it is asked again and again. */
  | { readonly type: 'awaited'; readonly name: string; readonly error: DatabaseError }
  /** One that was awaited is there, and everything it is needed for has been checked; `faults` is what was refused. */
  | { readonly type: 'arrived'; readonly name: string; readonly faults: readonly string[] };

export interface DatabasesOptions {
  readonly tasks: readonly ResolvedTask[];
  readonly sources: ReadonlyMap<string, Source>;
  readonly backends: ReadonlyMap<string, ResultsBackend>;
  onEvent?(event: DatabaseEvent): void;
  /** How long a database may take to say that it is there, ms. Default 10 s. */
  readonly answer_ms?: number;
  /** Between two looks for one that is awaited, ms. Default 2 s. */
  readonly look_ms?: number;
}

/** Tasks of a database that are prepared at once. */
const PREPARE_AT_ONCE = 8;
/** How long all tasks of a database may take to be prepared: one may have to wait for a lock that a migration holds. */
const PREPARING_MS = 120_000;
/**
 * How long a job goes back to its queue while its database is awaited. Each goes back a little longer than the one
 * before it, so that a long queue of them costs a process no more than some two hundred looks a second.
 */
const BACK_MS = { least: 2_000, apart: 5 };

/** A source with its tasks, or a results backend. */
interface Part {
  /** As messages and the configuration have it: `db.ledger`. */
  readonly name: string;
  readonly database: Source | ResultsBackend;
  /** Gives what is refused, by the task; of a results backend all of it under "". Throws if it is not all there. */
  check(signal: AbortSignal): Promise<ReadonlyMap<string, Fault>>;
  /** Why it is awaited; null: it is there. */
  awaited: DatabaseError | null;
  faults: Map<string, Fault>;
}

interface Fault {
  readonly error: DatabaseError;
  /** With file, line and column where it is about a task. */
  readonly message: string;
}

export class Databases {
  readonly #options: Required<Omit<DatabasesOptions, 'onEvent'>> & Pick<DatabasesOptions, 'onEvent'>;
  readonly #parts: ReadonlyMap<string, Part>;
  readonly #closing = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();
  /** When the next job that is sent back is due again, by `performance.now()`. */
  #back = 0;

  constructor(options: DatabasesOptions) {
    this.#options = { answer_ms: 10_000, look_ms: 2_000, ...options };
    this.#parts = new Map(
      [
        ...[...options.sources].map(([name, source]) => this.#sourcePart(name, source)),
        ...[...options.backends].map(([name, backend]) => this.#backendPart(name, backend)),
      ].map((part) => [part.name, part]),
    );
  }

  /** Checks all of them. Throws a `TaskError` with everything that is refused. */
  async start(): Promise<void> {
    const parts = [...this.#parts.values()];
    const refusals = await Promise.all(
      parts.map(async (part) => {
        try {
          await this.#check(part);
          return null;
        } catch (error) {
          if (!(error instanceof DatabaseError)) throw error;
          if (!isOfReach(error)) return error.message;
          part.awaited = error;
          return null;
        }
      }),
    );
    const faults = [
      ...refusals.filter((message) => message !== null),
      ...parts.flatMap((part) => part.faults.get('')?.message ?? []),
      ...this.#options.tasks.flatMap((task) =>
        task.db.flatMap((db) => this.#parts.get(`db.${db}`)?.faults.get(task.name)?.message ?? []),
      ),
    ];
    if (faults.length > 0) throw new TaskError(faults);
    for (const { name, awaited } of parts) {
      if (awaited !== null) this.#options.onEvent?.({ type: 'awaited', name, error: awaited });
    }
    this.#lookLater();
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error('the databases are being closed'));
    clearTimeout(this.#timer);
    await this.#looking;
  }

  /** Of these databases those that are not awaited; all of them, if all are. */
  there(dbs: readonly string[]): readonly string[] {
    const there = dbs.filter((db) => !this.#isAwaited(`db.${db}`));
    return there.length > 0 ? there : dbs;
  }

  /** Which of the jobs need a database that is awaited. */
  early(jobs: readonly ClaimedJob[]): Early | null {
    if ([...this.#parts.values()].every(({ awaited }) => awaited === null)) return null;
    const early = jobs.filter((job) => {
      const payload = payloadOf(job);
      if (payload === null) return false;
      return this.#isAwaited(`db.${payload.db}`) || this.#isAwaited(`results.${payload.results}`);
    });
    if (early.length === 0) return null;
    const now = performance.now();
    this.#back = Math.max(this.#back, now + BACK_MS.least) + early.length * BACK_MS.apart;
    return { jobs: early, delay_ms: Math.ceil(this.#back - now) };
  }

  /**
   * Looks again at what was refused of a job's task and databases when they came: it may be right by now. Throws the
   * `DatabaseError` if it is not.
   */
  async recheck(task: ResolvedTask, { db, results }: ReportPayload, signal: AbortSignal): Promise<void> {
    const source = this.#options.sources.get(db);
    const faultsOfSource = this.#parts.get(`db.${db}`)?.faults;
    if (source !== undefined && faultsOfSource?.has(task.name) === true) {
      await source.prepare(task.sql, signal);
      faultsOfSource.delete(task.name);
    }
    const backend = this.#parts.get(`results.${results}`);
    if (backend === undefined || backend.faults.size === 0) return;
    const [[, fault] = []] = await backend.check(signal);
    if (fault !== undefined) throw fault.error;
    backend.faults.clear();
  }

  /** By name. Those that have not answered when the signal aborts are not well. */
  async health(signal: AbortSignal): Promise<Readonly<Record<string, Health>>> {
    return Object.fromEntries(
      await Promise.all(
        [...this.#parts.values()].map(async (part): Promise<[string, Health]> => {
          return [part.name, await healthOf(part, signal)];
        }),
      ),
    );
  }

  #isAwaited(name: string): boolean {
    return (this.#parts.get(name)?.awaited ?? null) !== null;
  }

  /** Throws a `DatabaseError` that names the database, also when all that is known is that it does not answer. */
  async #check(part: Part): Promise<void> {
    const { answer_ms } = this.#options;
    const { signal } = this.#closing;
    const label = part.name.replace(/^(\w+)\.(.*)$/s, '$1 "$2"');
    const silent = () => new DatabaseError('unavailable', `${label}: no answer within ${answer_ms / 1000} s`);
    await withDeadline(answer_ms, silent, signal, (both) => part.database.ping(both));
    const slow = () =>
      new DatabaseError(
        'unavailable',
        `${label}: the tasks were not prepared within ${PREPARING_MS / 1000} s`,
      );
    const faults = await withDeadline(PREPARING_MS, slow, signal, (both) => part.check(both));
    part.faults = new Map(faults);
  }

  #lookLater(): void {
    const awaited = [...this.#parts.values()].filter((part) => part.awaited !== null);
    if (awaited.length === 0 || this.#closing.signal.aborted) return;
    this.#timer = setTimeout(() => {
      this.#looking = Promise.all(awaited.map((part) => this.#look(part))).then(() => this.#lookLater());
    }, this.#options.look_ms);
    this.#timer.unref();
  }

  async #look(part: Part): Promise<void> {
    try {
      await this.#check(part);
    } catch (error) {
      // One that refuses us now may be about to be set up: its jobs have waited so far, and can wait on.
      if (error instanceof DatabaseError) part.awaited = error;
      else if (!this.#closing.signal.aborted) throw error;
      return;
    }
    part.awaited = null;
    const faults = [...part.faults.values()].map(({ message }) => message);
    this.#options.onEvent?.({ type: 'arrived', name: part.name, faults });
  }

  #sourcePart(name: string, source: Source): Part {
    const tasks = this.#options.tasks.filter((task) => !task.raw && task.db.includes(name));
    const check = async (signal: AbortSignal) => {
      const faults = new Map<string, Fault>();
      const next = tasks.values();
      await Promise.all(
        Array.from({ length: PREPARE_AT_ONCE }, async () => {
          for (const task of next) {
            const error = await refusalOf(source.prepare(task.sql, signal));
            if (error === null) continue;
            const place = placeInFile(task, error.position ?? positionIn(task.sql, error.message));
            // The line in the query would be taken for one in the file.
            const said = error.message.replace(/ at line \d+(?=[ ;]|$)/, '');
            const message = `${place}: task "${task.name}" on db "${name}": ${said}`;
            faults.set(task.name, { error, message });
          }
        }),
      );
      return faults;
    };
    return { name: `db.${name}`, database: source, check, awaited: null, faults: new Map() };
  }

  #backendPart(name: string, backend: ResultsBackend): Part {
    const check = async (signal: AbortSignal) => {
      const error = await refusalOf(backend.check(signal));
      return new Map(error === null ? [] : [['', { error, message: error.message }]]);
    };
    return { name: `results.${name}`, database: backend, check, awaited: null, faults: new Map() };
  }
}

/** Whether it is not known what the database would have said. */
function isOfReach(error: DatabaseError): boolean {
  return error.transient && !error.refused;
}

/** What was refused for good; null: nothing. Throws what may be otherwise in a moment. */
async function refusalOf(checking: Promise<unknown>): Promise<DatabaseError | null> {
  try {
    await checking;
    return null;
  } catch (error) {
    if (error instanceof DatabaseError && !isOfReach(error)) return error;
    throw error;
  }
}

async function healthOf(part: Part, signal: AbortSignal): Promise<Health> {
  const silence = Promise.withResolvers<Health>();
  const giveUp = () => silence.resolve({ ok: false, message: 'does not answer' });
  signal.addEventListener('abort', giveUp);
  try {
    // Not only by its own word: one that is stuck must not keep the others from being told.
    return await Promise.race([answerOf(part, signal), silence.promise]);
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}

async function answerOf({ database, awaited, faults }: Part, signal: AbortSignal): Promise<Health> {
  if (awaited !== null) return { ok: false, message: awaited.message };
  try {
    await database.ping(signal);
  } catch (error) {
    return { ok: false, message: error instanceof DatabaseError ? error.message : 'does not answer' };
  }
  const [[, fault] = []] = faults;
  if (fault === undefined) return { ok: true };
  const more = faults.size > 1 ? ` (and ${faults.size - 1} more)` : '';
  return { ok: false, message: `${fault.message}${more}` };
}
