/** Processes of servers: started for as long as we live, and ended with all of their own. */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Account } from './accounts.ts';

const WATCHDOG = fileURLToPath(new URL('watchdog.ts', import.meta.url));

/** What servers see of our environment: nothing that would configure them (PGPORT, MYSQL_HOME, LC_ALL, TZ). */
const ENVIRONMENT = { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin', TZ: 'UTC', LC_ALL: 'C' };

/** After that, SIGKILL. */
const ABANDON_DEADLINE = 5_000;

/** To the watchdog. */
export type Message =
  | { readonly started: number; readonly abandon: NodeJS.Signals }
  | { readonly ended: number }
  | { readonly folder: string };

let watchdog: ChildProcess | undefined;

/**
 * Tells the watchdog, a process that outlives us, what to end and to remove when we are gone, however we went.
 * The message is in the pipe when this returns.
 */
function tell(message: Message): void {
  if (watchdog === undefined) {
    watchdog = spawn(process.execPath, [WATCHDOG], { detached: true, stdio: ['pipe', 'ignore', 'inherit'] });
    watchdog.unref();
    const { stdin } = watchdog;
    if (stdin !== null && 'unref' in stdin && typeof stdin.unref === 'function') stdin.unref();
  }
  watchdog.stdin?.write(`${JSON.stringify(message)}\n`);
}

/** Removes `folder` when this process is gone, if it is still there. */
export function removeAtEnd(folder: string): void {
  tell({ folder });
}

export interface Launched {
  readonly pid: number;
  /** Resolves when it has ended, with how. */
  readonly exited: Promise<string>;
  running(): boolean;
}

/** Starts a server: in a session of its own, so that Ctrl-C is for us alone, its output appended to `log`. */
export async function launch(
  program: string,
  args: readonly string[],
  options: {
    readonly as: Account | null;
    readonly folder: string;
    readonly log: string;
    /** What the watchdog sends it when we are gone. */
    readonly abandon: NodeJS.Signals;
  },
): Promise<Launched> {
  const log = openSync(options.log, 'a');
  const child = spawn(program, args, {
    ...options.as,
    cwd: options.folder,
    env: { ...ENVIRONMENT, HOME: options.folder },
    detached: true,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  await once(child, 'spawn');
  const { pid } = child;
  if (pid === undefined) throw new Error(`${program} has no process id`);
  tell({ started: pid, abandon: options.abandon });
  let running = true;
  const exited = once(child, 'exit').then(([code, signal]) => {
    running = false;
    tell({ ended: pid });
    return `${signal ?? `code ${code}`}`;
  });
  return { pid, exited, running: () => running };
}

/** Runs a program to its end; its output. Rejects with what it said when it fails. */
export async function run(
  program: string,
  args: readonly string[],
  options: { readonly as?: Account | null; readonly folder?: string } = {},
): Promise<string> {
  const { folder = '/' } = options;
  const { stdout } = await promisify(execFile)(program, args, {
    ...options.as,
    cwd: folder,
    env: { ...ENVIRONMENT, HOME: folder },
    maxBuffer: 64 * 1024 * 1024,
  });
  return stdout;
}

/** The processes whose parent is `pid`. */
export function children(pid: number): number[] {
  let list: string;
  try {
    list =
      process.platform === 'linux'
        ? readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
        : execFileSync('pgrep', ['-P', String(pid)], { encoding: 'utf8' });
  } catch {
    return []; // it is gone, or has none
  }
  return list.split(/\s+/).filter(Boolean).map(Number);
}

export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** The letter that ps has for what it does: T when stopped by a signal, Z when it has ended; '' when it is gone. */
function stateOf(pid: number): string {
  try {
    if (process.platform !== 'linux') {
      return execFileSync('ps', ['-o', 'state=', '-p', String(pid)], { encoding: 'utf8' })
        .trim()
        .slice(0, 1);
    }
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).slice(0, 1);
  } catch {
    return '';
  }
}

/** One that has ended and waits for its parent to notice is not. */
export function alive(pid: number): boolean {
  return !['', 'Z', 'X'].includes(stateOf(pid));
}

/** SIGSTOP for a server and its children; resolves when none of them does anything any more. */
export async function stopAll(pid: number): Promise<number[]> {
  signal(pid, 'SIGSTOP');
  while (alive(pid) && stateOf(pid) !== 'T') await delay(1); // it may be about to fork
  const all = [pid, ...children(pid)];
  for (const one of all) signal(one, 'SIGSTOP');
  while (all.some((one) => alive(one) && stateOf(one) !== 'T')) await delay(1);
  return all;
}

/** Ends a server whose data nobody wants any more; resolves when it and its children are gone. */
export async function abandon(pid: number, name: NodeJS.Signals): Promise<void> {
  const all = [pid, ...children(pid)];
  for (const one of all) signal(one, 'SIGCONT');
  signal(pid, name);
  const deadline = performance.now() + ABANDON_DEADLINE;
  while (all.some(alive)) {
    if (performance.now() > deadline) return killAll(pid);
    await delay(5);
  }
}

/** SIGKILL for a server and its children, as when a machine loses power; resolves when all are gone. */
export async function killAll(pid: number): Promise<void> {
  const all = await stopAll(pid);
  for (const one of all) signal(one, 'SIGKILL');
  while (all.some(alive)) await delay(5);
}
