/** The time that a request takes is linear in its size, whatever it holds and wherever it goes. */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { suite, test } from 'node:test';
import { parseJson } from '../../src/http/json.ts';
import { api, BODY_LIMIT, type TestApi } from './support.ts';

/** What all of a body but its frame has room for. */
const ROOM = BODY_LIMIT - 100;
const PART = 8;
/** CPU time of an eighth of a request, ms: some ten are usual, and a quadratic time is thousands. */
const MOST_OF_PART = 1_000;
/** The whole may take so many times as much, and something for the memory that it takes. */
const FACTOR = 2.5 * PART;
const SLACK = 300;

/** As many of a unit as there is room for. */
function fill(room: number, unit: string | ((index: number) => string), between = ','): string {
  const units: string[] = [];
  for (let length = 0; ; ) {
    const next = typeof unit === 'string' ? unit : unit(units.length);
    length += next.length + between.length;
    if (length > room) return units.join(between);
    units.push(next);
  }
}

const bodies: Readonly<Record<string, (room: number) => string>> = {
  'a number of many zeros': (room) => `{"args":[1.${'0'.repeat(room)}1]}`,
  'a number of many digits': (room) => `{"retries":${'9'.repeat(room)}}`,
  'an exponent of many digits': (room) => `{"args":[1e${'9'.repeat(room)}]}`,
  'long numbers': (room) => `{"args":[${fill(room, `1.5${'0'.repeat(990)}`)}]}`,
  'short numbers': (room) => `{"args":[${fill(room, '1e5')}]}`,
  'a long text': (room) => `{"args":["${'x'.repeat(room)}"]}`,
  'a text of escapes': (room) => `{"args":["${fill(room, '\\u00e9\\\\', '')}"]}`,
  'a text of other alphabets': (room) => `{"args":["${fill(room / 3, '漢', '')}"]}`,
  'surrogates in pairs': (room) => `{"args":["${fill(room, '\\ud83d\\ude00', '')}"]}`,
  'surrogates without their halves': (room) => `{"args":["${fill(room, '\\ud83d', '')}"]}`,
  'many texts': (room) => `{"args":[${fill(room, '"\\n"')}]}`,
  'many objects': (room) => `{"args":[${fill(room, '{}')}]}`,
  'many keys': (room) => `{${fill(room, (index) => `"k${index}":1`)}}`,
  'many keys that are numbers': (room) => `{${fill(room, (index) => `"${index * 4096}":1`)}}`,
  'many keys further in': (room) => `{"jobs":[{${fill(room, (index) => `"k${index}":1`)}}]}`,
  'one key again and again': (room) => `{${fill(room, '"a":1')}}`,
  'a long key': (room) => `{"${fill(room, '/~', '')}":1}`,
  'deep lists': (room) => '['.repeat(room / 2) + ']'.repeat(room / 2),
  'deep objects': (room) => `${fill(room / 2, '{"a":', '')}1${fill(room / 6, '}', '')}`,
  'lists as deep as they may be': (room) => `{"args":[${fill(room, '['.repeat(28) + ']'.repeat(28))}]}`,
  'brackets that are not closed': (room) => '['.repeat(room),
  'quotes and nothing else': (room) => '"'.repeat(room),
  'blanks and nothing else': (room) => ' '.repeat(room),
  'blanks and then no JSON': (room) => `${' '.repeat(room)}x`,
  NULs: (room) => '\0'.repeat(room),
  'the name of a task': (room) => `{"task":"${'x'.repeat(room)}"}`,
  'the name of a database': (room) => `{"db":"${'x'.repeat(room)}"}`,
  'the name of a queue': (room) => `{"queue":"${'x'.repeat(room)}"}`,
  'an id': (room) => `{"job_id":"${'x'.repeat(room)}"}`,
  'an eta': (room) => `{"eta":"2024-01-01T00:00:00.${'1'.repeat(room)}"}`,
  'many parents': (room) => `{"after":[${fill(room, (index) => `"j${index}"`)}]}`,
  'many jobs of a group': (room) => `{"jobs":[${fill(room, '{"task":"slow_query"}')}]}`,
  'as many as may be': (room) =>
    `{"jobs":[${fill(room, '{"task":"slow_query","args":[1,"x",null,true],"key":"k","retries":3,"priority":2,"ttl":60,"queue":"q"}')}]}`,
  'many jobs without a task': (room) => `{"jobs":[${fill(room, '{}')}]}`,
  'many jobs that are none': (room) => `{"jobs":[${fill(room, '0')}]}`,
  'jobs with many parents': (room) =>
    `{"jobs":[{"task":"slow_query","job_id":"j"},${fill(room, `{"task":"slow_query","after":[${fill(4_000, '"j"')}]}`)}]}`,
  'jobs with wrong arguments': (room) => `{"jobs":[{"task":"slow_query","args":[${fill(room, '{}')}]}]}`,
};

/** CPU time of all threads of this process, the store's and the client's among them, ms. */
async function cpuTime(work: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}

/** A garbage collection may fall into any measurement: what is linear is so once in three times. */
async function checkLinear(send: (room: number) => Promise<unknown>): Promise<void> {
  const seen: string[] = [];
  for (let tries = 0; tries < 3; tries++) {
    const part = await cpuTime(() => send(Math.floor(ROOM / PART / 2) * 2));
    seen.push(`${part.toFixed()} ms`);
    if (part > MOST_OF_PART) continue;
    const whole = await cpuTime(() => send(Math.floor(ROOM / 2) * 2));
    seen.push(`${whole.toFixed()} ms`);
    if (whole <= FACTOR * part + SLACK) return;
  }
  assert.fail(`an eighth of it and all of it took ${seen.join(', ')}`);
}

suite('a body', () => {
  for (const path of [
    '/tasks/get_profit_summary/jobs',
    '/groups',
    '/jobs/x/retry',
    '/queues/default/pause',
  ]) {
    test(`to ${path}`, async (t) => {
      const server = await api(t);
      // It reads and checks a body in the same way.
      const isOnlyRead = path.endsWith('/retry') || path.endsWith('/pause');
      for (const [shape, bodyOf] of Object.entries(bodies).filter(
        (_, index) => !isOnlyRead || index % 4 === 0,
      )) {
        await t.test(shape, () =>
          checkLinear(async (room) => {
            const { http, message } = await server.post(path, bodyOf(room));
            assert.ok(http < 500, message);
            // What was sent is not sent back.
            assert.ok((message ?? '').length < 1_000, message);
          }),
        );
      }
    });
  }

  test('of a request that takes none', async (t) => {
    const server = await api(t);
    await checkLinear((room) => server.request('DELETE', '/jobs/x', '['.repeat(room)));
  });
});

test('paths, parameters and headers as long as they may be', async (t) => {
  const server = await api(t);
  const room = 15_000;
  const texts = [
    'x'.repeat(room),
    '/'.repeat(room),
    fill(room, '%00', ''),
    fill(room, '%C3%A9', ''),
    fill(room, '%ED%A0%80', ''),
    fill(room, '1h', ''),
    '0'.repeat(room),
    '.'.repeat(room),
    fill(room, 'a=1', '&'),
    fill(room, '[', ''),
  ];
  const paths = texts.flatMap((text) => [
    `/${text}`,
    `/jobs/${text}`,
    `/groups/${text}`,
    `/jobs/queue/${text}`,
    `/jobs/${text}/retry`,
    `/jobs?cursor=${text}`,
    `/jobs?group=${text}`,
    `/jobs?task=${text}&queue=${text.slice(0, 10)}`,
    `/jobs?${text}`,
    `/jobs/x?wait=${text}`,
    `/tasks?sql=${text}`,
  ]);
  const headers = ['origin', 'host', 'x-request-id', 'content-encoding', 'sec-fetch-site', 'accept-language'];
  const cpu = await cpuTime(async () => {
    for (const path of paths) await statusOf(server, 'GET', path);
    for (const text of ['x'.repeat(room), '['.repeat(room), ':1'.repeat(room / 2), 'a.'.repeat(room / 2)]) {
      for (const name of headers) await statusOf(server, 'GET', '/', { [name]: text });
    }
    for (const text of texts) await statusOf(server, 'POST', `/queues/${text}/pause`);
  });
  // Some three are usual for each; one that is quadratic takes a hundred.
  const requests = paths.length + texts.length + 4 * headers.length;
  assert.ok(cpu < 30 * requests, `${requests} requests took ${cpu} ms`);
});

/** Neither changes nor checks what it is to send, as `fetch` would. */
async function statusOf(
  { port }: TestApi,
  method: string,
  path: string,
  headers: Record<string, string> = {},
): Promise<void> {
  const status = await new Promise<number | undefined>((resolve, reject) => {
    request(
      { port, host: '127.0.0.1', method, path, headers: { host: 'localhost', ...headers } },
      (response) => {
        response.resume().on('end', () => resolve(response.statusCode));
      },
    )
      .on('error', reject)
      .end();
  });
  assert.ok(status !== undefined && status < 500, `${method} ${path.slice(0, 40)}: ${status}`);
}

test('a number of a thousand characters passes if it is exact, a longer one is told', () => {
  const exact = `1.5${'0'.repeat(997)}`;
  assert.deepEqual(parseJson(`[${exact}]`), [1.5]);
  assert.throws(() => parseJson(`{"args":[${exact}0]}`), {
    message:
      /^args\[0\]: the number 1\.50*… has 1001 characters, and at most 1000 are taken; send it as a string$/,
  });
});
