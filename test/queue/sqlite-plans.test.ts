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

test('what waits in lanes is found by index alone', () => {
  const database = new DatabaseSync(':memory:');
  for (const migration of MIGRATIONS) database.exec(migration);
  const expected: readonly (readonly [sql: string, search: string])[] = [
    [SQL.highestInPlay, 'waiting_in_play (queue=?)'],
    [SQL.nextInPlay, 'waiting_in_play (queue=? AND priority<?)'],
    [SQL.dueInPlay, 'waiting_due (queue=? AND (due_at,place)>(?,?) AND due_at<?)'],
    [SQL.isBehindAnother, 'waiting_in_lane (lane=? AND (due_at,place)<(?,?))'],
    [SQL.firstOfLane, 'waiting_held (lane=?)'],
    [SQL.firstOfPool, 'waiting_for_pool (held_by=? AND queue=?)'],
    [SQL.nextQueueOfPool, 'waiting_for_pool (held_by=? AND queue>?)'],
  ];
  for (const [sql, search] of expected) {
    const [step = '', ...more] = plan(database, sql);
    assert.match(step, /^SEARCH waiting USING (COVERING )?INDEX /, sql);
    assert.equal(step.replace(/^.* INDEX /, ''), search);
    assert.deepEqual(more, []);
  }
  database.close();
});

test('claims read the index of what can be claimed, in its order', () => {
  const database = new DatabaseSync(':memory:');
  for (const migration of MIGRATIONS) database.exec(migration);
  assert.deepEqual(plan(database, SQL.claimable), [
    'SEARCH jobs USING INDEX jobs_waiting (queue=? AND hold=? AND priority=? AND (due_at,place)>(?,?))',
  ]);
  assert.deepEqual(plan(database, SQL.firstInPlay), [
    'SEARCH waiting USING INDEX waiting_in_play (queue=? AND priority=? AND turn_at<?)',
    'CORRELATED SCALAR SUBQUERY 1',
    'SEARCH jobs USING INTEGER PRIMARY KEY (rowid=?)',
  ]);
  database.close();
});
