/** The child process of a results file: the only one of this server that writes to it. */
import { setTimeout as delay } from 'node:timers/promises';
import { DatabaseError } from '../errors.ts';
import { Checkpoints } from './checkpoints.ts';
import { failureOf } from './failure.ts';
import * as tables from './result-tables.ts';
import { ResultsFile } from './results-file.ts';
import { serve } from './serve.ts';
import { Spool } from './spool.ts';
import { type Opened, Turns } from './turns.ts';
import type { WriterOperations, WriterSetup } from './writer-operations.ts';

const setup = JSON.parse(process.argv[2] ?? '') as WriterSetup;

/** Expired tables looked up at once. */
const EXPIRED_AT_ONCE = 100;
/** How long giving up a staging table waits until it is gone, ms. */
const EMPTYING_MS = 300;

let opened: Opened | null = null;
const spools = new Map<string, Spool>();
const turns = new Turns(open);
/** Tables whose emptying is under way, each with its end. */
const emptying = new Map<string, Promise<void>>();

serve<WriterOperations>(
  {
    ping: () =>
      turns.soon({
        work: ({ db }) => {
          tables.checkWritable(db);
          return null;
        },
      }),

    spool: ({ file, columns }) => {
      spools.set(file, new Spool(file, columns));
      return null;
    },
    append: ({ file, ...piece }) => spoolOf(file).append(piece),
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

    begin: ({ owner, columns, staged, staging }) =>
      turns.soon({
        work: ({ db }) => {
          tables.beginStaging(db, owner, columns, staged, staging, Date.now());
          return null;
        },
      }),

    copy: async ({ staging, staged, width }, tell) => {
      let copied = 0;
      await turns.inSteps({
        file: staged.file,
        step: ({ db }, schema, most) => {
          tables.checkLoading(db, staging);
          const rows = tables.copyRows(db, schema, staging, width, copied, copied + most);
          const last = rows < most || copied + rows >= staged.rows;
          if (last) tables.checkCount(copied + rows, staged.rows);
          return { rows, bytes: (staged.bytes * rows) / Math.max(1, staged.rows), last };
        },
        committed: ({ rows }) => {
          copied += rows;
          tell(copied);
        },
      });
      return null;
    },

    publish: (publication) =>
      turns.soon({
        ticket: publication.ticket,
        ...(publication.staging === null
          ? { file: publication.staged.file, bytes: publication.staged.bytes }
          : {}),
        work: ({ db }, schema) => tables.publish(db, setup.results_table, publication, schema, Date.now()),
      }),

    withdraw: ({ ticket }) => turns.withdraw(ticket),

    discard: async ({ staging }) => {
      // Whoever still copies into it finds it gone, and stops.
      await turns.soon({ work: ({ db }) => tables.discardStaging(db, staging) });
      // Gone with the answer, if that does not take long; if it fails, the next sweep tries again.
      await Promise.race([emptyTrash(staging).catch(() => {}), delay(EMPTYING_MS)]);
      return null;
    },

    published: (owner) => turns.soon({ work: ({ db }) => tables.publishedBy(db, owner) }),

    drop: async ({ job_id, fence }) => {
      const dropped = await turns.soon({
        work: ({ db }) =>
          tables.dropPublished(db, job_id, (table) => fence === null || table.fence === fence, Date.now()),
      });
      if (dropped) emptyTrashLater();
      return dropped;
    },

    expire: async () => {
      let expired = 0;
      for (;;) {
        const now = Date.now();
        const jobs = await turns.soon({ work: ({ db }) => tables.expiredJobs(db, now, EXPIRED_AT_ONCE) });
        for (const job_id of jobs) {
          const dropped = await turns.soon({
            work: ({ db }) =>
              tables.dropPublished(
                db,
                job_id,
                ({ expires_at }) => expires_at !== null && expires_at <= now,
                now,
              ),
          });
          if (dropped) expired += 1;
        }
        if (jobs.length < EXPIRED_AT_ONCE) break;
      }
      await emptyTrash();
      return expired;
    },

    leftovers: ({ store_id }) => turns.soon({ work: ({ db }) => tables.leftoversOf(db, store_id) }),

    settle: ({ job_id, store_id, fence }) =>
      turns.soon({
        work: ({ db }) => {
          tables.settle(db, job_id, store_id, fence);
          return null;
        },
      }),

    forget: async ({ store_id }) => {
      const forgotten = await turns.soon({ work: ({ db }) => tables.forgetOld(db, store_id, Date.now()) });
      await emptyTrash();
      return forgotten;
    },

    close: async () => {
      await turns.stop();
      for (const spool of spools.values()) spool.close();
      // The last connection moves the log into the database, and removes it.
      await opened?.checkpoints.close();
      opened?.file.close();
      opened = null;
      return null;
    },
  },
  (error) => failureOf(error, setup.database, 'query_failed'),
);

async function open(): Promise<Opened> {
  if (opened === null) {
    opened = {
      file: await ResultsFile.open(setup.path, setup.database),
      checkpoints: new Checkpoints(setup.path),
    };
    emptyTrashLater();
  } else if (!opened.file.isCurrent()) {
    // Closing the old file would remove the new one's log, which has the same name: so no closing.
    process.kill(process.pid, 'SIGKILL');
  }
  return opened;
}

function spoolOf(file: string): Spool {
  const spool = spools.get(file);
  if (spool !== undefined) return spool;
  throw new DatabaseError('unavailable', `${setup.database}: the staging file is no longer being written`);
}

/** Trash harms nobody but by its size: what cannot be emptied now is found again by the next sweep. */
function emptyTrashLater(): void {
  emptyTrash().catch(() => {});
}

/** Resolves when the given table is gone, or all trash if none is given. */
async function emptyTrash(only?: string): Promise<void> {
  for (const table of await turns.soon({ work: ({ db }) => tables.trashTables(db) })) {
    if (emptying.has(table)) continue;
    const end = turns
      .inSteps({ step: ({ db }, _, most) => tables.emptySome(db, table, most) })
      .finally(() => emptying.delete(table));
    // Awaited below by some, and otherwise left to the next sweep.
    end.catch(() => {});
    emptying.set(table, end);
  }
  if (only === undefined) await Promise.all(emptying.values());
  else await emptying.get(only);
}
