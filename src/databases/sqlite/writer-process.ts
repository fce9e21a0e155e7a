/**
 * The child process of a results file: the only one of this server that writes to it. What is quick (a small
 * result, a publication, a drop) goes first, several in one transaction and so with one fsync; what is long
 * (copying, emptying trash) goes in steps of a few milliseconds, in turn, one after each round of the quick.
 */
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import { DatabaseError } from '../errors.ts';
import { failureOf } from './failure.ts';
import { fileUri, quoteName } from './quote.ts';
import * as tables from './result-tables.ts';
import { ResultsFile } from './results-file.ts';
import { serve } from './serve.ts';
import { Spool } from './spool.ts';
import type { WriterOperations, WriterSetup } from './writer-operations.ts';

const setup = JSON.parse(process.argv[2] ?? '') as WriterSetup;

/** What a step may take, ms, and how many rows the first one of a task gets. */
const STEP_MS = 15;
const FIRST_ROWS = 2_000;
/** Of these, each publication may attach a file; SQLite attaches ten at most. */
const MOST_AT_ONCE = 8;
/** A pause in long work, so that other processes get at the file: they look every millisecond. */
const PAUSE_EVERY_MS = 50;
const PAUSE_MS = 2;
/** Staging tables of other stores, which nobody here can ask about, are given up after a week. */
const FORGOTTEN_MS = 7 * 24 * 3600 * 1000;
/** Fences are remembered for a day after they matter: longer than any attempt can sleep and come back. */
const REMEMBERED_MS = 24 * 3600 * 1000;

interface Quick {
  readonly ticket: number | null;
  /** A staging file to attach meanwhile. */
  readonly file: string | null;
  work(results: ResultsFile, schema: string | null): unknown;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

interface Long {
  /** The table it works on. */
  readonly table: string;
  /** Does some; true when there is nothing left. */
  step(results: ResultsFile): Promise<boolean>;
  resolve(): void;
  reject(error: unknown): void;
}

let results: ResultsFile | null = null;
const quick: Quick[] = [];
const long: Long[] = [];
const spools = new Map<string, Spool>();
let running = false;

serve<WriterOperations>(
  {
    ping: () => soon(() => null),

    spool: ({ file, columns }) => {
      spools.set(file, new Spool(file, columns));
      return null;
    },
    append: ({ file, rows }) => spoolOf(file).append(rows),
    seal: ({ file }) => {
      const sealed = spoolOf(file).seal();
      spools.delete(file);
      return sealed;
    },
    unspool: ({ file }) => {
      spools.get(file)?.close();
      spools.delete(file);
      return null;
    },

    begin: ({ owner, columns }) => soon(({ db }) => tables.beginStaging(db, owner, columns, Date.now())),

    copy: (request, tell) => inSteps(request.staging, copying(request, tell)),

    publish: (publication) =>
      soon(
        ({ db }, schema) => tables.publish(db, setup.results_table, publication, schema, Date.now()),
        publication.staging === null ? publication.staged.file : null,
        publication.ticket,
      ),

    withdraw: ({ ticket }) => {
      const index = quick.findIndex((waiting) => waiting.ticket === ticket);
      if (index < 0) return false;
      quick.splice(index, 1)[0]?.reject(new DatabaseError('query_failed', 'withdrawn'));
      return true;
    },

    discard: async ({ staging }) => {
      for (const task of long.filter((other) => other.table === staging)) {
        long.splice(long.indexOf(task), 1);
        task.reject(new DatabaseError('query_failed', 'discarded'));
      }
      await soon(({ db }) => tables.discardStaging(db, staging));
      // Gone with the answer, if that does not take long; the caller's caller waits.
      await Promise.race([emptyTrash(staging).catch(() => {}), delay(300)]);
      return null;
    },

    published: (owner) => soon(({ db }) => tables.publishedBy(db, owner)),

    drop: async ({ job_id, fence }) => {
      const dropped = await soon(({ db }) =>
        tables.dropPublished(db, job_id, (table) => fence === null || table.fence === fence, Date.now()),
      );
      if (dropped) emptyTrashLater();
      return dropped;
    },

    expire: async () => {
      let expired = 0;
      for (;;) {
        const now = Date.now();
        const jobs = await soon(({ db }) => tables.expiredJobs(db, now, 100));
        if (jobs.length === 0) break;
        for (const job_id of jobs) {
          const dropped = await soon(({ db }) =>
            tables.dropPublished(
              db,
              job_id,
              ({ expires_at }) => expires_at !== null && expires_at <= now,
              now,
            ),
          );
          if (dropped) expired += 1;
        }
      }
      await emptyTrash();
      return expired;
    },

    leftovers: ({ store_id }) =>
      soon(({ db }) => ({
        staging: db
          .prepare(
            'SELECT table_name AS "table", fence FROM dungbeetle_staging WHERE store_id = ? AND state = \'loading\'',
          )
          .all(store_id) as { table: string; fence: number }[],
        unsettled: db
          .prepare('SELECT job_id, fence FROM dungbeetle_results WHERE store_id = ? AND settled = 0')
          .all(store_id) as { job_id: string; fence: number }[],
      })),

    settle: async ({ job_id, store_id, fence }) => {
      await soon(({ db }) =>
        db
          .prepare(
            'UPDATE dungbeetle_results SET settled = 1 WHERE job_id = ? AND store_id = ? AND fence = ?',
          )
          .run(job_id, store_id, fence),
      );
      return null;
    },

    forget: async ({ store_id }) => {
      const now = Date.now();
      const forgotten = await soon(({ db }) => {
        db.prepare('DELETE FROM dungbeetle_fences WHERE noted_at < ?').run(now - REMEMBERED_MS);
        const { changes } = db
          .prepare(
            "UPDATE dungbeetle_staging SET state = 'trash' WHERE store_id <> ? AND state = 'loading' AND created_at < ?",
          )
          .run(store_id, now - FORGOTTEN_MS);
        return Number(changes);
      });
      await emptyTrash();
      return forgotten;
    },

    close: async () => {
      for (const spool of spools.values()) spool.close();
      results?.close();
      results = null;
      return null;
    },
  },
  (error) => failureOf(error, setup.database, 'query_failed'),
);

function spoolOf(file: string): Spool {
  const spool = spools.get(file);
  if (spool === undefined)
    throw new DatabaseError('unavailable', 'the staging file is no longer being written');
  return spool;
}

function soon<T>(
  work: (results: ResultsFile, schema: string | null) => T,
  file: string | null = null,
  ticket: number | null = null,
): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  quick.push({ ticket, file, work, resolve: resolve as (value: unknown) => void, reject });
  void run();
  return promise;
}

function inSteps(table: string, step: Long['step']): Promise<null> {
  const { promise, resolve, reject } = Promise.withResolvers<null>();
  long.push({ table, step, resolve: () => resolve(null), reject });
  void run();
  return promise;
}

async function run(): Promise<void> {
  if (running) return;
  running = true;
  let paused_at = performance.now();
  while (quick.length > 0 || long.length > 0) {
    // Calls that have arrived meanwhile come in here.
    await nextTurn();
    if (quick.length > 0) await runQuick(quick.splice(0, MOST_AT_ONCE));
    const task = long.shift();
    if (task === undefined) continue;
    await runLong(task);
    if (performance.now() - paused_at > PAUSE_EVERY_MS) {
      await delay(PAUSE_MS);
      paused_at = performance.now();
    }
  }
  running = false;
}

async function runLong(task: Long): Promise<void> {
  try {
    if (await task.step(await opened())) task.resolve();
    else long.push(task);
  } catch (error) {
    task.reject(error);
  }
}

type Outcome = { readonly value: unknown } | { readonly error: unknown };

async function runQuick(batch: readonly Quick[]): Promise<void> {
  let outcomes: readonly Outcome[];
  try {
    outcomes = await together(batch);
  } catch (error) {
    outcomes = batch.map(() => ({ error }));
    if (batch.length > 1) {
      // The transaction itself has failed: one of them may be the cause, the others need not suffer.
      for (const one of batch) await runQuick([one]);
      return;
    }
  }
  batch.forEach((one, index) => {
    const outcome = outcomes[index];
    if (outcome === undefined) one.reject(new Error('a step has no outcome'));
    else if ('error' in outcome) one.reject(outcome.error);
    else one.resolve(outcome.value);
  });
}

async function together(batch: readonly Quick[]): Promise<readonly Outcome[]> {
  const file = await opened();
  const attached: string[] = [];
  try {
    const schemas = batch.map((one, index) => {
      if (one.file === null) return null;
      const schema = `staged_${index}`;
      attach(file, one.file, schema);
      attached.push(schema);
      return schema;
    });
    const outcomes = await file.transact('FULL', () =>
      batch.map((one, index): Outcome => {
        const work = () => one.work(file, schemas[index] ?? null);
        if (batch.length === 1) return { value: work() };
        try {
          return { value: file.nested(work) };
        } catch (error) {
          if (!file.db.isTransaction) throw error;
          return { error };
        }
      }),
    );
    await opened();
    return outcomes;
  } finally {
    for (const schema of attached) file.db.exec(`DETACH ${quoteName(schema)}`);
  }
}

/** Nobody writes to the file any more, so it needs no locks. */
function attach({ db }: ResultsFile, file: string, schema: string): void {
  db.prepare(`ATTACH ? AS ${quoteName(schema)}`).run(fileUri(file, { mode: 'ro', immutable: '1' }));
}

async function opened(): Promise<ResultsFile> {
  if (results === null) {
    results = await ResultsFile.open(setup.path);
    emptyTrashLater();
  } else if (!results.isCurrent()) {
    // Closing the old file would remove the new one's log, which has the same name: so no closing.
    process.kill(process.pid, 'SIGKILL');
  }
  return results;
}

function copying(
  { staging, staged, width }: WriterOperations['copy']['request'],
  tell: (rows: number) => void,
): Long['step'] {
  const { file, rows } = staged;
  let done = 0;
  let size = FIRST_ROWS;
  return async (results) => {
    attach(results, file, 'copied');
    try {
      const begun = performance.now();
      const copied = await results.transact('NORMAL', () => {
        tables.checkLoading(results.db, staging);
        return tables.copyRows(results.db, 'copied', staging, width, done, done + size);
      });
      const took = performance.now() - begun;
      done += copied;
      tell(done);
      if (copied < size || done >= rows) {
        tables.checkCount(done, rows);
        return true;
      }
      // Towards the budget, by a factor of two at most.
      size = Math.max(1, Math.round(size * Math.min(2, Math.max(0.5, STEP_MS / took))));
      return false;
    } finally {
      results.db.exec('DETACH copied');
    }
  };
}

/** Tables whose emptying is under way, each with its end. */
const emptying = new Map<string, Promise<null>>();

/** Trash harms nobody but by its size: what cannot be emptied now is found again by the next sweep. */
function emptyTrashLater(): void {
  emptyTrash().catch(() => {});
}

/** Resolves when the given table is gone, or all trash if none is given. */
async function emptyTrash(only?: string): Promise<void> {
  const trash = await soon(({ db }) => tables.trashTables(db));
  for (const table of trash) {
    if (emptying.has(table)) continue;
    const end = inSteps(table, emptyingOf(table)).finally(() => emptying.delete(table));
    // Awaited below by some, and otherwise left to the next sweep.
    end.catch(() => {});
    emptying.set(table, end);
  }
  if (only === undefined) await Promise.all(emptying.values());
  else await emptying.get(only);
}

function emptyingOf(table: string): Long['step'] {
  let size = FIRST_ROWS;
  return async (results) => {
    const begun = performance.now();
    const gone = await results.transact('NORMAL', () => tables.emptySome(results.db, table, size));
    const took = performance.now() - begun;
    size = Math.max(1, Math.round(size * Math.min(2, Math.max(0.5, STEP_MS / took))));
    return gone;
  };
}
