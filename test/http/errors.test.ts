import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ApiError, CATALOG, errorBody, RETRY_AFTER, toApiError } from '../../src/http/errors.ts';
import {
  InvalidCursor,
  InvalidJob,
  JobActive,
  LeaseLost,
  QueueError,
  StoreUnavailable,
} from '../../src/queue/errors.ts';
import { ReportError } from '../../src/reports/report.ts';
import { api } from './support.ts';

test('docs/api.md lists the catalog, one for one', () => {
  const text = readFileSync(new URL('../../docs/api.md', import.meta.url), 'utf8');
  const documented = [...text.matchAll(/^\| `([a-z_]+)` \| (\d{3}) \| (.*?) \|/gm)].map(
    ([, code, status, message]) => [code, { status: Number(status), message }],
  );
  assert.deepEqual(documented, Object.entries(CATALOG));
});

test('docs/api.md names the routes of the server, one for one', async (t) => {
  const { app } = await api(t);
  const text = readFileSync(new URL('../../docs/api.md', import.meta.url), 'utf8');
  const documented = [...text.matchAll(/^### `(GET|POST|DELETE) (\/[^`?]*)`/gm)];
  for (const [, method = '', path = ''] of documented) {
    assert.ok(
      app.hasRoute({ method: method as 'GET', url: path.replace(/\{(.*?)\}/g, ':$1') }),
      `${method} ${path}`,
    );
  }
  const methods = [...app.printRoutes({ commonPrefix: false }).matchAll(/\((.*)\)/g)]
    .flatMap(([, list = '']) => list.split(', '))
    .filter((method) => method !== 'HEAD'); // comes with every GET
  assert.equal(documented.length, methods.length);
});

test('errors of the rooms below become those of the catalog, messages kept where they are for people', () => {
  const cases: [unknown, string, RegExp][] = [
    [JobActive('x'), 'job_active', /^job "x" is already queued or running$/],
    [InvalidJob('a cycle'), 'invalid_request', /^a cycle$/],
    [InvalidCursor(), 'invalid_request', /cursor/],
    [LeaseLost('x', 1), 'internal', /its log has the details/],
    [new QueueError('queue_full', 'queue "a" has 10 jobs'), 'queue_full', /^queue "a" has 10 jobs$/],
    [
      StoreUnavailable('/secret/path is locked'),
      'unavailable',
      /^the job store is unavailable for now; try again$/,
    ],
    [
      new ReportError('unknown_task', 'task', 'there is no task "x"'),
      'unknown_task',
      /^there is no task "x"$/,
    ],
    [new ReportError('invalid_request', 'db', 'db: no'), 'invalid_request', /^db: no$/],
    [new Error('secret'), 'internal', /its log has the details/],
    [
      Object.assign(new Error('secret'), { statusCode: 400 }),
      'invalid_request',
      /^the request is not valid$/,
    ],
    [Object.assign(new Error('secret'), { statusCode: 503 }), 'internal', /its log has the details/],
    ['a text', 'internal', /its log has the details/],
    [undefined, 'internal', /its log has the details/],
    [new ApiError('forbidden'), 'forbidden', /another site/],
  ];
  for (const [thrown, code, message] of cases) {
    const error = toApiError(thrown);
    assert.equal(error.code, code);
    assert.match(error.message, message);
    assert.equal(error.statusCode, CATALOG[error.code].status);
    assert.deepEqual(errorBody(error), { status: 'error', message: error.message, code, data: null });
    if (!(thrown instanceof ApiError)) assert.equal(error.cause, thrown);
  }
});

test('the codes that pass by themselves say when to try again', () => {
  assert.deepEqual(Object.keys(RETRY_AFTER).toSorted(), ['queue_full', 'unavailable']);
});
