/** Each .sql file of the corpus gives what the .json file beside it says. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { TaskError } from '../../src/tasks/errors.ts';
import { parseTasks } from '../../src/tasks/parser.ts';
import type { Task } from '../../src/tasks/task.ts';

/** What is expected: tasks, of which what is not tagged is left out, or errors without the file's name. */
interface Expected {
  readonly tasks?: readonly Partial<Task>[];
  readonly errors?: readonly string[];
}

const corpus = new URL('corpus/', import.meta.url);
const names = readdirSync(corpus)
  .filter((file) => file.endsWith('.sql'))
  .map((file) => file.slice(0, -4));

const untagged = {
  db: null,
  results: null,
  queue: null,
  concurrency: null,
  raw: false,
  timeout: null,
  ttl: null,
  max_rows: null,
  max_bytes: null,
  max_value_bytes: null,
  allow_cut: false,
  priority: null,
  extra: {},
  mistakable: [],
};

assert.ok(names.length > 40, 'the corpus is there');

for (const name of names) {
  test(name, () => {
    const text = readFileSync(new URL(`${name}.sql`, corpus), 'utf8');
    const expected: Expected = JSON.parse(readFileSync(new URL(`${name}.json`, corpus), 'utf8'));
    if (expected.errors !== undefined) {
      const wanted = expected.errors.map((error) => `f.sql:${error}`);
      assert.throws(
        () => parseTasks(text, 'f.sql'),
        (error) => {
          assert.ok(error instanceof TaskError);
          assert.deepEqual(error.faults, wanted);
          assert.equal(error.message, wanted.join('\n'));
          return true;
        },
      );
      return;
    }
    assert.ok(expected.tasks, 'the expectation has tasks or errors');
    const tasks = parseTasks(text, 'f.sql');
    const lines = text.replace(/^\ufeff/, '').split('\n');
    for (const { sql, begins } of tasks) {
      const [first = '', ...more] = sql.split('\n');
      assert.ok(lines[begins.line - 1]?.startsWith(first, begins.column - 1), `${first} is where it says`);
      for (const [index, line] of more.entries()) {
        if (line !== '') assert.ok(lines[begins.line + index]?.startsWith(line), `${line} is below it`);
      }
    }
    assert.deepEqual(
      tasks.map(({ begins: _, ...task }) => task),
      expected.tasks.map((task) => ({ ...untagged, file: 'f.sql', ...task })),
    );
  });
}
