import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { api, type TestApi } from './support.ts';

const PATH = '/tasks/get_profit_summary/jobs';

/** Over node:http, which sends just these headers; fetch has its own mind about some of them. */
async function ask(test: TestApi, method: 'GET' | 'POST', headers: Record<string, string>) {
  const url = test.url + (method === 'GET' ? '/tasks' : PATH);
  const [response] = await once(request(url, { method, headers, agent: false }).end(), 'response');
  const { code, message } = JSON.parse(await text(response));
  return { http: response.statusCode, code, message };
}

test('programs are not asked where they come from', async (t) => {
  const test = await api(t);
  for (const host of ['localhost:6060', '127.0.0.1', 'reports.example.com', '']) {
    for (const method of ['GET', 'POST'] as const) {
      assert.equal((await ask(test, method, { host })).http, 200, host);
    }
  }
});

test('a page of another site can neither post nor read', async (t) => {
  const test = await api(t);
  const cases: Record<string, string>[] = [
    { host: 'localhost:6060', origin: 'https://evil.example' },
    { host: 'localhost:6060', origin: 'null' },
    { host: 'localhost:6060', origin: 'http://localhost:3000' },
    { host: 'localhost:6060', origin: 'http://localhost' },
    { host: 'localhost:6060', origin: 'rubbish' },
    { host: 'localhost:6060', 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' },
    { host: 'localhost:6060', 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'cors' },
  ];
  for (const headers of cases) {
    for (const method of ['GET', 'POST'] as const) {
      const answer = await ask(test, method, headers);
      assert.equal(answer.http, 403, JSON.stringify(headers));
      assert.equal(answer.code, 'forbidden');
    }
  }
  const form = { host: 'localhost:6060', 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' };
  assert.equal((await ask(test, 'POST', form)).http, 403, 'a form that is sent from elsewhere');
  assert.equal((await test.store.list({}, 1)).items.length, 0);
});

test('behind a proxy with a name of its own, that name is an origin to allow', async (t) => {
  const headers = { host: '127.0.0.1:6060', origin: 'https://reports.example.com' };
  assert.equal((await ask(await api(t), 'POST', headers)).http, 403);
  const told = await api(t, { allowed_hosts: ['Reports.example.com'] });
  assert.equal((await ask(told, 'POST', headers)).http, 200);
  assert.equal((await ask(told, 'POST', { ...headers, 'sec-fetch-site': 'cross-site' })).http, 403);
});

test('the own pages of this server, links and the address bar may', async (t) => {
  const test = await api(t);
  const own = { host: 'localhost:6060', origin: 'http://localhost:6060', 'sec-fetch-site': 'same-origin' };
  assert.equal((await ask(test, 'POST', own)).http, 200);
  const typed = { host: 'localhost:6060', 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' };
  assert.equal((await ask(test, 'GET', typed)).http, 200);
  const link = { host: 'localhost:6060', 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' };
  assert.equal((await ask(test, 'GET', link)).http, 200);
});

test('a public name that leads to loopback is not taken for this server', async (t) => {
  const test = await api(t, { allowed_hosts: ['reports.example.com'] });
  const browser = { 'accept-language': 'en' };
  for (const host of [
    'evil.example:6060',
    'evil.example',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
  ]) {
    for (const headers of [
      { ...browser, host },
      { host, origin: `http://${host}` },
      { host, 'sec-fetch-site': 'same-origin' },
    ]) {
      const answer = await ask(test, 'GET', headers);
      assert.equal(answer.http, 403, JSON.stringify(headers));
      assert.match(answer.message, /allowed hosts/);
    }
  }
  for (const host of [
    'localhost:6060',
    'localhost',
    'LOCALHOST.',
    '127.0.0.1:6060',
    '[::1]:6060',
    '[::1]',
    'dungbeetle:6060',
    'app.localhost',
    'box.local:80',
    'host.docker.internal',
    'reports.example.com',
    'Reports.Example.com:443',
    '',
  ]) {
    assert.equal((await ask(test, 'GET', { ...browser, host })).http, 200, host);
  }
});
