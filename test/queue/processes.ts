/** Child processes of the tests of the queue, and what they tell. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { until } from '../support/until.ts';
import type { Told } from './children/worker.ts';

export class Child {
  readonly process: ChildProcess;
  readonly told: Told[] = [];
  readonly #exited: Promise<unknown>;

  constructor(script: 'worker' | 'post', args: readonly string[]) {
    const path = fileURLToPath(new URL(`./children/${script}.ts`, import.meta.url));
    // Without the options of the test runner.
    this.process = fork(path, args, { execArgv: [] });
    this.#exited = once(this.process, 'exit');
    this.process.on('message', (told: Told) => this.told.push(told));
  }

  /** The ids of the jobs of which it has told this. */
  jobs(type: string): string[] {
    return this.told.flatMap((told) =>
      told.type === type && told.job_id !== undefined ? [told.job_id] : [],
    );
  }

  async hears(type: string, job_id?: string): Promise<void> {
    await until(`a child tells "${type}" of ${job_id ?? 'anything'}`, () =>
      this.told.some((told) => told.type === type && (job_id === undefined || told.job_id === job_id)),
    );
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    this.process.kill(signal);
    await this.#exited;
  }
}

/** Starts a child that does not outlive the test. */
export function child(t: TestContext, script: 'worker' | 'post', ...args: readonly string[]): Child {
  const started = new Child(script, args);
  t.after(
    () => started.process.exitCode === null && started.process.signalCode === null && started.kill('SIGKILL'),
  );
  return started;
}
