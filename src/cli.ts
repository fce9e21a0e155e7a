/** The command line: flags → config → app; nothing else. */
import { resolve } from 'node:path';
import type { App } from './app.ts';
import { ConfigError } from './config/errors.ts';
import { type Flags, help, parseFlags } from './config/flags.ts';
import { DEFAULT_FILE, loadConfig } from './config/load.ts';
import { readableByOthers } from './config/rights.ts';
import { writeSample, writeSampleTask } from './config/sample.ts';
import { DatabaseError } from './databases/errors.ts';
import { QueueError } from './queue/errors.ts';
import { TaskError } from './tasks/errors.ts';
import { createLogger, type Logger } from './util/log.ts';
import { printable } from './util/printable.ts';
import { version } from './util/version.ts';

/** The exit codes of a process that a signal ended, as shells have them. */
const EXIT_CODES = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/** Where tasks are looked for unless something else is said. */
const SQL_FOLDER = 'sql';

/** How long giving jobs back may take once "at once" was asked for; their leases end by themselves too. */
const STOP_TIMEOUT_MS = 2_000;

/** Runs the program and sets the exit code: 0, or 1 after one line on standard error that says what is wrong. */
export async function main(argv: readonly string[] = process.argv.slice(2)): Promise<void> {
  try {
    const flags = parseFlags(argv);
    switch (flags.command) {
      case 'help':
        process.stdout.write(help());
        return;
      case 'version':
        process.stdout.write(`dungbeetle ${version}\n`);
        return;
      case 'new-config':
        newConfig(flags);
        return;
      case 'run':
        await run(argv);
        return;
    }
  } catch (error) {
    process.stderr.write(`dungbeetle: ${printable(failure(error))}\n`);
    process.exitCode = 1;
  }
}

function newConfig(flags: Flags): void {
  const name = flags.config ?? DEFAULT_FILE;
  writeSample(resolve(name), name);
  process.stdout.write(`${name} written; edit it and start dungbeetle\n`);
  const task = writeSampleTask(resolve(SQL_FOLDER), SQL_FOLDER);
  if (task !== null) process.stdout.write(`${task} written, a first task\n`);
}

async function run(argv: readonly string[]): Promise<void> {
  const config = loadConfig({ argv, env: process.env, cwd: process.cwd() });
  // What it makes from here on, its children too, is its owner's alone: arguments, rows, what is sorted on disk.
  process.umask(0o077);
  const logger = createLogger({ level: config.app.log_level });
  for (const readable of readableByOthers(config)) {
    logger.warn(
      { event: 'readable_file', ...readable },
      'a file can be read by others than its owner: chmod 600',
    );
  }
  // Loaded only now: what it takes to answer --version need not wait for all the rest.
  const { startApp } = await import('./app.ts');
  const starting = startApp(config, logger);
  // From now on, so that none comes between "started" and the handlers.
  stopOnSignals(starting, logger);
  logger.info({ version, config: config.file }, 'starting');
  await starting;
}

/**
 * The first signal drains, once the start is over, and ends with 0; the second one gives running jobs back and
 * ends; a third just ends, and so does a second one during the start.
 */
function stopOnSignals(starting: Promise<App>, logger: Logger): void {
  let app: App | undefined;
  let signals = 0;
  const onSignal = async (signal: keyof typeof EXIT_CODES) => {
    signals++;
    if (signal === 'SIGHUP') {
      logger.warn({ signal }, 'the configuration is not read again: this drains and ends, as on SIGTERM');
    }
    if (signals > 2 || (signals === 2 && app === undefined)) process.exit(EXIT_CODES[signal]);
    try {
      if (signals === 1) {
        const started = await starting.catch(() => null);
        if (started === null) return; // `main` says why, and ends
        app = started;
        await app.drain();
        logger.info('stopped');
        // After a second signal it is for that one to say how this ends.
        if (signals === 1) process.exit(0);
        return;
      }
      logger.warn({ signal }, 'stopping at once');
      setTimeout(() => process.exit(EXIT_CODES[signal]), STOP_TIMEOUT_MS);
      await app?.stop();
      logger.info('stopped');
      process.exit(EXIT_CODES[signal]);
    } catch (error) {
      logger.fatal({ err: error }, 'the shutdown failed');
      process.exit(1);
    }
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  process.on('SIGHUP', onSignal);
}

/** One line for what the user can mend, all there is to know for what only we can. */
function failure(error: unknown): string {
  if (
    error instanceof ConfigError ||
    error instanceof TaskError ||
    error instanceof DatabaseError ||
    error instanceof QueueError
  ) {
    return error.message;
  }
  if (!(error instanceof Error)) return String(error);
  return listenFailure(error) ?? error.stack ?? error.message;
}

const LISTEN_REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the address is in use; stop the server that has it, or choose another port',
  EADDRNOTAVAIL: 'this machine has no such address',
  EACCES: 'this user may not listen on that port; choose one from 1024',
  ENOTFOUND: 'there is no such host',
};

function listenFailure(error: NodeJS.ErrnoException): string | null {
  const { code = '', syscall = '' } = error;
  if (!['listen', 'bind', 'getaddrinfo'].includes(syscall)) return null;
  // Node adds where it tried to.
  const { address, port } = error as { readonly address?: string; readonly port?: number };
  const where = address === undefined ? '' : ` on ${address}:${port}`;
  return `--server: cannot listen${where}: ${LISTEN_REASONS[code] ?? error.message}`;
}
