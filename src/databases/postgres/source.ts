/**
 * Postgres as a source. A query runs in a read-only transaction of the extended protocol, which takes one statement
 * and binds its arguments; its rows go to a Postgres results backend as the bytes in which they came.
 */

import { clientConfig } from '../../util/postgres/dsn.ts';
import type {
  Accept,
  Argument,
  Body,
  Chunk,
  Column,
  Limits,
  QueryOptions,
  ResultSet,
  Source,
  StatementInfo,
} from '../database.ts';
import { decodeRows } from '../encodings/copy-text.ts';
import { DatabaseError, wrongCount } from '../errors.ts';
import { ValueBound } from '../value-bound.ts';
import { checkKind, checkPlan } from './check.ts';
import { binaryRequest, columnsOf, type Described, textRequest } from './columns.ts';
import type { ConnectOptions } from './connect.ts';
import { CopyTextForm } from './copy-text-form.ts';
import { failureOf, isConnectionError, isServerError, sqlState } from './failure.ts';
import { whetherItLasts } from './lasting.ts';
import { DESK, marker } from './marker.ts';
import { Pool } from './pool.ts';
import { type KnownStatement, Session } from './session.ts';
import { checkText, withoutEnd } from './statement.ts';

export interface PostgresSourceOptions {
  /** The source's name in the configuration; errors call it `db "name"`. */
  readonly name: string;
  readonly dsn: string;
  /** The most queries at once; more wait in line. */
  readonly max_active: number;
  /** The most connections kept open between queries. */
  readonly max_idle: number;
  readonly connect_timeout_ms: number;
}

/** Connects to nothing yet: a database that is away is told by `ping` and by queries. Throws if the DSN is none. */
export async function openPostgresSource(options: PostgresSourceOptions): Promise<Source> {
  return new PostgresSource(options);
}

/** After so many queries a connection is renewed: each table that one has read has left something in its process. */
const MOST_USES = 10_000;

type Encoding = Extract<Accept['encoding'], 'pg-binary' | 'copy-text' | 'rows'>;
const ENCODINGS: readonly Encoding[] = ['pg-binary', 'copy-text', 'rows'];

export class PostgresSource implements Source {
  readonly engine = 'postgres';
  readonly #database: string;
  readonly #connect: ConnectOptions;
  readonly #queries: Pool;
  /** A connection of its own for what is quick, so that it never waits behind long queries. */
  readonly #desk: Pool;
  readonly #typeNames = new Map<string, string>();
  /** Statements that have run for a backend that takes their rows as they are, by its kind of types and their text. */
  readonly #known = new Map<string, KnownStatement & { readonly columns: readonly Column[] }>();
  /** Which statements may leave something in their session, by their text, and until when that is taken for true. */
  readonly #lasting = new Map<string, { readonly lasting: boolean; readonly until: number }>();

  constructor({ name, dsn, max_active, max_idle, connect_timeout_ms }: PostgresSourceOptions) {
    this.#database = `db "${name}"`;
    this.#connect = {
      config: clientConfig(dsn),
      connect_timeout_ms,
      application_name: DESK,
    };
    this.#queries = new Pool({ ...this.#connect, max_active, max_idle, max_uses: MOST_USES });
    this.#desk = new Pool({ ...this.#connect, max_active: 1, max_idle: 1, max_uses: MOST_USES });
  }

  async prepare(sql: string, signal: AbortSignal): Promise<StatementInfo> {
    checkText(sql, this.#database);
    checkKind(sql, this.#database);
    return this.#using(this.#desk, DESK, { signal, doing: 'invalid_statement', sql }, async (session) => {
      const { parameters, columns, description } = await session.prepare(sql, {});
      this.#checkMost(description.parameters);
      const described = this.#rowsOf(columns);
      const names = await this.#typeNamesOf(session, described);
      await this.#checkPlan(session, sql, parameters.length);
      await session.rollBack();
      return { parameters: parameters.length, columns: columnsOf(described, names) };
    });
  }

  async query(sql: string, args: readonly Argument[], options: QueryOptions): Promise<ResultSet> {
    checkText(sql, this.#database);
    const { signal, owner, accept, onColumns } = options;
    const encoding = ENCODINGS.find((each) => accept.some((offer) => offer.encoding === each));
    if (encoding === undefined) {
      throw new DatabaseError('query_failed', `${this.#database} has no encoding that is accepted`);
    }
    const failing: Failing = { signal, doing: 'query_failed', sql, args };
    const binary = accept.find((offer) => offer.encoding === 'pg-binary');
    const key = binary === undefined ? null : `${binary.types} ${sql}`;
    const known =
      key === null || owner.attempt > 1 || this.#mayLast(sql) === null ? undefined : this.#known.get(key);
    if (key !== null && known !== undefined) {
      this.#checkCount(args.length, known.parameters.length);
      const result = await this.#using(this.#queries, marker(owner), failing, async (session) => {
        if (!(await session.executeKnown(known, args, options, this.#bound(options.limits, known.columns))))
          return null;
        onColumns(known.columns);
        return this.#resultSet(session, known.columns, encoding, failing);
      });
      if (result !== null) return result;
      // It may have become one that is not kept: each query would cost a connection for nothing.
      this.#known.delete(key);
    }
    return this.#using(this.#queries, marker(owner), failing, async (session) => {
      if (owner.attempt > 1) await session.endPredecessors(owner);
      const statement = await session.prepare(sql, options);
      this.#checkMost(statement.description.parameters);
      const described = this.#rowsOf(statement.columns);
      const { parameters } = statement;
      this.#checkCount(args.length, parameters.length);
      const asked = this.#unknownTypes(described).length > 0 || this.#mayLast(sql) === null;
      const lasting = this.#mayLast(sql) ?? (await this.#askWhetherItLasts(session, sql));
      const columns = columnsOf(described, await this.#typeNamesOf(session, described));
      const request =
        binary === undefined
          ? textRequest(described, columns)
          : binaryRequest(described, columns, binary.types, withoutEnd(sql));
      onColumns(request.columns);
      if (request.sql !== null) await this.#replace(session, request.sql, parameters);
      else if (asked) await session.replace(sql, parameters);
      // What people have made may be described as before and be something else.
      const isLasting = described.every(({ oid }) => oid < FIRST_USER_OID);
      if (key !== null && isLasting) {
        const { description } = statement;
        this.#known.set(key, { ...request, sql, replacement: request.sql, parameters, description, lasting });
      }
      session.execute(
        args,
        { parameters, formats: request.formats, lasting },
        binary === undefined ? new CopyTextForm(columns) : null,
        this.#bound(options.limits, request.columns),
      );
      return this.#resultSet(session, request.columns, encoding, failing);
    });
  }

  async ping(signal: AbortSignal): Promise<void> {
    await this.#using(this.#desk, DESK, { signal, doing: 'query_failed' }, async (session) => {
      await session.ask('SELECT 1');
      session.finish();
    });
  }

  async close(): Promise<void> {
    await Promise.all([this.#queries.close(), this.#desk.close()]);
  }

  /**
   * A piece of work with a session, which is stopped if it fails; with another one, from its beginning, if the
   * connection turns out to have died since it was last used.
   */
  async #using<T>(
    pool: Pool,
    mark: string,
    failing: Failing,
    work: (session: Session) => Promise<T>,
  ): Promise<T> {
    for (;;) {
      let session: Session | null = null;
      let reused = false;
      try {
        const client = await pool.acquire(failing.signal);
        reused = pool.wasIdle(client);
        session = new Session(client, mark, { pool, connect: this.#connect, signal: failing.signal });
        return await work(session);
      } catch (error) {
        await session?.stop();
        if (reused && isConnectionError(error) && !failing.signal.aborted) continue;
        throw this.#translated(error, failing);
      }
    }
  }

  #resultSet(session: Session, columns: readonly Column[], encoding: Encoding, failing: Failing): ResultSet {
    const chunks = this.#chunks(session, failing);
    const body: Body =
      encoding === 'rows' ? { encoding, batches: decodeRows(chunks, columns) } : { encoding, chunks };
    return { columns, body, [Symbol.asyncDispose]: () => session.stop() };
  }

  async *#chunks(session: Session, failing: Failing): AsyncGenerator<Chunk, void, void> {
    try {
      yield* session.rows();
    } catch (error) {
      throw this.#translated(error, failing);
    }
  }

  #translated(error: unknown, { signal, doing, sql, args }: Failing): unknown {
    if (signal.aborted) return signal.reason;
    return failureOf(error, this.#database, doing, {
      ...(sql === undefined ? {} : { sql }),
      ...(args === undefined ? {} : { args }),
    });
  }

  async #checkPlan(session: Session, sql: string, parameters: number): Promise<void> {
    try {
      await checkPlan(session, sql, parameters, this.#database);
    } catch (error) {
      // Positions are in the text around it, and none is needed: the statement itself has been parsed.
      if (isServerError(error)) throw failureOf(error, this.#database, 'invalid_statement');
      throw error;
    }
  }

  /** The protocol has two bytes for how many there are, and then has them all. */
  #checkMost(described: Buffer): void {
    if ((described.length - 2) / 4 <= MOST_PARAMETERS) return;
    throw this.#invalid('invalid_statement', `the query has more than ${MOST_PARAMETERS} parameters`);
  }

  #rowsOf(columns: readonly Described[] | null): readonly Described[] {
    if (columns !== null) return columns;
    throw this.#invalid('invalid_statement', 'the statement gives no rows, so it is no report');
  }

  #checkCount(given: number, taken: number): void {
    if (given === taken) return;
    throw this.#invalid('invalid_arguments', wrongCount(given, taken));
  }

  async #replace(session: Session, sql: string, parameters: readonly number[]): Promise<void> {
    try {
      await session.replace(sql, parameters);
    } catch (error) {
      // A statement that cannot stand in parentheses, or writes in its WITH.
      if (sqlState(error) !== SYNTAX_ERROR && sqlState(error) !== NOT_SUPPORTED) throw error;
      throw this.#invalid(
        'invalid_statement',
        'the statement is not one that only reads: SELECT, VALUES, TABLE or WITH',
      );
    }
  }

  #bound(limits: Limits, columns: readonly Column[]): ValueBound {
    return new ValueBound(limits, this.#database, columns);
  }

  #invalid(code: 'invalid_statement' | 'invalid_arguments', message: string): DatabaseError {
    return new DatabaseError(code, `${this.#database}: ${message}`);
  }

  /** Whether the statement may leave something in its session; null: it has to be asked. */
  #mayLast(sql: string): boolean | null {
    const judged = this.#lasting.get(sql);
    return judged !== undefined && performance.now() < judged.until ? judged.lasting : null;
  }

  async #askWhetherItLasts(session: Session, sql: string): Promise<boolean> {
    const question = whetherItLasts(sql);
    const lasting = question === null || (await session.ask(question))[0]?.[0] !== 'f';
    this.#lasting.set(sql, { lasting, until: performance.now() + JUDGED_MS });
    return lasting;
  }

  #unknownTypes(described: readonly Described[]): readonly Described[] {
    return described.filter((column) => !this.#typeNames.has(typeKey(column)));
  }

  /** What the server calls the types. Its own are asked for once; what people have made may change its name. */
  async #typeNamesOf(session: Session, described: readonly Described[]): Promise<readonly string[]> {
    const names = new Map(this.#typeNames);
    const unknown = this.#unknownTypes(described);
    if (unknown.length > 0) {
      const types = unknown.map(({ oid, modifier }) => `pg_catalog.format_type(${oid}, ${modifier})`);
      const [found = []] = await session.ask(`SELECT ${types.join(', ')}`);
      for (const [index, column] of unknown.entries()) {
        const name = found[index] ?? '';
        names.set(typeKey(column), name);
        if (column.oid < FIRST_USER_OID) this.#typeNames.set(typeKey(column), name);
      }
    }
    return described.map((column) => names.get(typeKey(column)) ?? '');
  }
}

/** How long what was found of a statement counts: people may change what its views and functions do. */
const JUDGED_MS = 60_000;

/** What an error is about. */
interface Failing {
  readonly signal: AbortSignal;
  readonly doing: 'invalid_statement' | 'query_failed';
  readonly sql?: string;
  readonly args?: readonly Argument[];
}

/** What the protocol can bind. */
const MOST_PARAMETERS = 65_535;
const SYNTAX_ERROR = '42601';
const NOT_SUPPORTED = '0A000';
/** Types with lower oids are the server's own. */
const FIRST_USER_OID = 16_384;

function typeKey({ oid, modifier }: Described): string {
  return `${oid}:${modifier}`;
}
