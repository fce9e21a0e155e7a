/** `npm run services`: the servers that tests use, until Ctrl-C; with `-- --all` every generation of each. */
import { once } from 'node:events';
import { enginesOfRun } from './services/engines.ts';
import { whenEnded } from './services/signals.ts';
import { startServers } from './services/start.ts';

const ended = whenEnded();
try {
  const engines = enginesOfRun(process.argv.includes('--all'));
  const servers = await startServers((line) => console.error(line), ended.signal, engines);
  for (const [name, value] of Object.entries(servers.environment)) {
    console.log(`export ${name}='${value.replaceAll("'", "'\\''")}'`);
  }
  console.error('Ctrl-C stops them.');
  if (!ended.signal.aborted) await once(ended.signal, 'abort');
  await servers.stop();
  process.exitCode = ended.code();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = ended.code() || 1;
}
