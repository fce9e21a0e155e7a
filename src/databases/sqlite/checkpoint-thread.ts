/** A thread that moves what is in the write-ahead log into the database, so that no writer waits for it. */
import { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import type { CheckpointReply, CheckpointRequest } from './checkpoints.ts';

let db: DatabaseSync | null = null;

parentPort?.on('message', ({ mode }: CheckpointRequest) => {
  if (mode === 'CLOSE') {
    db?.close();
    db = null;
    parentPort?.postMessage({ pages: 0 } satisfies CheckpointReply);
    return;
  }
  let pages = 0;
  try {
    if (db === null) {
      db = new DatabaseSync(String(workerData));
      db.exec('PRAGMA synchronous = NORMAL');
    }
    pages = checkpoint(db, 'PASSIVE');
    // Keeps writers out while it runs, so there must be little left for it.
    if (mode === 'TRUNCATE') pages = checkpoint(db, 'TRUNCATE');
  } catch {
    // A full disk, a reader in the way: nothing is lost, the log just stays longer. It is tried again.
  }
  parentPort?.postMessage({ pages } satisfies CheckpointReply);
});

/** How many pages there are in the log. */
function checkpoint(db: DatabaseSync, mode: 'PASSIVE' | 'TRUNCATE'): number {
  return Number(db.prepare(`PRAGMA wal_checkpoint(${mode})`).get()?.['log'] ?? 0);
}
