/** Documents name what is there. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

test('docs/dependencies.md has every dependency, and no other', () => {
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const document = readFileSync(join(ROOT, 'docs/dependencies.md'), 'utf8');
  const [shipped = '', development = ''] = document.split('## For development');
  const named = (text: string) => [...text.matchAll(/^\| \[([^\]]+)\]/gm)].map(([, name]) => name).sort();
  assert.deepEqual(named(shipped), Object.keys(dependencies).sort());
  assert.deepEqual(named(development), Object.keys(devDependencies).sort());
});

test('dependencies are pinned', () => {
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies })) {
    assert.match(String(version), /^\d+\.\d+\.\d+(-[a-z]+\.\d+)?$/, name);
  }
});

test('links between documents lead somewhere', () => {
  const documents = [
    ...readdirSync(ROOT).filter((name) => name.endsWith('.md')),
    ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.md'))
      .map((name) => join('docs', name)),
  ];
  const dead = documents.flatMap((document) =>
    [...readFileSync(join(ROOT, document), 'utf8').matchAll(/\]\((?!https?:|#)([^)#\s]+)[^)]*\)/g)]
      .map(([, link = '']) => join(dirname(document), link))
      .filter((target) => !existsSync(join(ROOT, target)))
      .map((target) => `${document}: ${target}`),
  );
  assert.deepEqual(dead, []);
});
