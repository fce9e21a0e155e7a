/** A store that cannot be had: the server says so in one line that holds no secret, and does not start. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { tempFolder } from '../support/folder.ts';
import { launch, type Settings, service, setup, skipOf } from './databases/support.ts';
import { postgresStore, redisStore } from './stores.ts';

const SECRET = 'wrong-password-4711';

/** What it prints, without the name of the program before it. */
async function refusal(t: TestContext, store: Settings): Promise<string> {
  const folder = tempFolder(t);
  writeFileSync(join(folder, 'empty.db'), '');
  const place = setup(t, {
    tasks: '-- name: one\nSELECT 1 AS n',
    db: { app: { type: 'sqlite', dsn: join(folder, 'empty.db') } },
    results: { reports: { type: 'sqlite', dsn: join(folder, 'results.db') } },
    store,
  });
  const server = launch(t, place);
  assert.equal(await server.exited(), 1);
  assert.equal(server.url, '', 'nothing listened');
  assert.ok(!server.stderr.includes(SECRET));
  const [, line] = /^dungbeetle: (.+)\n$/.exec(server.stderr) ?? [];
  assert.ok(line !== undefined, server.stderr);
  return line;
}

/** A port on which nothing listens, and one that takes connections and says nothing. */
async function ports(t: TestContext): Promise<{ readonly closed: number; readonly silent: number }> {
  const listen = () =>
    new Promise<{ port: number; close: () => Promise<void> }>((resolve) => {
      const server = createServer((socket) => socket.on('error', () => {})).listen(0, '127.0.0.1', () => {
        const address = server.address();
        assert.ok(address !== null && typeof address === 'object');
        const close = () => new Promise<void>((closed) => server.close(() => closed()));
        resolve({ port: address.port, close });
      });
    });
  const [one, other] = [await listen(), await listen()];
  await one.close();
  t.after(() => void other.close());
  return { closed: one.port, silent: other.port };
}

const UNAVAILABLE = /^the job store is unavailable: \S.*$/;

const REDIS = service('redis');
test('on Redis', { skip: skipOf(REDIS) }, async (t) => {
  const { closed, silent } = await ports(t);
  const settings = (dsn: string) => ({ ...redisStore(dsn), dial_timeout: '20s' });
  const dsn = REDIS.dsn ?? '';
  const wrong = new URL(dsn);
  wrong.password = SECRET;
  const none = new URL(dsn);
  none.password = '';
  const [refused, passwordless, away, mute] = await Promise.all([
    refusal(t, settings(wrong.href)),
    refusal(t, settings(none.href)),
    refusal(t, { ...redisStore(`redis://:${SECRET}@127.0.0.1:${closed}/1`), dial_timeout: '1s' }),
    refusal(t, { ...redisStore(`redis://:${SECRET}@127.0.0.1:${silent}/1`), dial_timeout: '1s' }),
  ]);
  for (const line of [refused, passwordless, away, mute]) assert.match(line, UNAVAILABLE);
  assert.match(refused, /password/);
  assert.match(passwordless, /password/);
  assert.match(away, new RegExp(`127\\.0\\.0\\.1:${closed}`));
  assert.match(mute, new RegExp(`127\\.0\\.0\\.1:${silent}`));
});

const POSTGRES = service('postgres-15');
test('on Postgres', { skip: skipOf(POSTGRES) }, async (t) => {
  const { closed, silent } = await ports(t);
  const settings = (dsn: string) => ({ ...postgresStore(dsn), connect_timeout: '20s' });
  const wrong = new URL(POSTGRES.dsn ?? '');
  wrong.password = SECRET;
  const missing = new URL(POSTGRES.dsn ?? '');
  missing.pathname = '/there_is_none';
  const lines = await Promise.all([
    refusal(t, settings(wrong.href)),
    refusal(t, settings(missing.href)),
    refusal(t, { ...postgresStore(`postgres://u:${SECRET}@127.0.0.1:${closed}/d`), connect_timeout: '1s' }),
    refusal(t, { ...postgresStore(`postgres://u:${SECRET}@127.0.0.1:${silent}/d`), connect_timeout: '1s' }),
  ]);
  for (const line of lines) assert.match(line, UNAVAILABLE);
  const [refused = '', absent = ''] = lines;
  assert.match(refused, /28P01/);
  assert.match(absent, /3D000/);
});
