import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TaskError } from '../../src/tasks/errors.ts';
import { parseTasks } from '../../src/tasks/parser.ts';
import { queueConcurrency, resolveTasks } from '../../src/tasks/registry.ts';

const around = {
  sources: ['ledger', 'archive'],
  results: ['r1', 'r2'],
  default_queue: 'default',
  default_concurrency: 10,
  longest_name: 128,
};

function faults(text: string, surroundings = around): readonly string[] {
  try {
    resolveTasks(parseTasks(text, 'f'), surroundings);
  } catch (error) {
    if (error instanceof TaskError) return error.faults;
    throw error;
  }
  throw assert.fail('the tasks are refused');
}

test('what a task does not say is filled in; what it says stays', () => {
  const tasks = parseTasks(
    '-- name: a\nSELECT 1\n-- name: b\n-- db: archive\n-- results: r2, r1\n-- queue: q\n-- timeout: 5\nSELECT 2',
    'f',
  );
  const [a, b] = resolveTasks(tasks, around);
  assert.deepEqual(a, {
    ...tasks[0],
    db: ['ledger', 'archive'],
    results: ['r1', 'r2'],
    queue: 'default',
    concurrency: 10,
  });
  assert.deepEqual(b, { ...tasks[1], concurrency: 10 });
});

test('the concurrency belongs to the queue: tasks that do not say it have it too', () => {
  const tasks = resolveTasks(
    parseTasks(
      `-- name: a\n-- queue: q\nSELECT 1
-- name: b\n-- queue: q\n-- concurrency: 5\nSELECT 2
-- name: c\n-- queue: q\n-- conc: 5\nSELECT 3
-- name: d\n-- concurrency: 3\nSELECT 4
-- name: e\n-- queue: default\nSELECT 5
-- name: f\n-- queue: other\nSELECT 6`,
      'f',
    ),
    around,
  );
  assert.deepEqual(
    tasks.map(({ name, queue, concurrency }) => [name, queue, concurrency]),
    [
      ['a', 'q', 5],
      ['b', 'q', 5],
      ['c', 'q', 5],
      ['d', 'default', 3],
      ['e', 'default', 3],
      ['f', 'other', 10],
    ],
  );
  assert.deepEqual(
    [...queueConcurrency(tasks, ['q', 'default', 'unheard', 'other'], 7)],
    [
      ['q', 5],
      ['default', 3],
      ['unheard', 7],
      ['other', 10],
    ],
  );
});

test('tasks of one queue that disagree: both places are told', () => {
  const text =
    '-- name: a\n-- conc: 2\nSELECT 1\n\n-- name: b\n-- queue: default\n-- concurrency: 3\nSELECT 2';
  assert.deepEqual(faults(text), [
    'f:5: task "b": it gives queue "default" a concurrency of 3, but task "a" (f:1) gives it 2; ' +
      'it belongs to the queue, so say it once',
  ]);
});

test('names that the configuration does not have: the ones that it has are told', () => {
  const text = '-- name: a\n-- db: ledgr, archive\nSELECT 1\n-- name: b\n-- results: __proto__\nSELECT 2';
  assert.deepEqual(faults(text), [
    'f:1: task "a": there is no database "ledgr"; did you mean "ledger"? the configuration has "ledger", "archive"',
    'f:4: task "b": there is no results backend "__proto__"; the configuration has "r1", "r2"',
  ]);
});

test('without any database or results backend no task can run', () => {
  assert.deepEqual(faults('-- name: a\nSELECT 1', { ...around, sources: [], results: [] }), [
    'f:1: task "a": there is no database in the configuration',
    'f:1: task "a": there is no results backend in the configuration',
  ]);
});

test('names that are too long for the queue are refused', () => {
  const [long, longer] = ['x'.repeat(128), 'x'.repeat(129)];
  assert.deepEqual(faults(`-- name: ${longer}\nSELECT 1\n-- name: b\n-- queue: ${longer}\nSELECT 2`), [
    `f:1: task "${longer.slice(0, 80)}…": its name is longer than 128 characters`,
    'f:3: task "b": the name of its queue is longer than 128 characters',
  ]);
  assert.equal(
    resolveTasks(parseTasks(`-- name: ${long}\n-- queue: ${long}\nSELECT 1`, 'f'), around).length,
    1,
  );
});
