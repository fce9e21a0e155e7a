/**
 * ClickHouse as a source, over its HTTP interface. A query is sent with readonly = 2, as one SELECT around the task's
 * own; its answer goes on as the bytes in which it came, and is complete only if it ends with its mark.
 */
import { randomBytes } from 'node:crypto';
import type {
  Argument,
  Body,
  Chunk,
  Column,
  QueryOptions,
  ResultSet,
  Source,
  StatementInfo,
} from '../database.ts';
import { decodeRows } from '../encodings/copy-text.ts';
import { boundLines } from '../encodings/line-bound.ts';
import { DatabaseError } from '../errors.ts';
import { Places } from '../places.ts';
import { ValueBound } from '../value-bound.ts';
import { chooseForms, literalForms, literalsOf, withoutValues } from './arguments.ts';
import { copyText, readAnswer } from './body.ts';
import { clientConfig } from './dsn.ts';
import {
  CODE,
  ConnectionFailure,
  dependsOnArguments,
  type Failing,
  failureOf,
  ServerFailure,
} from './failure.ts';
import { Http } from './http.ts';
import { Run } from './run.ts';
import { learnServer, type Server } from './server.ts';
import { parseStatement, render, type Statement } from './statement.ts';
import type { Printed } from './types.ts';
import { describedColumns, direct, directAnswer, wrap } from './wrapper.ts';

export interface ClickhouseSourceOptions {
  /** The source's name in the configuration; errors call it `db "name"`. */
  readonly name: string;
  readonly dsn: string;
  /** The most queries at once; more wait in line. */
  readonly max_active: number;
  /** The most connections kept open between queries. */
  readonly max_idle: number;
  readonly connect_timeout_ms: number;
}

type Doing = Failing['doing'];
type Ask = (sql: string, settings: Readonly<Record<string, string>>) => Promise<Buffer>;

/** How much longer than the job's own time limit a query may run before the server ends it, s. */
const GRACE_S = 5;
/** For how many statements the forms of arguments are remembered. */
const MOST_CHOICES = 1_000;

/** Connects to nothing yet: a database that is away is told by `ping` and by queries. Throws if the DSN is none. */
export async function openClickhouseSource(options: ClickhouseSourceOptions): Promise<Source> {
  return new ClickhouseSource(options);
}

export class ClickhouseSource implements Source {
  readonly engine = 'clickhouse';
  readonly #database: string;
  /** Settings that the DSN asks for. */
  readonly #wanted: Readonly<Record<string, string>>;
  readonly #http: Http;
  readonly #places: Places;
  /** About the port, where another was written. */
  readonly #address: string;
  readonly #closed = new AbortController();
  #server: Server | null = null;
  /** Which form of each argument a statement took, by its text and the arguments' kinds. */
  readonly #choices = new Map<string, readonly number[]>();

  constructor({ name, dsn, max_active, max_idle, connect_timeout_ms }: ClickhouseSourceOptions) {
    const config = clientConfig(dsn);
    this.#database = `db "${name}"`;
    this.#address =
      config.native_port === null
        ? ''
        : ` (HTTP is spoken here: port ${config.port} stands for ${config.native_port} of the DSN; http_port=… in it names another)`;
    this.#wanted = config.settings;
    this.#http = new Http({ config, connect_timeout_ms, max_idle });
    this.#places = new Places(max_active);
  }

  async prepare(sql: string, signal: AbortSignal): Promise<StatementInfo> {
    const statement = parseStatement(sql, this.#database);
    return this.#translating({ signal, doing: 'invalid_statement' }, async () => {
      const server = await this.#learn(signal);
      const ask: Ask = (text, parameters) => this.#http.askBytes(text, { signal, parameters });
      const columns = await this.#likelyColumns(statement, server, ask);
      return { parameters: statement.placeholders.length, columns };
    });
  }

  async ping(signal: AbortSignal): Promise<void> {
    await this.#translating({ signal, doing: 'query_failed' }, () => this.#http.ask('SELECT 1', { signal }));
  }

  async query(sql: string, args: readonly Argument[], options: QueryOptions): Promise<ResultSet> {
    const statement = parseStatement(sql, this.#database);
    const forms = literalForms(args, statement, this.#database);
    const signal = AbortSignal.any([options.signal, this.#closed.signal]);
    const release = await this.#places.take(signal);
    const { owner, timeout_ms } = options;
    const run = new Run({ http: this.#http, owner, signal, release });
    try {
      return await this.#translating({ signal, doing: 'query_failed', args }, async () => {
        if (owner.attempt > 1) await run.endPredecessors();
        const server = limited(await this.#learn(signal), timeout_ms ?? null);
        if (statement.kind === 'direct') {
          return await this.#direct(render(statement, literalsOf(forms, [])), server, run, options);
        }
        const query = await this.#bind(statement, forms, server, run);
        const columns = await this.#describe(query, args, server, run);
        const shown = columns.map(({ column }) => ({ ...column, name: withoutValues(column.name, args) }));
        options.onColumns(shown);
        return await this.#stream(query, columns, shown, args, server, run, options);
      });
    } catch (error) {
      await run.end();
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#closed.abort(new DatabaseError('unavailable', `${this.#database} is being closed`));
    await this.#places.idle();
    this.#http.close();
  }

  /** The server's version and settings, asked for once and again after anything that a change of it may explain. */
  async #learn(signal: AbortSignal): Promise<Server> {
    try {
      this.#server ??= await learnServer(this.#http, this.#wanted, this.#database, signal);
      return this.#server;
    } catch (error) {
      if (!(error instanceof ServerFailure && error.code === CODE.UNKNOWN_DATABASE)) throw error;
      // Of the DSN, not of a query: perhaps it is just being restored.
      throw new DatabaseError('unavailable', `${this.#database}: the server has no such database`, {
        refused: true,
      });
    }
  }

  /** What the columns are while the arguments are not known. Empty: that depends on the arguments. */
  async #likelyColumns(statement: Statement, server: Server, ask: Ask): Promise<readonly Column[]> {
    const { placeholders } = statement;
    let refused: unknown = null;
    // A place may take text only, or a number only.
    for (const value of placeholders.length === 0 ? [''] : ['NULL', "'1'", '1', "'2000-01-01'"]) {
      const literals = placeholders.map(({ number_only }) => (number_only ? '1' : value));
      const query = render(statement, literals);
      try {
        if (statement.kind === 'direct') {
          const { sql, settings } = direct(query, newMark(), server);
          return directAnswer(await ask(sql, settings), server, settings).columns;
        }
        const columns = describedColumns(await ask(describe(query), server.settings), server.old);
        this.#checkValues(columns);
        return columns.map(({ column }) => column);
      } catch (error) {
        if (placeholders.length === 0 || !dependsOnArguments(error)) throw error;
        refused ??= error;
      }
    }
    // Two places may want different things, and only the arguments show which.
    if (placeholders.length > 1) return [];
    throw refused;
  }

  /** The query with its arguments in the forms that the server takes. */
  async #bind(
    statement: Statement,
    forms: readonly (readonly string[])[],
    server: Server,
    run: Run,
  ): Promise<string> {
    if (forms.every((choices) => choices.length === 1)) return render(statement, literalsOf(forms, []));
    const key = JSON.stringify([statement.pieces, forms.map((choices) => [choices.length, choices[0]?.[0]])]);
    const known = this.#choices.get(key);
    if (known !== undefined) return render(statement, literalsOf(forms, known));
    const takes = async (literals: readonly string[]) => {
      try {
        await run.ask(check(render(statement, literals), server), server.settings);
        return true;
      } catch (error) {
        if (!dependsOnArguments(error)) throw error;
        return false;
      }
    };
    const choice = await chooseForms(forms, takes);
    if (choice !== null) {
      if (this.#choices.size >= MOST_CHOICES) this.#choices.clear();
      this.#choices.set(key, choice);
    }
    // Where none is taken, the server says why when it is asked for the columns, or when the query runs.
    return render(statement, literalsOf(forms, choice ?? []));
  }

  async #describe(
    query: string,
    args: readonly Argument[],
    server: Server,
    run: Run,
  ): Promise<readonly Printed[]> {
    try {
      const columns = describedColumns(await run.ask(describe(query), server.settings), server.old);
      this.#checkValues(columns);
      return columns;
    } catch (error) {
      // Which form of an argument is taken may have changed with the tables.
      if (error instanceof ServerFailure) this.#choices.clear();
      const doing = args.length > 0 && dependsOnArguments(error) ? 'invalid_arguments' : 'invalid_statement';
      throw this.#failed(error, doing, args);
    }
  }

  async #stream(
    query: string,
    columns: readonly Printed[],
    shown: readonly Column[],
    args: readonly Argument[],
    server: Server,
    run: Run,
    options: QueryOptions,
  ): Promise<ResultSet> {
    const { sql, settings, ending } = wrap(query, columns, newMark(), server);
    const answer = await run.send(sql, { ...server.settings, ...settings });
    const translate = (error: unknown) =>
      run.caller.aborted ? run.caller.reason : this.#failed(error, 'query_failed', args);
    const bound = new ValueBound(options.limits, this.#database, shown);
    async function* chunks(): AsyncGenerator<Chunk, void, void> {
      try {
        yield* boundLines(readAnswer(answer, ending), bound);
        run.complete();
      } catch (error) {
        // The server has said itself that nothing runs any more.
        if (error instanceof ServerFailure) run.complete();
        await run.end();
        throw translate(error);
      } finally {
        await run.end();
      }
    }
    return resultSet(shown, chunks(), run, options);
  }

  /** SHOW, DESCRIBE, EXISTS, EXPLAIN: cannot be wrapped, and their answers are short. */
  async #direct(query: string, server: Server, run: Run, options: QueryOptions): Promise<ResultSet> {
    const { sql, settings } = direct(query, newMark(), server);
    const { columns, rows } = directAnswer(await run.ask(sql, settings), server, settings);
    options.onColumns(columns);
    async function* chunks(): AsyncGenerator<Chunk, void, void> {
      if (rows.length > 0) yield copyText(rows);
      await run.end();
    }
    return resultSet(columns, chunks(), run, options);
  }

  #checkValues(columns: readonly Printed[]): void {
    const state = columns.find(({ expression }) => expression === null);
    if (state === undefined) return;
    const { name, source_type } = state.column;
    throw new DatabaseError(
      'invalid_statement',
      `${this.#database}: column "${name}" is ${source_type}, the state of an aggregate and no value; ` +
        'use finalizeAggregation() or the function with -Merge',
    );
  }

  async #translating<T>(
    {
      signal,
      doing,
      args,
    }: { readonly signal: AbortSignal; readonly doing: Doing; readonly args?: readonly Argument[] },
    work: () => Promise<T>,
  ): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw signal.aborted ? signal.reason : this.#failed(error, doing, args ?? []);
    }
  }

  #failed(error: unknown, doing: Doing, args: readonly Argument[]): unknown {
    const code = error instanceof ServerFailure ? error.code : null;
    // It may be another version by the next time.
    if (error instanceof ConnectionFailure || code === CODE.UNKNOWN_SETTING) this.#server = null;
    return failureOf(error, { database: this.#database, doing, args, address: this.#address });
  }
}

function resultSet(
  columns: readonly Column[],
  chunks: AsyncGenerator<Chunk, void, void>,
  run: Run,
  { accept }: QueryOptions,
): ResultSet {
  // Every backend takes rows.
  const body: Body = accept.some(({ encoding }) => encoding === 'copy-text')
    ? { encoding: 'copy-text', chunks }
    : { encoding: 'rows', batches: decodeRows(chunks, columns) };
  return { columns, body, warnings: () => run.warnings, [Symbol.asyncDispose]: () => run.end() };
}

function newMark(): string {
  return `end${randomBytes(16).toString('hex')}`;
}

function describe(query: string): string {
  return `DESCRIBE (${query}\n) FORMAT TabSeparated`;
}

/** A statement that fails if the query does, and runs nothing of it but, on old servers, what its analysis runs. */
function check(query: string, { old }: Server): string {
  // Old servers look at the values of IN and of keys only when they would begin to read.
  return old ? `SELECT * FROM (${query}\n) LIMIT 0 FORMAT TabSeparated` : describe(query);
}

function limited(server: Server, timeout_ms: number | null): Server {
  const { max_execution_time: most } = server;
  if (timeout_ms === null) return server;
  const seconds = Math.ceil(timeout_ms / 1000) + GRACE_S;
  if (most > 0 && most <= seconds) return server;
  return { ...server, settings: { ...server.settings, max_execution_time: String(seconds) } };
}
