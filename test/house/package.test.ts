/**
 * The package as others get it: packed, installed in a fresh folder, run and imported from there. Built in
 * a copy, so that the checkout's own tests, which run meanwhile, see no half-built dist/.
 */
import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { command, type Ended } from '../cli/support.ts';
import { tempFolder } from '../support/folder.ts';
import { TestServer } from '../support/server.ts';
import { rows, setup } from '../support/setup.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));

/** With the Node that runs the tests before any other, and npm as a person would call it. */
async function run(argv: readonly string[], cwd: string): Promise<Ended> {
  const path = `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`;
  const env = { PATH: path, npm_config_audit: 'false', npm_config_fund: 'false' };
  const ended = await command(argv, { cwd, env });
  assert.equal(ended.code, 0, `${argv.join(' ')}: ${ended.stdout}${ended.stderr}`);
  return ended;
}

test('the packed package works where it is installed', { timeout: 300_000 }, async (t) => {
  const copy = tempFolder(t);
  for (const name of ['bin', 'src', 'test', 'docs', 'package.json', 'tsconfig.json', 'tsconfig.build.json']) {
    cpSync(join(ROOT, name), join(copy, name), { recursive: true });
  }
  for (const name of ['README.md', 'CHANGELOG.md', 'LICENSE']) cpSync(join(ROOT, name), join(copy, name));
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
  const packed = await run(['npm', 'pack', '--json', '--foreground-scripts=false'], copy);
  const files = packedFiles(packed.stdout);

  await t.test('the tarball holds what runs, and neither sources nor tests', () => {
    for (const file of [
      'bin/dungbeetle.js',
      'dist/cli.js',
      'dist/queue/index.d.ts',
      'README.md',
      'LICENSE',
    ]) {
      assert.ok(files.includes(file), `${file} is packed`);
    }
    const stray = files.filter(
      (file) =>
        !/^(?:package\.json|README\.md|CHANGELOG\.md|LICENSE|bin\/dungbeetle\.js|docs\/.+\.md|dist\/.+\.(?:js|d\.ts))$/.test(
          file,
        ),
    );
    assert.deepEqual(stray, []);
  });

  const place = setup(t);
  const { folder } = place;
  writeFileSync(join(folder, 'package.json'), '{ "name": "elsewhere", "private": true, "type": "module" }');
  const tarball = join(copy, `dungbeetle-${version}.tgz`);
  await run(['npm', 'install', '--prefer-offline', '--no-save', tarball], folder);
  const bin = join(folder, 'node_modules', '.bin', 'dungbeetle');

  await t.test('dungbeetle --version', async () => {
    assert.equal((await run([bin, '--version'], folder)).stdout, `dungbeetle ${version}\n`);
  });

  await t.test('dungbeetle --new-config', async () => {
    await run([bin, '--new-config', '--config', 'new.toml'], folder);
    assert.match(readFileSync(join(folder, 'new.toml'), 'utf8'), /^\[db\.my_db\]$/m);
  });

  await t.test('it runs a report', async (t) => {
    const server = new TestServer(['--server', '127.0.0.1:0'], { cwd: folder, bin });
    t.after(() => server.stop('SIGKILL'));
    await server.started();
    const job = await server.finished(await server.post('by_user', { job_id: 'mine', args: ['USER1'] }));
    assert.equal(job.state, 'SUCCESS', job.error);
    assert.equal(rows(place.results, 'SELECT count(*) AS n FROM results_mine')[0]?.['n'], 100);
    assert.equal(await server.stop(), 0);
  });

  await t.test('dungbeetle/queue can be imported, and its types are there', async () => {
    const script = `
import { openSqliteStore, Queue, Worker, type Job } from 'dungbeetle/queue';

const store = await openSqliteStore({ path: ':memory:' });
const queue = new Queue(store);
const worker = new Worker({
  store,
  name: 'w',
  queues: [{ queue: 'default', concurrency: 1 }],
  concurrency: 1,
  handler: { run: async (job) => ['hello', job.payload] },
});
worker.start();
const { job_id } = await queue.enqueue({ task: 'greet', queue: 'default', payload: 'world' });
const job: Job = await queue.wait(job_id, { timeout_ms: 30_000 });
console.log(JSON.stringify(job.result));
await worker.stop();
await store.close();
`;
    writeFileSync(join(folder, 'script.ts'), script);
    writeFileSync(
      join(folder, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: {
          strict: true,
          noEmit: true,
          module: 'nodenext',
          target: 'es2024',
          types: ['node'],
        },
        files: ['script.ts'],
      }),
    );
    mkdirSync(join(folder, 'node_modules', '@types'), { recursive: true });
    for (const name of ['@types/node', 'undici-types']) {
      // A driver may have brought its own.
      if (existsSync(join(folder, 'node_modules', name))) continue;
      symlinkSync(join(ROOT, 'node_modules', name), join(folder, 'node_modules', name));
    }
    await run([join(ROOT, 'node_modules', '.bin', 'tsc'), '-p', '.'], folder);
    const { stdout } = await run(['node', 'script.ts'], folder);
    assert.equal(stdout, '["hello","world"]\n');
  });

  await t.test('nothing else of it can be imported', async () => {
    const script = "import('dungbeetle/dist/cli.js').catch((error) => console.log(error.code))";
    assert.equal((await run(['node', '-e', script], folder)).stdout, 'ERR_PACKAGE_PATH_NOT_EXPORTED\n');
  });
});

/** Of npm's answer, which begins after what the build may have printed: one package, in a list or by name. */
function packedFiles(stdout: string): readonly string[] {
  const answer: unknown = JSON.parse(stdout.slice(stdout.search(/^[[{]/m)));
  const [pack] = Object.values(answer as Record<string, { files: { path: string }[] }>);
  assert.ok(pack);
  return pack.files.map(({ path }) => path);
}
