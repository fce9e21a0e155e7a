/**
 * The demo: makes a ledger of a million entries, starts a server over it and says what to try.
 * With --port it listens on another port than 6060.
 * With --check it makes those requests itself, on a free port, and exits 0 only if each answer is right.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { checkDemo } from './check.ts';
import { makeLedger } from './ledger.ts';

const ENTRIES = 1_000_000;
const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const ledger = here('data/ledger.db');

const { values } = parseArgs({
  options: { check: { type: 'boolean', default: false }, port: { type: 'string', default: '6060' } },
});

const made = makeLedger(ledger, ENTRIES, showProgress);
if (!made) console.log(`using the ledger in ${ledger}`);

const server = spawn(
  process.execPath,
  [
    here('../bin/dungbeetle.js'),
    ...['--config', here('config.toml'), '--sql-directory', here('sql')],
    ...['--server', values.check ? '127.0.0.1:0' : `127.0.0.1:${values.port}`],
  ],
  { stdio: ['ignore', 'pipe', 'inherit'] },
);
// A Ctrl-C reaches the server too, in the same process group; it drains, and then this ends.
process.on('SIGINT', () => {});
for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, () => server.kill(signal));

const url = await listening(server, !values.check).catch((error: Error) => {
  // The server has said why.
  console.error(`the demo did not start: ${error.message}`);
  process.exit(1);
});
if (values.check) {
  try {
    await checkDemo(url, { ledger, results: here('data/results.db') });
    console.log('the demo works');
  } catch (error) {
    console.error(error);
    process.exitCode = 1;
  }
  server.kill('SIGTERM');
} else {
  console.log(tryThese(url));
}
const [code] = await once(server, 'exit');
if (code !== 0) process.exitCode = 1;

/** The server's URL, from the log line that says where it listens. Shows the log if asked to. */
async function listening(child: ChildProcess, show: boolean): Promise<string> {
  if (child.stdout === null) throw new Error('the server has no output to read');
  const lines = createInterface({ input: child.stdout });
  return new Promise((resolve, reject) => {
    lines.on('line', (line) => {
      if (show) console.log(line);
      const address: unknown = JSON.parse(line).address;
      if (typeof address === 'string') resolve(address);
    });
    child.once('exit', (code) => reject(new Error(`the server ended with code ${code} before it listened`)));
  });
}

function showProgress(done: number): void {
  const width = 40;
  const bar = '#'.repeat(Math.round(done * width)).padEnd(width, '.');
  if (process.stdout.isTTY) {
    process.stdout.write(`\rledger [${bar}] ${Math.round(done * 100)} %${done === 1 ? '\n' : ''}`);
  } else if (done === 1) {
    console.log(`ledger of ${ENTRIES.toLocaleString('en')} entries made`);
  }
}

function tryThese(root: string): string {
  return `
DungBeetle runs on ${root}. In another terminal, try:

  # post a report, then ask for it until it says SUCCESS
  curl -s ${root}/tasks/get_profit_summary/jobs -d '{"job_id": "myjob", "args": ["USER1"]}'
  curl -s ${root}/jobs/myjob

  # read its result table
  npm run -s demo:table -- results_myjob

  # a million rows: watch it go from PENDING to STARTED, with its progress, to SUCCESS
  curl -s ${root}/tasks/get_all_entries/jobs -d '{"job_id": "all"}'; curl -s ${root}/jobs/all; curl -s "${root}/jobs/all?wait=30s"

  # one that never ends: cancel it
  curl -s ${root}/tasks/count_for_ever/jobs -d '{"job_id": "slow"}'
  curl -s -X DELETE ${root}/jobs/slow; curl -s ${root}/jobs/slow

Ctrl-C stops it once what runs has ended, a second one at once. "npm run demo -- --check" makes such requests by itself.
`;
}
