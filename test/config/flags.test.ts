import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { help, parseFlags } from '../../src/config/flags.ts';
import { root } from '../../src/config/schema.ts';
import { keysIn } from '../../src/config/settings.ts';
import { place } from './support.ts';

test("flags come in all of pflag's forms", (t) => {
  const { folder, load } = place(t);
  for (const argv of [
    ['--sql-directory', 'a,b', '--sql-directory=c'],
    ['--sql-directory=a', '--sql-directory', 'b', '--sql-directory', 'c'],
    ['--sql-directory=a, b ,"c"'],
  ]) {
    assert.deepEqual(
      load({ argv }).sql_directories,
      ['a', 'b', 'c'].map((name) => join(folder, name)),
    );
  }
  assert.deepEqual(load({ argv: ['--sql-directory="a,b"'] }).sql_directories, [join(folder, 'a,b')]);
  assert.deepEqual(load({ argv: ['--queue', 'high', '--queue=low', '--queue', 'high'] }).queues, [
    'high',
    'low',
  ]);
  assert.equal(load({ argv: ['--worker-concurrency=3', '--worker-concurrency', '4'] }).worker.concurrency, 4);
  assert.equal(load({ argv: ['--worker-name', '--odd'] }).worker.name, '--odd');
  assert.equal(load({ argv: ['--worker-only'] }).worker.only, true);
  assert.equal(load({ argv: ['--worker-only=false'] }).worker.only, false);
  assert.equal(load({ argv: ['--worker-only', '--worker-only=0'] }).worker.only, false);
  assert.deepEqual(load({ argv: ['--server', '0.0.0.0:0'] }).server, { host: '0.0.0.0', port: 0 });
  assert.deepEqual(load({ argv: ['--'] }).worker.concurrency, 10);
});

test('each mistake on the command line gets a line that names the flag and the fix', (t) => {
  const { message } = place(t);
  for (const [argv, expected] of [
    [['--servr=:1'], '--servr: unknown flag; did you mean --server?'],
    [['--sql_directory', 'x'], '--sql_directory: unknown flag; did you mean --sql-directory?'],
    [['--colour'], '--colour: unknown flag; see --help'],
    [['-x'], '-x: unknown flag; see --help'],
    [['--no-worker-only'], '--no-worker-only: unknown flag; see --help'],
    [['--server'], '--server: a value is missing'],
    [['--config='], '--config: a value is missing'],
    [['--worker-only=maybe'], '--worker-only: must be true or false'],
    [['--worker-only', 'false'], 'arguments: only flags are taken, see --help'],
    [['--worker-concurrency', '0'], '--worker-concurrency: must be a whole number from 1 to 10000'],
    [['--worker-concurrency', '1e3'], '--worker-concurrency: must be a whole number from 1 to 10000'],
    [['--worker-name', 'a\nb'], '--worker-name: must be 1 to 128 printable characters'],
    [['--server', '6060'], '--server: must be an address like "127.0.0.1:6060", ":6060" or "[::1]:6060"'],
    [['--queue', ','], '--queue: must be one or more strings, none of them empty'],
    [['run'], 'arguments: only flags are taken, see --help'],
    [['--', 'x'], 'arguments: only flags are taken, see --help'],
  ] as const) {
    assert.equal(message({ argv }), expected);
  }
});

test('commands are told apart; --help goes first', () => {
  assert.equal(parseFlags([]).command, 'run');
  assert.equal(parseFlags(['--version']).command, 'version');
  assert.equal(parseFlags(['--version=false']).command, 'run');
  assert.equal(parseFlags(['--new-config', '--config', 'x']).command, 'new-config');
  assert.equal(parseFlags(['--version', '-h', '--new-config']).command, 'help');
});

test('--help has every flag, with its default', () => {
  const text = help();
  for (const flag of [
    'config',
    'new-config',
    'version',
    'help',
    ...keysIn(root).map((key) => key.replaceAll('_', '-')),
  ]) {
    assert.match(text, new RegExp(`^  --${flag}[ \\n]`, 'm'));
  }
  for (const [flag, value] of [
    ['config', 'config.toml'],
    ['server', '127.0.0.1:6060'],
    ['sql-directory', './sql'],
    ['worker-concurrency', '10'],
    ['worker-only', 'false'],
    ['worker-name', '<host name>-<process id>'],
  ]) {
    assert.match(text, new RegExp(`^  --${flag} .*\\(default ${value}\\)$`, 'm'));
  }
});
