/** A source's session: one query at a time in a read-only transaction, ended from outside when it must be. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from 'pg';
import { serialize } from 'pg-protocol';
import type { Argument, Chunk, Owner, QueryOptions } from '../database.ts';
import { DatabaseError } from '../errors.ts';
import type { ValueBound } from '../value-bound.ts';
import { requestCancel, terminate, terminating } from './cancel.ts';
import type { Described } from './columns.ts';
import { asOurselves, backendKey, type ConnectOptions, sessionOf } from './connect.ts';
import { DESK, isPredecessor, markerPrefix } from './marker.ts';
import { bindMessage, readDescription, readError, readParameters, readTuples } from './messages.ts';
import type { Pool } from './pool.ts';
import { quoteLiteral } from './quote.ts';
import { beginning, EXACT } from './settings.ts';
import { type Arrival, isMessage, MESSAGE, type Message, type RowForm, Wire } from './wire.ts';

/** How long the server may take to end a cancelled query before its backend is terminated, ms. */
const CANCEL_MS = 700;
/** How long each step of ending a query may take with a server that does not answer, ms. */
const ENDING_MS = 2_000;
/** The server's own limit comes a little after ours, whose error says what was asked for. */
const TIMEOUT_SLACK_MS = 1_000;

/** Rolled back, so that no setting survives it; locks that belong to the session do not go with that. */
const ENDING = 'ROLLBACK; SELECT pg_catalog.pg_advisory_unlock_all()';
/** Where something may survive, the session ends too: behind a pooler it is not ours to keep from others. */
const ENDING_SESSION = 'ROLLBACK; SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())';

/** The description of no parameters, or of no columns. */
const NOTHING = Buffer.from([0, 0]);

const wires = new WeakMap<Client, Wire>();

/** What the server says of a statement. */
export interface Statement {
  readonly parameters: readonly number[];
  /** Null: it gives no rows, not even none. */
  readonly columns: readonly Described[] | null;
  /** The same as it came. */
  readonly description: Description;
}

/** Bodies of ParameterDescription and RowDescription. */
interface Description {
  readonly parameters: Buffer;
  readonly rows: Buffer;
}

/** A statement that has run before, and how it was described then. */
export interface KnownStatement {
  readonly sql: string;
  readonly parameters: readonly number[];
  readonly description: Description;
  /** What runs in its place; null: it runs itself. */
  readonly replacement: string | null;
  readonly formats: readonly number[];
  /** It may leave something in its session. */
  readonly lasting: boolean;
}

type TimeLimit = Pick<QueryOptions, 'timeout_ms'>;

export interface SessionOptions {
  readonly pool: Pool;
  readonly connect: ConnectOptions;
  /** Aborting makes every wait reject with its reason and ends what runs. */
  readonly signal: AbortSignal;
}

/** Over with `finish`, `rollBack` or `stop`. */
export class Session {
  readonly #options: SessionOptions;
  readonly #client: Client;
  readonly #wire: Wire;
  readonly #mark: string;
  /** Nobody else may have it after what runs in it. */
  #isSpent = false;
  #pending: Promise<Arrival> | null = null;
  /** Answers to Sync and Query that have not come. */
  #outstanding = 0;
  #over: Promise<void> | null = null;
  readonly #onAbort = () => void this.stop();

  constructor(client: Client, mark: string, options: SessionOptions) {
    this.#client = client;
    this.#options = options;
    this.#mark = mark;
    this.#wire = wires.get(client) ?? new Wire(client);
    wires.set(client, this.#wire);
    options.signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** Begins a read-only transaction and has a statement described. */
  async prepare(sql: string, options: TimeLimit): Promise<Statement> {
    this.#wire.expect(null, null);
    this.#send(2, serialize.query(this.#beginning(options).join('; ')), ...describing(sql, []));
    await this.#soon(() => this.#ready());
    return this.#description();
  }

  /**
   * `prepare` and `execute` in one round trip, for a statement that is described as it was before. False: it is not,
   * or the server refuses it, and the session is over with nothing taken of it.
   */
  async executeKnown(
    known: KnownStatement,
    args: readonly Argument[],
    options: TimeLimit,
    bound: ValueBound,
  ): Promise<boolean> {
    this.#wire.expect(null, bound);
    this.#isSpent = known.lasting;
    this.#send(
      2,
      // In one sequence up to Sync: where the transaction does not begin, the server passes over all the rest.
      ...this.#beginning(options).flatMap((sql) => [
        serialize.parse({ text: sql }),
        serialize.bind(),
        serialize.execute(),
      ]),
      // The statement itself, whatever takes its place: casts would hide what its columns have become.
      serialize.parse({ text: known.sql }),
      serialize.describe({ type: 'S' }),
      // The description comes at once, also of a query that takes long.
      serialize.flush(),
      ...(known.replacement === null
        ? []
        : [serialize.parse({ text: known.replacement, types: [...known.parameters] })]),
      ...running(args, known.parameters, known.formats, this.#ending()),
    );
    return this.#soon(() => this.#isDescribedAs(known.description));
  }

  /** If the statement is not described so, the session is over. */
  async #isDescribedAs(description: Description): Promise<boolean> {
    for (;;) {
      const arrival = await this.#next();
      if (!isMessage(arrival)) break;
      const { type, body } = arrival;
      if (type === MESSAGE.error) {
        await this.#settle();
        this.finish();
        return false;
      }
      if (type === MESSAGE.parameters && !body.equals(description.parameters)) break;
      if (type === MESSAGE.row_description && body.equals(description.rows)) return true;
      if (type === MESSAGE.row_description || type === MESSAGE.no_data) break;
    }
    await this.stop();
    return false;
  }

  /** All that the query relies on: between us and the server may be a pooler that has lent the session to others. */
  #beginning({ timeout_ms }: TimeLimit): readonly string[] {
    const { isPooled, timeout_ms: own_ms } = sessionOf(this.#client);
    return beginning(this.#options.connect.config.settings, {
      application_name: this.#mark,
      statement_timeout_ms:
        timeout_ms === undefined || timeout_ms === null
          ? null
          : Math.min(Math.ceil(timeout_ms) + TIMEOUT_SLACK_MS, 2 ** 31 - 1),
      known_timeout_ms: isPooled ? null : own_ms,
    });
  }

  /**
   * Waits for what any server answers at once. A connection that was silent for long may be gone without either side
   * having heard of it, and what is sent into it is not answered for many minutes.
   */
  async #soon<T>(answer: () => Promise<T>): Promise<T> {
    const { connect } = this.#options;
    const milliseconds = connect.config.connect_timeout_ms ?? connect.connect_timeout_ms;
    const timer = setTimeout(() => this.#wire.destroy(), milliseconds);
    try {
      return await answer();
    } finally {
      clearTimeout(timer);
    }
  }

  /** Runs a query of our own; its rows as text. It takes the place of a prepared statement. */
  async ask(sql: string): Promise<readonly (readonly string[])[]> {
    const chunks: Buffer[] = [];
    this.#send(1, serialize.query(sql));
    await this.#soon(() =>
      this.#until(
        () => {},
        ({ data }) => chunks.push(data),
      ),
    );
    return readTuples(Buffer.concat(chunks));
  }

  /** Terminates the queries that earlier attempts of the same job have left running. */
  async endPredecessors(owner: Owner): Promise<void> {
    const running = await this.ask(
      asOurselves(
        `SELECT pid, application_name FROM pg_catalog.pg_stat_activity
         WHERE usename = session_user AND starts_with(application_name, ${quoteLiteral(markerPrefix(owner))})`,
      ),
    );
    for (const [pid, name] of running) {
      if (name === undefined || !isPredecessor(name, owner)) continue;
      await this.ask(asOurselves(terminating(Number(pid), name)));
    }
  }

  /** Parses a statement in place of the one before; the types of its parameters are given. */
  async replace(sql: string, parameters: readonly number[]): Promise<void> {
    this.#send(1, ...describing(sql, parameters));
    await this.#description();
  }

  /**
   * Runs the prepared statement; its rows are what `rows` gives. The transaction ends with it, and so does the session if
   * the statement may leave something in it.
   */
  execute(
    args: readonly Argument[],
    { parameters, formats, lasting }: Pick<KnownStatement, 'parameters' | 'formats' | 'lasting'>,
    form: RowForm | null,
    bound: ValueBound,
  ): void {
    this.#wire.expect(form, bound);
    this.#isSpent = lasting;
    this.#send(2, ...running(args, parameters, formats, this.#ending()));
  }

  #ending(): string {
    return this.#isSpent && sessionOf(this.#client).isPooled ? ENDING_SESSION : ENDING;
  }

  /** The rows until the server says that they are complete. Throws what the server says otherwise. */
  async *rows(): AsyncGenerator<Chunk, void, void> {
    try {
      for (;;) {
        const arrival = await this.#next();
        if (!isMessage(arrival)) yield arrival;
        else if (arrival.type === MESSAGE.command_complete) break;
        else this.#control(arrival);
      }
      await this.#ready();
      await this.#ended();
      this.finish();
    } finally {
      await this.stop();
    }
  }

  async #ended(): Promise<void> {
    try {
      await this.#ready();
    } catch (error) {
      // The rows are complete. That the session has ended is what was asked for.
      if (!this.#isSpent || this.#options.signal.aborted) throw error;
    }
  }

  /** Gives a connection back that is in order: in no transaction, with nothing on its way. */
  finish(): void {
    if (this.#over !== null) return;
    this.#over = Promise.resolve();
    this.#options.signal.removeEventListener('abort', this.#onAbort);
    const destroy = this.#isSpent || this.#outstanding > 0 || this.#wire.end !== null;
    this.#options.pool.release(this.#client, { destroy });
  }

  /** Rolls back what `prepare` began, and gives the connection back. */
  async rollBack(): Promise<void> {
    if (this.#over !== null) return;
    this.#send(1, serialize.query('ROLLBACK'));
    await this.#settle();
    this.finish();
  }

  async #settle(): Promise<void> {
    while (this.#outstanding > 0) await this.#ready();
  }

  /**
   * Ends what runs, and the connection with it, so that a cancel that comes late can hit nothing else. Resolves
   * when the server no longer works on it, or does not answer. Of no consequence when the session is over.
   */
  stop(): Promise<void> {
    this.#over ??= this.#stop();
    return this.#over;
  }

  async #stop(): Promise<void> {
    const { signal, pool, connect } = this.#options;
    signal.removeEventListener('abort', this.#onAbort);
    try {
      if (this.#outstanding > 0 && this.#wire.end === null) {
        const drained = this.#drain();
        const { host, port } = this.#client;
        const backend = { ...backendKey(this.#client), host, port };
        await requestCancel(backend, ENDING_MS);
        const ended = await within(CANCEL_MS, drained);
        // Behind a pooler, or in a function that holds interrupts off, a cancel may not be heard.
        const { pid, isPooled } = sessionOf(this.#client);
        if (!ended && !(isPooled && this.#mark === DESK)) {
          await terminate(quickly(connect), { pid: isPooled ? null : pid, host, port }, this.#mark);
        }
      }
    } catch {
      // The server cannot be reached. It ends the session itself when it finds its client gone, and the next
      // attempt looks for what is left: more cannot be done from here, and why it was stopped is told already.
    } finally {
      pool.release(this.#client, { destroy: true });
      this.#wire.destroy();
    }
  }

  /** Takes what still comes: a server that is blocked in sending does not hear of a cancel. */
  async #drain(): Promise<void> {
    try {
      let arrival = await (this.#pending ?? this.#wire.next());
      while (!isMessage(arrival) || arrival.type !== MESSAGE.ready) arrival = await this.#wire.next();
    } catch {
      // The connection has ended, and with it the query.
    }
  }

  #send(answers: number, ...messages: readonly Buffer[]): void {
    this.#outstanding += answers;
    this.#wire.send(...messages);
  }

  async #next(): Promise<Arrival> {
    const { signal } = this.#options;
    signal.throwIfAborted();
    this.#pending = this.#wire.next();
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    try {
      const arrival = await Promise.race([this.#pending, aborted]);
      this.#pending = null;
      if (isMessage(arrival)) this.#note(arrival);
      return arrival;
    } catch (error) {
      signal.throwIfAborted();
      this.#pending = null;
      throw error;
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  #note({ type, body }: Message): void {
    if (type === MESSAGE.ready) this.#outstanding -= 1;
    if (type !== MESSAGE.parameter_status) return;
    const [name = '', value = ''] = body.toString('utf8').split('\0');
    if (name !== 'client_encoding' || value === EXACT.client_encoding) return;
    throw new DatabaseError(
      'query_failed',
      `the query changes client_encoding to ${value}; text is read as UTF-8`,
    );
  }

  /** Waits for the next ReadyForQuery. An error on the way is thrown when it has come. */
  async #ready(): Promise<void> {
    await this.#until(
      () => {},
      () => {},
    );
  }

  async #description(): Promise<Statement> {
    let parameters = NOTHING;
    let rows: Buffer | null = null;
    await this.#until(
      ({ type, body }) => {
        if (type === MESSAGE.parameters) parameters = Buffer.from(body);
        else if (type === MESSAGE.row_description) rows = Buffer.from(body);
      },
      () => {},
    );
    return {
      parameters: readParameters(parameters),
      columns: rows === null ? null : readDescription(rows),
      description: { parameters, rows: rows ?? NOTHING },
    };
  }

  /** Takes what comes until the next ReadyForQuery. */
  async #until(take: (message: Message) => void, takeRows: (chunk: Chunk) => void): Promise<void> {
    let failure: Error | null = null;
    for (;;) {
      const arrival = await this.#next();
      if (!isMessage(arrival)) {
        takeRows(arrival);
        continue;
      }
      if (arrival.type === MESSAGE.error) failure ??= readError(arrival.body);
      else take(arrival);
      if (arrival.type === MESSAGE.ready) break;
    }
    if (failure !== null) throw failure;
  }

  /** A message among rows. */
  #control({ type, body }: Message): void {
    switch (type) {
      case MESSAGE.error:
        throw readError(body);
      case MESSAGE.ready:
      case MESSAGE.empty_query:
      case MESSAGE.portal_suspended:
        throw new DatabaseError(
          'query_failed',
          'the server ended the result without saying that it is complete',
          {
            transient: true,
          },
        );
    }
  }
}

function describing(sql: string, parameters: readonly number[]): readonly Buffer[] {
  return [
    serialize.parse({ text: sql, types: [...parameters] }),
    serialize.describe({ type: 'S' }),
    serialize.sync(),
  ];
}

/** Runs what was parsed last, to the end of the transaction. */
function running(
  args: readonly Argument[],
  parameters: readonly number[],
  formats: readonly number[],
  ending: string,
): readonly Buffer[] {
  return [
    bindMessage(args, parameters, formats),
    serialize.execute(),
    serialize.sync(),
    serialize.query(ending),
  ];
}

function quickly(options: ConnectOptions): ConnectOptions {
  const { signal: _, ...rest } = options;
  const connect_timeout_ms = Math.min(options.connect_timeout_ms, ENDING_MS);
  return { ...rest, config: { ...options.config, connect_timeout_ms }, connect_timeout_ms };
}

/** Whether a promise resolves in time. */
async function within(milliseconds: number, promise: Promise<void>): Promise<boolean> {
  const clock = new AbortController();
  try {
    return await Promise.race([
      promise.then(() => true),
      delay(milliseconds, false, { signal: clock.signal }),
    ]);
  } finally {
    clock.abort();
  }
}
