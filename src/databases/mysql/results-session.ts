/** A connection of the results backend: one statement at a time, values bound, never waited for in vain. */
import type { Readable } from 'node:stream';
import type { Connection, ResultSetHeader } from 'mysql2';
import { destroy } from './connect.ts';
import type { MysqlConfig } from './dsn.ts';
import { assignments } from './dsn-settings.ts';
import { errorNumber as errorNumberOf, isConnectionError } from './failure.ts';
import type { Flavor } from './results-columns.ts';

/** What a statement was answered with, or that its connection is gone; `cause` is the driver's own error. */
export class StatementError extends Error {
  /** 0 if it is not the server's. */
  readonly number: number;
  /** The connection is of no use any more, and what it was asked for may have been done. */
  readonly lost: boolean;

  constructor(cause: Error) {
    super(cause.message, { cause });
    this.name = 'StatementError';
    this.number = errorNumberOf(cause);
    this.lost = isConnectionError(cause);
  }
}

/** What a statement without rows has done. */
export interface Outcome {
  /** For UPDATE the rows found, changed or not. */
  readonly rows: number;
  readonly warnings: number;
}

export type Bound = string | number | null | Buffer;

/** Whether the server still has the session of an id; throws what says nothing about it. */
export type IsAlive = (id: number) => Promise<boolean>;

/** How long an answer may take before the server is asked over another connection whether it works on one, ms. */
const SILENCE_MS = 10_000;

/** How long the server waits for the next statement, or the next packet of LOAD DATA, s: sources may think long. */
const PATIENT_S = 86_400;
/** How long inside of a transaction: a process that falls asleep there must not keep others from its rows. */
const MORTAL_S = 5;

/** How long a lock of a table is waited for, s; and by what keeps later readers waiting too, see `runBriefly`. */
const LOCK_S = 60;
const BRIEF_LOCK_S = 1;

/**
 * Strict, so that what does not fit is an error or a warning and never a silent change; English, so that
 * warnings can be understood; UTC. Locks of tables are waited for: others may be making our own, a backup may hold
 * all of them for a moment, and what fails at that is a whole report. A server that counts no notes would keep
 * quiet about rounded decimals. MariaDB ends any statement, MySQL any SELECT, after a time that an administrator may
 * have set, but a load takes as long as it takes. What a server of today's kind lets no ordinary account set is not
 * here: MySQL's max_error_count, which says how many warnings are kept in words, and not whether they are counted.
 */
const SETTINGS = `SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,NO_ENGINE_SUBSTITUTION',
  time_zone = '+00:00', lc_messages = 'en_US', autocommit = 1, wait_timeout = ${PATIENT_S}, lock_wait_timeout = ${LOCK_S}, innodb_lock_wait_timeout = 5,
  net_read_timeout = ${PATIENT_S}, net_write_timeout = 600, sql_notes = 1, sql_select_limit = 18446744073709551615
  /*M!100101 , max_error_count = 64, max_statement_time = 0 */ /*!50708 , max_execution_time = 0 */`;

/** Of the collations the best first: the last one pads, it takes "a" and "a " for equal, but old servers have no other. */
const FACTS = `SELECT VERSION() AS version, @@GLOBAL.local_infile AS local_file, @@SESSION.max_allowed_packet AS packet,
  COALESCE((SELECT MIN(COLLATION_NAME) FROM information_schema.COLLATIONS
    WHERE COLLATION_NAME IN ('utf8mb4_nopad_bin', 'utf8mb4_0900_bin')), 'utf8mb4_bin') AS collation`;

/**
 * Where one of them is on, a table without a primary key is refused, or gets one by a name that a query may use;
 * Group Replication, which a name says is in use, takes no rows for such a table.
 */
const KEYED = `SHOW VARIABLES WHERE Variable_name IN ('sql_require_primary_key', 'sql_generate_invisible_primary_key',
  'innodb_force_primary_key', 'group_replication_group_name') AND Value NOT IN ('OFF', '')`;

/** Without locks on the gaps between rows, in which the transactions of different jobs would meet. */
const ISOLATION = 'SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED';

type ServerFacts = Pick<Session, 'flavor' | 'local_infile' | 'max_packet'>;

const UNKNOWN: ServerFacts = {
  flavor: { mariadb: false, collation: 'utf8mb4_bin', keyed: false },
  local_infile: false,
  max_packet: 1024,
};

export class Session {
  readonly id: number;
  /** How messages call the database. */
  readonly database: string;
  readonly flavor: Flavor;
  /** Whether the server takes LOAD DATA LOCAL. */
  readonly local_infile: boolean;
  /** The most bytes of one statement with its values. */
  readonly max_packet: number;
  readonly #connection: Connection;
  readonly #isAlive: IsAlive;
  #lost = false;

  /** Of a connection that is ready for queries and nobody else's. What a report relies on goes before the DSN's settings. */
  static async of(
    connection: Connection,
    database: string,
    isAlive: IsAlive,
    settings: MysqlConfig['settings'],
  ): Promise<Session> {
    const bare = new Session(connection, database, isAlive, UNKNOWN);
    try {
      const own = assignments(settings);
      if (own.length > 0) await bare.run(`SET ${own.join(', ')}`);
      return await bare.#settled();
    } catch (error) {
      bare.destroy();
      throw error;
    }
  }

  /** The same connection, set up, and knowing its server. */
  async #settled(): Promise<Session> {
    await this.run(SETTINGS);
    await this.run(ISOLATION);
    const [server] = await this.query<{
      version: string;
      local_file: number;
      packet: number;
      collation: string;
    }>(FACTS);
    const keyed = (await this.query(KEYED)).length > 0;
    if (server === undefined) throw new Error('the server tells nothing of itself');
    return new Session(this.#connection, this.database, this.#isAlive, {
      flavor: { mariadb: /mariadb/i.test(server.version), collation: server.collation, keyed },
      local_infile: Number(server.local_file) === 1,
      max_packet: Number(server.packet),
    });
  }

  private constructor(connection: Connection, database: string, isAlive: IsAlive, server: ServerFacts) {
    this.#connection = connection;
    this.database = database;
    this.id = connection.threadId ?? 0;
    this.#isAlive = isAlive;
    this.flavor = server.flavor;
    this.local_infile = server.local_infile;
    this.max_packet = server.max_packet;
  }

  /** False once it was destroyed or the connection was found lost. */
  get usable(): boolean {
    return !this.#lost;
  }

  /** The rows of a statement. With values it is prepared, and stays so on this connection. */
  async query<Row extends object>(sql: string, values?: readonly Bound[]): Promise<Row[]> {
    return (await this.#send<unknown>(sql, values)) as Row[];
  }

  async run(sql: string, values?: readonly Bound[]): Promise<Outcome> {
    return outcomeOf(await this.#send<ResultSetHeader>(sql, values));
  }

  /**
   * A statement that takes a table away from its readers. While it waits for those that are at it, others that come
   * must wait too: it gives up after a second, with LOCK_WAIT_TIMEOUT.
   */
  async runBriefly(sql: string): Promise<Outcome> {
    await this.run(`SET SESSION lock_wait_timeout = ${BRIEF_LOCK_S}`);
    try {
      return await this.run(sql);
    } finally {
      if (this.usable) await this.run(`SET SESSION lock_wait_timeout = ${LOCK_S}`);
    }
  }

  /** Begins a transaction, of which no statement may be followed by more than seconds of silence. */
  async begin(): Promise<void> {
    await this.run(`SET SESSION autocommit = 0, wait_timeout = ${MORTAL_S}`);
  }

  async commit(): Promise<void> {
    await this.run(`SET SESSION autocommit = 1, wait_timeout = ${PATIENT_S}`);
  }

  async rollback(): Promise<void> {
    await this.run('ROLLBACK');
    await this.commit();
  }

  /** LOAD DATA LOCAL of a stream; what fails the stream must also destroy the session: see `loadLines`. */
  async load(sql: string, open: () => Readable): Promise<Outcome> {
    return this.#guarded(
      new Promise((resolve, reject) => {
        this.#connection.query<ResultSetHeader>({ sql, infileStreamFactory: open }, (error, result) => {
          if (error === null) resolve(outcomeOf(result));
          else reject(error);
        });
      }),
    );
  }

  /** Cuts the connection at once; a statement under way rejects, and ends in the server when that notices. */
  destroy(): void {
    this.#lost = true;
    destroy(this.#connection);
  }

  #send<T>(sql: string, values: readonly Bound[] | undefined): Promise<T> {
    return this.#guarded(
      new Promise<T>((resolve, reject) => {
        const answered = (error: Error | null, result: unknown) => {
          if (error === null) resolve(result as T);
          else reject(error);
        };
        if (values === undefined) this.#connection.query(sql, answered);
        else this.#connection.execute(sql, [...values], answered);
      }),
    );
  }

  /** Cuts the connection if the server no longer knows it, or cannot be reached by another one. */
  async #guarded<T>(answer: Promise<T>): Promise<T> {
    let asking = false;
    const ask = async () => {
      if (asking) return;
      asking = true;
      // Refused for another reason, too many connections say, is no news.
      const alive = await this.#isAlive(this.id).catch(() => true);
      if (!alive) this.destroy();
      asking = false;
    };
    const timer = setInterval(() => void ask(), SILENCE_MS).unref(); // the connection itself keeps the process
    try {
      return await answer;
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      const told = new StatementError(error);
      if (told.lost) this.destroy();
      throw told;
    } finally {
      clearInterval(timer);
    }
  }
}

function outcomeOf(header: ResultSetHeader): Outcome {
  return { rows: header.affectedRows, warnings: header.warningStatus };
}

/** Error numbers of MySQL and MariaDB that are handled here and not only told. */
export const ER = {
  FILE_NOT_FOUND: 1017,
  TABLE_EXISTS: 1050,
  BAD_TABLE: 1051,
  DUP_ENTRY: 1062,
  NO_SUCH_THREAD: 1094,
  NO_SUCH_TABLE: 1146,
  LOCK_WAIT_TIMEOUT: 1205,
  DEADLOCK: 1213,
  ROW_IS_REFERENCED: 1451,
  TABLE_IS_REFERENCED: 3730,
} as const;

/** The server's error number, 0 if the error is not the server's. */
export function errorNumber(error: unknown): number {
  return error instanceof StatementError ? error.number : 0;
}

/** Whether the connection was lost under a statement. */
export function isLost(error: unknown): boolean {
  return error instanceof StatementError && error.lost;
}
