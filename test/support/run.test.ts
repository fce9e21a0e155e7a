/** `npm test` and `npm run services`, as processes. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { isDebian } from '../../scripts/services/apt.ts';
import { type Engine, type Place, type ServerName, skipVariable } from '../../scripts/services/engine.ts';
import { ENGINES, enginesOfRun } from '../../scripts/services/engines.ts';
import { makeOnce } from '../../scripts/services/once.ts';
import { REDIS } from '../../scripts/services/redis.ts';
import { notToday, summary, withoutServer } from '../../scripts/services/skipped.ts';
import { startServers } from '../../scripts/services/start.ts';
import { tempFolder } from './folder.ts';
import { execute, noPrivate } from './services.ts';
import { until } from './until.ts';

const script = (name: string) => fileURLToPath(new URL(`../../scripts/${name}`, import.meta.url));

/** A folder that the servers' accounts may pass through. */
function openFolder(t: TestContext): string {
  const folder = tempFolder(t);
  chmodSync(folder, 0o711);
  return folder;
}

/** An environment in which only these servers are to be started, with a folder of temporary files of its own. */
function environment(folder: string, wanted: readonly ServerName[]): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { ...process.env, TMPDIR: folder };
  for (const name of Object.keys(env)) {
    if (/^(TEST_|NODE_TEST_|NODE_OPTIONS$|CI$)/.test(name)) delete env[name];
  }
  for (const { name, variable } of ENGINES) {
    if (!wanted.includes(name)) env[skipVariable(variable)] = 'not in this test';
  }
  return env;
}

class Run {
  readonly child: ChildProcess;
  readonly exited: Promise<number | string>;
  stdout = '';
  stderr = '';

  constructor(t: TestContext, name: string, args: readonly string[], env: NodeJS.ProcessEnv) {
    this.child = spawn(process.execPath, [script(name), ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.exited = once(this.child, 'close').then(([code, signal]) => signal ?? code);
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    t.after(() => this.child.kill('SIGKILL'));
  }

  /** The value that it exports, once it does. */
  async exported(variable: string): Promise<string> {
    return until(`it exports ${variable}: ${this.stderr}`, () => {
      assert.equal(this.child.exitCode, null, this.stderr);
      return new RegExp(`^export ${variable}='(.*)'$`, 'm').exec(this.stdout)?.[1];
    });
  }
}

async function refuses(dsn: string): Promise<boolean> {
  const { port } = new URL(dsn);
  const socket = createConnection(Number(port), '127.0.0.1');
  return new Promise((resolve) => {
    socket.on('connect', () => resolve(false)).on('error', () => resolve(true));
  }).then((refused) => {
    socket.destroy();
    return refused === true;
  });
}

const skip = noPrivate('postgres-18') || noPrivate('redis');

for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
  test(`services run until ${signal}, which leaves nothing behind`, { skip }, async (t) => {
    const folder = openFolder(t);
    const run = new Run(t, 'services.ts', [], environment(folder, ['postgres-18', 'redis']));
    const postgres = await run.exported('TEST_POSTGRES_18_DSN');
    const redis = await run.exported('TEST_REDIS_URL');
    assert.deepEqual(await execute(postgres, 'SELECT 1'), [['1']]);
    assert.deepEqual(await execute(redis, 'PING'), [['PONG']]);
    assert.match(run.stderr, /^postgres-18 18\.\d+ on 127\.0\.0\.1:\d+, \d+\.\d s$/m);
    assert.match(run.stderr, /^mariadb is missing: not in this test$/m);
    assert.equal(await run.exported('TEST_MARIADB_SKIP'), 'not in this test');
    assert.ok(existsSync(await run.exported('TEST_SERVERS_FOLDER')));
    run.child.kill(signal);
    assert.equal(await run.exited, { SIGINT: 130, SIGTERM: 143, SIGKILL: 'SIGKILL' }[signal]);
    // Killed, it leaves the rest to its watchdog.
    await until('all is gone', async () => {
      const ended = (await refuses(postgres)) && (await refuses(redis));
      return ended && readdirSync(folder).length === 0;
    });
  });
}

test('a signal while servers start leaves nothing behind', { skip }, async (t) => {
  const folder = openFolder(t);
  const run = new Run(t, 'services.ts', [], environment(folder, ['postgres-18', 'redis']));
  await until('one has started', () => run.stderr.includes('redis 7') || run.child.exitCode !== null);
  run.child.kill('SIGTERM');
  assert.equal(await run.exited, 143, run.stderr);
  await until('all is gone', () => readdirSync(folder).length === 0);
  assert.equal(run.stdout, '');
});

test('a server that does not start ends the others, and tells why', { skip }, async () => {
  const places: Place[] = [];
  const engine = (name: ServerName, program?: string): Engine => ({
    ...REDIS,
    name,
    variable: `TEST_OTHER_${name}_URL`,
    command(place) {
      places.push(place);
      return program === undefined ? REDIS.command(place) : { program, args: [] };
    },
  });
  const lines: string[] = [];
  const started = startServers((line) => lines.push(line), new AbortController().signal, [
    engine('redis'),
    engine('clickhouse', '/bin/false'),
  ]);
  await assert.rejects(started, /^Error: clickhouse ended with code 1:/);
  assert.equal(lines.length, 1, 'the good one had started');
  assert.equal(places.length, 2);
  for (const place of places) {
    assert.equal(existsSync(dirname(place.folder)), false);
    assert.ok(await refuses(REDIS.dsn(place)));
  }
});

const FILE = `
import { test } from 'node:test';
import assert from 'node:assert/strict';
test('sees a server', { skip: process.env.TEST_REDIS_SKIP && 'missing: redis' }, () => {
  assert.match(process.env.TEST_REDIS_URL, /^redis:/);
});
test('is not for this system', { skip: 'for another system' }, () => {});
`;

test('npm test starts what no variable names, and passes on how the tests went', { skip }, async (t) => {
  const folder = openFolder(t);
  const file = join(folder, 'a.test.mjs');
  writeFileSync(file, FILE);
  const env = { ...environment(folder, ['redis']), CI: 'true' };
  const run = new Run(t, 'test.ts', [file], env);
  assert.equal(await run.exited, 0, run.stdout + run.stderr);
  assert.match(run.stdout, /^redis \S+ on 127\.0\.0\.1:\d+/m);
  assert.match(run.stdout, /^1 test or suite was skipped: 1 × for another system$/m);
  writeFileSync(file, "import { test } from 'node:test'; test('fails', () => { throw new Error('so'); });");
  const failed = new Run(t, 'test.ts', [file], env);
  assert.equal(await failed.exited, 1, failed.stdout);
  assert.deepEqual(readdirSync(folder), ['a.test.mjs']);
});

test('npm test counts what was skipped; with CI=true what is missing fails it', async (t) => {
  const folder = openFolder(t);
  const file = join(folder, 'a.test.mjs');
  writeFileSync(file, FILE);
  const env = environment(folder, []);
  const lenient = new Run(t, 'test.ts', [file], env);
  assert.equal(await lenient.exited, 0, lenient.stdout);
  const line = '2 tests and suites were skipped: 1 × missing: redis; 1 × for another system\n';
  assert.ok(lenient.stdout.endsWith(line), lenient.stdout);
  const strict = new Run(t, 'test.ts', [file], { ...env, CI: 'true' });
  assert.equal(await strict.exited, 1, strict.stdout);
  assert.ok(strict.stdout.endsWith(`${line}With CI=true, what is missing fails the run.\n`), strict.stdout);
});

test('npm test uses a server that a variable names, and starts none', async (t) => {
  const folder = openFolder(t);
  const file = join(folder, 'a.test.mjs');
  writeFileSync(
    file,
    `import { test } from 'node:test';
     import assert from 'node:assert/strict';
     test('sees it', () => assert.equal(process.env.TEST_REDIS_URL, 'redis://elsewhere:1'));`,
  );
  const env = environment(folder, ['redis']);
  const run = new Run(t, 'test.ts', [file], { ...env, TEST_REDIS_URL: 'redis://elsewhere:1' });
  assert.equal(await run.exited, 0, run.stdout + run.stderr);
  assert.match(run.stdout, /^redis named by TEST_REDIS_URL$/m);
  assert.doesNotMatch(run.stdout, / on 127\.0\.0\.1/);
});

test('every generation of a server is for those who ask for all', {
  skip: noPrivate('redis') || noPrivate('valkey'),
}, async (t) => {
  const names = enginesOfRun(true).map(({ name }) => name);
  assert.deepEqual(
    names,
    ENGINES.map(({ name }) => name),
  );
  const env = environment(openFolder(t), ['redis', 'valkey']);
  const all = new Run(t, 'services.ts', ['--all'], env);
  assert.deepEqual(await execute(await all.exported('TEST_VALKEY_URL'), 'PING'), [['PONG']]);
  assert.match(all.stderr, /^valkey 9\.\d+\.\d+ on 127\.0\.0\.1:/m);
  const usual = new Run(t, 'services.ts', [], env);
  await usual.exported('TEST_REDIS_URL');
  assert.doesNotMatch(usual.stderr + usual.stdout, /valkey|mariadb-11/i);
  for (const run of [all, usual]) {
    run.child.kill('SIGTERM');
    assert.equal(await run.exited, 143);
  }
});

/** A mirror that is not there, and a cache with nothing in it. */
function withoutMirror(folder: string, wanted: readonly ServerName[]): NodeJS.ProcessEnv {
  const proxy = 'http://127.0.0.1:1';
  return {
    ...environment(folder, wanted),
    ...{ http_proxy: proxy, https_proxy: proxy, HTTP_PROXY: proxy, HTTPS_PROXY: proxy },
    TEST_CACHE_FOLDER: join(folder, 'cache'),
    CI: 'true',
  };
}

for (const { name, reason, code } of [
  // Its release moves, and has at times what cannot be installed.
  {
    name: 'mysql',
    reason: /1 × not today: mysql: mysql-server-core of Debian sid cannot be had: .+\n$/,
    code: 0,
  },
  {
    name: 'mariadb-11',
    reason: /1 × missing: mariadb-11: mariadb-server-core of Debian trixie cannot be had: .+\nWith CI=true/,
    code: 1,
  },
] as const) {
  test(`a mirror that does not give ${name}: the closing line says so, and CI ${code === 0 ? 'goes on' : 'fails'}`, {
    skip: isDebian() ? false : 'for Debian',
  }, async (t) => {
    const folder = openFolder(t);
    const services = new URL('services.ts', import.meta.url).href;
    const file = join(folder, 'a.test.mjs');
    writeFileSync(
      file,
      `import { test } from 'node:test';
       import { SERVERS } from '${services}';
       const { skip } = SERVERS.find(({ name }) => name === '${name}');
       test('asks it', { skip }, () => { throw new Error('it is there'); });`,
    );
    const run = new Run(t, 'test.ts', ['--all', file], withoutMirror(folder, [name]));
    assert.equal(await run.exited, code, run.stdout + run.stderr);
    assert.match(run.stdout, reason);
    assert.deepEqual(readdirSync(join(folder, 'cache')), [], 'nothing is left half made');
  });
}

test('what several make at once is made once, and what was left half made is made again', async (t) => {
  const path = join(tempFolder(t), 'made');
  mkdirSync(`${path}.${process.pid}`); // by a run that was killed
  let times = 0;
  const make = async (fresh: string) => {
    times += 1;
    assert.equal(existsSync(fresh), false);
    mkdirSync(fresh);
    await until('both have asked', () => asked === 2);
    writeFileSync(join(fresh, 'whole'), '');
  };
  let asked = 0;
  const both = [1, 2].map(() => {
    asked += 1;
    return makeOnce(path, make);
  });
  assert.deepEqual(await Promise.all(both), [path, path]);
  assert.equal(times, 1);
  assert.deepEqual(readdirSync(path), ['whole']);
  const failed = makeOnce(`${path}-not`, async (fresh) => {
    mkdirSync(fresh);
    throw new Error('no room');
  });
  await assert.rejects(failed, { message: 'no room' });
  assert.deepEqual(readdirSync(dirname(path)), ['made']);
});

test('a program of another release runs wherever its folder is', { skip: noPrivate('mysql') }, async (t) => {
  const found = ENGINES.find(({ name }) => name === 'mysql')?.find();
  assert.ok(found);
  const link = join(tempFolder(t), 'elsewhere');
  symlinkSync(join(found, '../..'), link);
  const { stdout } = await promisify(execFile)(join(link, 'usr/sbin/mysqld'), ['--version']);
  assert.match(stdout, /Ver \d+\.\d+\.\d+/);
});

test('the closing line has the reasons by how often they were given', () => {
  assert.deepEqual(summary([]), { text: '', isMissing: false });
  assert.deepEqual(summary(['not for it', 'missing: a', 'missing: a']), {
    text: '3 tests and suites were skipped: 2 × missing: a; 1 × not for it',
    isMissing: true,
  });
  const late = withoutServer('a', notToday('it moves'));
  assert.deepEqual(summary([late]), {
    text: '1 test or suite was skipped: 1 × not today: a: it moves',
    isMissing: false,
  });
});
