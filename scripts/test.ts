/** `npm test [files]`: starts the servers that tests use, runs the tests, stops the servers. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { whenEnded } from './services/signals.ts';
import { startServers } from './services/start.ts';

const files = process.argv.slice(2);
const ended = whenEnded();
const servers = await startServers((line) => console.log(line), ended.signal);
let code = 1;
try {
  const tests = spawn(
    process.execPath,
    ['--test', '--test-concurrency=4', ...(files.length > 0 ? files : ['test/**/*.test.ts'])],
    { stdio: 'inherit', env: { ...process.env, ...servers.environment } },
  );
  ended.signal.addEventListener('abort', () => tests.kill('SIGTERM'));
  const [exit] = await once(tests, 'exit');
  code = exit ?? 1;
} finally {
  await servers.stop();
}
process.exitCode = ended.code() || code;
