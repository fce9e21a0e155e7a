import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { TaskError } from '../../src/tasks/errors.ts';
import { loadTasks } from '../../src/tasks/load.ts';
import { tempFolder } from '../support/folder.ts';

/** A folder with files. */
function folder(t: TestContext, files: Readonly<Record<string, string | Uint8Array>>): string {
  const path = tempFolder(t);
  for (const [name, content] of Object.entries(files)) writeFileSync(join(path, name), content);
  return path;
}

async function faults(...directories: string[]): Promise<readonly string[]> {
  try {
    await loadTasks(directories);
  } catch (error) {
    if (error instanceof TaskError) return error.faults;
    throw error;
  }
  throw assert.fail('the directories are refused');
}

const task = (name: string) => `-- name: ${name}\nSELECT 1\n`;

test('all .sql files of the directories, in the order of their names', async (t) => {
  const one = folder(t, {
    'b.sql': task('b'),
    'a.sql': task('a1') + task('a2'),
    'notes.txt': 'x',
    'c.SQL': 'x',
  });
  mkdirSync(join(one, 'below'));
  writeFileSync(join(one, 'below', 'd.sql'), task('d'));
  writeFileSync(join(one, '.hidden.sql'), 'x');
  const two = folder(t, { 'a.sql': task('c'), 'empty.sql': '' });
  const tasks = await loadTasks([one, two]);
  assert.deepEqual(
    tasks.map(({ name, file, line }) => [name, file, line]),
    [
      ['a1', join(one, 'a.sql'), 1],
      ['a2', join(one, 'a.sql'), 3],
      ['b', join(one, 'b.sql'), 1],
      ['c', join(two, 'a.sql'), 1],
    ],
  );
  assert.deepEqual(await loadTasks([]), []);
});

test('a directory that is given twice, also by another name, is read once', async (t) => {
  const path = folder(t, { 'a.sql': task('a') });
  const link = join(tempFolder(t), 'link');
  symlinkSync(path, link);
  const tasks = await loadTasks([path, `${path}/`, link]);
  assert.deepEqual(
    tasks.map(({ name }) => name),
    ['a'],
  );
});

test('files can be links', async (t) => {
  const path = folder(t, { 'a.txt': task('a') });
  symlinkSync(join(path, 'a.txt'), join(path, 'a.sql'));
  assert.deepEqual(
    (await loadTasks([path])).map(({ name }) => name),
    ['a'],
  );
});

test('a directory that is missing, not one, or without .sql files', async (t) => {
  const path = folder(t, { 'a.txt': '', '.a.sql': '' });
  const missing = join(path, 'missing');
  const file = join(path, 'a.txt');
  assert.deepEqual(await faults(missing, file, path), [
    `cannot read the SQL directory "${missing}": it does not exist`,
    `cannot read the SQL directory "${file}": it is not a directory`,
    `there is no .sql file in the SQL directory "${path}"`,
  ]);
});

test('files that cannot be read', async (t) => {
  const path = folder(t, { 'ok.sql': task('a') });
  mkdirSync(join(path, 'folder.sql'));
  symlinkSync(join(path, 'nowhere'), join(path, 'gone.sql'));
  symlinkSync(join(path, 'loop.sql'), join(path, 'loop.sql'));
  assert.deepEqual(await faults(path), [
    `${join(path, 'folder.sql')}: cannot be read: it is not a file`,
    `${join(path, 'gone.sql')}: cannot be read: it does not exist`,
    `${join(path, 'loop.sql')}: cannot be read: it is a link that leads to itself`,
  ]);
});

test('files that are not UTF-8, with the line', async (t) => {
  const path = folder(t, {
    'first.sql': Buffer.from("-- name: a\nSELECT 'ü'", 'latin1'),
    'good.sql': '\ufeff-- name: ü\nSELECT 1',
    'last.sql': Buffer.concat([Buffer.from('-- name: b\nSELECT 1\n-- '), Buffer.from([0xe2, 0x82])]),
    'wide.sql': Buffer.from('\ufeff-- name: c\nSELECT 1', 'utf16le'),
    'zero.sql': '-- name: d\nSELECT \0',
  });
  assert.deepEqual(await faults(path), [
    `${join(path, 'first.sql')}:2: this is not UTF-8; save the file as UTF-8`,
    `${join(path, 'last.sql')}:3: this is not UTF-8; save the file as UTF-8`,
    `${join(path, 'wide.sql')}:1: this is UTF-16; save the file as UTF-8`,
    `${join(path, 'zero.sql')}:2: there is a NUL character`,
  ]);
});

test('a name that two files have: both places are told', async (t) => {
  const one = folder(t, { 'a.sql': task('same') + task('other'), 'b.sql': `\n${task('same')}` });
  const two = folder(t, { 'a.sql': task('other') });
  assert.deepEqual(await faults(one, two), [
    `${join(one, 'b.sql')}:2: there is already a task "same", in ${join(one, 'a.sql')}:1`,
    `${join(two, 'a.sql')}:1: there is already a task "other", in ${join(one, 'a.sql')}:3`,
  ]);
});

test('the faults of all files are told at once', async (t) => {
  const path = folder(t, { 'a.sql': '-- name: a\n-- raw: x\n', 'b.sql': 'SELECT 1' });
  assert.deepEqual(await faults(path, join(path, 'missing')), [
    `${join(path, 'a.sql')}:1: the task "a" has no query`,
    `${join(path, 'a.sql')}:2: "raw" takes 1 or 0, not "x"`,
    `${join(path, 'b.sql')}:1: there is a query without a name; put "-- name: my_report" above it`,
    `cannot read the SQL directory "${join(path, 'missing')}": it does not exist`,
  ]);
});
