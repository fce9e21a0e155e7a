/** Imports go one way: cli → app → http → reports → {tasks, databases, queue} → util. Types count too. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { cycles, forbidden, importsOf, type Room, type Sources } from './imports.ts';

const SRC = fileURLToPath(new URL('../../src/', import.meta.url));

const ROOMS: Readonly<Record<string, Room>> = {
  // The errors of the rooms below: the command line tells those of the user from our own.
  'cli.ts': {
    ours: ['app.ts', 'config', 'util', 'tasks/errors.ts', 'databases/errors.ts', 'queue/errors.ts'],
    packages: [],
  },
  'app.ts': {
    ours: ['config', 'http', 'reports', 'tasks', 'databases', 'queue', 'util'],
    packages: ['fastify', 'pino'],
  },
  // The configuration is for the command line and the app: every other room gets plain options. How an engine's
  // servers are named is the engine's to say.
  config: {
    ours: ['util', 'databases/clickhouse/dsn.ts', 'databases/mysql/dsn.ts', 'util/postgres/dsn.ts'],
    packages: ['typebox', 'smol-toml'],
  },
  http: {
    ours: ['reports', 'queue', 'util'],
    packages: ['fastify', '@fastify/type-provider-typebox', 'typebox', 'pino'],
  },
  reports: { ours: ['tasks', 'databases', 'queue', 'util'], packages: ['typebox'] },
  tasks: { ours: ['util'], packages: [] },
  databases: {
    ours: ['util'],
    packages: ['@clickhouse/client', 'mysql2', 'pg', 'pg-copy-streams', 'pg-protocol'],
  },
  queue: { ours: ['util'], packages: ['ioredis', 'pg'] },
  util: { ours: [], packages: ['pino'] },
};

function ours(): Sources {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.ts'),
  );
  return new Map(files.map((file) => [file.replaceAll('\\', '/'), readFileSync(SRC + file, 'utf8')]));
}

test('imports go one way', () => {
  const sources = ours();
  assert.ok(importsOf(sources).length > sources.size, 'imports are found at all');
  assert.deepEqual(forbidden(sources, ROOMS), []);
});

test('no file imports itself by way of others', () => {
  assert.deepEqual(cycles(ours()), []);
});

test('every import that is ours leads to a file', () => {
  const sources = ours();
  const astray = importsOf(sources).filter(
    ({ to, isOurs }) => isOurs && !sources.has(to) && posix.normalize(to) !== '../package.json',
  );
  assert.deepEqual(astray, []);
});

/** A house with one file more. */
function planted(file: string, text: string): Sources {
  return new Map([...ours(), [file, text]]);
}

test('the checker finds each kind of forbidden import, with its line', () => {
  for (const [file, text, expected] of [
    [
      'queue/x.ts',
      "\nimport { Reports } from '../reports/reports.ts';\n",
      'src/queue/x.ts:2: queue must not import reports/reports.ts',
    ],
    [
      'queue/x.ts',
      "import type {\n  Column,\n} from '../databases/database.ts';\n",
      'src/queue/x.ts:3: queue must not import databases/database.ts',
    ],
    [
      'queue/x.ts',
      "import Fastify from 'fastify';\n",
      'src/queue/x.ts:1: queue must not use the package fastify',
    ],
    ['queue/x.ts', "import 'pino/file.js';\n", 'src/queue/x.ts:1: queue must not use the package pino'],
    [
      'tasks/x.ts',
      "export * from '../queue/queue.ts';\n",
      'src/tasks/x.ts:1: tasks must not import queue/queue.ts',
    ],
    [
      'databases/x.ts',
      "const load = () => import('../tasks/task.ts');\n",
      'src/databases/x.ts:1: databases must not import tasks/task.ts',
    ],
    [
      'reports/x.ts',
      "type T = typeof import('../http/server.ts');\n",
      'src/reports/x.ts:1: reports must not import http/server.ts',
    ],
    [
      'databases/mysql/x.ts',
      "import { quote } from '../sqlite/quote.ts';\n",
      "src/databases/mysql/x.ts:1: an engine imports another's databases/sqlite/quote.ts",
    ],
    [
      'databases/encodings/x.ts',
      "import { quote } from '../sqlite/quote.ts';\n",
      "src/databases/encodings/x.ts:1: an engine imports another's databases/sqlite/quote.ts",
    ],
    [
      'databases/x.ts',
      "new Worker(new URL('../queue/queue.ts', import.meta.url));\n",
      'src/databases/x.ts:1: databases must not import queue/queue.ts',
    ],
    [
      'databases/x.ts',
      "new Worker(entry(import.meta.url, '../queue/queue'));\n",
      'src/databases/x.ts:1: databases must not import queue/queue.ts',
    ],
    [
      'http/x.ts',
      "import type { Config } from '../config/config.ts';\n",
      'src/http/x.ts:1: http must not import config/config.ts',
    ],
    [
      'http/x.ts',
      "import { openSource } from '../databases/open.ts';\n",
      'src/http/x.ts:1: http must not import databases/open.ts',
    ],
    [
      'cli.ts',
      "import { Queue } from './queue/queue.ts';\n",
      'src/cli.ts:1: cli.ts must not import queue/queue.ts',
    ],
    [
      'util/x.ts',
      "import { x } from '../../test/x.ts';\n",
      'src/util/x.ts:1: ../test/x.ts is outside of src',
    ],
    ['attic/x.ts', "import 'node:fs';\n", 'src/attic/x.ts:1: attic is a room that the house does not know'],
  ] as const) {
    assert.deepEqual(forbidden(planted(file, text), ROOMS), [expected]);
  }
});

test('the checker takes no comment and no text for an import', () => {
  const text = `
// import { x } from '../queue/queue.ts';
/**
 * import { x } from '../queue/queue.ts';
 */
const text = "import { x } from '../queue/queue.ts'";
`;
  assert.deepEqual(forbidden(planted('tasks/x.ts', text), ROOMS), []);
});

test('the checker finds cycles, of types too, but not between a process and who starts it', () => {
  const house = new Map([
    ['util/parent.ts', "fork(entry(import.meta.url, './child'));\n"],
    ['util/child.ts', "import type { Order } from './parent.ts';\n"],
    ['util/a.ts', "import './b.ts';\n"],
    ['util/b.ts', "import type { C } from './c.ts';\n"],
    ['util/c.ts', "export * from './a.ts';\n"],
    ['util/d.ts', "import './a.ts';\n"],
  ]);
  assert.deepEqual(cycles(house), ['util/a.ts → util/b.ts → util/c.ts → util/a.ts']);
});
