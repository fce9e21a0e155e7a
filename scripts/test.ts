/**
 * `npm test -- [options and files of node --test]`: starts the servers that tests use, runs the tests, stops the
 * servers. With `--all` it runs them on every generation of each server.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { enginesOfRun } from './services/engines.ts';
import { whenEnded } from './services/signals.ts';
import { summary } from './services/skipped.ts';
import { startServers } from './services/start.ts';

const REPORTER = fileURLToPath(new URL('services/skips.ts', import.meta.url));

/** The exit code of `node --test`, with the reasons of what was skipped. */
async function runTests(args: readonly string[], environment: Record<string, string>, signal: AbortSignal) {
  const folder = mkdtempSync(join(tmpdir(), 'dungbeetle-tests-'));
  const skips = join(folder, 'skips');
  try {
    const tests = spawn(
      process.execPath,
      [
        ...['--test', '--test-concurrency=4'],
        ...['--test-reporter=spec', '--test-reporter-destination=stdout'],
        ...[`--test-reporter=${REPORTER}`, `--test-reporter-destination=${skips}`],
        ...args,
      ],
      { stdio: 'inherit', env: { ...process.env, ...environment } },
    );
    signal.addEventListener('abort', () => tests.kill('SIGTERM'));
    const [code] = await once(tests, 'exit');
    // A run that was ended early has a last line that is cut off, or no file at all.
    const lines = existsSync(skips) ? readFileSync(skips, 'utf8').split('\n').slice(0, -1) : [];
    const reasons: string[] = lines.map((line) => JSON.parse(line));
    return { code: typeof code === 'number' ? code : 1, reasons };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The exit code of the run. */
async function main(given: readonly string[], signal: AbortSignal): Promise<number> {
  const engines = enginesOfRun(given.includes('--all'));
  const servers = await startServers((line) => console.log(line), signal, engines);
  try {
    const isFile = (argument: string) => !argument.startsWith('-');
    const own = given.filter((argument) => argument !== '--all');
    const args = own.some(isFile) ? own : [...own, 'test/**/*.test.ts'];
    const { code, reasons } = await runTests(args, servers.environment, signal);
    const { text, isMissing } = summary(reasons);
    if (text !== '') console.log(text);
    if (!isMissing || process.env['CI'] !== 'true') return code;
    console.log('With CI=true, what is missing fails the run.');
    return code || 1;
  } finally {
    await servers.stop();
  }
}

const ended = whenEnded();
try {
  const code = await main(process.argv.slice(2), ended.signal);
  process.exitCode = ended.code() || code;
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = ended.code() || 1;
}
