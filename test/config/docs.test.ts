/** The sample and the documentation have every key, with the default that holds. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parse } from 'smol-toml';
import type { TObject } from 'typebox';
import { SAMPLE } from '../../src/config/sample.ts';
import { app, backends, root, sources } from '../../src/config/schema.ts';
import { brokers, stores } from '../../src/config/stores.ts';
import { annotations, decode } from '../../src/config/values.ts';
import { place } from './support.ts';

const DOCUMENT = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8');

/** The tables of the sample that have the name of what they hold, not of their engine. */
const NAMED_OTHERWISE: Readonly<Record<string, string>> = {
  'results.my_sqlite': 'results.my_results',
  'results.my_mariadb': 'results.my_mysql',
  'db.my_sqlite': 'db.my_db',
  'db.my_mariadb': 'db.my_mysql',
};

/** Each section's heading in the document, its table in the sample, and its keys. */
const SECTIONS: readonly (readonly [string, string, TObject])[] = [
  ['[app]', 'app', app],
  ['[job_queue.state]', 'job_queue.state', keysOf(stores, 'sqlite')],
  ['[job_queue.broker]', 'job_queue.broker', keysOf(brokers, 'sqlite')],
  ...ofEngines('[results.NAME]', 'results.my_', backends),
  ...ofEngines('[db.NAME]', 'db.my_', sources),
];

type Engines = Readonly<Record<string, { readonly keys: TObject }>>;

function keysOf(engines: Engines, engine: string): TObject {
  const keys = engines[engine]?.keys;
  assert.ok(keys);
  return keys;
}

function ofEngines(heading: string, table: string, engines: Engines) {
  return Object.entries(engines).map(([engine, { keys }]) => {
    const named = table.endsWith('_') ? `${table}${engine}` : table;
    return [heading, NAMED_OTHERWISE[named] ?? named, keys] as const;
  });
}

/** The sample with every commented key in force. */
const FULL = SAMPLE.replaceAll(/^# (\[[a-z_.]+\]$|[a-z_]+ = )/gm, '$1');

/** The sample with another engine's section in the place of SQLite's: those stand in it behind two hashes. */
function withStore(engine: string): string {
  const lines = SAMPLE.split('\n');
  const type = lines.indexOf(`## type = "${engine}"`);
  assert.ok(type > 0, `the sample has a store of type "${engine}"`);
  const section = lines.slice(type - 1, lines.indexOf('', type)).filter((line) => line.startsWith('## '));
  const [others, sqlite] = [lines.indexOf('[job_queue.state]'), lines.indexOf('meta_expiry = "168h"')];
  lines.splice(others, sqlite + 1 - others, ...section.map((line) => line.slice('## '.length)));
  return lines.join('\n');
}

/** A table of the sample; without keys where all of it is commented out. */
function at(table: Record<string, unknown>, path: string): Record<string, unknown> {
  return path.split('.').reduce((inner, key) => (inner[key] ?? {}) as Record<string, unknown>, table);
}

test('our loader takes the sample, as it is and with every commented key in force', (t) => {
  const { load } = place(t);
  const config = load({ toml: SAMPLE });
  const full = load({ toml: FULL });
  assert.deepEqual(full, {
    ...config,
    app: { ...config.app, allowed_hosts: ['reports.example.com'] },
    queues: ['default'],
    worker: { ...config.worker, name: 'worker-1' },
    db: full.db,
    results: full.results,
  });
  assert.deepEqual({ ...full.db, ...config.db }, { ...full.db });
  assert.deepEqual({ ...full.results, ...config.results }, { ...full.results });
  assert.deepEqual(
    Object.values(full.db)
      .map(({ type }) => type)
      .sort(),
    ['clickhouse', 'mysql', 'postgres', 'sqlite'],
  );
  assert.deepEqual(
    Object.values(full.results)
      .map(({ type }) => type)
      .sort(),
    ['mysql', 'postgres', 'sqlite'],
  );
});

for (const engine of ['postgres', 'redis']) {
  test(`the sample's store on ${engine} is taken, has every key, and the defaults`, (t) => {
    const { load } = place(t);
    const toml = withStore(engine);
    assert.equal(load({ toml }).store.type, engine);
    const given = at(parse(toml), 'job_queue.state');
    const { properties } = keysOf(stores, engine);
    assert.deepEqual(Object.keys(given).sort(), Object.keys(properties).sort());
    for (const [key, schema] of Object.entries(properties)) {
      const { default: value } = annotations(schema);
      if (value !== undefined) assert.deepEqual(decode(schema, given[key]), decode(schema, value), key);
    }
  });
}

test('the sample has every key, those that are commented out with their defaults', () => {
  const given = parse(SAMPLE);
  const full = parse(FULL);
  for (const [path, keys] of [
    ['', root] as const,
    ...SECTIONS.map(([, path, keys]) => [path, keys] as const),
  ]) {
    const inForce = path === '' ? full : at(full, path);
    assert.deepEqual(
      Object.keys(inForce)
        .filter((key) => path !== '' || key in keys.properties)
        .sort(),
      Object.keys(keys.properties).sort(),
      `the keys of [${path}] in the sample`,
    );
    for (const [key, schema] of Object.entries(keys.properties)) {
      const { default: value } = annotations(schema);
      const commentedOut = path === '' || (path !== 'job_queue.broker' && !(key in at(given, path)));
      if (!commentedOut || value === undefined) continue;
      assert.deepEqual(decode(schema, inForce[key]), decode(schema, value), `${path}.${key}`);
    }
  }
});

/** The sections with the keys of all engines, which share one table. */
const DOCUMENTED = [
  ...SECTIONS,
  ...ofEngines('[job_queue.state]', '', stores),
  ...ofEngines('[job_queue.broker]', '', brokers),
];

function keysUnder(heading: string): readonly string[] {
  const all = DOCUMENTED.filter(([other]) => other === heading).flatMap(([, , keys]) =>
    Object.keys(keys.properties),
  );
  return [...new Set(all)].sort();
}

test('the documentation has every key, with its default', () => {
  for (const [heading, , keys] of DOCUMENTED) {
    const section = DOCUMENT.split(`## \`${heading}\`\n`)[1]?.split('\n## ')[0];
    assert.ok(section, `there is a section ${heading}`);
    const documented = new Map(
      [...section.matchAll(/^\| `(\w+)` \| (.+?) \|/gm)].map(([, key = '', value = '']) => [key, value]),
    );
    assert.deepEqual([...documented.keys()].sort(), keysUnder(heading), heading);
    for (const [key, schema] of Object.entries(keys.properties)) {
      const { default: value } = annotations(schema);
      if (value === undefined) continue;
      const text = documented.get(key)?.replace(/^`(.*)`$/, '$1') ?? '';
      assert.deepEqual(decode(schema, JSON.parse(text)), decode(schema, value), `${heading} ${key}`);
    }
  }
});

test('the documentation has every flag, with its default', () => {
  const table = DOCUMENT.split('## Command line\n')[1]?.split('\n## ')[0] ?? '';
  for (const [key, schema] of Object.entries(root.properties)) {
    const row = new RegExp(
      `^\\| \`--${key.replaceAll('_', '-')}(?: \\w+(?::\\w+)?)?\` \\| (.*?) \\|`,
      'm',
    ).exec(table);
    assert.ok(row, `there is a row for ${key}`);
    const { default: value } = annotations(schema);
    if (value !== undefined) assert.equal(row[1], `\`${[value].flat().join(',')}\``);
    assert.ok(DOCUMENT.includes(`\`${key}\``), `${key} is named as a key of the file`);
  }
});
