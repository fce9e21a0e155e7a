/** The log on standard output, whoever reads it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { launch } from '../support/server.ts';
import { setup } from '../support/setup.ts';
import { until } from '../support/until.ts';

test('a reader of the log that is stuck stops nothing; the log is whole when it reads on', async (t) => {
  const server = await launch(t, setup(t).folder).started();
  const { stdout } = server.child;
  assert.ok(stdout);
  stdout.pause();
  // More than any pipe holds.
  const requests = 3_000;
  for (let n = 0; n < requests; n += 100) {
    await Promise.all(
      Array.from({ length: 100 }, async (_, index) => {
        const { http } = await server.request('GET', `/jobs/none-${n + index}-${'x'.repeat(90)}`);
        assert.equal(http, 404);
      }),
    );
  }
  const logged = () => server.log.filter(({ path }) => `${path}`.startsWith('/jobs/none-')).length;
  assert.ok(logged() < requests);
  stdout.resume();
  await until('all of it is read', () => logged() === requests);
  assert.equal(await server.stop(), 0);
});
