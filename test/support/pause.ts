/** A server of ours that is stopped for a while, as a machine that sleeps. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { until } from './until.ts';

const SQLITE_BUSY = 5;

/**
 * Stops a process between its transactions: whoever stops in the midst of one keeps everybody from writing to
 * that file until it goes on, as SQLite has it, and no test of a successor could begin.
 */
export async function pause(pid: number | undefined, files: readonly string[]): Promise<void> {
  assert.ok(pid !== undefined);
  await until('it is stopped outside of any transaction', () => {
    process.kill(pid, 'SIGSTOP');
    if (isStopped(pid) && files.every(canBeWritten)) return true;
    process.kill(pid, 'SIGCONT');
    return false;
  });
}

/** Whether every thread of a process has stopped. */
function isStopped(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).every((thread) =>
    /^State:\tT/m.test(readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8')),
  );
}

function canBeWritten(file: string): boolean {
  const database = new DatabaseSync(file, { timeout: 100 });
  try {
    database.exec('BEGIN IMMEDIATE; ROLLBACK');
    return true;
  } catch (error) {
    if (error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY) return false;
    throw error;
  } finally {
    database.close();
  }
}
