/** The program as a child process: what it prints, and how it ends. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

export const BIN = fileURLToPath(new URL('../../bin/dungbeetle.js', import.meta.url));

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  /** The Node to run with; default: the one that runs the tests. */
  readonly node?: string;
}

/** Runs the program to its end. Variables of this process's environment that configure it are left out. */
export async function dungbeetle(argv: readonly string[], options: RunOptions): Promise<Ended> {
  return command([options.node ?? process.execPath, BIN, ...argv], options);
}

export async function command([file = '', ...argv]: readonly string[], options: RunOptions): Promise<Ended> {
  const outside = Object.entries(process.env).filter(([name]) => !/^dungbeetle_/i.test(name));
  const child = spawn(file, argv, {
    cwd: options.cwd,
    env: { ...Object.fromEntries(outside), ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [[code], stdout, stderr] = await Promise.all([
    once(child, 'close') as Promise<[number | null]>,
    text(child.stdout),
    text(child.stderr),
  ]);
  return { code, stdout, stderr };
}
