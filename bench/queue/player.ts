/** A producer or a consumer in a process of its own, as its parent sees it. */
import { type ChildProcess, fork } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import type { Answer, Part, Request } from './process.ts';

export class Player {
  readonly #child: ChildProcess;
  readonly #started = new EventEmitter<{ started: [number] }>();
  #waiting: PromiseWithResolvers<number> | undefined;

  /** `execArgv`: for the process, to profile it, say. */
  constructor(part: Part, execArgv: readonly string[] = []) {
    this.#child = fork(new URL('./process.ts', import.meta.url), [JSON.stringify(part)], {
      execArgv: [...execArgv],
    });
    this.#child.on('message', (answer: Answer) => {
      if (answer.type === 'started') this.#started.emit('started', answer.at);
      else if (answer.type === 'done') this.#waiting?.resolve(answer.value);
      else this.#waiting?.reject(new Error(`${part.name}: ${answer.message}`));
    });
    this.#child.on('exit', (code, signal) => {
      this.#waiting?.reject(new Error(`${part.name}: its process ended with ${signal ?? code}`));
    });
  }

  /** One at a time. */
  async ask(request: Request): Promise<number> {
    this.#waiting = Promise.withResolvers();
    this.#child.send(request);
    return this.#waiting.promise;
  }

  /** When the next job begins. */
  async nextStart(): Promise<number> {
    const [at] = await once(this.#started, 'started');
    return at;
  }

  async close(): Promise<void> {
    await this.ask({ type: 'close' });
    this.#waiting = undefined;
    const exit = once(this.#child, 'exit');
    this.#child.disconnect();
    await exit;
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }
}
