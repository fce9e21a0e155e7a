/** A server of ours: a process, its folder, its port. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { account } from './accounts.ts';
import { makeCertificates } from './certificates.ts';
import type { Engine, Place } from './engine.ts';
import { type Home, ownFolder, prepareTemplate, programs } from './home.ts';
import { freePort } from './ports.ts';
import { abandon, children, killAll, type Launched, launch, run, signal, stopAll } from './processes.ts';

// A start takes a second or two; the rest is for machines with much else to do.
const START_DEADLINE = 60_000;
const STOP_DEADLINE = 20_000;

export interface ServerOptions {
  /** Its own folder, which must not be there yet. */
  readonly folder: string;
  /** Where its data goes; below its own folder by default. */
  readonly dataFolder?: string;
  readonly settings?: Readonly<Record<string, string>>;
  /** It offers TLS, with a certificate of an authority of its own. */
  readonly tls?: boolean;
}

export class Server {
  readonly engine: Engine;
  readonly dsn: string;
  version = '';
  readonly #place: Place;
  #process: Launched | undefined;

  constructor(engine: Engine, place: Place) {
    this.engine = engine;
    this.#place = place;
    this.dsn = engine.dsn(place);
  }

  get port(): number {
    return this.#place.port;
  }

  /** Of its main process. */
  get pid(): number {
    if (this.#process === undefined) throw new Error(`${this.engine.name} was never started`);
    return this.#process.pid;
  }

  get data(): string {
    return this.#place.data;
  }

  /** The certificate of the authority that has signed the server's, as PEM, where it offers TLS. */
  get ca(): string {
    if (this.#place.certificates === undefined)
      throw new Error(`${this.engine.name} was started without TLS`);
    return readFileSync(this.#place.certificates.ca, 'utf8');
  }

  /** Where its configuration is. */
  get folder(): string {
    return this.#place.folder;
  }

  /** What it has written to its log so far. */
  get log(): string {
    return readFileSync(this.#logFile, 'utf8');
  }

  get #logFile(): string {
    return join(this.#place.folder, 'log');
  }

  /** Resolves when it answers. */
  async start(): Promise<void> {
    if (this.#process?.running()) throw new Error(`${this.engine.name} is running already`);
    const { program, args } = this.engine.command(this.#place);
    const { as, folder } = this.#place;
    this.#process = await launch(program, args, {
      as,
      folder,
      log: this.#logFile,
      abandon: this.engine.abandon,
    });
    await this.answers();
  }

  /** Resolves when it answers; rejects when it has ended or does not answer in time. */
  async answers(): Promise<void> {
    const deadline = performance.now() + START_DEADLINE;
    for (;;) {
      try {
        this.version = await this.engine.answer(this.#place);
        return;
      } catch (error) {
        const ended = this.#process?.running() !== true;
        if (ended || performance.now() > deadline) {
          const how = ended ? `ended with ${await this.#process?.exited}` : 'does not answer';
          throw new Error(`${this.engine.name} ${how}:\n${this.log.slice(-2000)}`, { cause: error });
        }
        await delay(20);
      }
    }
  }

  /** Ends it in order; by force if that takes too long. Resolves when no process of it is left. */
  async stop(): Promise<void> {
    if (this.#process?.running() !== true) return;
    this.resume();
    signal(this.pid, this.engine.stop);
    const late = delay(STOP_DEADLINE, 'late', { ref: false });
    if ((await Promise.race([this.#process.exited, late])) === 'late') await this.kill();
  }

  /**
   * SIGKILL ends all its processes at once, as when its machine fails, and this resolves when they are gone.
   * Any other signal goes to its main process alone, and nothing is waited for.
   */
  async kill(name: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.#process?.running() !== true) return;
    if (name !== 'SIGKILL') return signal(this.pid, name);
    await killAll(this.pid);
    await this.#process.exited;
  }

  /** Ends it by the shortest way and for good: its data are not kept in order. */
  async abandon(): Promise<void> {
    if (this.#process?.running() === true) {
      await abandon(this.pid, this.engine.abandon);
      await this.#process.exited;
    }
    await this.engine.cleanUp?.(this.#place);
  }

  /** Resolves when it has ended by itself, or by a signal; with how. */
  exited(): Promise<string> {
    if (this.#process === undefined) throw new Error(`${this.engine.name} was never started`);
    return this.#process.exited;
  }

  /** Stops it in order if it runs, and starts it again: on the same port, with the same data. */
  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /** SIGSTOP for all its processes: connections stay, nothing answers. Resolves when they are. */
  async pause(): Promise<void> {
    await stopAll(this.pid);
  }

  resume(): void {
    for (const child of children(this.pid)) signal(child, 'SIGCONT');
    signal(this.pid, 'SIGCONT');
  }
}

/** Lays out a server, with a copy of the run's template as its data. It is not started yet. */
export async function createServer(home: Home, engine: Engine, options: ServerOptions): Promise<Server> {
  const { settings = {} } = options;
  const template = await prepareTemplate(home, engine);
  const folder = ownFolder(engine, options.folder);
  const data = ownFolder(engine, options.dataFolder ?? join(folder, 'data'));
  if (template !== null) await run('cp', ['-R', '-p', `${template}/.`, data]);
  const as = account(engine.accounts);
  const certificates = options.tls ? await makeCertificates(folder, as) : undefined;
  return new Server(engine, {
    programs: await programs(home, engine),
    folder,
    data,
    port: await freePort(),
    password: home.password,
    as,
    settings,
    ...(certificates === undefined ? {} : { certificates }),
  });
}
