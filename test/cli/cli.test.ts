import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { SAMPLE, SAMPLE_TASK } from '../../src/config/sample.ts';
import { tempFolder } from '../support/folder.ts';
import { launch } from '../support/server.ts';
import { setup } from '../support/setup.ts';
import { dungbeetle } from './support.ts';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));

describe('the command line', { concurrency: true }, () => {
  test('--version prints the version', async (t) => {
    const ended = await dungbeetle(['--version'], { cwd: tempFolder(t) });
    assert.deepEqual(ended, { code: 0, stdout: `dungbeetle ${version}\n`, stderr: '' });
  });

  test('--help prints the flags', async (t) => {
    const { code, stdout, stderr } = await dungbeetle(['--help'], { cwd: tempFolder(t) });
    assert.equal(code, 0);
    assert.match(stdout, /^Usage: dungbeetle \[flags\]\n/);
    assert.equal(stderr, '');
  });

  test('--new-config writes the sample, for its owner only, and overwrites nothing', async (t) => {
    const folder = tempFolder(t);
    const file = join(folder, 'config.toml');
    const first = await dungbeetle(['--new-config'], { cwd: folder });
    assert.deepEqual(first, {
      code: 0,
      stdout: 'config.toml written; edit it and start dungbeetle\nsql/sample.sql written, a first task\n',
      stderr: '',
    });
    const task = join(folder, 'sql', 'sample.sql');
    assert.equal(readFileSync(task, 'utf8'), SAMPLE_TASK);
    rmSync(task);
    writeFileSync(join(folder, 'sql', 'mine.sql'), '-- name: mine\nSELECT 1;\n');
    assert.equal(readFileSync(file, 'utf8'), SAMPLE);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    writeFileSync(file, 'mine');
    const second = await dungbeetle(['--new-config'], { cwd: folder });
    assert.deepEqual(second, {
      code: 1,
      stdout: '',
      stderr: 'dungbeetle: config.toml: exists already; remove it, or name another with --config\n',
    });
    assert.equal(readFileSync(file, 'utf8'), 'mine');
    const other = await dungbeetle(['--new-config', '--config', 'other.toml'], { cwd: folder });
    assert.deepEqual([other.code, existsSync(task)], [0, false]);
    assert.equal(readFileSync(join(folder, 'other.toml'), 'utf8'), SAMPLE);
    const nowhere = await dungbeetle(['--new-config', '--config', 'no/such/folder.toml'], { cwd: folder });
    assert.deepEqual(nowhere, {
      code: 1,
      stdout: '',
      stderr: 'dungbeetle: no/such/folder.toml: cannot be written: ENOENT\n',
    });
  });

  test('what is wrong with flags, environment or file is one line, and exit code 1', async (t) => {
    const { folder } = setup(t, { app: 'lease = "now"' });
    for (const [argv, env, expected] of [
      [['--serve'], {}, /^dungbeetle: --serve: unknown flag; did you mean --server\?\n$/],
      [
        [],
        { DUNGBEETLE_SERVR: ':1' },
        /^dungbeetle: environment: DUNGBEETLE_SERVR: unknown variable; did you .*\n$/,
      ],
      [[], {}, /^dungbeetle: config\.toml: app\.lease: must be a duration like .*\n$/],
      [['--config', 'no.toml'], {}, /^dungbeetle: no\.toml: no such file; .*\n$/],
    ] as const) {
      const { code, stdout, stderr } = await dungbeetle(argv, { cwd: folder, env });
      assert.match(stderr, expected);
      assert.equal(stdout, '');
      assert.equal(code, 1);
    }
    assert.ok(!existsSync(join(folder, 'queue.db')), 'nothing was begun');
  });

  test('what is wrong with tasks and databases is told without a stack, and exit code 1', async (t) => {
    const broken = setup(t, { tasks: '-- name: broken\nSELEC 1;\n' });
    const { code, stderr } = await dungbeetle(['--server', '127.0.0.1:0'], { cwd: broken.folder });
    assert.match(stderr, /^dungbeetle: .*tasks\.sql:2:1: .*"broken".*\n$/);
    assert.equal(code, 1);

    const moved = setup(t);
    const missing = await dungbeetle(['--server', '127.0.0.1:0'], {
      cwd: moved.folder,
      env: { DUNGBEETLE_DB__LEDGER__DSN: 'gone.db' },
    });
    assert.match(missing.stderr, /^dungbeetle: .*ledger.*\n$/);
    assert.equal(missing.code, 1);

    const unwritable = await dungbeetle(['--server', '127.0.0.1:0'], {
      cwd: moved.folder,
      env: { DUNGBEETLE_JOB_QUEUE__STATE__PATH: '/proc/nothing/queue.db' },
    });
    assert.match(unwritable.stderr, /^dungbeetle: the job store is unavailable: .*\n$/);
    assert.equal(unwritable.code, 1);
  });

  test('a port in use is one line, and exit code 1', async (t) => {
    const taken = createServer().listen(0, '127.0.0.1');
    t.after(() => taken.close());
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const { code, stderr } = await dungbeetle(['--server', `127.0.0.1:${port}`], { cwd: setup(t).folder });
    assert.equal(
      stderr,
      `dungbeetle: --server: cannot listen on 127.0.0.1:${port}: the address is in use; stop the server that has it, or choose another port\n`,
    );
    assert.equal(code, 1);
  });

  test('an address that this machine does not have is one line', async (t) => {
    const { code, stderr } = await dungbeetle(['--server', '192.0.2.1:6060'], { cwd: setup(t).folder });
    assert.equal(
      stderr,
      'dungbeetle: --server: cannot listen on 192.0.2.1:6060: this machine has no such address\n',
    );
    assert.equal(code, 1);
  });

  test('the log is JSON lines with time and level by name; no DSN is in it', async (t) => {
    const { folder } = setup(t);
    const server = await launch(t, folder).started();
    assert.equal(await server.stop('SIGINT'), 0);
    assert.ok(server.log.length > 0);
    for (const line of server.log) {
      assert.match(String(line['time']), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
      assert.match(String(line['level']), /^(?:debug|info|warn|error)$/);
      assert.ok(!JSON.stringify(line).includes('sqlite:'));
    }
    assert.equal(server.stderr, '');
  });
});
