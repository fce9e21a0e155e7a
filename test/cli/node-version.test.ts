/** A Node that is too old says so in one line, and nothing of ours is loaded by it. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { test } from 'node:test';
import { tempFolder } from '../support/folder.ts';
import { dungbeetle } from './support.ts';

const TOO_OLD = /^dungbeetle: Node \d+\.\d+\.\d+ is too old: it needs 22\.18 or later [^\n]*\n$/;

/** A Node older than ours on this machine's PATH; null if there is none. */
function olderNode(): string | null {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const node = join(folder, 'node');
    if (folder.includes('node_modules') || !existsSync(node)) continue;
    const version = execFileSync(node, ['-p', 'process.versions.node'], { encoding: 'utf8' });
    const [major = 0, minor = 0] = version.split('.').map(Number);
    if (major >= 14 && (major < 22 || (major === 22 && minor < 18))) return node;
  }
  return null;
}

const old = olderNode();

test("this machine's older Node says that it is too old", {
  skip: old === null && 'this machine has no older Node: the test below fakes one',
}, async (t) => {
  const ended = await dungbeetle(['--version'], { cwd: tempFolder(t), node: old ?? '' });
  assert.match(ended.stderr, TOO_OLD);
  assert.equal(ended.stdout, '');
  assert.equal(ended.code, 1);
});

test('the version alone decides', async (t) => {
  const folder = tempFolder(t);
  for (const [version, isEnough] of [
    ['20.20.2', false],
    ['22.17.9', false],
    ['22.18.0', true],
    ['23.0.0', true],
  ] as const) {
    writeFileSync(
      join(folder, 'fake.cjs'),
      `Object.defineProperty(process.versions, 'node', { value: '${version}' });`,
    );
    const ended = await dungbeetle(['--version'], {
      cwd: folder,
      env: { NODE_OPTIONS: `--require "${join(folder, 'fake.cjs')}"` },
    });
    assert.equal(ended.code, isEnough ? 0 : 1);
    if (isEnough) assert.match(ended.stdout, /^dungbeetle \d/);
    else assert.match(ended.stderr, TOO_OLD);
  }
});
