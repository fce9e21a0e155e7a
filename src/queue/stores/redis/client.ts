/**
 * Calls of the store's script. Calls that are made at the same time share one run of it; each has its own verdict.
 *
 * A call fails when Redis has not answered in time, and the connection with it: on one that is half open nothing
 * would ever come back. What was sent may yet arrive; so each run carries the time, by the server's clock, after
 * which the script refuses it.
 */
import { QueueError, StoreUnavailable } from '../../errors.ts';
import { type Client, connect, disconnect } from './connect.ts';
import { codeOf, ELSEWHERE, failure, REFUSED } from './failures.ts';
import type { RedisStoreOptions } from './options.ts';
import { OPENING, SCRIPT, SCRIPT_SHA, VERSION } from './script.ts';

/**
 * What a call does: `read` does not write. What `room` writes is refused when memory is full, what `always` and
 * `lease` write is not. What `lease` writes needs no replica: if a failover loses it, it is done again.
 */
export type Mode = 'always' | 'room' | 'lease' | 'read';

/** What a call answers with: `+` and its values, or `!` and a refusal. */
export type Answer = readonly unknown[];

interface Call {
  readonly mode: Mode;
  readonly args: readonly (string | number)[];
  readonly weight: number;
  resolve(answer: Answer): void;
  reject(error: unknown): void;
}

interface Run {
  readonly calls: readonly Call[];
  readonly timer: NodeJS.Timeout;
}

interface Executed {
  readonly answers: readonly Answer[];
  /** Why replicas are not known to have what was done. */
  readonly missing: unknown;
}

/**
 * How many runs may be on their way: while Redis works on one the next one gets ready. They are carried out in the
 * order in which they were sent, and whether one succeeds is nothing to the next.
 */
const RUNS = 2;
/** Fewer calls go together; as many or more are shared among the runs, so that Redis works while we do. */
const CALLS_TO_SHARE = 20;
/** The most calls of a run, and the most characters that their arguments have together. */
const CALLS_PER_RUN = 200;
const WEIGHT_PER_RUN = 256 * 1_024;
/** How much of a call's time replicas get: it may have to be sent a second time, with the script. */
const WAIT_SHARE = 0.3;

export interface ClientEvents {
  /** What a run has made happen: see the script's `news`. */
  onNews(news: string): void;
  onWarning(message: string): void;
}

export class ScriptClient {
  readonly store_id: string;
  readonly where: string;
  readonly #key: string;
  readonly #client: Client;
  readonly #origin: string;
  readonly #events: ClientEvents;
  readonly #timeout_ms: number;
  readonly #min_replicas: number;
  readonly #clockOffset: () => number;
  #waiting: Call[] = [];
  readonly #running = new Set<Run>();
  #scheduled = false;
  /** Whether the server has the script, as far as is known. A run that has to bring it must not be overtaken. */
  #scripted = false;
  #closing: Promise<void> | undefined;
  /** Why there is no connection. */
  #lost: unknown;
  /** The server's clock less ours (`performance.now`), ms, at least. */
  #ahead_ms: number;
  #last_seq = 0;
  #idle: (() => void) | undefined;

  private constructor(
    client: Client,
    { store_id, ahead_ms }: Opened,
    options: RedisStoreOptions,
    origin: string,
    events: ClientEvents,
  ) {
    this.#client = client;
    this.store_id = store_id;
    this.#ahead_ms = ahead_ms;
    this.where = whereOf(options);
    this.#key = keyOf(options);
    this.#origin = origin;
    this.#events = events;
    this.#timeout_ms = options.command_timeout_ms ?? 5_000;
    this.#min_replicas = options.min_replicas ?? 0;
    this.#clockOffset = options.clockOffset ?? (() => 0);
    client.on('error', (error: unknown) => {
      this.#lost = error;
    });
    client.on('close', () => {
      this.#scripted = false;
    });
  }

  /** Throws `StoreUnavailable` when the store cannot be written within the time. */
  static async open(options: RedisStoreOptions, origin: string, events: ClientEvents): Promise<ScriptClient> {
    const where = whereOf(options);
    const key = keyOf(options);
    const client = connect(options);
    const timeout_ms = options.connect_timeout_ms ?? 5_000;
    let lost: unknown = new Error(`no answer within ${timeout_ms} ms`);
    const keep = (error: unknown) => {
      lost = error;
    };
    client.on('error', keep);
    try {
      const store = await opened(client, key, timeout_ms, keep, () => lost);
      return new ScriptClient(client, store, options, origin, events);
    } catch (error) {
      disconnect(client);
      throw failure(error, where, client.isCluster);
    }
  }

  get client(): Client {
    return this.#client;
  }

  call(mode: Mode, args: readonly (string | number)[]): Promise<Answer> {
    if (this.#closing !== undefined) return Promise.reject(StoreUnavailable('it is closed'));
    const weight = args.reduce<number>((sum, arg) => sum + (typeof arg === 'string' ? arg.length : 8), 0);
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    this.#waiting.push({ mode, args, weight, resolve, reject });
    this.#schedule();
    return promise;
  }

  /** Calls made before are answered. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#idle = resolve;
    this.#settle();
    await promise;
    disconnect(this.#client);
  }

  #settle(): void {
    if (this.#waiting.length === 0 && this.#running.size === 0) this.#idle?.();
  }

  /** Once what runs now has run: others may have calls to make, too. */
  #schedule(): void {
    if (this.#scheduled || this.#running.size >= this.#runs) return;
    this.#scheduled = true;
    process.nextTick(() => {
      this.#scheduled = false;
      this.#send();
    });
  }

  #send(): void {
    while (this.#waiting.length > 0 && this.#running.size < this.#runs) {
      if (this.#client.status !== 'ready') {
        this.#fail(failure(this.#lost ?? new Error('it was lost'), this.where));
        return;
      }
      this.#run(this.#take());
    }
    this.#settle();
  }

  get #runs(): number {
    return this.#scripted ? RUNS : 1;
  }

  /** Calls from the front that can share a run. */
  #take(): readonly Call[] {
    let writes: Writes | undefined;
    let weight = 0;
    let size = 0;
    const waiting = this.#waiting.length;
    const share = waiting < CALLS_TO_SHARE ? waiting : Math.ceil(waiting / (this.#runs - this.#running.size));
    const most = Math.min(share, CALLS_PER_RUN);
    for (const call of this.#waiting) {
      const its = writesOf(call);
      const fits = its === undefined || writes === undefined || its === writes;
      if (size > 0 && (!fits || size === most || weight + call.weight > WEIGHT_PER_RUN)) break;
      writes ??= its;
      weight += call.weight;
      size += 1;
    }
    return this.#waiting.splice(0, size);
  }

  #run(calls: readonly Call[]): void {
    const timer = setTimeout(() => {
      this.#lost = new Error(`no answer within ${this.#timeout_ms} ms`);
      this.#fail(failure(this.#lost, this.where));
      this.#client.disconnect(true);
    }, this.#timeout_ms);
    const run = { calls, timer };
    this.#running.add(run);
    void this.#execute(calls)
      .then(
        ({ answers, missing }) => {
          if (!this.#running.delete(run)) return;
          for (const [index, call] of calls.entries()) {
            if (missing !== undefined && isKept(call)) call.reject(missing);
            else call.resolve(answers[index] ?? []);
          }
        },
        (error: unknown) => {
          if (!this.#running.delete(run)) return;
          for (const call of calls) call.reject(error);
        },
      )
      .finally(() => {
        clearTimeout(timer);
        if (this.#waiting.length > 0) this.#schedule();
        this.#settle();
      });
  }

  async #execute(calls: readonly Call[]): Promise<Executed> {
    const writes = calls.map(writesOf).find((writes) => writes !== undefined) ?? 'read';
    const waits = this.#min_replicas > 0 && calls.some(isKept);
    const sent_at = performance.now();
    const late = Math.floor(sent_at + this.#ahead_ms + this.#timeout_ms);
    const offset = Math.round(this.#clockOffset());
    const args = [this.store_id, offset, late, this.#origin, writes, waits ? 1 : 0];
    for (const call of calls) for (const arg of call.args) args.push(arg);
    let evaluated: Evaluated;
    try {
      evaluated = await this.#evaluate(args, waits);
    } catch (error) {
      const code = codeOf(error);
      if (code !== undefined && ELSEWHERE.has(code)) this.#client.disconnect(true);
      throw failure(error, this.where, this.#client.isCluster);
    }
    const [verdict, clock, ...rest] = evaluated.reply;
    // The server read its clock in between. Never more than the truth: what is late for us must be late there.
    const least = Number(clock) - performance.now();
    const most = Number(clock) - sent_at;
    this.#ahead_ms = Math.min(Math.max(this.#ahead_ms, least), most);
    switch (String(verdict)) {
      case 'ok':
        return { answers: this.#accept(rest), missing: evaluated.missing };
      case 'late':
        throw StoreUnavailable(`the call has reached Redis at ${this.where} too late`);
      default:
        throw StoreUnavailable(
          String(rest[0]) === ''
            ? `Redis at ${this.where} has lost the store's data; start again to begin a new store`
            : `the store in Redis at ${this.where} was replaced by another one; start again to use that`,
        );
    }
  }

  #accept([last_seq, news, ...answers]: readonly unknown[]): readonly Answer[] {
    const seq = Number(last_seq);
    if (seq < this.#last_seq) {
      this.#events.onWarning(
        `Redis at ${this.where} has lost its last writes: a failover or an older copy of its data. Jobs accepted last may be gone.`,
      );
    }
    this.#last_seq = seq;
    const text = String(news);
    // What listeners do, and throw, is none of these calls' business.
    if (text !== '') queueMicrotask(() => this.#events.onNews(text));
    return answers as readonly Answer[];
  }

  /** Its script is loaded again where it is not known: after a restart, a failover, SCRIPT FLUSH. */
  async #evaluate(args: readonly (string | number)[], waits: boolean): Promise<Evaluated> {
    let evaluated: Evaluated;
    try {
      evaluated = await this.#command('evalsha', SCRIPT_SHA, args, waits);
    } catch (error) {
      if (codeOf(error) !== 'NOSCRIPT') throw error;
      this.#scripted = false;
      evaluated = await this.#command('eval', SCRIPT, args, waits);
    }
    this.#scripted = true;
    return evaluated;
  }

  async #command(
    name: 'eval' | 'evalsha',
    script: string,
    args: readonly (string | number)[],
    waits: boolean,
  ): Promise<Evaluated> {
    const all = [script, 1, this.#key, ...args];
    if (!waits) {
      return { reply: (await this.#client.callBuffer(name, all)) as readonly unknown[], missing: undefined };
    }
    const results = await this.#client
      .pipeline()
      .callBuffer(name, all)
      .call('WAIT', this.#min_replicas, Math.ceil(this.#timeout_ms * WAIT_SHARE))
      .exec();
    const [[failed, reply] = [], [notWaited, replicas] = []] = results ?? [];
    if (failed) throw failed;
    const missing = notWaited ? failure(notWaited, this.where) : this.#tooFew(Number(replicas));
    return { reply: reply as readonly unknown[], missing };
  }

  #tooFew(replicas: number): Error | undefined {
    if (replicas >= this.#min_replicas) return undefined;
    return StoreUnavailable(
      `only ${replicas} replicas of Redis at ${this.where} have the change, not ${this.#min_replicas}`,
    );
  }

  /** All that runs or waits. */
  #fail(error: unknown): void {
    const calls = [...[...this.#running].flatMap((run) => run.calls), ...this.#waiting];
    for (const { timer } of this.#running) clearTimeout(timer);
    this.#running.clear();
    this.#waiting = [];
    for (const call of calls) call.reject(error);
    this.#settle();
  }
}

interface Evaluated {
  readonly reply: readonly unknown[];
  readonly missing: unknown;
}

/** What happens to a run's writes when memory is full. */
type Writes = 'always' | 'room';

function writesOf({ mode }: Call): Writes | undefined {
  if (mode === 'read') return undefined;
  return mode === 'room' ? 'room' : 'always';
}

/** Whether somebody is told that it holds. */
function isKept({ mode }: Call): boolean {
  return mode === 'always' || mode === 'room';
}

interface Opened {
  readonly store_id: string;
  readonly ahead_ms: number;
}

/** The store and the server's clock, once the server answers; until then whatever time may mend is tried again. */
async function opened(
  client: Client,
  key: string,
  timeout_ms: number,
  keep: (error: unknown) => void,
  lost: () => unknown,
): Promise<Opened> {
  const deadline = performance.now() + timeout_ms;
  const answer = async (): Promise<Opened> => {
    for (;;) {
      try {
        if (client.status === 'wait' || client.status === 'end') await client.connect();
        const reply = await client.eval(OPENING, 1, key, crypto.randomUUID(), VERSION);
        const [id, version, clock] = reply as readonly unknown[];
        refuseNewer(Number(version));
        return { store_id: String(id), ahead_ms: Number(clock) - performance.now() };
      } catch (error) {
        if (error instanceof QueueError) throw error;
        keepReason(error, keep);
        const code = codeOf(lost());
        if (code !== undefined && REFUSED.has(code)) throw lost();
        if (code === 'MOVED' && !client.isCluster) throw lost();
        if (code !== undefined && ELSEWHERE.has(code)) client.disconnect(true);
        if (performance.now() > deadline) throw lost();
        await pause(20);
      }
    }
  };
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(lost()), timeout_ms);
  try {
    return await Promise.race([answer(), late]);
  } finally {
    clearTimeout(timer);
  }
}

function refuseNewer(version: number): void {
  if (version <= VERSION) return;
  throw StoreUnavailable(
    `its data in Redis are those of a newer version (${version}, not ${VERSION}): upgrade`,
  );
}

/** What was wrong says more than that there is no connection. */
function keepReason(error: unknown, keep: (error: unknown) => void): void {
  const message = error instanceof Error ? error.message : '';
  if (
    /Stream isn't writeable|Connection is closed|Cluster isn't ready|already connect|max retries/i.test(
      message,
    )
  )
    return;
  keep(error);
}

function pause(ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  setTimeout(resolve, ms);
  return promise;
}

function whereOf({ addresses }: RedisStoreOptions): string {
  return addresses.join(', ');
}

/** Throws `TypeError` for a prefix that would be no hash tag. */
export function keyOf({ prefix = 'dungbeetle' }: RedisStoreOptions, name = 'store'): string {
  if (prefix === '' || /[{}]/.test(prefix)) {
    throw new TypeError(`the prefix "${prefix}" of the Redis store must be a text without braces`);
  }
  return `{${prefix}}:${name}`;
}
