/** Whose the files are that a server makes, and which it warns of. */
import assert from 'node:assert/strict';
import { appendFileSync, chmodSync, existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openSqliteStore } from '../../src/queue/stores/sqlite.ts';
import { tempFolder } from '../support/folder.ts';
import { launch, type TestServer } from '../support/server.ts';
import { setup } from '../support/setup.ts';
import { until } from '../support/until.ts';

const SKIP = process.platform === 'win32' && 'Windows has other rights';

function rightsOf(file: string): string {
  return (statSync(file).mode & 0o777).toString(8);
}

function warned({ log }: TestServer): unknown[] {
  return log.filter(({ event }) => event === 'readable_file').map(({ file, holds }) => [file, holds]);
}

test('what a server makes is for its owner alone, whatever the umask', { skip: SKIP }, async (t) => {
  const place = setup(t);
  const before = process.umask(0);
  t.after(() => process.umask(before));
  const server = await launch(t, place.folder).started();
  await server.finished(await server.post('total'));
  const running = await server.post('count_to_gate');
  await until('it runs', async () => (await server.job(running)).state === 'STARTED');
  const staging = `${place.results}-staging`;
  const ours = [place.queue, place.results].flatMap((file) =>
    [file, `${file}-wal`, `${file}-shm`].filter((one) => existsSync(one)),
  );
  assert.ok(ours.includes(`${place.queue}-wal`));
  for (const file of [...ours, ...readdirSync(staging).map((name) => join(staging, name))]) {
    assert.equal(rightsOf(file), '600', file);
  }
  assert.equal(rightsOf(staging), '700');
  assert.deepEqual(warned(server), [], 'no password is in the configuration');
});

test('a file of a queue that a program of its own opens is for its owner alone', {
  skip: SKIP,
}, async (t) => {
  const path = join(tempFolder(t), 'queue.db');
  const before = process.umask(0);
  t.after(() => process.umask(before));
  const store = await openSqliteStore({ path });
  t.after(() => store.close());
  for (const file of [path, `${path}-wal`, `${path}-shm`]) assert.equal(rightsOf(file), '600', file);
});

test('files that others may read are warned of, and left as they are', { skip: SKIP }, async (t) => {
  const place = setup(t, { app: '# dsn = "postgres://user:secret@host/db"' });
  const config = join(place.folder, 'config.toml');
  chmodSync(config, 0o644);
  const first = await launch(t, place.folder).started();
  assert.deepEqual(warned(first), [], 'a password in a comment is none');
  assert.equal(await first.stop(), 0);

  appendFileSync(config, '[db.other]\ntype = "postgres"\ndsn = "postgres://reader:hunter2@127.0.0.1:1/db"\n');
  chmodSync(place.queue, 0o640);
  const second = launch(t, place.folder);
  await until('it warns', () => warned(second).length === 2);
  assert.deepEqual(warned(second), [
    [config, 'passwords'],
    [place.queue, 'the arguments of jobs'],
  ]);
  await second.started();
  assert.equal(await second.stop(), 0);
  assert.deepEqual([rightsOf(config), rightsOf(place.queue)], ['644', '640']);
  assert.ok(!JSON.stringify(second.log).includes('hunter2'));

  chmodSync(config, 0o600);
  chmodSync(place.queue, 0o600);
  const third = await launch(t, place.folder).started();
  assert.deepEqual(warned(third), []);
});
