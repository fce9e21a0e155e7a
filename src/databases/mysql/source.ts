/**
 * MySQL and MariaDB as a source. A query runs in a read-only transaction as a prepared statement, which is one
 * statement, binds its arguments and sends its rows in binary form: exact, and the cheapest for the server.
 */
import { randomUUID } from 'node:crypto';
import type {
  Accept,
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
import { CopyTextWriter } from '../encodings/copy-text-writer.ts';
import { PgBinaryWriter } from '../encodings/pg-binary.ts';
import { DatabaseError, type DatabaseErrorCode, wrongCount } from '../errors.ts';
import { ValueBound } from '../value-bound.ts';
import type { ConnectOptions } from './connect.ts';
import { connectionOptions } from './dsn.ts';
import { errorNumber, failureOf, isConnectionError } from './failure.ts';
import { type ColumnDefinition, columnOf, unreadable } from './source-columns.ts';
import { marker } from './source-marker.ts';
import { type Member, Pool } from './source-pool.ts';
import { BinaryRows } from './source-rows.ts';
import { type Prepared, Session } from './source-session.ts';
import { checkCounts, checkStatement, mayTellColumnsLater } from './source-statement.ts';
import { foreignParameter } from './source-tokens.ts';
import { cutBy, summary, type Warnings } from './source-warnings.ts';

export interface MysqlSourceOptions {
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
export async function openMysqlSource(options: MysqlSourceOptions): Promise<Source> {
  return new MysqlSource(options);
}

type Encoding = Extract<Accept['encoding'], 'pg-binary' | 'copy-text' | 'rows'>;
const ENCODINGS: readonly Encoding[] = ['pg-binary', 'copy-text', 'rows'];

class MysqlSource implements Source {
  readonly engine = 'mysql';
  readonly #database: string;
  readonly #connect: ConnectOptions;
  readonly #queries: Pool;
  /** A connection of its own for what is quick, so that it never waits behind long queries. */
  readonly #desk: Pool;
  readonly #open = new Set<Session>();

  constructor({ name, dsn, max_active, max_idle, connect_timeout_ms }: MysqlSourceOptions) {
    this.#database = `db "${name}"`;
    this.#connect = { config: connectionOptions(dsn), connect_timeout_ms };
    this.#queries = new Pool({ ...this.#connect, max_active, max_idle });
    this.#desk = new Pool({ ...this.#connect, max_active: 1, max_idle: 1 });
  }

  async prepare(sql: string, signal: AbortSignal): Promise<StatementInfo> {
    checkStatement(sql, this.#database);
    const failing: Failing = { signal, doing: 'invalid_statement', sql };
    return this.#using(this.#desk, deskMark(), failing, async (session) => {
      const statement = await session.prepare(sql, null);
      const columns = this.#columnsOf(sql, statement);
      session.finish();
      return { parameters: statement.parameters, columns };
    });
  }

  async query(sql: string, args: readonly Argument[], options: QueryOptions): Promise<ResultSet> {
    checkStatement(sql, this.#database);
    const { signal, owner, accept, timeout_ms, limits, allow_cut = false, onColumns } = options;
    const encoding = ENCODINGS.find((each) => accept.some((offer) => offer.encoding === each));
    if (encoding === undefined) {
      throw new DatabaseError('query_failed', `${this.#database} has no encoding that is accepted`);
    }
    const failing: Failing = { signal, doing: 'query_failed', sql, args };
    return this.#using(this.#queries, marker(owner), failing, async (session) => {
      if (owner.attempt > 1) await session.endPredecessors(owner);
      const statement = await session.prepare(sql, timeout_ms);
      this.#columnsOf(sql, statement);
      this.#checkCount(args.length, statement.parameters);
      checkCounts(sql, statement.parameters, args, this.#database);
      const rows = await session.execute(statement, args, (definitions) => {
        if (definitions.length === 0) throw this.#noRows();
        const columns = this.#told(definitions, statement);
        tell(onColumns, columns);
        const writer = encoding === 'pg-binary' ? new PgBinaryWriter(columns.length) : new CopyTextWriter();
        const bound = new ValueBound(limits, this.#database, columns);
        return new BinaryRows(definitions, columns, writer, statement, bound);
      });
      const told: string[] = [];
      const onWarnings = (warnings: Warnings) => {
        const cut = allow_cut ? null : cutBy(warnings, sql, args);
        if (cut !== null) throw this.#invalid('query_failed', cut);
        told.push(...summary(warnings, args));
      };
      const chunks = this.#chunks(session, rows, onWarnings, failing);
      return this.#resultSet(session, rows, encoding, chunks, told);
    });
  }

  async ping(signal: AbortSignal): Promise<void> {
    await this.#using(this.#desk, deskMark(), { signal, doing: 'query_failed' }, async (session) => {
      await session.ping();
      session.finish();
    });
  }

  /** Ends what still runs, too. */
  async close(): Promise<void> {
    await Promise.all([...this.#open].map((session) => session.stop()));
    await Promise.all([this.#queries.close(), this.#desk.close()]);
  }

  /**
   * A piece of work in a session, which is ended if it fails; in another one, from its beginning, if the connection
   * turns out to have died since it was last used. One that dies later may have been killed for what it did: a
   * query that has begun is not run again in the same attempt.
   */
  async #using<T>(
    pool: Pool,
    mark: string,
    failing: Failing,
    work: (session: Session) => Promise<T>,
  ): Promise<T> {
    for (;;) {
      let member: Member | null = null;
      let session: Session | null = null;
      try {
        member = await pool.acquire(failing.signal);
        session = new Session(member, mark, {
          pool,
          connect: this.#connect,
          spare: this.#desk,
          open: this.#open,
          signal: failing.signal,
        });
        return await work(session);
      } catch (error) {
        await session?.stop();
        const stale = member?.reused === true && session?.answered === false && isConnectionError(error);
        if (stale && !failing.signal.aborted) continue;
        throw this.#translated(error, failing);
      }
    }
  }

  /** `told` has the server's warnings once the chunks have ended. */
  #resultSet(
    session: Session,
    rows: BinaryRows,
    encoding: Encoding,
    chunks: AsyncIterable<Chunk>,
    told: readonly string[],
  ): ResultSet {
    const { columns } = rows;
    const body: Body =
      encoding === 'rows' ? { encoding, batches: decodeRows(chunks, columns) } : { encoding, chunks };
    return {
      columns,
      body,
      warnings: () => [...warningsOf(rows), ...told],
      [Symbol.asyncDispose]: () => session.stop(),
    };
  }

  async *#chunks(
    session: Session,
    { columns }: BinaryRows,
    onWarnings: (warnings: Warnings) => void,
    failing: Failing,
  ): AsyncGenerator<Chunk, void, void> {
    try {
      yield* session.rows(
        columns.some(({ type }) => type === 'TIMESTAMPTZ'),
        onWarnings,
      );
    } catch (error) {
      throw this.#translated(error, failing);
    }
  }

  #translated(error: unknown, { signal, doing, sql = '', args = [] }: Failing): unknown {
    if (signal.aborted) return signal.reason;
    if (error instanceof Refused) return error.cause;
    const failure = failureOf(error, this.#database, doing, { args });
    const foreign = UNREADABLE.has(errorNumber(error)) ? foreignParameter(sql) : null;
    if (foreign === null) return failure;
    return new DatabaseError(
      failure.code,
      `${failure.message}; a parameter is a ? on MySQL and MariaDB, not ${foreign}`,
      { position: failure.position },
    );
  }

  /** None: they are known when it runs. */
  #columnsOf(sql: string, statement: Prepared): readonly Column[] {
    if (statement.columns.length === 0 && !mayTellColumnsLater(sql)) throw this.#noRows();
    return this.#told(statement.columns, statement);
  }

  #noRows(): DatabaseError {
    return this.#invalid('invalid_statement', 'the statement gives no rows, so it is no report');
  }

  #told(definitions: readonly ColumnDefinition[], { offset, mariadb }: Prepared): readonly Column[] {
    for (const definition of definitions) {
      const fault = unreadable(definition, mariadb);
      if (fault !== null) throw this.#invalid('invalid_statement', fault);
    }
    return definitions.map((definition) => columnOf(definition, offset !== null));
  }

  #checkCount(given: number, taken: number): void {
    if (given === taken) return;
    throw this.#invalid('invalid_arguments', wrongCount(given, taken));
  }

  #invalid(code: DatabaseErrorCode, message: string): DatabaseError {
    return new DatabaseError(code, `${this.#database}: ${message}`);
  }
}

/** What a caller's own function threw goes back to the caller as it is. */
class Refused extends Error {}

function tell(onColumns: QueryOptions['onColumns'], columns: readonly Column[]): void {
  try {
    onColumns(columns);
  } catch (cause) {
    throw new Refused('refused', { cause });
  }
}

/** A column that is not there, and a syntax error. */
const UNREADABLE: ReadonlySet<number> = new Set([1054, 1064]);

/** What an error is about. */
interface Failing {
  readonly signal: AbortSignal;
  readonly doing: 'invalid_statement' | 'query_failed';
  readonly sql?: string;
  readonly args?: readonly Argument[];
}

/** For what is no job's. */
function deskMark(): string {
  return `/* dungbeetle ${randomUUID()} */ `;
}

function warningsOf({ columns, no_dates }: BinaryRows): readonly string[] {
  return columns.flatMap(({ name }, index) => {
    const count = no_dates[index] ?? 0;
    if (count === 0) return [];
    const dates =
      count === 1
        ? 'date that is none (0000-00-00 or in part zero)'
        : 'dates that are none (0000-00-00 or in part zero)';
    return [`column "${name}": ${count} ${dates} became NULL`];
  });
}
