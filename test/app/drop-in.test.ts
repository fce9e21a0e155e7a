/**
 * The Go server's configuration and .sql files as it has them, and what its README and its Go client send: each
 * request to the letter, each answer decoded as Go's encoding/json would.
 */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import { tempFolder } from '../support/folder.ts';
import { TestServer } from '../support/server.ts';
import { execute, freshDatabase } from '../support/services.ts';
import { until } from '../support/until.ts';
import { type Settings, service, skipOf } from './databases/support.ts';
import { STORES } from './stores.ts';

const SQL = `-- queries.sql
-- concurrency parameter is associated with the queue.
-- Once a queue is set to a particular concurrency, it cannot be changed.

-- name: get_profit_summary
-- db: my_db
-- concurrency: 5
-- queue: test
SELECT SUM(amount) AS total, entry_date FROM entries WHERE user_id = ? GROUP BY entry_date;

-- name: get_profit_entries
-- db: my_db
-- queue: test
-- results: my_results
SELECT * FROM entries WHERE user_id = ?;

-- name: get_profit_entries_by_date
-- raw: 1
-- This query will not be prepared (raw=1)
SELECT * FROM entries WHERE user_id = ? AND timestamp > ? and timestamp < ?;

-- name: slow_query 
-- db: my_db
-- queue: test
SELECT SLEEP(?);`;

const ENTRIES = `CREATE TABLE entries (user_id VARCHAR(20), amount DECIMAL(10,2), entry_date DATE, timestamp DATETIME)`;
const ROWS = `INSERT INTO entries VALUES ('USER1', 12.50, '2017-03-01', '2017-03-01 10:00:00'),
  ('USER1', 0.25, '2017-05-01', '2017-05-01 10:00:00'), ('USER2', 1, '2017-05-01', '2017-05-01 10:00:00')`;

/** As Go structs: names of fields by their JSON keys, with the types they decode. */
type GoType = 'string' | 'int' | 'bool' | 'time' | readonly [GoType] | { readonly [key: string]: GoType };

const JOB_RESP = { job_id: 'string', task: 'string', queue: 'string', eta: 'time', retries: 'int' } as const;
const JOB_STATUS = { job_id: 'string', state: 'string', count: 'int', error: 'string' } as const;
const GROUP_RESP = { group_id: 'string', jobs: [JOB_RESP] } as const;
const GROUP_STATUS = { group_id: 'string', state: 'string', jobs: [JOB_STATUS] } as const;
/** What the queue's library calls a message; its fields have no tags, and Go matches keys in any case. */
const JOB_MESSAGE = {
  ID: 'string',
  OnSuccessIDs: ['string'],
  Status: 'string',
  Queue: 'string',
  Schedule: 'string',
  MaxRetry: 'int',
  Retried: 'int',
  PrevErr: 'string',
  ProcessedAt: 'time',
  PrevJobResult: 'string',
  Job: { OnSuccess: 'string', Task: 'string', Payload: 'string', OnError: 'string', Opts: 'string' },
} as const;

/** Throws where json.Unmarshal would. */
function decode(value: unknown, type: GoType, where = 'data'): void {
  if (value === null) return; // leaves a field as it is
  if (type === 'time')
    assert.match(String(value), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/, where);
  else if (type === 'int') assert.ok(Number.isSafeInteger(value), where);
  else if (type === 'bool') assert.equal(typeof value, 'boolean', where);
  else if (type === 'string') assert.equal(typeof value, 'string', where);
  else if (Array.isArray(type)) {
    assert.ok(Array.isArray(value), where);
    for (const [index, item] of value.entries()) decode(item, type[0], `${where}[${index}]`);
  } else {
    assert.ok(typeof value === 'object' && !Array.isArray(value), where);
    for (const [key, inner] of Object.entries(value)) {
      const field = Object.keys(type).find((name) => name.toLowerCase() === key.toLowerCase());
      if (field !== undefined)
        decode(inner, (type as Record<string, GoType>)[field] ?? 'string', `${where}.${key}`);
    }
  }
}

interface GoAnswer {
  readonly http: number;
  readonly body: {
    readonly status: string;
    readonly message?: string;
    // biome-ignore lint/suspicious/noExplicitAny: answers of every shape are looked into
    readonly data: any;
  };
}

/** As curl and Go send it: the body to the letter, and the content type they give it. */
async function send(
  { url }: TestServer,
  method: string,
  path: string,
  body?: string,
  type = 'application/json',
): Promise<GoAnswer> {
  const response = await fetch(url + path, {
    method,
    ...(body === undefined ? {} : { body, headers: { 'content-type': type } }),
  });
  assert.match(response.headers.get('content-type') ?? '', /^application\/json/);
  return { http: response.status, body: (await response.json()) as GoAnswer['body'] };
}

/** The data of an answer that must be a success. */
function dataOf({ http, body }: GoAnswer, type: GoType) {
  assert.equal(http, 200, body.message);
  assert.equal(body.status, 'success');
  decode(body.data, type);
  return body.data;
}

const CURL_FORM = 'application/x-www-form-urlencoded';

/** models.JobReq as Go writes it: every field, always. */
function jobReq(
  task: string,
  fields: Partial<Record<'job_id' | 'queue' | 'eta' | 'db', string>> & {
    readonly retries?: number;
    readonly args?: readonly string[];
  },
) {
  const { job_id = '', queue = '', eta = '', retries = 0, args = null, db = '' } = fields;
  return { task, job_id, queue, eta, retries, ttl: 0, args, db };
}

async function place(t: TestContext, state: Settings): Promise<{ folder: string; results: string }> {
  const source = await freshDatabase(t, service('mariadb'));
  const results = await freshDatabase(t, service('postgres-15'));
  await execute(source, ENTRIES);
  await execute(source, ROWS);
  const { username, password, host, pathname } = new URL(source);
  const folder = tempFolder(t);
  mkdirSync(join(folder, 'queries'));
  writeFileSync(join(folder, 'queries', 'queries.sql'), SQL);
  const lines = (settings: Settings) =>
    Object.entries(settings)
      .map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`)
      .join('');
  writeFileSync(
    join(folder, 'config.toml'),
    `[app]
# log level is one of : INFO, DEBUG, ERROR
log_level = "INFO"
# maximum time allowed for a job to run once it has started execution
default_job_ttl = "60s"

[job_queue.broker]
${lines(state)}
[job_queue.state]
${lines(state)}expiry = "30s"
meta_expiry = "3600s"

[results.my_results]
type = "postgres"
dsn = "${results}"

max_idle = 10
max_active = 100
connect_timeout = "10s"

# Results table name. %s will be replaced by the job ID.
results_table = "results_%s"

[db.my_db]
type = "mysql"
dsn = "${decodeURIComponent(username)}:${decodeURIComponent(password)}@tcp(${host})${pathname}"

max_idle = 10
max_active = 100
connect_timeout = "10s"
`,
  );
  return { folder, results };
}

suite('in the place of the Go server', { concurrency: 2 }, () => {
  for (const store of STORES) {
    const skip = skipOf(service('mariadb'), service('postgres-15'), ...store.needs);
    test(`with the queue on ${store.name}`, { skip }, async (t) => {
      const { folder, results } = await place(t, await store.open(t));
      const run = (...flags: string[]) => {
        const args = [
          '--config',
          'config.toml',
          '--sql-directory',
          'queries',
          '--server',
          '127.0.0.1:0',
          ...flags,
        ];
        const server = new TestServer(args, { cwd: folder });
        t.after(() => server.stop('SIGKILL'));
        return server.started();
      };
      const server = await run();
      const count = async (table: string) => {
        const [[rows] = []] = await execute(results, `SELECT count(*) FROM "${table}"`);
        return Number(rows);
      };
      const finished = (job_id: string) =>
        until(`${job_id} has ended`, async () => {
          const status = dataOf(await send(server, 'GET', `/jobs/${job_id}`), JOB_STATUS);
          return ['SUCCESS', 'FAILURE'].includes(status.state) ? status : undefined;
        });

      await t.test('the requests of its README', async () => {
        assert.equal(dataOf(await send(server, 'GET', '/'), 'string').split(' ')[0], 'dungbeetle');
        const tasks = dataOf(await send(server, 'GET', '/tasks'), {});
        assert.deepEqual(Object.keys(tasks).sort(), [
          'get_profit_entries',
          'get_profit_entries_by_date',
          'get_profit_summary',
          'slow_query',
        ]);
        assert.equal(tasks.get_profit_summary.queue, 'test');

        const myjob = '{"job_id": "myjob", "args": ["USER1", "2017-01-01", "2017-12-01"]}';
        const posted = dataOf(
          await send(server, 'POST', '/tasks/get_profit_entries_by_date/jobs', myjob),
          JOB_RESP,
        );
        assert.equal(posted.job_id, 'myjob');
        assert.equal(posted.task_name, 'get_profit_entries_by_date');
        assert.equal(posted.queue, 'default');
        assert.equal(posted.eta, null);
        assert.equal(posted.retries, 0);
        const status = await finished('myjob');
        assert.equal(status.status, 'SUCCESS', status.error);
        assert.deepEqual(status.results, [{ Type: 'int64', Value: 2 }]);
        assert.equal(status.error, '');
        assert.equal(await count('results_myjob'), 2);

        const member = (id: string) =>
          `{"job_id": "${id}", "task": "get_profit_entries_by_date", "args": ["USER1", "2017-12-01", "2017-01-01"]}`;
        const group = `{"group_id": "mygroup", "concurrency": 3, "jobs": [${member('myjob')}, ${member('myjob2')}]`;
        // As it is printed there it lacks its last brace.
        assert.equal((await send(server, 'POST', '/groups', group)).http, 400);
        const answer = dataOf(await send(server, 'POST', '/groups', `${group}}`), GROUP_RESP);
        assert.deepEqual(
          answer.jobs.map((job: { job_id: string }) => job.job_id),
          ['myjob', 'myjob2'],
        );
        await until('the group has ended', async () => {
          const { state } = dataOf(await send(server, 'GET', '/groups/mygroup'), GROUP_STATUS);
          return state === 'SUCCESS';
        });
        assert.equal(await count('results_myjob'), 0, 'the new result has replaced the old one');

        const high = await run(
          ...['--queue', 'high_priority', '--worker-name', 'high_priority_worker'],
          ...['--worker-concurrency', '30', '--worker-only'],
        );
        const path = '/tasks/get_profit_entries_by_date/jobs';
        const urgent =
          '{"job_id": "urgent", "queue": "high_priority", "args": ["USER1", "2017-12-01", "2017-01-01"]}';
        assert.equal(
          dataOf(await send(server, 'POST', path, urgent, CURL_FORM), JOB_RESP).queue,
          'high_priority',
        );
        const done = await finished('urgent');
        assert.equal(done.state, 'SUCCESS', done.error);
        assert.equal(done.worker, 'high_priority_worker');
        assert.equal(await high.stop(), 0);

        const low = '{"job_id": "later", "queue": "low_priority"}';
        assert.equal(
          dataOf(await send(server, 'POST', path, low, CURL_FORM), JOB_RESP).queue,
          'low_priority',
        );
        dataOf(await send(server, 'DELETE', '/jobs/later'), 'bool');
        assert.equal(dataOf(await send(server, 'GET', '/jobs/later'), JOB_STATUS).state, 'CANCELLED');
        const eta = '{"job_id": "timed", "eta": "2999-01-02 03:04:05", "retries": 2}';
        const timed = dataOf(await send(server, 'POST', path, eta, CURL_FORM), JOB_RESP);
        assert.deepEqual([timed.eta, timed.retries], ['2999-01-02T03:04:05.000Z', 2]);
        dataOf(await send(server, 'DELETE', '/groups/mygroup?purge=true'), 'bool');
        assert.equal((await send(server, 'GET', '/groups/mygroup')).http, 404);
      });

      await t.test('the calls of its Go client', async () => {
        const post = async (job: ReturnType<typeof jobReq>) =>
          dataOf(await send(server, 'POST', `/tasks/${job.task}/jobs`, JSON.stringify(job)), JOB_RESP);
        const postGroup = async (group_id: string, jobs: readonly ReturnType<typeof jobReq>[]) =>
          dataOf(await send(server, 'POST', '/groups', JSON.stringify({ group_id, jobs })), GROUP_RESP);

        for (const job_id of ['job1', 'job2']) {
          const job = await post(jobReq('get_profit_summary', { job_id, queue: 'test', retries: 4 }));
          assert.equal(job.job_id, job_id);
          assert.equal(
            (await finished(job_id)).state,
            'FAILURE',
            'it was posted without the argument it takes',
          );
        }
        const made = await post(jobReq('get_profit_summary', { args: ['USER1'] }));
        assert.match(made.job_id, /^job_/);
        assert.equal((await finished(made.job_id)).count, 2);
        const unknown = await send(server, 'GET', '/jobs/aaaa');
        assert.equal(unknown.http, 404);
        assert.equal(unknown.body.status, 'error');
        assert.equal(typeof unknown.body.message, 'string');

        for (const job_id of ['job3', 'job4']) {
          await post(jobReq('get_profit_summary', { job_id, queue: 'test_pending', retries: 3 }));
        }
        const pending = dataOf(await send(server, 'GET', '/jobs/queue/test_pending'), [JOB_MESSAGE]);
        assert.equal(pending.length, 2);
        for (const job_id of ['job1', 'job2', 'job3']) {
          assert.equal(dataOf(await send(server, 'DELETE', `/jobs/${job_id}?purge=true`), 'bool'), true);
          assert.equal((await send(server, 'GET', `/jobs/${job_id}`)).http, 404);
        }
        assert.equal(dataOf(await send(server, 'DELETE', '/jobs/job4?purge=false'), 'bool'), true);
        assert.equal(dataOf(await send(server, 'GET', '/jobs/queue/test_pending'), [JOB_MESSAGE]).length, 0);

        const slow = jobReq('slow_query', { job_id: 'job-slow', queue: 'test', retries: 3, args: ['1'] });
        assert.equal((await postGroup('slow_group', [slow])).group_id, 'slow_group');
        const states = new Set<string>();
        await until('the slow group has ended', async () => {
          const { state } = dataOf(await send(server, 'GET', '/groups/slow_group'), GROUP_STATUS);
          states.add(state);
          return state === 'SUCCESS';
        });
        assert.deepEqual(
          [...states].filter((state) => !['PENDING', 'STARTED', 'SUCCESS'].includes(state)),
          [],
        );
        assert.ok(states.size > 1, 'it was seen at work');
        assert.equal(await count('results_job-slow'), 1);
        dataOf(await send(server, 'DELETE', '/groups/slow_group?purge=true'), 'bool');
        const [[left] = []] = await execute(
          results,
          "SELECT count(*) FROM information_schema.tables WHERE table_name = 'results_job-slow'",
        );
        assert.equal(left, '0');
      });
      assert.equal(await server.stop(), 0);
      assert.equal(server.stderr, '');
    });
  }
});
