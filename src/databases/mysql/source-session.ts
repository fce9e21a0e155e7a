/** One query in a session: in a read-only transaction, ended from outside when it must be. */

import { orAbort } from '../../util/abort.ts';
import type { Argument, Chunk, Owner } from '../database.ts';
import type { ConnectOptions } from './connect.ts';
import { executeCommand } from './source-arguments.ts';
import type { ColumnDefinition } from './source-columns.ts';
import { endPredecessors, killSession } from './source-kill.ts';
import type { Member, Pool } from './source-pool.ts';
import {
  DoneReader,
  PrepareReader,
  type RowForm,
  RowsReader,
  type Statement,
  TextReader,
} from './source-readers.ts';
import { limitOf, offsetOf, ZONES } from './source-settings.ts';
import { readWarnings, SHOW_WARNINGS, type Warnings } from './source-warnings.ts';
import { COMMAND, textCommand } from './source-wire.ts';

/** How long ending a query may take with a server that does not answer, ms. */
const ENDING_MS = 5_000;

export interface SessionOptions {
  readonly pool: Pool;
  readonly connect: ConnectOptions;
  /** Whose idle sessions may be used to end a query on a server that is full. */
  readonly spare: Pool;
  /** Those that are not over: each is in it from its beginning to its end. */
  readonly open: Set<Session>;
  /** Aborting makes every wait reject with its reason and ends what runs. */
  readonly signal: AbortSignal;
}

export interface Prepared extends Statement {
  readonly mariadb: boolean;
  /** How many minutes the session's clock is ahead of UTC; null: not known. */
  readonly offset: number | null;
}

/** Over with `finish` or `stop`. */
export class Session {
  readonly #options: SessionOptions;
  readonly #member: Member;
  /** What the statement begins with in the server: a comment that no other session's has. */
  readonly #mark: string;
  /** Whether the server has been given the statement. */
  #sent = false;
  #answered = false;
  #zones = '';
  #rows: Pick<RowsReader<RowForm>, 'next' | 'discard' | 'warnings'> | null = null;
  #over: Promise<void> | null = null;
  readonly #onAbort = () => void this.stop();

  constructor(member: Member, mark: string, options: SessionOptions) {
    this.#member = member;
    this.#mark = mark;
    this.#options = options;
    options.open.add(this);
    options.signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  /**
   * Whether the server has answered anything: the connection was alive then, and what ended it afterwards may have been
   * meant for the query.
   */
  get answered(): boolean {
    return this.#answered;
  }

  /** Begins a read-only transaction and has a statement prepared, to run at most so long. */
  async prepare(sql: string, timeout_ms: number | null | undefined): Promise<Prepared> {
    const limit = limitOf(timeout_ms, this.#member.mariadb);
    const begun = ['START TRANSACTION READ ONLY', ...(limit === null ? [] : [limit])].map(
      (text) => [textCommand(COMMAND.query, text), new DoneReader()] as const,
    );
    const zones = new TextReader();
    const prepared = new PrepareReader();
    this.#sent = true;
    this.#member.wire.send(
      ...begun,
      [textCommand(COMMAND.query, ZONES), zones],
      [textCommand(COMMAND.prepare, this.#mark + sql), prepared],
    );
    await this.#soon(begun.map(([, reader]) => reader.answer));
    const [[zone, system] = []] = await this.#orAbort(zones.answer);
    this.#zones = `${zone} ${system}`;
    // A statement can set the zone for itself: SET STATEMENT … FOR, or a hint.
    const offset = /time_zone/i.test(sql) ? null : offsetOf(zone ?? '', system ?? '');
    const statement = await this.#orAbort(prepared.answer);
    return { ...statement, offset, mariadb: this.#member.mariadb };
  }

  /**
   * Waits for what any server answers at once. A connection that was silent for long may be gone without either side
   * having heard of it, and what is sent into it is not answered for many minutes.
   */
  async #soon(answers: readonly Promise<void>[]): Promise<void> {
    const { connect } = this.#options;
    const timer = setTimeout(
      () => this.#member.wire.destroy(),
      connect.config.connect_timeout_ms ?? connect.connect_timeout_ms,
    );
    try {
      for (const answer of answers) {
        await this.#orAbort(answer);
        this.#answered = true;
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends the queries that earlier attempts of the same job have left running. */
  async endPredecessors(owner: Owner): Promise<void> {
    await this.#orAbort(endPredecessors(this.#member, owner));
  }

  /** Runs a prepared statement. Resolves when its columns are known, with what `begin` made of them. */
  async execute<Form extends RowForm>(
    { id }: Statement,
    args: readonly Argument[],
    begin: (columns: readonly ColumnDefinition[]) => Form,
  ): Promise<Form> {
    const { wire } = this.#member;
    const rows = new RowsReader(begin, () => wire.resume());
    this.#rows = rows;
    wire.send([executeCommand(id, args), rows]);
    return this.#orAbort(rows.begun);
  }

  /**
   * The rows until the server says that they are complete; throws what it says otherwise. `zoned`: values depend on
   * the session's time zone being still the same. What `onWarnings` throws ends the rows as a failure.
   */
  async *rows(zoned: boolean, onWarnings: (warnings: Warnings) => void): AsyncGenerator<Chunk, void, void> {
    const rows = this.#rows;
    if (rows === null) throw new Error('nothing was executed');
    try {
      for (;;) {
        const chunks = await this.#orAbort(rows.next());
        if (chunks === null) break;
        yield* chunks;
      }
      if (rows.warnings > 0) {
        onWarnings(readWarnings(rows.warnings, await this.#ask(SHOW_WARNINGS)));
      }
      if (zoned) await this.#checkZones();
      this.finish();
    } finally {
      await this.stop();
    }
  }

  async ping(): Promise<void> {
    const pong = new DoneReader();
    this.#member.wire.send([Buffer.from([COMMAND.ping]), pong]);
    await this.#soon([pong.answer]);
  }

  /** Gives the session back; one that still works on something is ended. */
  finish(): void {
    if (this.#over !== null) return;
    this.#over = Promise.resolve();
    this.#options.open.delete(this);
    this.#options.signal.removeEventListener('abort', this.#onAbort);
    if (this.#member.wire.busy) this.#options.pool.discard(this.#member);
    else this.#options.pool.release(this.#member);
  }

  /**
   * Ends what runs, if anything does, and the session with it, so that a cancel that comes late can hit nothing else.
   * Resolves when the server no longer works on it, or does not answer. Of no consequence when the session is over.
   */
  stop(): Promise<void> {
    this.#over ??= this.#stop().finally(() => this.#options.open.delete(this));
    return this.#over;
  }

  async #stop(): Promise<void> {
    const { signal, pool, connect, spare } = this.#options;
    const { wire } = this.#member;
    signal.removeEventListener('abort', this.#onAbort);
    if (!wire.busy && wire.end === null && !signal.aborted) {
      pool.release(this.#member);
      return;
    }
    try {
      this.#rows?.discard();
      // Also when the connection was lost: the server may not have noticed, and go on.
      if (this.#sent) await killSession(connect, spare, this.#member, ENDING_MS);
    } catch {
      // The server cannot be reached. It ends the session itself when it finds its client gone, and the next
      // attempt looks for what is left: more cannot be done from here, and why it was stopped is told already.
    } finally {
      pool.discard(this.#member);
    }
  }

  async #checkZones(): Promise<void> {
    const [[zone, system] = []] = await this.#ask(ZONES);
    if (`${zone} ${system}` === this.#zones) return;
    throw new Error('the query changed the time zone of its session');
  }

  async #ask(sql: string): Promise<(string | null)[][]> {
    const reader = new TextReader();
    this.#member.wire.send([textCommand(COMMAND.query, sql), reader]);
    return this.#orAbort(reader.answer);
  }

  async #orAbort<T>(promise: Promise<T>): Promise<T> {
    const { signal } = this.#options;
    try {
      return await orAbort(promise, signal);
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    }
  }
}
