import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { MIGRATIONS } from '../../src/queue/stores/sqlite/schema.ts';
import { LISTING, SQL } from '../../src/queue/stores/sqlite/statements.ts';

/** Tables that one may walk over from end to end: one row, a row per queue, a row per running attempt. */
const SMALL = new Set(['store', 'counts', 'paused_queues', 'leases']);
/** Walks over the running attempts, every few seconds; none of it is on the way of a job. */
const MAY_SORT = new Set(['expired']);

function plan(database: DatabaseSync, sql: string): string[] {
  return database
    .prepare(`EXPLAIN QUERY PLAN ${sql}`)
    .all()
    .map(({ detail }) => String(detail));
}

test('no statement walks over jobs that it does not return', () => {
  const database = new DatabaseSync(':memory:');
  for (const migration of MIGRATIONS) database.exec(migration);
  const listings = Object.entries(LISTING).flatMap(([name, { window, page }]) => [
    [`${name}.window`, window] as const,
    [`${name}.page`, page] as const,
  ]);
  for (const [name, sql] of [...Object.entries(SQL), ...listings]) {
    for (const step of plan(database, sql)) {
      const [, table] = /^SCAN (\w+)/.exec(step) ?? [];
      if (table !== undefined) assert.ok(SMALL.has(table), `${name}: ${step}`);
      if (!MAY_SORT.has(name)) assert.doesNotMatch(step, /TEMP B-TREE/, name);
    }
  }
  database.close();
});

test('claims read the index of what can be claimed, in its order', () => {
  const database = new DatabaseSync(':memory:');
  for (const migration of MIGRATIONS) database.exec(migration);
  assert.deepEqual(plan(database, SQL.claimable), [
    'SEARCH jobs USING INDEX jobs_waiting (queue=? AND hold=? AND priority=? AND (due_at,place)>(?,?))',
  ]);
  database.close();
});
