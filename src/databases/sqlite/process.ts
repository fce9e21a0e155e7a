/**
 * A child process that runs SQLite for us. node:sqlite is synchronous and cannot be interrupted: neither
 * worker.terminate() nor process.exit() stops a running step, a SIGKILL does. So whatever may take long runs
 * in a process of its own, which also keeps a SIGBUS (a truncated or full file under SQLite's shared
 * memory) away from the server.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { Socket } from 'node:net';
import { DatabaseError } from '../errors.ts';
import { errorOf, type Failure } from './failure.ts';

/** What a process offers: by name, what is asked, what is answered, and what is told in between. */
export interface Operation {
  readonly request: unknown;
  readonly reply: unknown;
  readonly event?: unknown;
}
export type Operations<T> = { [K in keyof T]: Operation };
export type EventOf<T extends Operation> = T extends { readonly event: infer E } ? E : never;

export interface Call {
  readonly id: number;
  readonly op: string;
  readonly request: unknown;
}
export type Answer =
  /** The first: it is ready to be called. */
  | { readonly ready: true }
  | { readonly id: number; readonly reply: unknown }
  | { readonly id: number; readonly failure: Failure }
  | { readonly id: number; readonly event: unknown };

interface Pending {
  resolve(reply: unknown): void;
  reject(error: unknown): void;
  event(event: unknown): void;
}

/** The file descriptor of the pipe whose end tells the child that this process is gone. */
export const LIFELINE = 4;
/** And of the one over which a child asks for a turn, a byte each, and waits for the answer, whatever it is doing. */
export const ASKING = 5;
const ASKED_FOR = { r: 'row', v: 'value' } as const;

/** For what a child wants a turn: the first large value of a row, or another of the same. */
export type AskedFor = (typeof ASKED_FOR)[keyof typeof ASKED_FOR];

/** Environment variables that a child needs; the rest, passwords among them, is none of its business. */
const PASSED_ON = ['PATH', 'TMPDIR', 'TMP', 'TEMP', 'SQLITE_TMPDIR', 'SystemRoot', 'NODE_V8_COVERAGE'];

export class SqliteProcess<T extends Operations<T>> {
  readonly #child: ChildProcess;
  readonly #pending = new Map<number, Pending>();
  readonly #name: string;
  /** Resolves when the process takes calls, if it ever does. Those made earlier wait for that. */
  readonly ready: Promise<void>;
  readonly exited: Promise<void>;
  readonly #started: () => void;
  /** Called when the child asks for a turn; it is answered when that resolves. */
  onAsk: ((what: AskedFor) => Promise<void>) | null = null;
  #next = 1;
  #alive = true;
  #ending = false;

  /** `name` is how errors call the database, e.g. `db "ledger"`. */
  constructor(
    module: URL,
    name: string,
    environment: Readonly<Record<string, string>> = {},
    args: readonly string[] = [],
  ) {
    this.#name = name;
    const env: Record<string, string> = {};
    for (const key of PASSED_ON) {
      const value = process.env[key];
      if (value !== undefined) env[key] = value;
    }
    this.#child = fork(module, args, {
      serialization: 'advanced',
      // Not those of this process: --test, --inspect and the like are not meant for it.
      execArgv: ['--disable-warning=ExperimentalWarning', '--expose-gc'],
      env: { ...env, ...environment },
      // The last one is the lifeline. A crash's last words on stderr are worth having in the log.
      stdio: ['ignore', 'ignore', 'inherit', 'ipc', 'pipe', 'pipe'],
    });
    const started = Promise.withResolvers<void>();
    this.ready = started.promise;
    this.#started = started.resolve;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.exited = promise;
    this.#child.on('message', (answer) => this.#answered(answer as Answer));
    this.#child.once('error', (error) => this.#ended(`could not be started: ${error.message}`, resolve));
    this.#child.once('exit', (code, signal) => {
      this.#ended(signal === null ? `ended with code ${code}` : `was ended by ${signal}`, resolve);
    });
    // A closed lifeline is told by the exit; without a listener it would be an uncaught error.
    this.#child.stdio[LIFELINE]?.on('error', () => {});
    const asking = this.#asking();
    asking?.on('error', () => {});
    asking?.on('data', (asked: Buffer) => this.#asked(asked.toString(), asking));
    // Until it is ready this process is kept running: someone may be waiting for that.
    void this.ready.then(() => {
      if (this.#pending.size === 0) this.#rest();
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** Rejects with the `DatabaseError` of the other side, or with `unavailable` when the process ends. */
  call<K extends keyof T & string>(
    op: K,
    request: T[K]['request'],
    onEvent?: (event: EventOf<T[K]>) => void,
  ): Promise<T[K]['reply']> {
    if (!this.#alive) return Promise.reject(this.#gone('has ended'));
    const id = this.#next++;
    const { promise, resolve, reject } = Promise.withResolvers<T[K]['reply']>();
    this.#pending.set(id, { resolve, reject, event: (event) => onEvent?.(event as EventOf<T[K]>) });
    if (this.#pending.size === 1) {
      this.#child.ref();
      this.#child.channel?.ref();
    }
    const call: Call = { id, op, request };
    this.#child.send(call, (error) => {
      if (error === null) return;
      // It has ended, and that is not yet known here: the exit tells how, and rejects what is pending.
      this.#alive = false;
      void this.kill();
    });
    return promise;
  }

  /** Ends the process at once; resolves when it is gone. */
  kill(): Promise<void> {
    // Waited for, even if answers that were under way still come in.
    this.#ending = true;
    this.#child.ref();
    this.#child.kill('SIGKILL');
    return this.exited;
  }

  #answered(answer: Answer): void {
    if ('ready' in answer) this.#started();
    else if ('event' in answer) this.#pending.get(answer.id)?.event(answer.event);
    else if ('failure' in answer) this.#settle(answer.id)?.reject(errorOf(answer.failure));
    else this.#settle(answer.id)?.resolve(answer.reply);
  }

  #asking(): Socket | null {
    // Its type knows of five pipes only.
    const pipe = (this.#child.stdio as readonly unknown[])[ASKING];
    return pipe instanceof Socket ? pipe : null;
  }

  #asked(what: string, pipe: Socket): void {
    if (what !== 'r' && what !== 'v') return;
    // Who gives up waiting ends the process.
    this.onAsk?.(ASKED_FOR[what]).then(
      () => pipe.write('.'),
      () => {},
    );
  }

  #settle(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (this.#pending.size === 0) this.#rest();
    return pending;
  }

  /** A process that waits for work does not keep this one running. */
  #rest(): void {
    if (this.#ending) return;
    this.#child.unref();
    this.#child.channel?.unref();
    const lifeline = this.#child.stdio[LIFELINE];
    if (lifeline && 'unref' in lifeline && typeof lifeline.unref === 'function') lifeline.unref();
    this.#asking()?.unref();
  }

  #ended(how: string, resolve: () => void): void {
    this.#alive = false;
    for (const id of [...this.#pending.keys()]) this.#settle(id)?.reject(this.#gone(how));
    resolve();
  }

  #gone(how: string): DatabaseError {
    return new DatabaseError('unavailable', `${this.#name}: the process that runs SQLite ${how}`);
  }
}
