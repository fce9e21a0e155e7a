/** Signals that come while the server still starts. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { launch, type TestServer } from '../support/server.ts';
import { type Setup, setup } from '../support/setup.ts';
import { until } from '../support/until.ts';

async function starting(t: TestContext, { folder }: Setup): Promise<TestServer> {
  const server = launch(t, folder);
  server.started().catch(() => {}); // it may end before that
  await until('it starts', () => messages(server).includes('starting'));
  return server;
}

function messages(server: TestServer): readonly unknown[] {
  return server.log.map((line) => line['msg']);
}

/** Whether a signal was sent that the process has not taken yet. */
async function isPending(server: TestServer): Promise<boolean> {
  const status = await readFile(`/proc/${server.child.pid}/status`, 'utf8');
  return /^ShdPnd:\s*0*[1-9a-f]/m.test(status);
}

test('a signal while it starts: it starts, drains and exits 0', async (t) => {
  const server = await starting(t, setup(t));
  assert.equal(await server.stop('SIGTERM'), 0);
  const said = messages(server);
  assert.ok(said.indexOf('started') < said.indexOf('draining'), said.join(', '));
});

test('two signals while it starts: it ends', {
  skip: process.platform !== 'linux' && 'reads /proc',
}, async (t) => {
  const place = setup(t);
  const lock = new DatabaseSync(place.ledger);
  t.after(() => lock.close());
  lock.exec('BEGIN EXCLUSIVE'); // the start waits for the source to answer
  const server = await starting(t, place);
  server.child.kill('SIGTERM');
  await until('the first one is taken', async () => !(await isPending(server)));
  assert.equal(await server.stop('SIGINT'), 130);
  assert.ok(!messages(server).includes('started'));
});
